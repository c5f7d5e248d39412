//! One queue per BMC, shared by every feature: at most two requests in flight, power before sensors, nobody starves.

use parking_lot::Mutex;
use std::{collections::VecDeque, sync::Arc};
use tokio::sync::oneshot;

/// How urgent a request is. A more urgent one overtakes all that wait, but never what is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Priority {
    /// Power, boot and erasure: somebody waits for the machine.
    Power,
    /// Sessions, tasks, state that a decision rests on.
    Control,
    /// Inventory.
    Inventory,
    /// Sensors and other readings, one at a time, so that one place is always free of them.
    Sensors,
}

/// Requests let past a waiting less urgent one before that one has its turn.
const PATIENCE: u32 = 8;

const CLASSES: usize = 4;

/// The waiting line and the places of one BMC.
#[derive(Debug)]
pub(crate) struct Queue(Mutex<Line>);

#[derive(Debug)]
struct Line {
    places: usize,
    taken: usize,
    sensors: usize,
    waiting: [VecDeque<oneshot::Sender<Place>>; CLASSES],
    /// How often each class was passed over while somebody waited in it.
    overtaken: [u32; CLASSES],
}

/// One of the places, given back on drop.
#[derive(Debug)]
pub(crate) struct Place {
    queue: Arc<Queue>,
    priority: Priority,
}

// === impl Priority ===

impl Priority {
    const ALL: [Self; CLASSES] = [Self::Power, Self::Control, Self::Inventory, Self::Sensors];

    fn class(self) -> usize {
        match self {
            Self::Power => 0,
            Self::Control => 1,
            Self::Inventory => 2,
            Self::Sensors => 3,
        }
    }
}

// === impl Queue ===

impl Queue {
    pub(crate) fn new(places: usize) -> Arc<Self> {
        Arc::new(Self(Mutex::new(Line {
            places: places.max(1),
            taken: 0,
            sensors: 0,
            waiting: Default::default(),
            overtaken: [0; CLASSES],
        })))
    }

    /// Waits for a place. Dropping the future leaves the line.
    pub(crate) async fn enter(self: &Arc<Self>, priority: Priority) -> Place {
        let turn = {
            let mut line = self.0.lock();
            let (sender, turn) = oneshot::channel();
            if let Some(class) = line.waiting.get_mut(priority.class()) {
                // Those who gave up would otherwise pile up behind a hung BMC.
                class.retain(|waiter| !waiter.is_closed());
                class.push_back(sender);
            }
            turn
        };
        self.serve();
        match turn.await {
            Ok(place) => place,
            // The sender lives in the line until it is used, and the line as long as `self`.
            Err(_) => std::future::pending().await,
        }
    }

    /// Changes the number of places; those above it are not taken away from whoever has them.
    pub(crate) fn set_places(self: &Arc<Self>, places: usize) {
        self.0.lock().places = places.max(1);
        self.serve();
    }

    #[cfg(test)]
    pub(crate) fn in_flight(&self) -> usize {
        self.0.lock().taken
    }

    /// Hands free places to those whose turn it is.
    fn serve(self: &Arc<Self>) {
        loop {
            let Some((sender, priority)) = self.0.lock().next() else {
                return;
            };
            // A receiver gone meanwhile drops the place here, outside the lock; that serves again.
            drop(sender.send(Place {
                queue: self.clone(),
                priority,
            }));
        }
    }
}

// === impl Line ===

impl Line {
    /// Takes a place for whoever is next, if there is a place and somebody.
    fn next(&mut self) -> Option<(oneshot::Sender<Place>, Priority)> {
        if self.taken >= self.places {
            return None;
        }
        for class in &mut self.waiting {
            while class.front().is_some_and(oneshot::Sender::is_closed) {
                class.pop_front();
            }
        }
        let sensors_full = self.sensors >= 1;
        let eligible = |line: &Self, priority: Priority| {
            line.waiting
                .get(priority.class())
                .is_some_and(|class| !class.is_empty())
                && !(priority == Priority::Sensors && sensors_full)
        };
        let urgent = Priority::ALL
            .into_iter()
            .find(|priority| eligible(self, *priority))?;
        let patient = Priority::ALL
            .into_iter()
            .filter(|priority| eligible(self, *priority))
            .find(|priority| {
                self.overtaken
                    .get(priority.class())
                    .is_some_and(|count| *count >= PATIENCE)
            });
        let chosen = patient.unwrap_or(urgent);
        for priority in Priority::ALL {
            let waits = eligible(self, priority);
            if let Some(count) = self.overtaken.get_mut(priority.class()) {
                *count = if waits && priority > chosen {
                    *count + 1
                } else if priority == chosen {
                    0
                } else {
                    *count
                };
            }
        }
        let sender = self.waiting.get_mut(chosen.class())?.pop_front()?;
        self.taken += 1;
        self.sensors += usize::from(chosen == Priority::Sensors);
        Some((sender, chosen))
    }
}

// === impl Place ===

impl Drop for Place {
    fn drop(&mut self) {
        {
            let mut line = self.queue.0.lock();
            line.taken = line.taken.saturating_sub(1);
            if self.priority == Priority::Sensors {
                line.sensors = line.sensors.saturating_sub(1);
            }
        }
        self.queue.serve();
    }
}

#[cfg(test)]
mod tests;
