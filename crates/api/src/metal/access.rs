//! How a BMC is spoken to.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::open_enum::open_enum;

open_enum! {
    /// What a BMC speaks. All known ones are Redfish; the latter two are the original's test doubles, and read as `Redfish`.
    pub enum ProtocolName default Redfish {
        /// Redfish.
        Redfish = "Redfish",
        /// Redfish of the original's local mock.
        RedfishLocal = "RedfishLocal",
        /// Redfish with the original's patched registries.
        RedfishWithRegistryPatch = "RedfishWithRegistryPatch",
    }
}

open_enum! {
    /// URL scheme.
    pub enum ProtocolScheme {
        /// Plain HTTP.
        Http = "http",
        /// HTTP over TLS.
        Https = "https",
    }
}

open_enum! {
    /// What a console speaks.
    pub enum ConsoleProtocolName schema closed {
        /// IPMI serial over LAN.
        Ipmi = "IPMI",
        /// SSH.
        Ssh = "SSH",
        /// SSH with Lenovo's command.
        SshLenovo = "SSHLenovo",
    }
}

/// How a BMC is spoken to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Protocol {
    /// What it speaks.
    pub name: ProtocolName,
    /// TCP port; 0 means the scheme's own.
    pub port: i32,
    /// URL scheme. Plain `http` only where it stands here; nothing means `https`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheme: Option<ProtocolScheme>,
    /// Corten's: take any certificate. Whoever sits between can then read the password.
    #[serde(
        default,
        rename = "insecureSkipTLSVerify",
        skip_serializing_if = "std::ops::Not::not"
    )]
    pub insecure_skip_tls_verify: bool,
}

/// How a machine's console is reached.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
pub struct ConsoleProtocol {
    /// What it speaks.
    pub name: ConsoleProtocolName,
    /// Port.
    pub port: i32,
}
