//! Clearing a TPM 2.0: its owner's keys and indices go, whoever set which password.

use crate::inventory::root::Root;
use crate::say;
use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};

/// Physical presence requests (TCG PPI 1.3, table 3): clear; enable, activate and clear.
const REQUESTS: [&str; 2] = ["14", "5"];
const FOLDER: &str = "sys/class/tpm/tpm0";
/// What the firmware says that the machine has, a file for each table.
const TABLES: &str = "sys/firmware/acpi/tables";
const NO_DRIVER: &str = "the TPM cannot be cleared: the firmware lists one (ACPI table TPM2) and the ramdisk's kernel finds none. Build the ramdisk with the profile `hardware`, whose kernel has the drivers, or switch the TPM on in the firmware's setup";
const OLD: &str = "the TPM cannot be cleared: it is a TPM 1.2 (or the firmware lists one, ACPI table TCPA), and only a TPM 2.0 can be cleared from here. Clear it in the firmware's setup, and clean without clearTPM";
/// The kernel's resource manager, and the TPM itself where the kernel has none.
const DEVICES: [&str; 2] = ["dev/tpmrm0", "dev/tpm0"];

/// TPM2_Clear (TPM 2.0 part 3, 24.6) by the lockout hierarchy with an empty password, which is what a TPM has until somebody sets one.
const CLEAR: [u8; 27] = [
    0x80, 0x02, 0, 0, 0, 27, 0, 0, 0x01, 0x26, // TPM_ST_SESSIONS, size, TPM_CC_Clear
    0x40, 0, 0, 0x0a, // TPM_RH_LOCKOUT
    0, 0, 0, 9, 0x40, 0, 0, 0x09, 0, 0, 0, 0,
    0, // TPM_RS_PW, no nonce, no attributes, no password
];

/// Clears the TPM at once, or else asks the firmware to do it at the next start, which needs nobody's password. What was only asked for is not done: the
/// machine is started and cleaned again, and then the TPM takes the command, or says again that it does not.
///
/// # Errors
/// It is not clear: why, or that the firmware was asked. A machine without a TPM has none to clear; one whose firmware lists a TPM that the kernel does
/// not find is not such a machine.
pub fn clear(root: &Root) -> Result<(), String> {
    if !root.join(FOLDER).exists() {
        return match (has_table(root, "TPM2"), has_table(root, "TCPA")) {
            (true, _) => Err(NO_DRIVER.to_owned()),
            (false, true) => Err(OLD.to_owned()),
            (false, false) => Ok(()),
        };
    }
    // It takes no TPM2_Clear, and nothing would show that the firmware has done what it was asked for.
    if root.text(format!("{FOLDER}/tpm_version_major")).as_deref() == Some("1") {
        return Err(OLD.to_owned());
    }
    let mut why = "no device for it".to_owned();
    for device in DEVICES {
        let opened = OpenOptions::new()
            .read(true)
            .write(true)
            .open(root.join(device));
        match opened.and_then(|mut tpm| at_once(&mut tpm)) {
            Ok(()) => {
                say!("the TPM is cleared");
                return Ok(());
            }
            Err(error) => why = error.to_string(),
        }
    }
    say!("the TPM is not cleared at once ({why}); the firmware is asked");
    let file = root.join(format!("{FOLDER}/ppi/request"));
    let mut last = String::new();
    for request in REQUESTS {
        match fs::write(&file, request) {
            Ok(()) => {
                say!("the firmware clears the TPM at the next start (request {request})");
                return Err(format!(
                    "the TPM is not cleared yet: {why}. The firmware was asked to do it at the next start, which some have a person confirm at the console"
                ));
            }
            Err(error) => last = error.to_string(),
        }
    }
    Err(format!(
        "the TPM cannot be cleared: {why}; the firmware takes no request for it either: {last}"
    ))
}

/// Whether the firmware has an ACPI table of this name; the kernel numbers them where there are several.
fn has_table(root: &Root, table: &str) -> bool {
    root.names(TABLES).iter().any(|name| {
        name.strip_prefix(table)
            .is_some_and(|number| number.bytes().all(|byte| byte.is_ascii_digit()))
    })
}

