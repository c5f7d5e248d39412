//! The end of a boot: off, or on again.

use rustix::system::{RebootCommand, reboot};

/// How a boot ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Off.
    PowerOff,
    /// On again.
    Reboot,
}

/// Whoever can end the boot. An ordinary process of somebody's running system must not.
pub trait Power: Send + Sync {
    /// Ends the boot, after all that was written has reached the drives.
    ///
    /// # Errors
    /// Where it may not, or cannot.
    fn end(&self, how: End) -> std::io::Result<()>;
}

/// The machine's own power: for PID 1.
#[derive(Clone, Copy, Debug, Default)]
pub struct MachinePower;

impl Power for MachinePower {
    fn end(&self, how: End) -> std::io::Result<()> {
        rustix::fs::sync();
        crate::say!("the boot ends: {how:?}");
        reboot(match how {
            End::PowerOff => RebootCommand::PowerOff,
            End::Reboot => RebootCommand::Restart,
        })?;
        Ok(())
    }
}

/// No power: for an ordinary process, which ends itself instead.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoPower;

impl Power for NoPower {
    fn end(&self, how: End) -> std::io::Result<()> {
        rustix::fs::sync();
        crate::say!(
            "told to end the boot ({how:?}); as an ordinary process, the probe ends instead"
        );
        Ok(())
    }
}
