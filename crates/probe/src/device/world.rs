//! The drives that are there, and whether somebody uses them.

use super::{Device, linux};
use crate::inventory::drives::{self, Found};
use crate::inventory::root::Root;
use std::io;

/// The drives that are there. Asked again before each step that destroys.
pub trait World: Sync {
    /// All of them, as they are now.
    fn scan(&self) -> Vec<Found>;
    /// Who uses it; none where nobody does.
    fn in_use(&self, found: &Found) -> Option<String>;
    /// First bytes of its partitions.
    fn partitions(&self, found: &Found) -> Vec<u64>;
    /// Opens and claims it.
    ///
    /// # Errors
    /// Where it cannot be had.
    fn open(&self, found: &Found) -> io::Result<Device>;
}

impl World for Root {
    fn scan(&self) -> Vec<Found> {
        drives::scan(self)
    }

    fn in_use(&self, found: &Found) -> Option<String> {
        let name = &found.kernel_name;
        let mut parts = vec![format!("sys/block/{name}")];
        parts.extend(
            partitions(self, name)
                .into_iter()
                .map(|part| format!("sys/block/{name}/{part}")),
        );
        let mounts = self.text("proc/self/mountinfo").unwrap_or_default();
        let swaps = self.text("proc/swaps").unwrap_or_default();
        for part in parts {
            if let Some(holder) = self.names(format!("{part}/holders")).first() {
                return Some(format!("{holder} holds {part}"));
            }
            let number = self.text(format!("{part}/dev"));
            if let Some(number) = number
                && mounts
                    .lines()
                    .any(|line| line.split(' ').nth(2) == Some(&number))
            {
                return Some(format!("{part} is mounted"));
            }
            let node = part.rsplit('/').next().unwrap_or_default();
            if swaps
                .lines()
                .any(|line| line.split_whitespace().next() == Some(&format!("/dev/{node}")))
            {
                return Some(format!("{part} is swap"));
            }
        }
        None
    }

    fn partitions(&self, found: &Found) -> Vec<u64> {
        partitions(self, &found.kernel_name)
            .into_iter()
            .filter_map(|part| {
                self.number::<u64>(format!("sys/block/{}/{part}/start", found.kernel_name))
            })
            .filter_map(|sectors| sectors.checked_mul(512))
            .collect()
    }

    fn open(&self, found: &Found) -> io::Result<Device> {
        linux::open(self, found)
    }
}

fn partitions(root: &Root, name: &str) -> Vec<String> {
    root.names(format!("sys/block/{name}"))
        .into_iter()
        .filter(|part| {
            part.starts_with(name) && root.join(format!("sys/block/{name}/{part}/start")).exists()
        })
        .collect()
}
