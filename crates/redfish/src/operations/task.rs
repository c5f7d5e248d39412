//! Work that goes on after the answer: task monitors, tasks and vendors' jobs.

use crate::document::{Document, Link};
use crate::model::Service;
use crate::{GatewayError, Priority, Reply};

/// Where a piece of work stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TaskProgress {
    /// Under way, or waiting to begin.
    Running {
        /// 0 to 100, if the BMC says.
        percent: Option<u8>,
        /// `TaskState` or `JobState`.
        state: String,
    },
    /// Ended well.
    Completed {
        /// What it says, for people.
        messages: Vec<String>,
        /// What was asked for in the first place: `Payload.TargetUri` (Task v1.3), where the BMC keeps it.
        target: Option<String>,
    },
    /// Ended badly, or was cancelled.
    Failed {
        /// `TaskState` or `JobState`.
        state: String,
        /// What it says, for people.
        messages: Vec<String>,
    },
    /// The BMC does not know it (any more): only evidence tells what came of it.
    Forgotten,
}

// === impl TaskProgress ===

impl TaskProgress {
    /// Reads a Task, a Job (`DellJob` too), or what a monitor answers at the end, which is the operation's own result.
    #[must_use]
    pub fn read(document: &Document) -> Self {
        let root = document.root();
        let messages: Vec<String> = root
            .objects("Messages")
            .into_iter()
            .chain(root.objects("@Message.ExtendedInfo"))
            .filter_map(|message| message.first_text(&["Message", "MessageId"]))
            .chain(root.value("Message").and_then(|_| root.text("Message")))
            .take(8)
            .collect();
        let Some(state) = root.first_text(&["TaskState", "JobState"]) else {
            // A task that does not say how it stands has not said that it ended.
            return if is_task(document) {
                Self::Running {
                    percent: None,
                    state: "Unknown".to_owned(),
                }
            } else {
                Self::Completed {
                    messages,
                    target: None,
                }
            };
        };
        let percent = root
            .whole("PercentComplete")
            .and_then(|percent| u8::try_from(percent.min(100)).ok());
        let bad = [
            "exception",
            "killed",
            "cancelled",
            "canceled",
            "failed",
            "completedwitherrors",
            "rebootfailed",
            "invalid",
        ];
        let lower = state.to_ascii_lowercase().replace(' ', "");
        if bad.contains(&lower.as_str()) {
            return Self::Failed { state, messages };
        }
        if lower == "completed" || lower == "rebootcompleted" {
            // XCC and iLO complete tasks that failed, and say so in the status only.
            let critical = root
                .text("TaskStatus")
                .is_some_and(|status| status.eq_ignore_ascii_case("critical"));
            return if critical {
                Self::Failed { state, messages }
            } else {
                let target = root.object("Payload").text("TargetUri");
                Self::Completed { messages, target }
            };
        }
        Self::Running { percent, state }
    }

    /// What an answer about a task means. A monitor says 202 while the work goes on, often with no body: that is never its end.
    #[must_use]
    pub fn of(reply: &Reply) -> Self {
        let body = reply.body.clone().unwrap_or_default();
        let progress = Self::read(&Document::new(&*reply.path, None, body));
        if reply.status == 202 && matches!(progress, Self::Completed { .. }) {
            return Self::Running {
                percent: None,
                state: String::new(),
            };
        }
        progress
    }

    /// Whether nothing more is to come.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        !matches!(self, Self::Running { .. })
    }
}

/// Looks at a task or its monitor: one request.
///
/// # Errors
/// Whatever the gateway says, apart from "not found", which is an answer.
pub async fn poll(service: &Service, monitor: &Link) -> Result<TaskProgress, GatewayError> {
    match service
        .access()
        .look(monitor.path(), Priority::Control)
        .await
    {
        Ok(reply) => Ok(TaskProgress::of(&reply)),
        Err(error) if matches!(error.status(), Some(404 | 410)) => Ok(TaskProgress::Forgotten),
        // A monitor answers as the operation would have (DSP0266 12.2), its refusal included.
        Err(GatewayError::Status { code, message, .. })
            if (400..500).contains(&code) && !matches!(code, 401 | 403 | 405 | 408 | 429) =>
        {
            Ok(TaskProgress::Failed {
                state: code.to_string(),
                messages: vec![message.to_string()],
            })
        }
        Err(error) => Err(error),
    }
}

