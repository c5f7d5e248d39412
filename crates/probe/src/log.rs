//! What the console shows: one line an event.
//!
//! As PID 1 the lines go through the kernel's log, which reaches every console that there is, the serial one too, with the time; else to standard error.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::sync::OnceLock;

static KERNEL_LOG: OnceLock<File> = OnceLock::new();

/// Sends all further lines to the kernel's log.
pub fn to_kernel() {
    // By default the kernel passes ten lines in five seconds from a process, and drops the rest.
    let _ = std::fs::write("/proc/sys/kernel/printk_devkmsg", "on\n");
    // A `quiet` command line would hide them.
    let _ = std::fs::write("/proc/sys/kernel/printk", "6 4 1 7\n");
    if let Ok(file) = OpenOptions::new().write(true).open("/dev/kmsg") {
        let _ = KERNEL_LOG.set(file);
    }
}

/// Writes one line.
pub fn line(text: std::fmt::Arguments<'_>) {
    let text: String = text
        .to_string()
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(900)
        .collect();
    match KERNEL_LOG.get() {
        Some(mut kernel) => {
            let _ = kernel.write_all(format!("<5>corten-probe: {text}\n").as_bytes());
        }
        None => {
            let _ = std::io::stderr().write_all(format!("corten-probe: {text}\n").as_bytes());
        }
    }
}

/// Writes one line, formatted.
#[macro_export]
macro_rules! say {
    ($($argument:tt)*) => { $crate::log::line(format_args!($($argument)*)) };
}
