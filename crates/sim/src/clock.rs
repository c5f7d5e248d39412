//! The fleet's time: milliseconds since its start, on tokio's clock, so that a test that pauses time pauses the machines.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

/// A point in the fleet's time, in milliseconds since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment(pub u64);

impl Moment {
    /// This moment plus `span`.
    pub fn after(self, span: Duration) -> Self {
        Self(self.0.saturating_add(millis(span)))
    }

    /// How long ago `earlier` was; zero when it lies ahead.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

/// Ties tokio's clock to the calendar.
#[derive(Clone, Debug)]
pub(crate) struct Clock {
    start: Instant,
    epoch: Timestamp,
}

impl Clock {
    pub fn start() -> Self {
        Self {
            start: Instant::now(),
            epoch: Timestamp::now(),
        }
    }

    pub fn now(&self) -> Moment {
        Moment(millis(self.start.elapsed()))
    }

    /// The tokio instant of `moment`, for timers.
    pub fn instant(&self, moment: Moment) -> Instant {
        self.start + Duration::from_millis(moment.0)
    }

    pub fn timestamp(&self, moment: Moment) -> Timestamp {
        self.epoch
            .checked_add(Duration::from_millis(moment.0))
            .unwrap_or(self.epoch)
    }

    /// The calendar time in the form in which services print it, to the second.
    pub fn text(&self, moment: Moment) -> String {
        self.timestamp(moment)
            .strftime("%Y-%m-%dT%H:%M:%S+00:00")
            .to_string()
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
