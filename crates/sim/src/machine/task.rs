//! Work that takes time: erasures, updates.

use serde_json::{Value, json};

use crate::clock::Moment;
use crate::machine::{Contents, Happened, Machine, State};
use crate::settings::Erase;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    Erase { drive: usize, how: Erase },
    Update { firmware: usize },
}

pub(crate) struct Task {
    pub id: u64,
    pub work: Work,
    pub started: Moment,
    pub ends: Moment,
    pub done: bool,
    /// Version that an update installs.
    pub version: Option<String>,
}

impl Task {
    pub fn due(&self) -> Option<Moment> {
        (!self.done && !self.hangs()).then_some(self.ends)
    }

    fn hangs(&self) -> bool {
        matches!(
            self.work,
            Work::Erase {
                how: Erase::Hangs,
                ..
            }
        )
    }

    fn failed(&self) -> bool {
        matches!(
            self.work,
            Work::Erase {
                how: Erase::Fails,
                ..
            }
        )
    }

    /// `TaskState`.
    pub fn state(&self) -> &'static str {
        match (self.done, self.failed()) {
            (false, _) => "Running",
            (true, true) => "Exception",
            (true, false) => "Completed",
        }
    }

    /// `JobState` of the same.
    pub fn job_state(&self) -> &'static str {
        self.state()
    }

    pub fn percent(&self, now: Moment) -> u64 {
        if self.done {
            return 100;
        }
        let whole = self.ends.0.saturating_sub(self.started.0).max(1);
        (now.0.saturating_sub(self.started.0) * 100 / whole).min(99)
    }

    fn name(&self) -> &'static str {
        match self.work {
            Work::Erase { .. } => "Secure erase",
            Work::Update { .. } => "Firmware update",
        }
    }
}

impl State {
    /// Starts work and gives the task's number. Old finished tasks make room.
    pub fn start_task(
        &mut self,
        work: Work,
        now: Moment,
        ends: Moment,
        version: Option<String>,
    ) -> u64 {
        let id = self.next_task;
        self.next_task += 1;
        if self.tasks.len() >= 64
            && let Some(old) = self.tasks.iter().position(|task| task.done)
        {
            self.tasks.remove(old);
        }
        self.tasks.push(Task {
            id,
            work,
            started: now,
            ends,
            done: false,
            version,
        });
        id
    }

    /// The erasure that runs on a drive.
    pub fn erasing(&self, drive: usize) -> Option<&Task> {
        self.tasks.iter().find(|task| {
            !task.done && matches!(task.work, Work::Erase { drive: d, .. } if d == drive)
        })
    }
}

pub(super) fn settle(state: &mut State, now: Moment, happened: &mut Vec<Happened>) {
    let State {
        tasks,
        drives,
        firmware,
        ..
    } = state;
    for task in tasks
        .iter_mut()
        .filter(|task| task.due().is_some_and(|due| due <= now))
    {
        task.done = true;
        match task.work {
            Work::Erase {
                drive,
                how: Erase::Works,
            } => {
                drives.insert(drive, Contents::Erased);
            }
            Work::Erase { .. } => {}
            Work::Update { firmware: row } => {
                if let Some(version) = task.version.take() {
                    firmware.insert(row, version);
                }
            }
        }
        happened.push(Happened::Task {
            id: task.id,
            state: task.state(),
        });
    }
}

impl Machine {
    /// Where a client looks how a task goes: iDRAC names the job.
    pub fn task_location(&self, id: u64) -> String {
        if self.blueprint.spec.jobs {
            format!("/redfish/v1/TaskService/Tasks/JID_{id:012}")
        } else {
            format!("/redfish/v1/TaskService/Tasks/{id}")
        }
    }

    pub fn task_name(&self, id: u64) -> String {
        self.task_location(id)
            .rsplit('/')
            .next()
            .unwrap_or_default()
            .to_owned()
    }

    pub fn task_document(&self, task: &Task, now: Moment) -> Value {
        let path = self.task_location(task.id);
        let (key, arguments) = if task.failed() && task.done {
            ("GeneralError", &[][..])
        } else {
            ("Success", &[][..])
        };
        let mut body = json!({
            "@odata.id": path, "@odata.type": "#Task.v1_4_3.Task", "Id": self.task_name(task.id), "Name": task.name(),
            "TaskState": task.state(), "TaskStatus": if task.state() == "Exception" { "Critical" } else { "OK" },
            "PercentComplete": task.percent(now), "StartTime": self.clock.text(task.started),
            "TaskMonitor": format!("/redfish/v1/TaskService/TaskMonitors/{}", self.task_name(task.id)),
            "Messages": if task.done { json!([crate::message::message(key, arguments)]) } else { json!([]) },
        });
        if task.done
            && let Some(body) = body.as_object_mut()
        {
            body.insert("EndTime".into(), self.clock.text(task.ends).into());
        }
        body
    }

    pub fn job_document(&self, task: &Task, now: Moment) -> Value {
        let name = self.task_name(task.id);
        json!({
            "@odata.id": format!("/redfish/v1/JobService/Jobs/{name}"), "@odata.type": "#Job.v1_0_6.Job", "Id": name, "Name": task.name(),
            "JobState": task.job_state(), "JobStatus": if task.state() == "Exception" { "Critical" } else { "OK" },
            "PercentComplete": task.percent(now), "StartTime": self.clock.text(task.started),
        })
    }
}