fn at_once(tpm: &mut (impl Read + Write)) -> io::Result<()> {
    tpm.write_all(&CLEAR)?;
    // A response comes whole, with one read.
    let mut answer = [0_u8; 4096];
    let length = tpm.read(&mut answer)?;
    let code = answer
        .get(..length)
        .and_then(|answer| answer.get(6..10))
        .and_then(|code| code.first_chunk::<4>())
        .map(|code| u32::from_be_bytes(*code));
    match code {
        Some(0) => Ok(()),
        Some(code) => Err(io::Error::other(format!("TPM2_Clear answers {code:#x}"))),
        None => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;
    use std::process::{Child, Command};
    use std::time::Duration;

    use super::*;

    /// A TPM of the distribution's `swtpm`, which ends with the test.
    struct Judge(Child, UnixStream);

    impl Drop for Judge {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    impl Judge {
        fn start(folder: &std::path::Path) -> Option<Self> {
            let socket = folder.join("socket");
            let started = Command::new("swtpm")
                .args(["socket", "--tpm2", "--flags", "not-need-init,startup-clear"])
                .arg("--tpmstate")
                .arg(format!("dir={}", folder.display()))
                .arg("--server")
                .arg(format!("type=unixio,path={}", socket.display()))
                .spawn();
            let Ok(child) = started else {
                println!("skipped: swtpm is not installed (scripts/e2e-setup)");
                return None;
            };
            for _ in 0..100 {
                if let Ok(stream) = UnixStream::connect(&socket) {
                    stream
                        .set_read_timeout(Some(Duration::from_secs(10)))
                        .unwrap();
                    return Some(Self(child, stream));
                }
                // No runtime here to wait by.
                let _ = Command::new("sleep").arg("0.05").status();
            }
            panic!("swtpm does not listen");
        }

        fn ask(&mut self, command: &[u8]) -> Vec<u8> {
            self.1.write_all(command).unwrap();
            let mut answer = vec![0; 4096];
            let length = self.1.read(&mut answer).unwrap();
            answer.truncate(length);
            answer
        }

        /// TPM2_HierarchyChangeAuth: sets a password, with an empty one before.
        fn set_password(&mut self, hierarchy: u8) {
            let mut command = vec![0x80, 0x02, 0, 0, 0, 33, 0, 0, 0x01, 0x29];
            command.extend([0x40, 0, 0, hierarchy]);
            command.extend([0, 0, 0, 9, 0x40, 0, 0, 9, 0, 0, 0, 0, 0]);
            command.extend([0, 4, b'e', b'v', b'i', b'l']);
            assert_eq!(self.ask(&command)[6..10], [0; 4]);
        }

        /// TPM_PT_PERMANENT: whether the owner has a password.
        fn has_owner(&mut self) -> bool {
            let mut command = vec![0x80, 0x01, 0, 0, 0, 22, 0, 0, 0x01, 0x7a];
            command.extend([0, 0, 0, 6, 0, 0, 2, 0, 0, 0, 0, 1]);
            let answer = self.ask(&command);
            answer[answer.len() - 1] & 1 != 0
        }
    }

    const OWNER: u8 = 1;
    const LOCKOUT: u8 = 0x0a;

    #[test]
    fn a_tpm_forgets_its_owner() {
        let folder = tempfile::tempdir().unwrap();
        let Some(mut judge) = Judge::start(folder.path()) else {
            return;
        };
        judge.set_password(OWNER);
        assert!(judge.has_owner());
        at_once(&mut judge.1).unwrap();
        assert!(!judge.has_owner());
    }

    #[test]
    fn a_tpm_whose_lockout_has_a_password_is_not_called_clear() {
        let folder = tempfile::tempdir().unwrap();
        let Some(mut judge) = Judge::start(folder.path()) else {
            return;
        };
        judge.set_password(OWNER);
        judge.set_password(LOCKOUT);
        assert!(at_once(&mut judge.1).is_err());
        assert!(judge.has_owner());
    }

    #[test]
    fn the_firmware_is_asked_where_the_tpm_does_not_answer_and_who_can_do_neither_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::at(folder.path());
        clear(&root).expect("no TPM, nothing to clear");
        let ppi = folder.path().join(FOLDER).join("ppi");
        fs::create_dir_all(&ppi).unwrap();
        let asked = clear(&root).unwrap_err();
        assert!(asked.contains("not cleared yet"), "{asked}");
        assert_eq!(fs::read_to_string(ppi.join("request")).unwrap(), "14");
        fs::remove_file(ppi.join("request")).unwrap();
        fs::remove_dir(&ppi).unwrap();
        assert!(clear(&root).unwrap_err().contains("cannot be cleared"));
    }

    /// A machine whose firmware has these ACPI tables.
    fn with_tables(tables: &[&str]) -> (tempfile::TempDir, Root) {
        let folder = tempfile::tempdir().unwrap();
        let tables_folder = folder.path().join("sys/firmware/acpi/tables");
        fs::create_dir_all(&tables_folder).unwrap();
        for table in tables {
            fs::write(tables_folder.join(table), "").unwrap();
        }
        let root = Root::at(folder.path());
        (folder, root)
    }

    #[test]
    fn a_tpm_that_the_firmware_lists_and_the_kernel_has_no_driver_for_is_not_called_clear() {
        for (tables, word) in [
            (["APIC", "TPM2"], "profile `hardware`"),
            (["APIC", "TPM21"], "profile `hardware`"),
            (["TCPA", "TPM2"], "profile `hardware`"),
            (["APIC", "TCPA"], "TPM 1.2"),
            (["APIC", "TCPA2"], "TPM 1.2"),
        ] {
            let (_folder, root) = with_tables(&tables);
            let why = clear(&root).unwrap_err();
            assert!(why.contains(word), "{tables:?}: {why}");
        }
        let (_folder, root) = with_tables(&["APIC", "TPM2X"]);
        clear(&root).expect("no TPM, nothing to clear");
    }

    #[test]
    fn a_tpm_1_2_is_never_called_clear_and_the_firmware_is_not_asked_in_vain() {
        let (folder, root) = with_tables(&["TCPA"]);
        let ppi = folder.path().join(FOLDER).join("ppi");
        fs::create_dir_all(&ppi).unwrap();
        fs::write(folder.path().join(FOLDER).join("tpm_version_major"), "1\n").unwrap();
        let why = clear(&root).unwrap_err();
        assert!(why.contains("TPM 1.2"), "{why}");
        assert!(!ppi.join("request").exists());
    }
}
