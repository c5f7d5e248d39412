//! What keeps claims from servers, and what lets them through.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::open_enum::open_enum;

open_enum! {
    /// What a taint does to claims that do not tolerate it.
    pub enum TaintEffect default NoBind schema closed {
        /// They are not bound to the server.
        NoBind = "NoBind",
        /// They are not bound, and bound ones are to leave.
        Evict = "Evict",
    }
}

open_enum! {
    /// How a toleration compares.
    pub enum TolerationOperator default Equal schema closed {
        /// Key and value must be equal.
        Equal = "Equal",
        /// The key is enough.
        Exists = "Exists",
    }
}

/// A reason to keep claims away that do not tolerate it.
#[derive(
    Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, Serialize, JsonSchema,
)]
pub struct Taint {
    /// Key. Key and effect together are unique on a server.
    #[schemars(length(min = 1))]
    pub key: String,
    /// Value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// What it does to claims that do not tolerate it.
    #[serde(default)]
    pub effect: TaintEffect,
}

/// A taint, or several, that a claim can live with.
#[derive(
    Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, Serialize, JsonSchema,
)]
pub struct Toleration {
    /// Key of the taint.
    #[schemars(length(min = 1))]
    pub key: String,
    /// How key and value compare; `Equal` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operator: Option<TolerationOperator>,
    /// Value of the taint, for `Equal`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// Effect of the taint; every effect if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effect: Option<TaintEffect>,
}
