//! How the machines of a fleet behave.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How long things take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// From a request for power to power being on.
    pub power_on: Duration,
    /// From power on to the start of the boot target.
    pub post: Duration,
    /// From a graceful request to power off.
    pub shutdown: Duration,
    /// Off time of a power cycle.
    pub cycle: Duration,
    /// Erasing one drive.
    pub erase: Duration,
    /// Installing an image.
    pub update: Duration,
    /// How long a BMC is away after its own reset.
    pub bmc_reset: Duration,
}

impl Default for Timing {
    /// Quick, as tests want it.
    fn default() -> Self {
        Self {
            power_on: Duration::ZERO,
            post: Duration::from_millis(300),
            shutdown: Duration::from_millis(200),
            cycle: Duration::from_millis(100),
            erase: Duration::from_millis(300),
            update: Duration::from_millis(500),
            bmc_reset: Duration::from_millis(500),
        }
    }
}

/// How a machine's drives take `Drive.SecureErase`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Erase {
    /// Erased when the task completes.
    #[default]
    Works,
    /// The action is not offered.
    NotOffered,
    /// The task ends in `Exception` and the data stays.
    Fails,
    /// The task completes and the data stays.
    Lies,
    /// The task never ends.
    Hangs,
    /// Erased at once; the answer is 204 and names no task.
    NoTask,
}

/// What a BMC limits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Sessions at a time; none: 64.
    pub sessions: Option<usize>,
    /// Failed logins until the account is locked; none: the AccountService's setting, which is 0 (never) at first.
    pub lockout_after: Option<u32>,
    /// How long it stays locked; none: the AccountService's setting.
    pub lockout_for: Option<Duration>,
    /// Refuses Basic authentication.
    pub no_basic: bool,
    /// Has no session service to log in to.
    pub no_sessions: bool,
    /// Refuses a write without `If-Match` (428).
    pub require_etag: bool,
}

/// What a machine does that another of its shape does not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Behaviour {
    /// The operating system ignores a graceful shutdown.
    pub ignores_shutdown: bool,
    /// Answers no request, but accepts connections.
    pub hung: bool,
    pub(crate) erase: Erase,
    pub(crate) limits: Limits,
}
