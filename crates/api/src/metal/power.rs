//! Power and lights, wanted and seen.

use crate::open_enum::open_enum;

open_enum! {
    /// Power as wanted.
    pub enum Power default Off {
        /// Switched on.
        On = "On",
        /// Switched off.
        Off = "Off",
    }
}

open_enum! {
    /// Power as seen: Redfish `PowerState`.
    pub enum PowerState {
        /// Running.
        On = "On",
        /// Off; the BMC may still have power.
        Off = "Off",
        /// Running, but suspended.
        Paused = "Paused",
        /// On its way from off to on.
        PoweringOn = "PoweringOn",
        /// On its way from on to off.
        PoweringOff = "PoweringOff",
    }
}

open_enum! {
    /// The locator light: Redfish `IndicatorLED`.
    pub enum IndicatorLed {
        /// Cannot be told.
        Unknown = "Unknown",
        /// Lit.
        Lit = "Lit",
        /// Blinking.
        Blinking = "Blinking",
        /// Off.
        Off = "Off",
    }
}
