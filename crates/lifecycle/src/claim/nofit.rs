//! Why no server fits: which demand failed, for how many servers.

use std::{collections::BTreeMap, fmt};

use super::{
    demand::{Demand, Target},
    offer::{Standing, Taint},
};

/// The first demand of a claim that a server fails.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Misfit {
    /// The claim wants another server.
    NotSelected,
    /// Nobody could have it now.
    NotFree(Standing),
    /// The claim does not tolerate this taint.
    Tainted(Taint),
}

/// No server fits a claim, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoFit {
    target: Target,
    misfits: BTreeMap<Misfit, usize>,
}

// === impl NoFit ===

impl NoFit {
    /// A report for `demand` over servers that are still to be counted.
    pub fn new(demand: &Demand) -> Self {
        Self {
            target: demand.target().clone(),
            misfits: BTreeMap::new(),
        }
    }

    /// Counts `servers` servers that fail by `misfit`.
    pub fn count(&mut self, misfit: Misfit, servers: usize) {
        if servers > 0 {
            *self.misfits.entry(misfit).or_default() += servers;
        }
    }

    /// How many servers were looked at.
    pub fn servers(&self) -> usize {
        self.misfits.values().sum()
    }

    /// The reason for the claim's condition, in CamelCase.
    pub fn reason(&self) -> &'static str {
        match &self.target {
            Target::Invalid(_) => "InvalidSelector",
            Target::Named(_) => match self.wanted().next() {
                None => "ServerNotFound",
                Some((Misfit::NotFree(Standing::Taken), _)) => "ServerTaken",
                Some((Misfit::NotFree(Standing::Unreachable), _)) => "ServerUnreachable",
                Some(_) => "ServerNotAvailable",
            },
            _ => "NoServerFits",
        }
    }

    fn wanted(&self) -> impl Iterator<Item = (&Misfit, usize)> {
        self.misfits
            .iter()
            .filter(|(misfit, _)| **misfit != Misfit::NotSelected)
            .map(|(misfit, n)| (misfit, *n))
    }
}

impl fmt::Display for NoFit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.target {
            Target::Invalid(why) => return write!(f, "spec.serverSelector selects nothing: {why}"),
            Target::Named(name) if name.is_empty() => {
                return f.write_str(
                    "spec.serverRef names no server, and cannot be given a name any more: make the claim anew, with one or without serverRef",
                );
            }
            Target::Named(name) => {
                return match self.wanted().next() {
                    None => write!(
                        f,
                        "there is no server {name:?}; the claim is bound when one of this name is Available"
                    ),
                    Some((Misfit::NotFree(Standing::Taken), _)) => {
                        write!(
                            f,
                            "server {name:?} is bound to another claim; this one waits until it is released and clean"
                        )
                    }
                    Some((Misfit::Tainted(taint), _)) => {
                        write!(
                            f,
                            "server {name:?} has the taint {taint}, which the claim does not tolerate"
                        )
                    }
                    Some((Misfit::NotFree(standing), _)) => {
                        write!(f, "server {name:?} is {standing}")
                    }
                    Some((Misfit::NotSelected, _)) => Ok(()),
                };
            }
            Target::Any | Target::Matching(_) if self.servers() == 0 => {
                return f.write_str("there are no servers");
            }
            Target::Any | Target::Matching(_) => {}
        }
        write!(f, "none of {} servers fits: ", self.servers())?;
        // The most frequent first: it is what the reader has to change.
        let mut counts: Vec<_> = self.misfits.iter().collect();
        counts.sort_by_key(|(_, n)| std::cmp::Reverse(**n));
        for (i, (misfit, n)) in counts.into_iter().enumerate() {
            if i > 0 {
                f.write_str(", ")?;
            }
            match misfit {
                Misfit::NotSelected => write!(f, "{n} not matched by serverSelector")?,
                Misfit::NotFree(standing) => write!(f, "{n} {standing}")?,
                Misfit::Tainted(taint) => write!(f, "{n} with the taint {taint}")?,
            }
        }
        Ok(())
    }
}