/// Whether it is a Task or Job itself, by type, place or properties, and not what a monitor answers when the operation has ended.
fn is_task(document: &Document) -> bool {
    let root = document.root();
    let kind = root.text("@odata.type").unwrap_or_default();
    let is_typed = ["#Task.", "#Job.", "#DellJob."]
        .iter()
        .any(|prefix| kind.starts_with(prefix));
    let mut parts = document.path().trim_end_matches('/').rsplit('/').skip(1);
    let is_member = parts.next().is_some_and(|folder| {
        folder.eq_ignore_ascii_case("tasks") || folder.eq_ignore_ascii_case("jobs")
    });
    let has_its_properties = [
        "TaskMonitor",
        "TaskStatus",
        "JobStatus",
        "PercentComplete",
        "StartTime",
    ]
    .iter()
    .any(|property| root.value(property).is_some());
    is_typed || is_member || has_its_properties
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn a_task_that_does_not_say_how_it_stands_has_not_ended() {
        for (path, body) in [
            ("/redfish/v1/TaskService/Tasks/JID_1", json!({})),
            ("/redfish/v1/JobService/Jobs/1", json!({"TaskState": 5})),
            (
                "/t",
                json!({"@odata.type": "#Task.v1_4_0.Task", "Name": "Erase"}),
            ),
            ("/t", json!({"PercentComplete": 40})),
        ] {
            let progress = TaskProgress::read(&Document::new(path, None, body.clone()));
            assert!(matches!(progress, TaskProgress::Running { .. }), "{body}");
        }
        // What a monitor answers at the end is the operation's own result.
        let ended = TaskProgress::read(&Document::new(
            "/redfish/v1/TaskService/TaskMonitors/1",
            None,
            json!({"Name": "Drive"}),
        ));
        assert!(matches!(ended, TaskProgress::Completed { .. }));
    }

    fn progress(body: Value) -> TaskProgress {
        TaskProgress::read(&Document::new("/t", None, body))
    }

    #[test]
    fn tasks_and_jobs_of_every_vendor_are_told_apart() {
        assert_eq!(
            progress(json!({"TaskState": "Running", "PercentComplete": 40})),
            TaskProgress::Running {
                percent: Some(40),
                state: "Running".into()
            }
        );
        assert!(matches!(
            progress(json!({"JobState": "CompletedWithErrors", "Message": "no"})),
            TaskProgress::Failed { .. }
        ));
        assert!(matches!(
            progress(json!({"JobState": "Scheduled"})),
            TaskProgress::Running { .. }
        ));
        assert!(matches!(
            progress(json!({"TaskState": "Completed", "TaskStatus": "OK"})),
            TaskProgress::Completed { .. }
        ));
        let asked = json!({"TaskState": "Completed", "Payload": {"TargetUri": "/d/1/Actions/Drive.SecureErase"}});
        assert_eq!(
            progress(asked),
            TaskProgress::Completed {
                messages: Vec::new(),
                target: Some("/d/1/Actions/Drive.SecureErase".into())
            }
        );
        assert!(matches!(
            progress(json!({"TaskState": "Completed", "TaskStatus": "Critical"})),
            TaskProgress::Failed { .. }
        ));
    }

    #[test]
    fn a_monitor_that_answers_with_the_result_is_done() {
        assert!(progress(Value::Null).is_settled());
        assert!(matches!(
            progress(json!({"@odata.id": "/d/1", "Name": "Drive"})),
            TaskProgress::Completed { .. }
        ));
    }
}
