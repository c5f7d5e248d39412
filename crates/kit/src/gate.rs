//! Where a test stops a controller: each request to the API server or to a BMC passes a gate before it is sent and after its answer came.
//!
//! In production there is no gate and passing costs a task-local look-up. A test runs a future with [`with`] and counts: at its n-th
//! pass the gate never lets it through, and the test drops the future there, as `kill -9` would.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::sync::Notify;

tokio::task_local! {
    static GATE: Gate;
}

/// Counts passes and stops at a chosen one. Cheap to clone; clones count together.
#[derive(Clone, Debug)]
pub struct Gate {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    passed: AtomicUsize,
    stop_at: usize,
    stopped: Notify,
}

impl Gate {
    /// A gate that only counts.
    pub fn counting() -> Self {
        Self::stopping_at(usize::MAX)
    }

    /// A gate whose `n`-th pass (from 0) never ends.
    pub fn stopping_at(n: usize) -> Self {
        Self {
            inner: Arc::new(Inner {
                passed: AtomicUsize::new(0),
                stop_at: n,
                stopped: Notify::new(),
            }),
        }
    }

    /// How many passes were tried.
    pub fn passed(&self) -> usize {
        self.inner.passed.load(Ordering::SeqCst)
    }

    /// Ends when somebody was stopped.
    pub async fn stopped(&self) {
        if self.passed() <= self.inner.stop_at {
            self.inner.stopped.notified().await;
        }
    }

    async fn pass(&self) {
        if self.inner.passed.fetch_add(1, Ordering::SeqCst) >= self.inner.stop_at {
            self.inner.stopped.notify_waiters();
            self.inner.stopped.notify_one();
            std::future::pending::<()>().await;
        }
    }
}

/// Runs `future` behind `gate`. Tasks that it spawns are not behind it unless they are [`carried`].
pub async fn with<F: Future>(gate: Gate, future: F) -> F::Output {
    GATE.scope(gate, future).await
}

/// `future` behind the gate that this task runs behind, if there is one: for a task that is about to be spawned.
pub fn carried<F: Future>(future: F) -> impl Future<Output = F::Output> {
    let gate = current();
    async move {
        match gate {
            Some(gate) => with(gate, future).await,
            None => future.await,
        }
    }
}

/// The gate that this task runs behind, to hand to a spawned one.
pub fn current() -> Option<Gate> {
    GATE.try_with(Clone::clone).ok()
}

/// Passes the gate, if there is one. Every input or output calls it before and after.
pub async fn pass() {
    if let Some(gate) = current() {
        gate.pass().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_nth_pass_never_ends_and_the_ones_before_do() {
        let gate = Gate::stopping_at(2);
        let run = with(gate.clone(), async {
            for _ in 0..5 {
                pass().await;
            }
        });
        tokio::select! {
            () = run => panic!("went through"),
            () = gate.stopped() => {}
        }
        assert_eq!(gate.passed(), 3);
    }

    #[tokio::test]
    async fn without_a_gate_everything_passes() {
        pass().await;
        assert!(current().is_none());
    }
}
