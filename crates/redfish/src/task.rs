//! Following what a BMC does after it has answered: tasks, task monitors, Dell's jobs.
//!
//! [`Reply::task`](crate::Reply::task) finds the URI, the caller persists it, [`Bmc::poll_task`] says how far it is:
//! any process can go on where another stopped. Source: DSP0266 section 12.2, Task schema; Dell's job queue.

use crate::{
    error::GatewayError,
    gateway::{Bmc, Method, Reply, Request},
    queue::Priority,
};
use serde_json::Value;
use std::time::Duration;

/// How far a task is.
#[derive(Clone, Debug, PartialEq)]
pub enum TaskProgress {
    /// Not finished: running, waiting its turn, or scheduled for the next reboot.
    Running {
        /// `TaskState` or `JobState`, as sent; empty if the monitor does not say.
        state: String,
        /// Percent done.
        percent: Option<u8>,
        /// The last message.
        message: Option<String>,
        /// `Retry-After`, if the BMC said when to ask again.
        ask_after: Option<Duration>,
    },
    /// Done.
    Succeeded {
        /// The last message.
        message: Option<String>,
        /// The task, or for a monitor the answer that the operation would have given at once.
        result: Value,
    },
    /// Ended without success.
    Failed {
        /// `TaskState` or `JobState`, as sent, or the HTTP status of a monitor.
        state: String,
        /// What the BMC says about it.
        message: String,
    },
    /// The BMC no longer knows it: it restarted, or threw the finished task away. Only evidence tells what came of it.
    Gone,
}

// === impl Reply ===

impl Reply {
    /// The URI to follow, if the operation goes on after this answer: to be persisted before anything else.
    ///
    /// `None` for a 202 without any trace of a task (Supermicro): the caller settles it by evidence.
    #[must_use]
    pub fn task(&self) -> Option<String> {
        let location = self
            .location
            .as_deref()
            .map(str::trim)
            .filter(|link| !link.is_empty());
        let body = self.body.as_ref();
        let of_body = || {
            let body = body.filter(|body| is_task(body))?;
            body.get("@odata.id")?.as_str().map(str::to_owned)
        };
        match self.status {
            202 => location.map(str::to_owned).or_else(of_body),
            // Dell answers 200 or 201 and names the job in Location.
            200 | 201 => location
                .filter(|link| names_a_task(link))
                .map(str::to_owned)
                .or_else(of_body),
            _ => None,
        }
    }
}

// === impl Bmc ===

impl Bmc {
    /// Asks once how far the task at `uri` is.
    ///
    /// # Errors
    /// Any [`GatewayError`] of the asking itself; how the task fares is in the result.
    pub async fn poll_task(
        &self,
        uri: &str,
        priority: Priority,
    ) -> Result<TaskProgress, GatewayError> {
        match self.send(Request::new(Method::Get, uri, priority)).await {
            Ok(reply) => Ok(progress(&reply)),
            Err(GatewayError::Status {
                code: 404 | 410, ..
            }) => Ok(TaskProgress::Gone),
            // A monitor answers as the operation would have (DSP0266 section 12.2), errors included.
            Err(GatewayError::Status { code, message, .. })
                if (400..500).contains(&code) && !matches!(code, 401 | 403 | 405 | 408 | 429) =>
            {
                Ok(TaskProgress::Failed {
                    state: code.to_string(),
                    message: message.to_string(),
                })
            }
            // Some monitors answer an empty 200 when all is done; a GET without a body is otherwise malformed.
            Err(error) => Err(error),
        }
    }

