//! What the desk said of a boot, for as long as a burst of requests: a BMC that reads an ISO in pieces asks thousands of times, and each answer is
//! made from objects read live.
//!
//! Whoever has a token costs the API server so many look-ups and no more, however often and at however many connections it asks: an answer is
//! remembered for [`FRESH`], a refusal for [`REFUSED`], and one look-up of a ticket is under way at once. Grants and what a probe says are asked of the
//! desk each time; they are paced ([`super::Services::paced_token`]).

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::{Desk, Refusal, Target, Ticket, UserData};

/// So late a boot that is no longer due is noticed, in the middle of a transfer.
const FRESH: Duration = Duration::from_secs(2);
/// So late a boot that became due after it was asked for is noticed. Firmware waits longer before it asks again.
const REFUSED: Duration = Duration::from_secs(1);
/// Boots at once that are remembered. A fleet boots fewer at once, and each takes a few hundred bytes.
const MOST: usize = 65_536;

/// One ticket's answer, locked while it is looked up.
type Slot<T> = Arc<tokio::sync::Mutex<Option<(Result<T, Refusal>, Instant)>>>;

#[derive(Debug)]
struct Memory<T>(Mutex<HashMap<Ticket, (Slot<T>, Instant)>>);

/// The memory of one server.
#[derive(Debug, Default)]
pub(crate) struct Decided {
    targets: Memory<Target>,
    data: Memory<UserData>,
    fetched: Memory<()>,
}

// === impl Decided ===

impl Decided {
    /// What `ticket` boots.
    pub(crate) async fn target(&self, desk: &dyn Desk, ticket: &Ticket) -> Result<Target, Refusal> {
        self.targets.get(ticket, || desk.target(ticket)).await
    }

    /// Ignition and user data of `ticket`'s boot.
    pub(crate) async fn user_data(
        &self,
        desk: &dyn Desk,
        ticket: &Ticket,
    ) -> Result<UserData, Refusal> {
        self.data.get(ticket, || desk.user_data(ticket)).await
    }

    /// `ticket`'s machine came for its image: told once in each while, however many pieces it asks for.
    pub(crate) async fn fetched(
        &self,
        desk: &dyn Desk,
        ticket: &Ticket,
        served: Result<(), String>,
    ) -> Result<(), Refusal> {
        // That something went wrong is news at once, and once.
        if served.is_err() {
            return desk.fetched(ticket, served).await;
        }
        self.fetched
            .get(ticket, || desk.fetched(ticket, Ok(())))
            .await
    }
}

// === impl Memory ===

impl<T> Default for Memory<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T: Clone + Send + 'static> Memory<T> {
    async fn get<F: Future<Output = Result<T, Refusal>>>(
        &self,
        ticket: &Ticket,
        ask: impl FnOnce() -> F,
    ) -> Result<T, Refusal> {
        let kept = self.slot(ticket)?;
        let mut slot = kept.lock().await;
        if let Some((answer, at)) = &*slot
            && at.elapsed() < lasts(answer)
        {
            return answer.clone();
        }
        let answer = ask().await;
        *slot = Some((answer.clone(), Instant::now()));
        drop(slot);
        // User data is large, and a secret: it does not stay for the next who asks.
        tokio::spawn(forget(kept));
        answer
    }

    fn slot(&self, ticket: &Ticket) -> Result<Slot<T>, Refusal> {
        let now = Instant::now();
        let mut known = self.0.lock();
        if known.len() >= MOST && !known.contains_key(ticket) {
            // Kept: who asked just now, and whoever is being answered.
            known.retain(|_, (slot, at)| {
                now.duration_since(*at) < FRESH || Arc::strong_count(slot) > 1
            });
            if known.len() >= MOST {
                return Err(Refusal::NotNow("too many boots at once".into()));
            }
        }
        let (slot, at) = known
            .entry(ticket.clone())
            .or_insert_with(|| (Slot::default(), now));
        *at = now;
        Ok(slot.clone())
    }
}

/// Drops an answer that nobody is given any more.
async fn forget<T>(slot: Slot<T>) {
    tokio::time::sleep(FRESH).await;
    let mut slot = slot.lock().await;
    if slot.as_ref().is_some_and(|(_, at)| at.elapsed() >= FRESH) {
        *slot = None;
    }
}

fn lasts<T>(answer: &Result<T, Refusal>) -> Duration {
    match answer {
        Ok(_) => FRESH,
        // It may pass at any moment, and one look-up at a time is no load.
        Err(Refusal::NotNow(_)) => Duration::ZERO,
        Err(_) => REFUSED,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    fn ticket(server: &str) -> Ticket {
        Ticket {
            server: server.into(),
            server_uid: "u".into(),
            nonce: "n".into(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_asks_without_end_costs_one_look_up_in_each_while() {
        for refused in [false, true] {
            let memory = Memory::<u32>::default();
            let (asked, at_once) = (AtomicU32::new(0), AtomicU32::new(0));
            let ask = async || {
                memory
                    .get(&ticket("a"), || async {
                        asked.fetch_add(1, Ordering::SeqCst);
                        assert_eq!(at_once.fetch_add(1, Ordering::SeqCst), 0);
                        tokio::time::sleep(Duration::from_millis(100)).await;
                        at_once.fetch_sub(1, Ordering::SeqCst);
                        if refused {
                            Err(Refusal::NotDue("no".into()))
                        } else {
                            Ok(1)
                        }
                    })
                    .await
            };
            // Ten seconds of a hundred connections.
            for _ in 0..100 {
                futures::future::join_all((0..100).map(|_| ask())).await;
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            let asked = asked.load(Ordering::SeqCst);
            assert!(asked <= if refused { 12 } else { 6 }, "{asked}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_does_not_stay_longer_than_it_is_given() {
        let memory = Memory::<Arc<str>>::default();
        let secret: Arc<str> = "ignition".into();
        let told = memory.get(&ticket("a"), async || Ok(secret.clone())).await;
        assert_eq!(told.as_deref(), Ok("ignition"));
        drop(told);
        assert_eq!(Arc::strong_count(&secret), 2);
        tokio::time::sleep(FRESH * 2).await;
        assert_eq!(Arc::strong_count(&secret), 1);
    }

    #[tokio::test]
    async fn what_could_not_be_looked_up_is_not_remembered() {
        let memory = Memory::<u32>::default();
        let answer = memory
            .get(&ticket("a"), || async {
                Err(Refusal::NotNow("away".into()))
            })
            .await;
        assert!(answer.is_err());
        let answer = memory.get(&ticket("a"), || async { Ok(2) }).await;
        assert_eq!(answer.unwrap(), 2);
        // Another's answer is another's.
        let answer = memory.get(&ticket("b"), || async { Ok(3) }).await;
        assert_eq!(answer.unwrap(), 3);
    }
}
