//! The site's own DHCP: dnsmasq, as a site that has one before Corten comes.

use std::path::{Path, PathBuf};
use std::process::Child;

use crate::error::Error;
use crate::namespace::{BRIDGE, SERVER};

/// How the site's DHCP is to be.
#[derive(Clone, Debug, Default)]
pub struct Dhcp {
    /// MAC and URL: UEFI HTTP boot for that machine. Others get an address and no word of booting.
    pub http_boot: Vec<(String, String)>,
    /// More of dnsmasq's options, such as `--enable-tftp`.
    pub options: Vec<String>,
}

impl Dhcp {
    /// What a site says to machines that boot by PXE: iPXE by TFTP, and to iPXE the chain address of the boot server on `port`.
    pub fn pxe(port: u16) -> Self {
        Self {
            http_boot: Vec::new(),
            options: [
                "--dhcp-vendorclass=set:pxe,PXEClient:Arch:00007".to_owned(),
                "--dhcp-match=set:ipxe,175".to_owned(),
                format!("--dhcp-boot=tag:ipxe,http://{SERVER}:{port}/ipxe"),
                format!("--dhcp-boot=tag:pxe,tag:!ipxe,snponly.efi,,{SERVER}"),
            ]
            .into(),
        }
    }

    /// What a site says to machines with Secure Boot that boot by PXE: the distribution's shim, which asks for GRUB beside it.
    pub fn shim() -> Self {
        Self {
            http_boot: Vec::new(),
            options: [
                "--dhcp-vendorclass=set:pxe,PXEClient:Arch:00007".to_owned(),
                format!("--dhcp-boot=tag:pxe,shimx64.efi,,{SERVER}"),
            ]
            .into(),
        }
    }
}

/// A running dnsmasq. Dropped, it is gone, and at the latest with the thread that started it.
#[derive(Debug)]
pub struct Dnsmasq {
    child: Child,
    log: PathBuf,
}

// === impl Dnsmasq ===

impl Dnsmasq {
    /// Starts it in the namespace that this process is in; its leases are from 10.77.0.100 on, its files in `folder`.
    ///
    /// # Errors
    /// If it does not start.
    pub fn start(dhcp: &Dhcp, folder: &Path) -> Result<Self, Error> {
        let log = folder.join("dnsmasq.log");
        let mut words: Vec<String> = [
            "--keep-in-foreground",
            "--conf-file=/dev/null",
            "--user=root",
            "--port=0",
            "--log-dhcp",
            "--bind-interfaces",
            "--dhcp-authoritative",
            "--no-ping",
            "--dhcp-range=10.77.0.100,10.77.0.200,255.255.255.0,10m",
            // What UEFI says of itself when it means HTTP, for x64.
            "--dhcp-vendorclass=set:http,HTTPClient:Arch:00016",
        ]
        .map(str::to_owned)
        .into();
        let file = |name: &str| folder.join(name).display().to_string();
        words.push(format!("--interface={BRIDGE}"));
        words.push(format!("--dhcp-leasefile={}", file("leases")));
        words.push(format!("--log-facility={}", log.display()));
        words.push(format!("--pid-file={}", file("dnsmasq.pid")));
        for (number, (mac, url)) in dhcp.http_boot.iter().enumerate() {
            words.push(format!("--dhcp-mac=set:boot{number},{mac}"));
            words.push(format!(
                "--dhcp-option-force=tag:http,tag:boot{number},60,HTTPClient"
            ));
            words.push(format!("--dhcp-boot=tag:http,tag:boot{number},{url}"));
        }
        words.extend(dhcp.options.iter().cloned());
        let child = crate::tied_to_us()
            .arg("dnsmasq")
            .args(words)
            .spawn()
            .map_err(Error::start("setpriv"))?;
        Ok(Self { child, log })
    }

    /// What it heard and answered.
    pub fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Dnsmasq {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
