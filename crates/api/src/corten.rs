//! What the originals have no place for: `corten.dev/v1alpha1`. All kinds are cluster-scoped.

mod server_inventory;
mod server_policy;
mod server_run;

pub use self::{
    server_inventory::{
        Drive, Firmware, Gpu, MemoryModule, NetworkAdapter, NetworkPort, PcieDevice, Processor,
        Section, SectionState, ServerInventory, ServerInventorySpec, ServerInventoryStatus,
        StorageController, Volume,
    },
    server_policy::{
        BootEntries, Cleaning, CleaningMethod, Discovery, Rates, ServerPolicy, ServerPolicySpec,
        ServerPolicyStatus, Timeouts, UnreachableDrives,
    },
    server_run::{
        DriveErasure, EraseClass, Intent, Observation, PlannedStep, RunKind, RunPhase,
        ServerReference, ServerRun, ServerRunSpec, ServerRunStatus, StepOutcome, StepProgress,
        StepResult,
    },
};
