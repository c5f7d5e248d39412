//! What a claim asks for, and which server answers it.

use corten_api::metal::{ServerClaimSpec, TaintEffect, TolerationOperator};

use super::{
    nofit::Misfit,
    offer::{Offer, Standing, Taint},
    selector::{InvalidSelector, Selector},
};

/// All that decides whether a server fits a claim. Claims with equal demands wait in the same line.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Demand {
    target: Target,
    tolerations: Vec<Toleration>,
}

/// Which servers a claim would take.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// The server of this name and no other. Wins over a selector that is given as well, as in the original.
    Named(String),
    /// Any server that the selector matches.
    Matching(Selector),
    /// Any server at all.
    Any,
    /// A selector that means nothing matches nothing.
    Invalid(String),
}

/// A taint that the claim puts up with.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Toleration {
    key: String,
    /// None: whatever its value (`Exists`).
    value: Option<String>,
    /// None: whatever its effect.
    effect: Option<TaintEffect>,
}

// === impl Demand ===

impl Demand {
    /// What `spec` asks for.
    pub fn of(spec: &ServerClaimSpec) -> Self {
        // A reference without a name names no server, as in the original: it cannot be filled in later, since it is immutable.
        let named = spec.server_ref.as_ref().map(|server| server.name.as_str());
        let target = match (named, &spec.server_selector) {
            (Some(name), _) => Target::Named(name.to_owned()),
            (None, Some(wire)) => match Selector::parse(wire) {
                Ok(selector) => Target::Matching(selector),
                Err(invalid) => Target::invalid(&invalid),
            },
            (None, None) => Target::Any,
        };
        let mut tolerations: Vec<_> = spec
            .tolerations
            .iter()
            .map(|wire| Toleration {
                key: wire.key.clone(),
                value: match wire.operator {
                    Some(TolerationOperator::Exists) => None,
                    // `Equal` is the default, and an operator that we do not know must not tolerate more than it.
                    _ => Some(wire.value.clone().unwrap_or_default()),
                },
                effect: wire.effect.clone(),
            })
            .collect();
        tolerations.sort();
        tolerations.dedup();
        Self {
            target,
            tolerations,
        }
    }

    /// Which servers it would take.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Whether `offer` may be bound to the claim now; if not, the first demand that fails.
    pub fn check(&self, offer: &Offer) -> Result<(), Misfit> {
        if !self.wants(offer) {
            return Err(Misfit::NotSelected);
        }
        match offer.standing() {
            Standing::Free => {}
            standing => return Err(Misfit::NotFree(standing.clone())),
        }
        match offer.taints().iter().find(|taint| !self.tolerates(taint)) {
            Some(taint) => Err(Misfit::Tainted(taint.clone())),
            None => Ok(()),
        }
    }

    /// Whether the claim would take this server if it were free.
    pub fn wants(&self, offer: &Offer) -> bool {
        match &self.target {
            Target::Named(name) => name == offer.name(),
            Target::Matching(selector) => selector.matches(offer),
            Target::Any => true,
            Target::Invalid(_) => false,
        }
    }

    /// Whether the claim puts up with `taint`.
    ///
    /// `Evict` keeps new claims away as `NoBind` does; ending a claim that is bound already is the maintenance controller's part.
    pub fn tolerates(&self, taint: &Taint) -> bool {
        self.tolerations.iter().any(|toleration| {
            toleration.key == taint.key
                && toleration
                    .value
                    .as_ref()
                    .is_none_or(|value| *value == taint.value)
                && toleration
                    .effect
                    .as_ref()
                    .is_none_or(|effect| *effect == taint.effect)
        })
    }
}

impl Target {
    fn invalid(invalid: &InvalidSelector) -> Self {
        Self::Invalid(invalid.to_string())
    }
}