    /// Asks every `interval` (or when the BMC says) until the task is over or `deadline` has passed. For tools; a
    /// controller persists the URI and comes back.
    ///
    /// # Errors
    /// As [`Self::poll_task`]; the last [`TaskProgress::Running`] if the deadline passed first.
    pub async fn follow_task(
        &self,
        uri: &str,
        interval: Duration,
        deadline: Duration,
        priority: Priority,
    ) -> Result<TaskProgress, GatewayError> {
        let until = tokio::time::Instant::now() + deadline;
        loop {
            let progress = self.poll_task(uri, priority).await?;
            let TaskProgress::Running { ask_after, .. } = &progress else {
                return Ok(progress);
            };
            let next = tokio::time::Instant::now()
                + ask_after.unwrap_or(interval).max(Duration::from_millis(10));
            if next >= until {
                return Ok(progress);
            }
            tokio::time::sleep_until(next).await;
        }
    }
}

/// What an answer about a task means.
fn progress(reply: &Reply) -> TaskProgress {
    let body = reply.body.clone().unwrap_or(Value::Null);
    if !is_task(&body) {
        return if reply.status == 202 {
            TaskProgress::Running {
                state: String::new(),
                percent: percent(&body),
                message: message(&body),
                ask_after: reply.retry_after,
            }
        } else {
            TaskProgress::Succeeded {
                message: message(&body),
                result: body,
            }
        };
    }
    let state = text(&body, "TaskState")
        .or_else(|| text(&body, "JobState"))
        .unwrap_or_default();
    let health = text(&body, "TaskStatus")
        .or_else(|| text(&body, "JobStatus"))
        .unwrap_or_default();
    let said = message(&body);
    let failed = || TaskProgress::Failed {
        state: state.clone(),
        message: said
            .clone()
            .unwrap_or_else(|| format!("the BMC says {state} without a reason")),
    };
    match state.as_str() {
        "Completed" if health == "Critical" => failed(),
        "Completed" => TaskProgress::Succeeded {
            message: said,
            result: body,
        },
        // Redfish: Killed, Exception, Cancelled. Dell: the rest.
        "Killed"
        | "Exception"
        | "Cancelled"
        | "Failed"
        | "CompletedWithErrors"
        | "RebootFailed" => failed(),
        // Service jobs of some firmware end without a state, but with an end.
        "" if text(&body, "EndTime").is_some()
            && percent(&body) == Some(100)
            && health != "Critical" =>
        {
            TaskProgress::Succeeded {
                message: said,
                result: body,
            }
        }
        _ => TaskProgress::Running {
            percent: percent(&body),
            message: said,
            ask_after: reply.retry_after,
            state,
        },
    }
}

fn is_task(body: &Value) -> bool {
    let kind = text(body, "@odata.type").unwrap_or_default();
    let named = ["#Task.", "#Job.", "#DellJob."]
        .iter()
        .any(|prefix| kind.starts_with(prefix));
    named || body.get("TaskState").is_some() || body.get("JobState").is_some()
}

fn names_a_task(link: &str) -> bool {
    ["/Tasks/", "/TaskMonitors/", "/Jobs/", "/JID_"]
        .iter()
        .any(|part| link.contains(part))
}

fn percent(body: &Value) -> Option<u8> {
    let percent = body.get("PercentComplete")?;
    let percent = percent
        .as_f64()
        .or_else(|| percent.as_str()?.trim().parse().ok())?;
    // Checked: within 0..=100 after clamping; NaN becomes 0.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    Some(percent.clamp(0.0, 100.0) as u8)
}

/// The last message: the first ones are "the task has started".
fn message(body: &Value) -> Option<String> {
    let messages = body
        .get("Messages")
        .and_then(Value::as_array)
        .map_or(&[][..], Vec::as_slice);
    let last = messages
        .iter()
        .rev()
        .find_map(|message| text(message, "Message").or_else(|| text(message, "MessageId")));
    last.or_else(|| text(body, "Message"))
}

fn text(body: &Value, name: &str) -> Option<String> {
    let text = body.get(name)?.as_str()?.trim();
    (!text.is_empty()).then(|| text.chars().filter(|c| !c.is_control()).take(400).collect())
}

#[cfg(test)]
mod tests;
