//! The kinds that Corten speaks, as Rust types and CustomResourceDefinitions.
//!
//! [`crds`] gives the definitions to install. [`metal`] is the engine's own model, compatible field for field with
//! metal-operator v0.7.0; [`corten`] holds what that model has no place for; [`names`] the annotations, labels,
//! finalizers, field managers and condition types. No I/O here.
//!
//! Enums are open: a value that we do not know is kept in `Other`, and an unknown field is passed over, so that an object
//! written by a newer or a foreign client still decodes.

mod definitions;
mod open_enum;
mod quantity;
mod reference;
mod schema;

pub mod corten;
pub mod metal;
pub mod names;
#[cfg(any(test, feature = "samples"))]
pub mod samples;

pub use self::{
    definitions::crds,
    quantity::Quantity,
    reference::{LocalObjectReference, ObjectReference, SecretReference},
};
pub use k8s_openapi::apimachinery::pkg::apis::meta::v1::{
    Condition, LabelSelector, LabelSelectorRequirement,
};
