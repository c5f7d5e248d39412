//! What a boot was decided to be, for as long as a burst of requests: a BMC that reads an ISO in pieces asks thousands of times, and each decision is
//! made from objects read live.
//!
//! Only what is served is remembered, for [`FRESH`]. Grants, user data and what a probe says are asked of the desk each time.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::{Desk, Refusal, Target, Ticket};

/// So late a boot that is no longer due is noticed, in the middle of a transfer.
const FRESH: Duration = Duration::from_secs(2);
/// Boots at once that are remembered; more are asked for each time.
const MOST: usize = 8192;

#[derive(Debug, Default)]
pub(crate) struct Decided(Mutex<HashMap<Ticket, (Target, Instant)>>);

impl Decided {
    /// What `ticket` boots. A refusal is not remembered.
    pub(crate) async fn target(&self, desk: &dyn Desk, ticket: &Ticket) -> Result<Target, Refusal> {
        let now = Instant::now();
        if let Some((target, at)) = self.0.lock().get(ticket)
            && now.duration_since(*at) < FRESH
        {
            return Ok(target.clone());
        }
        let target = desk.target(ticket).await?;
        let mut known = self.0.lock();
        if known.len() >= MOST {
            known.retain(|_, (_, at)| now.duration_since(*at) < FRESH);
        }
        if known.len() < MOST {
            known.insert(ticket.clone(), (target.clone(), now));
        }
        Ok(target)
    }
}
