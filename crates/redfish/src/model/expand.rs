//! `$expand`: what the service root advertises, and what experience with this BMC says.

use crate::document::Document;
use std::sync::atomic::{AtomicU8, Ordering};

/// After this many failures `$expand` is not used with this BMC any more.
const PATIENCE: u8 = 2;

/// How a BMC expands (DSP0266 7.3). Shared by all who read from it.
#[derive(Debug, Default)]
pub struct Expand {
    /// `.` (what is not in Links) or `*` (all), if any.
    symbol: Option<char>,
    /// Whether `$levels` is understood.
    levels: bool,
    /// Deepest level.
    deepest: u8,
    failures: AtomicU8,
}

// === impl Expand ===

impl Expand {
    /// What `ProtocolFeaturesSupported.ExpandQuery` offers.
    #[must_use]
    pub fn offered(root: &Document) -> Self {
        let query = root
            .root()
            .object("ProtocolFeaturesSupported")
            .object("ExpandQuery");
        let symbol = if query.flag("NoLinks") == Some(true) {
            Some('.')
        } else if query.flag("ExpandAll") == Some(true) {
            Some('*')
        } else {
            None
        };
        let levels = query.flag("Levels") == Some(true);
        let deepest = if levels {
            query.whole("MaxLevels").unwrap_or(1).clamp(1, 6)
        } else {
            1
        };
        Self {
            symbol,
            levels,
            deepest: u8::try_from(deepest).unwrap_or(1),
            failures: AtomicU8::new(0),
        }
    }

    /// Whether expanding is worth asking for.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        self.symbol.is_some() && self.failures.load(Ordering::Relaxed) < PATIENCE
    }

    /// Deepest level that may be asked for; 0 if none.
    #[must_use]
    pub fn deepest(&self) -> u8 {
        if self.is_usable() { self.deepest } else { 0 }
    }

    /// `path` with the query that expands it `depth` levels, or as deep as the BMC can; `None` if it cannot.
    #[must_use]
    pub fn path(&self, path: &str, depth: u8) -> Option<String> {
        let symbol = self
            .symbol
            .filter(|_| self.is_usable() && depth > 0 && !path.contains('?'))?;
        let depth = depth.min(self.deepest);
        Some(if self.levels {
            format!("{path}?$expand={symbol}($levels={depth})")
        } else {
            format!("{path}?$expand={symbol}")
        })
    }

    /// An expanded request failed where the plain one works, or came back without the members.
    pub(crate) fn failed(&self) {
        self.failures
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| {
                Some(count.saturating_add(1))
            })
            .ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn expand(query: serde_json::Value) -> Expand {
        let root = Document::new(
            "/redfish/v1/",
            None,
            json!({"ProtocolFeaturesSupported": {"ExpandQuery": query}}),
        );
        Expand::offered(&root)
    }

    #[test]
    fn hpe_expands_without_links_only_and_one_level() {
        let hpe = expand(
            json!({"ExpandAll": false, "Levels": true, "Links": false, "MaxLevels": 1, "NoLinks": true}),
        );
        assert_eq!(
            hpe.path("/s", 3).as_deref(),
            Some("/s?$expand=.($levels=1)")
        );
    }

    #[test]
    fn a_service_that_only_expands_all_is_asked_for_all() {
        let all = expand(json!({"ExpandAll": true, "Levels": false}));
        assert_eq!(all.path("/s", 2).as_deref(), Some("/s?$expand=*"));
    }

    #[test]
    fn a_service_that_offers_nothing_is_not_asked() {
        let none =
            expand(json!({"ExpandAll": false, "Levels": false, "Links": false, "NoLinks": false}));
        assert_eq!(none.path("/s", 1), None);
        assert_eq!(none.deepest(), 0);
    }

    #[test]
    fn two_failures_end_the_use_of_expand() {
        let offered = expand(json!({"NoLinks": true}));
        offered.failed();
        assert!(offered.is_usable());
        offered.failed();
        assert!(!offered.is_usable());
    }
}
