//! GRUB configurations for the Secure Boot chain: shim → signed GRUB → signed kernel. The signed GRUB has no HTTP and reads all over TFTP.

use crate::links::Links;
use crate::server::Bootable;

/// Why no configuration can be written. Trying again does not help.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GrubError {
    /// A word cannot be written so that GRUB takes it literally.
    #[error("the {0} has something in it that GRUB would not take literally")]
    Unsayable(&'static str),
    /// The signed GRUB starts signed Linux kernels.
    #[error("the Secure Boot chain starts a kernel with its initrd; this image has none")]
    NoKernel,
}

/// What every machine reads first: it asks on, by its MAC address. `net_default_mac` is set by GRUB when the network card booted it.
#[must_use]
pub fn first() -> String {
    format!(
        "set timeout=0\nconfigfile /grub/machine/${{net_default_mac}}.cfg\n{}",
        exit()
    )
}

/// On to the next entry of the firmware.
#[must_use]
pub fn exit() -> String {
    "exit 1\n".to_owned()
}

/// The configuration of one boot; paths are those of [`crate::tftp`].
///
/// # Errors
/// There is no kernel, or a word cannot be said.
pub fn boot(bootable: &Bootable, links: &Links) -> Result<String, GrubError> {
    let Bootable::Linux {
        kernel,
        initrds,
        command_line,
    } = bootable
    else {
        return Err(GrubError::NoKernel);
    };
    let mut words = vec![
        "linux".to_owned(),
        quoted("kernel's name", &links.tftp(kernel))?,
    ];
    for word in command_line.split(' ').filter(|word| !word.is_empty()) {
        words.push(quoted("kernel's command line", word)?);
    }
    let mut config = format!("{}\n", words.join(" "));
    if !initrds.is_empty() {
        let mut words = vec!["initrd".to_owned()];
        for initrd in initrds {
            words.push(quoted("initrd's name", &links.tftp(initrd))?);
        }
        config.push_str(&format!("{}\n", words.join(" ")));
    }
    config.push_str("boot\n");
    config.push_str(&exit());
    Ok(config)
}

/// In single quotes GRUB takes all literally; only the quote itself cannot be in them.
fn quoted(what: &'static str, text: &str) -> Result<String, GrubError> {
    if text.contains('\'') || text.chars().any(char::is_control) {
        Err(GrubError::Unsayable(what))
    } else {
        Ok(format!("'{text}'"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Ticket;
    use crate::links::PublicAddress;
    use crate::token::Keys;

    fn links() -> Links {
        let address = PublicAddress {
            base: "http://192.0.2.1".parse().unwrap(),
            registry: None,
        };
        address
            .links(
                &Keys::new([[1; 32]]).unwrap(),
                &Ticket {
                    server: "s".into(),
                    server_uid: "u".into(),
                    nonce: "n".into(),
                },
                None,
            )
            .unwrap()
    }

    fn linux(command_line: &str) -> Bootable {
        Bootable::Linux {
            kernel: "kernel".into(),
            initrds: vec!["initrd".into()],
            command_line: command_line.into(),
        }
    }

    #[test]
    fn a_signed_kernel_is_read_over_tftp() {
        let config = boot(&linux("a=b;c $d"), &links()).unwrap();
        let tftp = links().tftp("kernel");
        assert!(tftp.starts_with("/boot/"));
        assert!(config.starts_with(&format!("linux '{tftp}' 'a=b;c' '$d'\ninitrd '")));
        assert!(config.ends_with("boot\nexit 1\n"));
    }

    #[test]
    fn what_cannot_be_said_is_refused() {
        assert_eq!(
            boot(&linux("it's"), &links()),
            Err(GrubError::Unsayable("kernel's command line"))
        );
        assert_eq!(
            boot(&linux("a\nexit"), &links()),
            Err(GrubError::Unsayable("kernel's command line"))
        );
        assert_eq!(boot(&Bootable::Efi, &links()), Err(GrubError::NoKernel));
    }
}
