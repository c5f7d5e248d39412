//! Actions: their targets and what values they allow, as the resource advertises them.

use crate::document::{Document, Link, Object};

/// An advertised action of a resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Action {
    /// Where to POST.
    pub target: Link,
    /// Where its parameters are described, if the values are not given inline.
    pub info: Option<Link>,
}

/// Finds an action of a resource, in `Actions` and in `Actions.Oem`.
#[must_use]
pub fn find(resource: Object<'_>, name: &str) -> Option<Action> {
    let actions = resource.object("Actions");
    let standard = actions.object(name);
    let action = if standard.is_empty() {
        actions.object("Oem").object(name)
    } else {
        standard
    };
    let target = action.uri("target")?;
    Some(Action {
        target,
        info: action.uri("@Redfish.ActionInfo"),
    })
}

/// Target of an action, if the resource offers it.
#[must_use]
pub fn target(resource: Object<'_>, name: &str) -> Option<Link> {
    find(resource, name).map(|action| action.target)
}

/// Values that the action allows for a parameter, given inline (`<Parameter>@Redfish.AllowableValues`); empty if it does not say.
#[must_use]
pub fn inline_values(resource: Object<'_>, name: &str, parameter: &str) -> Vec<String> {
    resource
        .object("Actions")
        .object(name)
        .texts(&format!("{parameter}@Redfish.AllowableValues"))
}

/// Values that an `ActionInfo` resource allows for a parameter; empty if it does not say.
#[must_use]
pub fn info_values(info: &Document, parameter: &str) -> Vec<String> {
    info.root()
        .objects("Parameters")
        .into_iter()
        .find(|entry| {
            entry
                .text("Name")
                .is_some_and(|name| name.eq_ignore_ascii_case(parameter))
        })
        .map(|entry| entry.texts("AllowableValues"))
        .unwrap_or_default()
}
