//! A word that ends work: waited for instead of sleeping, asked between two steps.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Says that work is to end, and why. Clones are the same word.
#[derive(Clone, Debug, Default)]
pub struct Stop {
    inner: Arc<(Mutex<Option<String>>, Condvar)>,
}

impl Stop {
    fn lock(&self) -> MutexGuard<'_, Option<String>> {
        self.inner.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the work. The first reason stays.
    pub fn stop(&self, why: impl Into<String>) {
        let mut reason = self.lock();
        if reason.is_none() {
            *reason = Some(why.into());
        }
        self.inner.1.notify_all();
    }

    /// Why work is to end; none while it may go on.
    #[must_use]
    pub fn reason(&self) -> Option<String> {
        self.lock().clone()
    }

    /// Whether work is to end.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.lock().is_some()
    }

    /// Waits so long, or until work is to end; says whether it is.
    pub fn wait(&self, time: Duration) -> bool {
        let until = Instant::now() + time;
        let mut reason = self.lock();
        while reason.is_none() {
            let Some(left) = until
                .checked_duration_since(Instant::now())
                .filter(|left| !left.is_zero())
            else {
                break;
            };
            reason = self
                .inner
                .1
                .wait_timeout(reason, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        reason.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_ends_at_once_when_work_is_stopped() {
        let stop = Stop::default();
        let other = stop.clone();
        let begun = Instant::now();
        let thread = std::thread::spawn(move || other.wait(Duration::from_secs(30)));
        stop.stop("told so");
        stop.stop("and again");
        assert!(thread.join().unwrap());
        assert!(begun.elapsed() < Duration::from_secs(5));
        assert_eq!(stop.reason().as_deref(), Some("told so"));
    }
}
