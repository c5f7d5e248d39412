//! Ways to erase, what each is worth by NIST SP 800-88, and which a drive can.

use super::{nvme, scsi};
use crate::device::ata::Identity;
use crate::device::{CommandSet, Device};
use corten_wire::{EraseClass, EraseMethod};

/// A way to erase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// NVMe Sanitize, crypto erase.
    NvmeSanitizeCrypto,
    /// NVMe Sanitize, block erase.
    NvmeSanitizeBlock,
    /// NVMe Format NVM, cryptographic erase.
    NvmeFormatCrypto,
    /// NVMe Format NVM, user data erase.
    NvmeFormatUser,
    /// ATA SECURITY ERASE UNIT, enhanced.
    AtaEnhanced,
    /// ATA SECURITY ERASE UNIT, normal.
    AtaNormal,
    /// SCSI SANITIZE, cryptographic erase.
    ScsiSanitizeCrypto,
    /// SCSI SANITIZE, block erase.
    ScsiSanitizeBlock,
    /// SCSI SANITIZE, overwrite.
    ScsiSanitizeOverwrite,
    /// Discard with all copies.
    SecureDiscard,
    /// Zeros by the drive or the kernel.
    ZeroOut,
    /// Zeros by the probe.
    Overwrite,
    /// Signatures and both ends.
    Metadata,
}

impl Method {
    /// For people and records.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::NvmeSanitizeCrypto => "NVMe Sanitize Crypto Erase",
            Self::NvmeSanitizeBlock => "NVMe Sanitize Block Erase",
            Self::NvmeFormatCrypto => "NVMe Format Cryptographic Erase",
            Self::NvmeFormatUser => "NVMe Format User Data Erase",
            Self::AtaEnhanced => "ATA Enhanced Secure Erase",
            Self::AtaNormal => "ATA Secure Erase",
            Self::ScsiSanitizeCrypto => "SCSI Sanitize Cryptographic Erase",
            Self::ScsiSanitizeBlock => "SCSI Sanitize Block Erase",
            Self::ScsiSanitizeOverwrite => "SCSI Sanitize Overwrite",
            Self::SecureDiscard => "Secure Discard",
            Self::ZeroOut => "Write Zeroes",
            Self::Overwrite => "Overwrite",
            Self::Metadata => "Metadata",
        }
    }

    /// What it is worth. The careful reading: what only unmaps or overwrites addressable blocks is Clear, on an SSD all the more.
    #[must_use]
    pub fn class(self) -> EraseClass {
        match self {
            Self::NvmeSanitizeCrypto
            | Self::NvmeSanitizeBlock
            | Self::NvmeFormatCrypto
            | Self::AtaEnhanced
            | Self::ScsiSanitizeCrypto
            | Self::ScsiSanitizeBlock
            | Self::ScsiSanitizeOverwrite => EraseClass::Purge,
            Self::NvmeFormatUser
            | Self::AtaNormal
            | Self::SecureDiscard
            | Self::ZeroOut
            | Self::Overwrite => EraseClass::Clear,
            Self::Metadata => EraseClass::Metadata,
        }
    }

    /// Whether what is read afterwards must be zeros. After the others it is the drive's choice.
    #[must_use]
    pub fn leaves_zeros(self) -> bool {
        matches!(
            self,
            Self::ScsiSanitizeOverwrite | Self::ZeroOut | Self::Overwrite | Self::Metadata
        )
    }
}

/// The methods to try, strongest first. What stands in the way of one goes to `told`.
pub fn plan(device: &Device, wanted: EraseMethod, told: &mut Vec<String>) -> Vec<Method> {
    if wanted == EraseMethod::Metadata {
        return vec![Method::Metadata];
    }
    let mut methods = match &device.commands {
        CommandSet::Nvme(admin, _) => {
            let offer = nvme::offer(&**admin, told);
            if offer.hidden {
                return offer.methods;
            }
            offer.methods
        }
        CommandSet::Ata(ata) => match Identity::read(&**ata) {
            Ok(identity) => {
                let obstacles = identity.obstacles();
                if !identity.security {
                    Vec::new()
                } else if obstacles.is_empty() {
                    let enhanced = identity.enhanced.then_some(Method::AtaEnhanced);
                    enhanced.into_iter().chain([Method::AtaNormal]).collect()
                } else {
                    told.push(format!("ATA Secure Erase: {}", obstacles.join(", ")));
                    Vec::new()
                }
            }
            Err(error) => {
                told.push(format!("ATA IDENTIFY: {error}"));
                Vec::new()
            }
        },
        CommandSet::Scsi(scsi) => scsi::methods(&**scsi),
        CommandSet::None => Vec::new(),
    };
    methods.extend([Method::SecureDiscard, Method::ZeroOut, Method::Overwrite]);
    if wanted == EraseMethod::Clear {
        methods.retain(|method| method.class() == EraseClass::Clear);
    }
    methods
}
