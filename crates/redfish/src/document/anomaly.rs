//! What was wrong with a document, kept for people who file firmware bugs; never a reason to fail.

use parking_lot::Mutex;
use std::fmt;
use std::sync::Arc;

/// How many anomalies a document keeps. A thousand sensors with the same fault are one fact, not a thousand.
const KEPT: usize = 16;

/// How a property was wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// It has another JSON type than its schema says; a sensible reading was still found.
    Coerced,
    /// It has another JSON type than its schema says, and counts as missing.
    Mistyped,
    /// It was found under a name that differs in case or punctuation.
    Misspelt,
    /// It is of the right type, and its value is out of range or malformed; it counts as missing.
    Malformed,
}

/// One property that was there but wrong.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Anomaly {
    /// Name of the property, as the schema spells it.
    pub property: String,
    /// How it was wrong.
    pub fault: Fault,
}

/// A bounded, shared list of anomalies; each (property, fault) once.
#[derive(Clone, Default)]
pub struct Anomalies(Arc<Mutex<Vec<Anomaly>>>);

// === impl Anomalies ===

impl Anomalies {
    /// Notes one anomaly, unless it is known or the list is full.
    pub fn note(&self, property: &str, fault: Fault) {
        let mut list = self.0.lock();
        if list.len() < KEPT
            && !list
                .iter()
                .any(|a| a.fault == fault && a.property == property)
        {
            list.push(Anomaly {
                property: property.to_owned(),
                fault,
            });
        }
    }

    /// What was noted, in order.
    #[must_use]
    pub fn list(&self) -> Vec<Anomaly> {
        self.0.lock().clone()
    }
}

impl fmt::Debug for Anomalies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.lock().iter()).finish()
    }
}

impl fmt::Display for Anomaly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fault = match self.fault {
            Fault::Coerced => "has another type than its schema",
            Fault::Mistyped => "has an unusable type",
            Fault::Misspelt => "is misspelt",
            Fault::Malformed => "has a malformed value",
        };
        write!(f, "{} {fault}", self.property)
    }
}
