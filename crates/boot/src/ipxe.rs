//! iPXE scripts. None of them leads back to where it came from: a script boots, or ends in `exit`, upon which the firmware goes on with its next entry.

use crate::links::Links;
use crate::server::Bootable;

/// Why no script can be written. Trying again does not help.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScriptError {
    /// iPXE has no quoting: what it would take for something else cannot be said in it.
    #[error("the {0} has something in it that iPXE would not take literally")]
    Unsayable(&'static str),
}

/// What machines get at the chain URL before anything of them is known: it says who it is and asks on.
///
/// # Errors
/// The base URL cannot stand in a script.
pub fn chain(base: &str) -> Result<String, ScriptError> {
    let base = literal("boot server's address", base.trim_end_matches('/'))?;
    Ok(format!(
        "#!ipxe\n\
         isset ${{uuid}} || set uuid unknown\n\
         chain --autofree {base}/ipxe/${{uuid}}?mac=${{netX/mac:hexhyp}}&platform=${{platform}}&arch=${{buildarch}} || goto local\n\
         :local\n{EXIT}"
    ))
}

/// On to the next entry of the firmware. UEFI goes on after a failure and may stop at its menu after a success; a BIOS goes to the disk.
const EXIT: &str =
    "iseq ${platform} efi && exit 1 ||\nsanboot --no-describe --drive 0x80 || exit 1\n";

/// The script that boots from the disk.
#[must_use]
pub fn exit() -> String {
    format!("#!ipxe\n{EXIT}")
}

/// The script of one boot.
///
/// # Errors
/// A name or the command line has something in it that iPXE would not take literally.
pub fn boot(bootable: &Bootable, links: &Links) -> Result<String, ScriptError> {
    let start = match bootable {
        Bootable::LocalDisk => return Ok(exit()),
        Bootable::Efi => format!(
            "chain --autofree {} || goto failed\n",
            literal("boot URL", &links.http_boot())?
        ),
        Bootable::Iso => format!(
            "sanboot --no-describe {} || goto failed\n",
            literal("boot URL", &links.iso())?
        ),
        Bootable::Linux {
            kernel,
            initrds,
            command_line,
        } => {
            let mut script = String::from("kernel ");
            script.push_str(literal(
                "kernel's URL",
                &links.artefact(word("kernel's name", kernel)?),
            )?);
            // On UEFI the kernel finds its ramdisks by these.
            for initrd in initrds {
                script.push_str(&format!(" initrd={}", word("initrd's name", initrd)?));
            }
            let line = literal("kernel's command line", command_line)?;
            if !line.is_empty() {
                script.push(' ');
                script.push_str(line);
            }
            script.push_str(" || goto failed\n");
            for initrd in initrds {
                script.push_str(&format!(
                    "initrd --name {initrd} {} || goto failed\n",
                    literal("initrd's URL", &links.artefact(initrd))?
                ));
            }
            script.push_str("boot || goto failed\n");
            script
        }
    };
    Ok(format!(
        "#!ipxe\nimgfree\n{start}:failed\necho Boot failed\nsleep 5\n{EXIT}"
    ))
}

/// The text, if iPXE takes it as it stands: it expands `${…}`, ends commands at `;`, `&&` and `||` that stand alone, begins comments at `#`, and joins lines
/// at a backslash.
fn literal<'a>(what: &'static str, text: &'a str) -> Result<&'a str, ScriptError> {
    let special = text
        .chars()
        .any(|character| character.is_control() || !character.is_ascii())
        || text.contains("${")
        || text.ends_with('\\')
        || text
            .split(' ')
            .any(|word| matches!(word, ";" | "&&" | "||" | "&" | "|") || word.starts_with('#'));
    if special {
        Err(ScriptError::Unsayable(what))
    } else {
        Ok(text)
    }
}

/// A name that is one word and one part of a path.
fn word<'a>(what: &'static str, text: &'a str) -> Result<&'a str, ScriptError> {
    let plain = !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'));
    if plain {
        Ok(text)
    } else {
        Err(ScriptError::Unsayable(what))
    }
}

/// Where the distribution's package `ipxe` puts its binaries.
pub mod binary {
    use std::path::PathBuf;

    /// A file that a package brings is not there.
    #[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
    #[error("{file} is not installed: it comes with the package {package}")]
    pub struct Missing {
        /// The file.
        pub file: &'static str,
        /// The distribution's package.
        pub package: &'static str,
    }

