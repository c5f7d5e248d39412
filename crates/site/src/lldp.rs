//! The switch at the other end of the machines' cables, as far as LLDP goes: a real lldpd on their tap devices.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::error::Error;

/// A running lldpd, which says of itself what a switch does. Dropped, it is gone, and at the latest with the thread that started it.
#[derive(Debug)]
pub struct Lldpd(Child);

// === impl Lldpd ===

impl Lldpd {
    /// What the switch calls itself.
    pub const NAME: &str = "corten-switch";

    /// Why there is none here, if there is none.
    pub fn missing() -> Option<String> {
        crate::absent("lldpd", "is the switch that machines hear")
    }

    /// Starts it in the namespace that this process is in, on the machines' tap devices as they come; its files in `folder`.
    ///
    /// # Errors
    /// If it does not start.
    pub fn start(folder: &Path) -> Result<Self, Error> {
        let settings = folder.join("lldpd.conf");
        let wanted = format!(
            "configure system hostname {}\nconfigure lldp tx-interval 2\n",
            Self::NAME
        );
        std::fs::write(&settings, wanted).map_err(Error::file(&settings))?;
        // It confines itself to a folder below /run, which is to be gone with it.
        const ALONE: &str = "mount -t tmpfs none /run && exec lldpd \"$@\"";
        let child = crate::tied_to_us()
            .args(["unshare", "--mount", "sh", "-c"])
            .args([ALONE, "lldpd", "-d", "-I", "ctap*", "-u"])
            .arg(folder.join("lldpd.sock"))
            .arg("-O")
            .arg(&settings)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(Error::start("setpriv"))?;
        Ok(Self(child))
    }
}

impl Drop for Lldpd {
    fn drop(&mut self) {
        // By its own hand it ends its children too.
        let _ = Command::new("kill").arg(self.0.id().to_string()).status();
        let _ = self.0.wait();
    }
}
