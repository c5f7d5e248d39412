//! The engine's own model: `metal.ironcore.dev/v1alpha1`, field for field that of metal-operator v0.7.0.
//!
//! What Corten adds is marked so, and optional. Which field is honoured when: `docs/compatibility.md`.

mod access;
mod bmc;
mod bmc_secret;
mod endpoint;
mod power;
mod server;
mod server_boot_configuration;
mod server_claim;
mod server_status;
mod taint;

pub use self::{
    access::{ConsoleProtocol, ConsoleProtocolName, Protocol, ProtocolName, ProtocolScheme},
    bmc::{Bmc, BmcSpec, BmcState, BmcStatus, InlineEndpoint},
    bmc_secret::{BmcSecret, BmcSecretContent, BmcSecretStatus},
    endpoint::{Endpoint, EndpointSpec, EndpointStatus},
    power::{IndicatorLed, Power, PowerState},
    server::{BootOrder, InlineBmc, ReclaimPolicy, Server, ServerSpec},
    server_boot_configuration::{
        ServerBootConfiguration, ServerBootConfigurationSpec, ServerBootConfigurationState,
        ServerBootConfigurationStatus,
    },
    server_claim::{ServerClaim, ServerClaimPhase, ServerClaimSpec, ServerClaimStatus},
    server_status::{
        LldpNeighbor, NetworkInterface, Processor, ServerState, ServerStatus, Storage,
        StorageDrive, StorageVolume,
    },
    taint::{Taint, TaintEffect, Toleration, TolerationOperator},
};
