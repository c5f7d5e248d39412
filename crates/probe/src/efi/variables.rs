//! Firmware variables through efivarfs.

use super::load_option::LoadOption;
use crate::inventory::root::Root;
use corten_wire::registration::{BootEntry, Firmware};
use rustix::fs::{IFlags, ioctl_getflags, ioctl_setflags};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::PathBuf;

const FOLDER: &str = "sys/firmware/efi/efivars";
/// `EFI_GLOBAL_VARIABLE`.
const GLOBAL: &str = "8be4df61-93ca-11d2-aa0d-00e098032b8c";
/// Non-volatile, for boot services and run time.
const ATTRIBUTES: [u8; 4] = [7, 0, 0, 0];

/// Load options that the firmware keeps in an order of its own (UEFI 2.10, table 3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum List {
    /// Drivers, which are loaded first.
    Driver,
    /// Programs that prepare the machine, which run before a boot entry does.
    SysPrep,
    /// Boot entries.
    Boot,
}

impl List {
    /// All, as the firmware goes through them.
    pub const ALL: [Self; 3] = [Self::Driver, Self::SysPrep, Self::Boot];

    fn word(self) -> &'static str {
        match self {
            Self::Driver => "Driver",
            Self::SysPrep => "SysPrep",
            Self::Boot => "Boot",
        }
    }

    /// Name of an option's variable.
    #[must_use]
    pub fn option(self, number: u16) -> String {
        format!("{}{number:04X}", self.word())
    }

    /// Name of the order's variable.
    #[must_use]
    pub fn order(self) -> String {
        format!("{}Order", self.word())
    }
}

/// The firmware's variables.
#[derive(Clone, Debug)]
pub struct Variables {
    folder: PathBuf,
}

impl Variables {
    /// Those of the machine at `root`; none where it did not boot by UEFI, or efivarfs is not mounted.
    #[must_use]
    pub fn at(root: &Root) -> Option<Self> {
        let folder = root.join(FOLDER);
        let any = fs::read_dir(&folder).ok()?.next().is_some();
        any.then_some(Self { folder })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}-{GLOBAL}"))
    }

    /// A global variable's contents.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Vec<u8>> {
        let mut bytes = fs::read(self.path(name)).ok()?;
        (bytes.len() >= 4).then(|| bytes.split_off(4))
    }

    /// Sets a global variable.
    ///
    /// # Errors
    /// The kernel's and the firmware's, such as `ENOSPC` where its store is full.
    pub fn set(&self, name: &str, value: &[u8]) -> io::Result<()> {
        let path = self.path(name);
        self.unlock(&path)?;
        // The firmware takes a variable whole: one write.
        let bytes = [&ATTRIBUTES[..], value].concat();
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)?;
        let written = file.write(&bytes)?;
        if written != bytes.len() {
            return Err(io::ErrorKind::WriteZero.into());
        }
        Ok(())
    }

    /// Removes a global variable.
    ///
    /// # Errors
    /// The kernel's and the firmware's.
    pub fn remove(&self, name: &str) -> io::Result<()> {
        let path = self.path(name);
        self.unlock(&path)?;
        fs::remove_file(path)
    }

    /// Takes off the flag by which the kernel keeps `rm -rf` from bricking a machine.
    fn unlock(&self, path: &PathBuf) -> io::Result<()> {
        let file = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other?,
        };
        // A folder of a test is on a file system without such flags.
        let Ok(flags) = ioctl_getflags(&file) else {
            return Ok(());
        };
        if flags.contains(IFlags::IMMUTABLE) {
            ioctl_setflags(&file, flags.difference(IFlags::IMMUTABLE))?;
        }
        Ok(())
    }

    /// Numbers in a list's order.
    #[must_use]
    pub fn order(&self, list: List) -> Vec<u16> {
        let bytes = self.get(&list.order()).unwrap_or_default();
        let (numbers, _) = bytes.as_chunks::<2>();
        numbers
            .iter()
            .map(|number| u16::from_le_bytes(*number))
            .collect()
    }

    /// Sets a list's order.
    ///
    /// # Errors
    /// As [`Self::set`].
    pub fn set_order(&self, list: List, order: &[u16]) -> io::Result<()> {
        let bytes: Vec<u8> = order
            .iter()
            .flat_map(|number| number.to_le_bytes())
            .collect();
        self.set(&list.order(), &bytes)
    }

    /// Numbers of all options of a list, also of those that are not in its order.
    ///
    /// # Errors
    /// The kernel's.
    pub fn numbers(&self, list: List) -> io::Result<Vec<u16>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let name = entry?.file_name();
            found.extend(name.to_str().and_then(|name| {
                let name = name.strip_suffix(GLOBAL)?.strip_suffix('-')?;
                let number = u16::from_str_radix(name.strip_prefix(list.word())?, 16).ok()?;
                // The firmware takes four digits, in capitals; what only looks alike is another variable.
                (name == list.option(number)).then_some(number)
            }));
        }
        found.sort_unstable();
        Ok(found)
    }

    /// An option of a list; none where the variable holds none.
    ///
    /// # Errors
    /// The kernel's and the firmware's.
    pub fn option(&self, list: List, number: u16) -> io::Result<Option<LoadOption>> {
        let bytes = fs::read(self.path(&list.option(number)))?;
        Ok(bytes.get(4..).and_then(LoadOption::parse))
    }

    /// All boot entries by number, as far as they can be read.
    #[must_use]
    pub fn entries(&self) -> Vec<(u16, LoadOption)> {
        self.numbers(List::Boot)
            .unwrap_or_default()
            .into_iter()
            .filter_map(|number| Some((number, self.option(List::Boot, number).ok()??)))
            .collect()
    }
}

/// Name of a boot entry's variable.
#[must_use]
pub fn entry_name(number: u16) -> String {
    List::Boot.option(number)
}

/// Whether the machine came up by UEFI.
#[must_use]
pub fn is_uefi(root: &Root) -> bool {
    root.join("sys/firmware/efi").exists()
}

/// How the machine boots.
#[must_use]
pub fn firmware(root: &Root) -> Firmware {
    let Some(variables) = Variables::at(root) else {
        return Firmware {
            boot_mode: if is_uefi(root) { "UEFI" } else { "Legacy" }.to_owned(),
            ..Firmware::default()
        };
    };
    let one = |name: &str| {
        let bytes = variables.get(name)?;
        let number = u16::from_le_bytes(*bytes.first_chunk::<2>()?);
        Some(entry_name(number))
    };
    Firmware {
        boot_mode: "UEFI".to_owned(),
        secure_boot: variables
            .get("SecureBoot")
            .and_then(|bytes| bytes.first().map(|byte| *byte == 1)),
        boot_current: one("BootCurrent").unwrap_or_default(),
        boot_next: one("BootNext").unwrap_or_default(),
        boot_order: variables
            .order(List::Boot)
            .into_iter()
            .map(entry_name)
            .collect(),
        boot_entries: variables
            .entries()
            .into_iter()
            .map(|(number, option)| BootEntry {
                name: entry_name(number),
                path: option.path_text(),
                description: option.description_text(),
                active: option.active,
            })
            .collect(),
        variables: root.names(FOLDER),
    }
}
