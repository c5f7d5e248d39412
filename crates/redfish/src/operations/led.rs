//! The identification LED of a system or chassis.

use super::{Call, OperationError};
use crate::document::{Document, Link};
use crate::inventory::LedState;
use serde_json::json;

/// Whether the resource has an LED that can be set. iLO 7 has it on the chassis only.
#[must_use]
pub fn is_offered(resource: &Document) -> bool {
    resource.root().has("LocationIndicatorActive") || resource.root().has("IndicatorLED")
}

/// Plans setting the LED: by `LocationIndicatorActive` where that is offered, else by the deprecated `IndicatorLED`.
/// The newer property knows no difference between lit and blinking.
///
/// # Errors
/// [`OperationError::NotOffered`] if the resource has no LED.
pub fn plan(resource: &Document, wanted: &LedState) -> Result<Call, OperationError> {
    let refuse = || {
        OperationError::not_offered(
            format!("an identification LED at {}", resource.path()),
            Vec::new(),
        )
    };
    let link = Link::parse(resource.path()).map_err(|_| refuse())?;
    let root = resource.root();
    let body = if root.flag("LocationIndicatorActive").is_some() {
        json!({ "LocationIndicatorActive": !matches!(wanted, LedState::Off) })
    } else if root.has("IndicatorLED") {
        let allowed = root.texts("IndicatorLED@Redfish.AllowableValues");
        let value = match wanted {
            LedState::Off => "Off",
            LedState::Lit => "Lit",
            LedState::Blinking | LedState::Unknown => "Blinking",
        };
        let lit = value != "Off";
        // iLO and XCC refuse one of the two ways to be lit.
        let other = if value == "Lit" { "Blinking" } else { "Lit" };
        let takes =
            |value: &str| allowed.is_empty() || allowed.iter().any(|allowed| allowed == value);
        let value = if lit && !takes(value) && takes(other) {
            other
        } else {
            value
        };
        json!({ "IndicatorLED": value })
    } else if root.has("LocationIndicatorActive") {
        json!({ "LocationIndicatorActive": !matches!(wanted, LedState::Off) })
    } else {
        return Err(refuse());
    };
    Ok(Call::patch(link, Some(resource), body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newer_property_is_used_where_it_has_a_value() {
        let both = Document::new(
            "/s",
            None,
            json!({"LocationIndicatorActive": false, "IndicatorLED": "Off"}),
        );
        assert_eq!(
            plan(&both, &LedState::Lit).unwrap().body,
            json!({"LocationIndicatorActive": true})
        );
        let old = Document::new("/s", None, json!({"IndicatorLED": "Off"}));
        assert_eq!(
            plan(&old, &LedState::Blinking).unwrap().body,
            json!({"IndicatorLED": "Blinking"})
        );
        assert!(plan(&Document::new("/s", None, json!({})), &LedState::Off).is_err());
    }
}
