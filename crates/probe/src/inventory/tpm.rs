//! The TPM, as far as sysfs shows it.

use super::root::Root;
use corten_wire::registration::{Pcr, Tpm};

const FOLDER: &str = "sys/class/tpm/tpm0";

/// The first TPM, with its platform configuration registers; none without one.
#[must_use]
pub fn read(root: &Root) -> Option<Tpm> {
    if !root.join(FOLDER).exists() {
        return None;
    }
    let mut pcrs = Vec::new();
    for bank in root.names(FOLDER) {
        let Some(algorithm) = bank.strip_prefix("pcr-") else {
            continue;
        };
        for index in 0..24_u32 {
            if let Some(value) = root.text(format!("{FOLDER}/{bank}/{index}")) {
                pcrs.push(Pcr {
                    algorithm: algorithm.to_owned(),
                    index,
                    value: value.to_ascii_lowercase(),
                });
            }
        }
    }
    Some(Tpm {
        version: root
            .text(format!("{FOLDER}/tpm_version_major"))
            .unwrap_or_default(),
        pcrs,
    })
}
