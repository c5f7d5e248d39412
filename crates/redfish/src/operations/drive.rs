//! Erasing a drive through the BMC.
//!
//! What comes of it is the BMC's word only (evidence of class `Reported`): whether that is enough, policy says.

use super::{Call, OperationError};
use crate::Priority;
use crate::document::{Document, Link};
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

/// Whether erasing the drive would reach beyond this machine: a fabric, more than one path to it, or another machine in the same
/// enclosure. Such a drive is listed and never written.
#[must_use]
pub fn may_be_shared(drive: &Drive) -> bool {
    is_on_fabric(drive) || drive.multipath || drive.shared
}

/// What a drive says that it is busy with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UnderWay {
    /// Nothing, or the BMC does not tell (Drive v1.1, `Operations`).
    Nothing,
    /// It is being erased; the task can be followed, where one is named.
    Erasure(Option<Link>),
    /// Something else: its name.
    Other(String),
}

/// Reads a Drive's `Operations`.
#[must_use]
pub fn under_way(drive: &Document) -> UnderWay {
    let mut other = None;
    for operation in drive.root().objects("Operations") {
        let name = operation
            .first_text(&["Operation", "OperationName"])
            .unwrap_or_else(|| "without a name".into());
        let lower = name.to_ascii_lowercase();
        let erases = ["erase", "sanitize"]
            .iter()
            .any(|word| lower.contains(word));
        if erases {
            return UnderWay::Erasure(operation.link("AssociatedTask"));
        }
        other = Some(name);
    }
    other.map_or(UnderWay::Nothing, UnderWay::Other)
}

/// Whether the drive is reached over a network: `Protocol` of Redfish's that leads beyond this machine.
#[must_use]
pub fn is_on_fabric(drive: &Drive) -> bool {
    const FABRICS: [&str; 15] = [
        "FC",
        "FCP",
        "FCoE",
        "iSCSI",
        "NVMeOverFabrics",
        "RoCE",
        "RoCEv2",
        "iWARP",
        "InfiniBand",
        "FICON",
        "TCP",
        "UDP",
        "NFSv3",
        "NFSv4",
        "SMB",
    ];
    drive.protocol.as_deref().is_some_and(|protocol| {
        FABRICS
            .iter()
            .any(|fabric| fabric.eq_ignore_ascii_case(protocol))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn a_drive_that_is_being_erased_names_the_task_and_one_that_is_busy_otherwise_is_left_alone() {
        let says = |operations| {
            under_way(&Document::new(
                "/d/1",
                None,
                json!({"Operations": operations}),
            ))
        };
        assert_eq!(says(json!([])), UnderWay::Nothing);
        assert_eq!(says(json!(null)), UnderWay::Nothing);
        let task = json!({"@odata.id": "/tasks/7"});
        assert_eq!(
            says(json!([{"OperationName": "SecureErase", "AssociatedTask": task}])),
            UnderWay::Erasure(Link::parse("/tasks/7").ok())
        );
        assert_eq!(
            says(json!([{"OperationName": "Sanitize"}])),
            UnderWay::Erasure(None)
        );
        assert_eq!(
            says(json!([{"OperationName": "Rebuild", "AssociatedTask": task}])),
            UnderWay::Other("Rebuild".into())
        );
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
        assert!(may_be_shared(&Drive {
            shared: true,
            ..Drive::default()
        }));
        assert!(!may_be_shared(&Drive {
            protocol: Some("NVMe".into()),
            ..Drive::default()
        }));
    }
}