    /// A first-stage file: its name over TFTP and HTTP, the package it comes with, where that may put it.
    #[derive(Clone, Copy, Debug)]
    pub struct FirstStage {
        /// Name as DHCP gives it.
        pub name: &'static str,
        /// The distribution's package.
        pub package: &'static str,
        pub(super) places: &'static [&'static str],
    }

    /// All first-stage files, by the names that DHCP gives.
    pub const ALL: &[FirstStage] = &[
        FirstStage {
            name: "undionly.kpxe",
            package: "ipxe",
            places: &[
                "/usr/lib/ipxe/undionly.kpxe",
                "/usr/share/ipxe/undionly.kpxe",
            ],
        },
        FirstStage {
            name: "snponly.efi",
            package: "ipxe",
            places: &[
                "/usr/lib/ipxe/snponly.efi",
                "/usr/share/ipxe/ipxe-snponly-x86_64.efi",
            ],
        },
        FirstStage {
            name: "ipxe.efi",
            package: "ipxe",
            places: &[
                "/usr/lib/ipxe/ipxe.efi",
                "/boot/ipxe.efi",
                "/usr/share/ipxe/ipxe-x86_64.efi",
            ],
        },
        FirstStage {
            name: "shimx64.efi",
            package: "shim-signed",
            places: &["/usr/lib/shim/shimx64.efi.signed"],
        },
        // Shim asks for this name beside its own.
        FirstStage {
            name: "grubx64.efi",
            package: "grub-efi-amd64-signed",
            places: &["/usr/lib/grub/x86_64-efi-signed/grubnetx64.efi.signed"],
        },
        FirstStage {
            name: "mmx64.efi",
            package: "shim-helpers-amd64-signed",
            places: &["/usr/lib/shim/mmx64.efi.signed", "/usr/lib/shim/mmx64.efi"],
        },
    ];

    impl FirstStage {
        /// Where it is.
        ///
        /// # Errors
        /// The package is not installed.
        pub fn find(&self) -> Result<PathBuf, Missing> {
            self.places
                .iter()
                .map(PathBuf::from)
                .find(|path| path.is_file())
                .ok_or(Missing {
                    file: self.name,
                    package: self.package,
                })
        }
    }

    /// The first-stage file of that name; none for any other name.
    #[must_use]
    pub fn named(name: &str) -> Option<&'static FirstStage> {
        ALL.iter().find(|file| file.name == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Ticket;
    use crate::links::{PublicAddress, name};
    use crate::token::Keys;

    fn links() -> Links {
        let address = PublicAddress {
            base: "http://192.0.2.1:8082".parse().unwrap(),
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
            kernel: name::KERNEL.into(),
            initrds: vec![name::INITRD.into(), "extra.img".into()],
            command_line: command_line.into(),
        }
    }

    #[test]
    fn a_kernel_is_started_with_its_ramdisks_named_for_uefi() {
        let script = boot(&linux("console=ttyS0 quiet"), &links()).unwrap();
        let links = links();
        assert_eq!(
            script,
            format!(
                "#!ipxe\nimgfree\nkernel {} initrd=initrd initrd=extra.img console=ttyS0 quiet || goto failed\n\
                 initrd --name initrd {} || goto failed\ninitrd --name extra.img {} || goto failed\nboot || goto failed\n\
                 :failed\necho Boot failed\nsleep 5\niseq ${{platform}} efi && exit 1 ||\nsanboot --no-describe --drive 0x80 || exit 1\n",
                links.kernel(),
                links.initrd(),
                links.artefact("extra.img")
            )
        );
    }

    #[test]
    fn what_ipxe_would_not_take_literally_is_refused() {
        for line in [
            "a ${uuid}",
            "a ; shell",
            "a && shell",
            "a || shell",
            "a\nshell",
            "a #b",
            "a\\",
            "naïve",
        ] {
            assert_eq!(
                boot(&linux(line), &links()),
                Err(ScriptError::Unsayable("kernel's command line")),
                "{line:?}"
            );
        }
        assert!(
            boot(&linux("ds=nocloud;s=http://x/y/ a=b&c"), &links()).is_ok(),
            "inside a word they are letters as others"
        );
        let bad = Bootable::Linux {
            kernel: "a b".into(),
            initrds: vec![],
            command_line: String::new(),
        };
        assert!(boot(&bad, &links()).is_err());
    }

    #[test]
    fn no_script_leads_back_to_the_chain() {
        for bootable in [linux(""), Bootable::Efi, Bootable::Iso, Bootable::LocalDisk] {
            let script = boot(&bootable, &links()).unwrap();
            assert!(
                !script.contains("/ipxe") && script.ends_with("exit 1\n"),
                "{script}"
            );
        }
        let first = chain("http://192.0.2.1:8082/").unwrap();
        assert_eq!(first.matches("chain").count(), 1);
        assert!(first.contains("http://192.0.2.1:8082/ipxe/${uuid}?mac=${netX/mac:hexhyp}"));
        assert!(first.ends_with("exit 1\n"));
    }

    #[test]
    fn a_missing_binary_is_said_with_its_package() {
        let missing = binary::FirstStage {
            name: "x.efi",
            package: "ipxe",
            places: &["/nowhere/x.efi"],
        }
        .find()
        .unwrap_err();
        assert_eq!(
            missing.to_string(),
            "x.efi is not installed: it comes with the package ipxe"
        );
        assert!(binary::named("../etc/passwd").is_none());
    }
}
