//! Erasing a drive through the BMC.
//!
//! What comes of it is the BMC's word only (evidence of class `Reported`): whether that is enough, policy says.

use super::{Call, OperationError};
use crate::Priority;
use crate::inventory::Drive;
use serde_json::json;

/// Plans `Drive.SecureErase`. The work goes on in a task: see [`super::task`].
///
/// # Errors
/// [`OperationError::NotOffered`] if the drive has no such action.
pub fn secure_erase(drive: &Drive) -> Result<Call, OperationError> {
    match &drive.secure_erase {
        Some(target) => Ok(Call::post(target.clone(), json!({})).with_priority(Priority::Power)),
        None => {
            let name = drive.serial_number.as_deref().unwrap_or(&drive.id);
            Err(OperationError::not_offered(
                format!("SecureErase for drive {name}"),
                Vec::new(),
            ))
        }
    }
}

/// Whether erasing the drive would reach beyond this machine: fabric, or more than one path to it. Such a drive is
/// listed and never written.
#[must_use]
pub fn may_be_shared(drive: &Drive) -> bool {
    let fabric = drive.protocol.as_deref().is_some_and(|protocol| {
        let protocol = protocol.to_ascii_lowercase();
        ["nvmeoverfabrics", "fc", "fcp", "fcoe", "iscsi", "ficon"].contains(&protocol.as_str())
    });
    fabric || drive.multipath
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::Link;

    #[test]
    fn a_drive_without_the_action_is_named_in_the_refusal() {
        let drive = Drive {
            serial_number: Some("S6C1NA0TA01511".into()),
            ..Drive::default()
        };
        assert_eq!(
            secure_erase(&drive).unwrap_err().to_string(),
            "the BMC does not offer SecureErase for drive S6C1NA0TA01511"
        );
        let able = Drive {
            secure_erase: Link::parse("/d/Actions/Drive.SecureErase").ok(),
            ..drive
        };
        assert_eq!(secure_erase(&able).unwrap().body, json!({}));
    }

    #[test]
    fn drives_on_a_fabric_or_with_two_paths_may_be_shared() {
        assert!(may_be_shared(&Drive {
            protocol: Some("FC".into()),
            ..Drive::default()
        }));
        assert!(may_be_shared(&Drive {
            multipath: true,
            ..Drive::default()
        }));
        assert!(!may_be_shared(&Drive {
            protocol: Some("NVMe".into()),
            ..Drive::default()
        }));
    }
}
