//! Health and presence, from a resource's `Status`.

use crate::document::Object;
use std::fmt;

/// `Status.Health`, the rollup preferred: a machine with a failed drive is not `OK`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Health {
    /// Normal.
    Ok,
    /// Needs attention.
    Warning,
    /// Needs attention at once.
    Critical,
    /// A value that the schema does not know.
    Other(String),
}

// === impl Health ===

impl Health {
    /// Reads a resource's `Status`.
    #[must_use]
    pub fn of(resource: Object<'_>) -> Option<Self> {
        let status = resource.object("Status");
        status
            .first_text(&["HealthRollup", "Health"])
            .map(|text| Self::from_wire(&text))
    }

    fn from_wire(text: &str) -> Self {
        match text.to_ascii_lowercase().as_str() {
            "ok" => Self::Ok,
            "warning" => Self::Warning,
            "critical" => Self::Critical,
            _ => Self::Other(text.to_owned()),
        }
    }

    /// As Redfish spells it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Ok => "OK",
            Self::Warning => "Warning",
            Self::Critical => "Critical",
            Self::Other(text) => text,
        }
    }
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Whether the part is there: `Status.State` is not `Absent`.
pub(super) fn is_present(resource: Object<'_>) -> bool {
    resource
        .object("Status")
        .text("State")
        .is_none_or(|state| !state.eq_ignore_ascii_case("absent"))
}
