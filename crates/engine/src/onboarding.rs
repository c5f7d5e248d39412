//! How many new machines are in hand at once.
//!
//! A machine that is read for the first time is some hundred kilobytes of documents and an open connection. Whoever reads one needs a
//! place ([`Onboarding::place`]); and no more devices are asked what they are ([`Onboarding::room`]) while many that answered still wait
//! for theirs: their connections would go idle and be opened again, and their memory would be held for nothing.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{Notify, Semaphore, SemaphorePermit};

/// For each place, so many may be asked or wait: enough that no place is ever empty, few enough that nobody waits until its connection is idle.
const AHEAD: usize = 2;

/// The places, and who is on the way to one.
#[derive(Debug)]
pub(crate) struct Onboarding {
    places: Semaphore,
    most_ahead: usize,
    ahead: AtomicUsize,
    fewer: Notify,
}

/// Somebody on the way to a place.
#[derive(Debug)]
pub(crate) struct Ahead<'a>(&'a Onboarding);

// === impl Onboarding ===

impl Onboarding {
    /// With so many places.
    pub(crate) fn new(places: usize) -> Self {
        let places = places.clamp(1, Semaphore::MAX_PERMITS);
        Self {
            places: Semaphore::new(places),
            most_ahead: places.saturating_mul(AHEAD),
            ahead: AtomicUsize::new(0),
            fewer: Notify::new(),
        }
    }

    /// A place, when there is one. Who waits here has a machine that answered: it is never turned away, and keeps others from being asked.
    pub(crate) async fn place(&self) -> Option<SemaphorePermit<'_>> {
        self.ahead.fetch_add(1, Ordering::AcqRel);
        let _ahead = Ahead(self);
        self.places.acquire().await.ok()
    }

    /// Leave to ask a device, when few enough are on their way. Each that leaves lets one in, so nobody is forgotten.
    pub(crate) async fn room(&self) -> Ahead<'_> {
        loop {
            let fewer = self.fewer.notified();
            let entered = self
                .ahead
                .fetch_update(Ordering::AcqRel, Ordering::Acquire, |ahead| {
                    (ahead < self.most_ahead).then_some(ahead + 1)
                });
            if entered.is_ok() {
                return Ahead(self);
            }
            fewer.await;
        }
    }
}

impl Drop for Ahead<'_> {
    fn drop(&mut self) {
        self.0.ahead.fetch_sub(1, Ordering::AcqRel);
        self.0.fewer.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use futures::{FutureExt, future::join_all};

    use super::*;

    #[tokio::test]
    async fn nobody_is_asked_while_many_wait_and_everybody_is_in_the_end() {
        let onboarding = Onboarding::new(1);
        let place = onboarding.place().await;
        let mut waiting: Vec<_> = (0..AHEAD).map(|_| Box::pin(onboarding.place())).collect();
        for one in &mut waiting {
            assert!(one.now_or_never().is_none());
        }
        assert!(onboarding.room().now_or_never().is_none());
        drop(place);
        let placed = waiting.remove(0).await;
        let asked = onboarding.room().now_or_never();
        assert!(asked.is_some(), "one of them has its place");
        assert!(onboarding.room().now_or_never().is_none());
        drop((placed, asked));
        drop(waiting);
        let many = (0..50).map(|_| async {
            let _asked = onboarding.room().await;
            tokio::task::yield_now().await;
            onboarding.place().await.is_some()
        });
        assert!(join_all(many).await.into_iter().all(|placed| placed));
        assert_eq!(onboarding.ahead.load(Ordering::Acquire), 0);
    }
}
