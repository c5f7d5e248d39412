//! Where a machine finds what it boots: the URLs that go into HttpBootUri, virtual media, boot scripts and kernel command lines.

use url::Url;

use crate::Ticket;
use crate::token::{Keys, Purpose, Token, TokenError};

/// Names below `/boot/{token}/`.
pub mod name {
    /// One EFI file (a UKI, or iPXE): UEFI HTTP boot wants this ending.
    pub const EFI: &str = "boot.efi";
    /// ISO 9660 for virtual media: BMCs want this ending.
    pub const ISO: &str = "boot.iso";
    /// iPXE script.
    pub const SCRIPT: &str = "boot.ipxe";
    /// GRUB configuration.
    pub const GRUB: &str = "grub.cfg";
    /// Linux kernel.
    pub const KERNEL: &str = "kernel";
    /// Initial ramdisk.
    pub const INITRD: &str = "initrd";
    /// Root file system of an image in the original's layout.
    pub const SQUASHFS: &str = "squashfs";
    /// Disk image, for the probe to write.
    pub const IMAGE: &str = "image";
    /// Config drive (CIDATA), for the probe to append.
    pub const CONFIG_DRIVE: &str = "config-drive.iso";
    /// Ignition configuration.
    pub const IGNITION: &str = "ignition";
    /// Folder of cloud-init's NoCloud files.
    pub const CLOUD_INIT: &str = "cloud-init";
}

/// How machines reach the boot server.
#[derive(Clone, Debug)]
pub struct PublicAddress {
    /// For firmware, iPXE and kernels, which mostly speak no TLS. May have a path.
    pub base: Url,
    /// For the probe, where it is another (TLS).
    pub registry: Option<SecureAddress>,
}

/// An HTTPS address, and what its certificate is recognised by.
#[derive(Clone, Debug)]
pub struct SecureAddress {
    /// Base URL.
    pub base: Url,
    /// SHA-256 of the certificate (DER), hexadecimal.
    pub pin: String,
}

impl PublicAddress {
    /// The links of one boot.
    ///
    /// # Errors
    /// The ticket does not fit into a token.
    pub fn links(
        &self,
        keys: &Keys,
        ticket: &Ticket,
        end: Option<jiff::Timestamp>,
    ) -> Result<Links, TokenError> {
        Ok(Links {
            base: without_slash(&self.base),
            registry: without_slash(
                self.registry
                    .as_ref()
                    .map_or(&self.base, |secure| &secure.base),
            ),
            pin: self.registry.as_ref().map(|secure| secure.pin.clone()),
            boot: keys.sign(ticket, Purpose::Boot, end)?,
            data: keys.sign(ticket, Purpose::UserData, end)?,
            probe: keys.sign(ticket, Purpose::Probe, end)?,
        })
    }
}

fn without_slash(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.set_fragment(None);
    url.as_str().trim_end_matches('/').to_owned()
}

/// The URLs of one boot of one server. Each carries a token, so its `Debug` shows none of them.
#[derive(Clone)]
pub struct Links {
    base: String,
    registry: String,
    pin: Option<String>,
    boot: Token,
    data: Token,
    probe: Token,
}

impl std::fmt::Debug for Links {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Links({}, redacted)", self.base)
    }
}

impl Links {
    /// Any artefact by its [`name`].
    #[must_use]
    pub fn artefact(&self, name: &str) -> String {
        format!("{}/boot/{}/{name}", self.base, self.boot.expose())
    }

    /// An artefact's path for [`crate::tftp`].
    #[must_use]
    pub fn tftp(&self, name: &str) -> String {
        format!("/boot/{}/{name}", self.boot.expose())
    }

    /// For HttpBootUri; ends in `.efi`.
    #[must_use]
    pub fn http_boot(&self) -> String {
        self.artefact(name::EFI)
    }

    /// For virtual media; ends in `.iso`.
    #[must_use]
    pub fn iso(&self) -> String {
        self.artefact(name::ISO)
    }

    /// The iPXE script.
    #[must_use]
    pub fn script(&self) -> String {
        self.artefact(name::SCRIPT)
    }

    /// The kernel.
    #[must_use]
    pub fn kernel(&self) -> String {
        self.artefact(name::KERNEL)
    }

    /// The initial ramdisk.
    #[must_use]
    pub fn initrd(&self) -> String {
        self.artefact(name::INITRD)
    }

    /// The disk image, for `WriteGrant.url`.
    #[must_use]
    pub fn image(&self) -> String {
        self.artefact(name::IMAGE)
    }

    /// The config drive, for `WriteGrant.config_drive`. It holds user data, so it wants that token.
    #[must_use]
    pub fn config_drive(&self) -> String {
        format!(
            "{}/boot/{}/{}",
            self.base,
            self.data.expose(),
            name::CONFIG_DRIVE
        )
    }

    /// The ignition configuration, for `ignition.config.url=`.
    #[must_use]
    pub fn ignition(&self) -> String {
        format!(
            "{}/boot/{}/{}",
            self.base,
            self.data.expose(),
            name::IGNITION
        )
    }

    /// cloud-init's NoCloud seed, for `ds=nocloud;s=`; ends in a slash, as cloud-init appends file names to it.
    #[must_use]
    pub fn cloud_init(&self) -> String {
        format!(
            "{}/boot/{}/{}/",
            self.base,
            self.data.expose(),
            name::CLOUD_INIT
        )
    }

    /// Parameters for the probe's kernel: where its registry is, its token, and the certificate's pin.
    #[must_use]
    pub fn probe_command_line(&self) -> String {
        use corten_wire::cmdline::{PIN, TOKEN, URL};
        let mut line = format!("{URL}={} {TOKEN}={}", self.registry, self.probe.expose());
        if let Some(pin) = &self.pin {
            line.push_str(&format!(" {PIN}={pin}"));
        }
        line
    }

    /// The token of the probe's calls.
    #[must_use]
    pub fn probe_token(&self) -> &Token {
        &self.probe
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn links(base: &str) -> Links {
        let keys = Keys::new([[7u8; 32]]).unwrap();
        let ticket = Ticket {
            server: "rack1-system-0".into(),
            server_uid: "1f0c1a5e-24a4-4a8e-a2b5-c9a0c1e0a1b2".into(),
            nonce: "run-1".into(),
        };
        let address = PublicAddress {
            base: Url::parse(base).unwrap(),
            registry: None,
        };
        address.links(&keys, &ticket, None).unwrap()
    }

    #[test]
    fn links_end_as_firmware_and_bmcs_want_them() {
        let links = links("http://192.0.2.1:8082/");
        assert!(links.http_boot().starts_with("http://192.0.2.1:8082/boot/"));
        assert!(links.http_boot().ends_with("/boot.efi"));
        assert!(links.iso().ends_with("/boot.iso"));
        assert!(links.cloud_init().ends_with("/cloud-init/"));
        assert!(
            links.http_boot().len() < 255,
            "HttpBootUri is short in many BMCs"
        );
    }

    #[test]
    fn a_base_with_a_path_keeps_it() {
        assert!(
            links("http://boot.example/site/a/")
                .kernel()
                .starts_with("http://boot.example/site/a/boot/")
        );
    }

    #[test]
    fn the_token_of_the_kernel_does_not_stand_in_the_link_to_user_data() {
        let links = links("http://192.0.2.1");
        assert!(!links.ignition().contains(links.boot.expose()));
        assert!(!format!("{links:?}").contains(links.boot.expose()));
    }
}
