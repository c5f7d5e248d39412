//! What a machine is, as seen from inside. A superset of the original metalprobe's `POST /register`.

use serde::{Deserialize, Serialize};

/// One machine's report.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Registration {
    /// SMBIOS system UUID.
    #[serde(rename = "systemUUID")]
    pub system_uuid: String,
    /// What was seen.
    #[serde(default)]
    pub data: serde_json::Value,
}
