//! The engine's own model: `metal.ironcore.dev/v1alpha1`, field for field that of metal-operator v0.7.0.
//!
//! What Corten adds is marked so, and optional. Which field is honoured when: `docs/compatibility.md`.

mod access;
mod bios_settings;
mod bios_settings_set;
mod bios_version;
mod bios_version_set;
mod bmc;
mod bmc_secret;
mod bmc_settings;
mod bmc_settings_set;
mod bmc_settings_variable;
mod bmc_user;
mod bmc_version;
mod bmc_version_set;
mod endpoint;
mod power;
mod server;
mod server_boot_configuration;
mod server_claim;
mod server_maintenance;
mod server_readiness_rule;
mod server_status;
mod taint;
mod update;

pub use self::{
    access::{ConsoleProtocol, ConsoleProtocolName, Protocol, ProtocolName, ProtocolScheme},
    bios_settings::{
        BiosSettings, BiosSettingsFlowStatus, BiosSettingsSpec, BiosSettingsStatus,
        BiosSettingsTemplate, SettingsFlowItem,
    },
    bios_settings_set::{BiosSettingsSet, BiosSettingsSetSpec, BiosSettingsSetStatus},
    bios_version::{BiosVersion, BiosVersionSpec, BiosVersionStatus, BiosVersionTemplate},
    bios_version_set::{BiosVersionSet, BiosVersionSetSpec, BiosVersionSetStatus},
    bmc::{Bmc, BmcSpec, BmcState, BmcStatus, InlineEndpoint},
    bmc_secret::{BmcSecret, BmcSecretContent, BmcSecretStatus},
    bmc_settings::{
        BmcSettings, BmcSettingsSpec, BmcSettingsStatus, BmcSettingsTemplate,
        ServerMaintenanceRefItem,
    },
    bmc_settings_set::{BmcSettingsSet, BmcSettingsSetSpec, BmcSettingsSetStatus},
    bmc_settings_variable::{
        FieldReference, NamespacedKey, ObjectFieldReference, Variable, VariableSource,
    },
    bmc_user::{BmcUser, BmcUserSpec, BmcUserStatus},
    bmc_version::{BmcVersion, BmcVersionSpec, BmcVersionStatus, BmcVersionTemplate},
    bmc_version_set::{BmcVersionSet, BmcVersionSetSpec, BmcVersionSetStatus},
    endpoint::{Endpoint, EndpointSpec, EndpointStatus},
    power::{IndicatorLed, Power, PowerState},
    server::{BootOrder, InlineBmc, ReclaimPolicy, Server, ServerSpec},
    server_boot_configuration::{
        ServerBootConfiguration, ServerBootConfigurationSpec, ServerBootConfigurationState,
        ServerBootConfigurationStatus,
    },
    server_claim::{ServerClaim, ServerClaimPhase, ServerClaimSpec, ServerClaimStatus},
    server_maintenance::{
        ServerBootConfigurationTemplate, ServerMaintenance, ServerMaintenancePolicy,
        ServerMaintenanceSpec, ServerMaintenanceState, ServerMaintenanceStatus,
    },
    server_readiness_rule::{
        ConditionRequirement, ConditionStatus, EnforcementMode, ReadinessTaint,
        ServerReadinessRule, ServerReadinessRuleSpec, ServerReadinessRuleStatus,
    },
    server_status::{
        LldpNeighbor, NetworkInterface, Processor, ServerState, ServerStatus, Storage,
        StorageDrive, StorageVolume,
    },
    taint::{Taint, TaintEffect, Toleration, TolerationOperator},
    update::{RetryPolicy, SettingsState, SoftwareImage, UpdatePolicy, UpgradeTask, VersionState},
};
