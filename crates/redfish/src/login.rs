//! The login budget: at most one failed login per BMC in ten minutes, over all credentials and features.
//!
//! BMCs lock an account, or every account, after three to five failures; a controller that retries does that in
//! seconds. So before each login that is not known to be good the gateway asks a [`LoginLedger`], which has recorded
//! when the *next* attempt may be made before it says yes. [`LoginBudget`] is the rule itself, pure, for every ledger.

use crate::target::Credentials;
use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use secrecy::ExposeSecret;
use std::{collections::HashMap, fmt, sync::Arc};

/// How long a failed login forbids the next.
pub const LOGIN_HOLD: SignedDuration = SignedDuration::from_mins(10);

/// Tells credentials apart without telling what they are: keyed with a random key of this process, so that it is
/// worthless outside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CredentialsId(u64);

/// One login that the gateway is about to try.
#[derive(Clone, Debug)]
pub struct LoginAttempt {
    /// [`Target::name`](crate::Target::name).
    pub bmc: Arc<str>,
    /// Which credentials.
    pub credentials: CredentialsId,
    /// The user name, for messages.
    pub username: Arc<str>,
    /// When it was asked for.
    pub at: Timestamp,
}

/// The answer to a request for a login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Try, once. The next attempt's time has been recorded.
    Allowed,
    /// Do not try.
    Held {
        /// When it may be tried.
        until: Timestamp,
        /// Why not now.
        why: String,
    },
}

/// Asked before each login that is not known to be good, and told what came of it.
///
/// An implementation that outlives the process records "not before `at` + [`LOGIN_HOLD`]" durably *before* it answers
/// [`Verdict::Allowed`], and takes that back on `succeeded` and `inconclusive`: a crash between the two costs ten
/// minutes, never an account.
#[async_trait]
pub trait LoginLedger: Send + Sync + fmt::Debug {
    /// May this login be tried? An error means that nobody knows, and it is not tried.
    async fn ask(
        &self,
        attempt: &LoginAttempt,
    ) -> Result<Verdict, Arc<dyn std::error::Error + Send + Sync>>;
    /// The BMC accepted the credentials.
    async fn succeeded(&self, attempt: &LoginAttempt);
    /// The BMC refused the credentials (401 or 403). Also told when known-good credentials stop being good.
    async fn rejected(&self, attempt: &LoginAttempt);
    /// The BMC did not say: unreachable, timed out, overloaded, out of sessions. Not a failed login.
    async fn inconclusive(&self, attempt: &LoginAttempt);
}

/// The rule, for one BMC.
#[derive(Clone, Debug, Default)]
pub struct LoginBudget {
    /// The last refusal.
    failed: Option<Hold>,
    /// An attempt whose outcome is not known yet, or never will be.
    pending: Option<Hold>,
    exception_used: bool,
}

#[derive(Clone, Copy, Debug)]
struct Hold {
    until: Timestamp,
    /// Not known for a hold restored from a record.
    credentials: Option<CredentialsId>,
}

/// A ledger that lives as long as the process: for `corten inspect` and tests.
#[derive(Debug, Default)]
pub struct InMemoryLedger(Mutex<HashMap<Arc<str>, LoginBudget>>);

// === impl CredentialsId ===

impl CredentialsId {
    /// The id of `credentials` in this process.
    #[must_use]
    pub fn of(credentials: &Credentials) -> Self {
        Self(keyed::hash(&[
            credentials.username.as_bytes(),
            credentials.password.expose_secret().as_bytes(),
        ]))
    }
}

mod keyed {
    use std::{
        hash::{BuildHasher, Hasher, RandomState},
        sync::OnceLock,
    };

    /// SipHash under a random key made once per process.
    pub(super) fn hash(parts: &[&[u8]]) -> u64 {
        static KEY: OnceLock<RandomState> = OnceLock::new();
        let mut hasher = KEY.get_or_init(RandomState::new).build_hasher();
        for part in parts {
            hasher.write_usize(part.len());
            hasher.write(part);
        }
        hasher.finish()
    }
}

// === impl LoginBudget ===

impl LoginBudget {
    /// A budget as restored from what was recorded: no login before `not_before`, whatever the credentials.
    #[must_use]
    pub fn held_until(not_before: Option<Timestamp>) -> Self {
        let failed = not_before.map(|until| Hold {
            until,
            credentials: None,
        });
        Self {
            failed,
            ..Self::default()
        }
    }

    /// When the next login may be tried, if not now. This is what a durable ledger records before the attempt.
    #[must_use]
    pub fn not_before(&self) -> Option<Timestamp> {
        self.holds().map(|hold| hold.until).max()
    }

    /// May `credentials` be tried now? A yes charges the budget at once.
    ///
    /// Other credentials than those that failed get one exception in a hold: somebody changed the Secret.
    pub fn ask(&mut self, now: Timestamp, credentials: CredentialsId) -> Verdict {
        self.failed = self.failed.filter(|hold| hold.until > now);
        self.pending = self.pending.filter(|hold| hold.until > now);
        if let Some(until) = self.not_before() {
            let changed = self
                .holds()
                .all(|hold| hold.credentials.is_some_and(|tried| tried != credentials));
            if !changed || self.exception_used {
                let why = if self.exception_used {
                    "two logins with different credentials failed"
                } else {
                    "the last login failed or its outcome was not seen"
                };
                return Verdict::Held {
                    until,
                    why: why.to_owned(),
                };
            }
            self.exception_used = true;
        } else {
            self.exception_used = false;
        }
        self.pending = Some(Hold::after(now, credentials));
        Verdict::Allowed
    }

    /// The login worked: nothing is held.
    pub fn succeeded(&mut self) {
        *self = Self::default();
    }

    /// The login was refused: nothing before `now` + [`LOGIN_HOLD`].
    pub fn rejected(&mut self, now: Timestamp, credentials: CredentialsId) {
        self.pending = None;
        self.failed = Some(Hold::after(now, credentials));
    }

    /// The BMC did not judge the credentials: this attempt costs nothing, an earlier refusal still holds.
    pub fn inconclusive(&mut self) {
        if self.pending.take().is_some() {
            self.exception_used = false;
        }
    }

    fn holds(&self) -> impl Iterator<Item = Hold> {
        self.failed.into_iter().chain(self.pending)
    }
}

impl Hold {
    fn after(now: Timestamp, credentials: CredentialsId) -> Self {
        let until = now.saturating_add(LOGIN_HOLD).unwrap_or(Timestamp::MAX);
        Self {
            until,
            credentials: Some(credentials),
        }
    }
}

// === impl InMemoryLedger ===

#[async_trait]
impl LoginLedger for InMemoryLedger {
    async fn ask(
        &self,
        attempt: &LoginAttempt,
    ) -> Result<Verdict, Arc<dyn std::error::Error + Send + Sync>> {
        Ok(self
            .0
            .lock()
            .entry(attempt.bmc.clone())
            .or_default()
            .ask(attempt.at, attempt.credentials))
    }

    async fn succeeded(&self, attempt: &LoginAttempt) {
        self.0.lock().remove(&attempt.bmc);
    }

    async fn rejected(&self, attempt: &LoginAttempt) {
        self.0
            .lock()
            .entry(attempt.bmc.clone())
            .or_default()
            .rejected(Timestamp::now(), attempt.credentials);
    }

    async fn inconclusive(&self, attempt: &LoginAttempt) {
        self.0
            .lock()
            .entry(attempt.bmc.clone())
            .or_default()
            .inconclusive();
    }
}

#[cfg(test)]
mod tests;
