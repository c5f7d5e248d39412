//! Tasks, jobs and events.

use serde_json::json;

use super::{Action, Check, Draft, Kind, link, ok};
use crate::template::{Dynamic, slot};

pub(super) fn write(draft: &mut Draft) {
    let spec = draft.spec.clone();
    let tasks = "/redfish/v1/TaskService";
    draft.put(tasks, "TaskService.v1_1_6.TaskService", json!({
        "Name": "Task Service", "ServiceEnabled": true, "Status": ok(), "DateTime": slot("now", 0),
        "CompletedTaskOverWritePolicy": "Oldest", "LifeCycleEventOnTaskStateChange": true, "Tasks": link(&format!("{tasks}/Tasks")),
    }));
    draft.dynamic(
        &format!("{tasks}/Tasks"),
        "Task",
        "Task Collection",
        "tasks",
        Dynamic::Tasks,
    );
    if spec.jobs {
        let jobs = "/redfish/v1/JobService";
        draft.put(jobs, "JobService.v1_0_4.JobService", json!({
            "Name": "Job Service", "ServiceEnabled": true, "Status": ok(), "DateTime": slot("now", 0), "Jobs": link(&format!("{jobs}/Jobs")),
        }));
        draft.dynamic(
            &format!("{jobs}/Jobs"),
            "Job",
            "Job Collection",
            "jobs",
            Dynamic::Jobs,
        );
    }

    let events = "/redfish/v1/EventService";
    let test = format!("{events}/Actions/EventService.SubmitTestEvent");
    draft.action(&test, Action::TestEvent);
    let mut body = json!({
        "Name": "Event Service", "ServiceEnabled": true, "Status": ok(), "DeliveryRetryAttempts": 3, "DeliveryRetryIntervalSeconds": 60,
        "EventFormatTypes": ["Event"], "RegistryPrefixes": ["Base", "ResourceEvent", "TaskEvent"], "ResourceTypes": ["ComputerSystem", "Task"],
        "SubordinateResourcesSupported": false, "Subscriptions": link(&format!("{events}/Subscriptions")),
        "Actions": {"#EventService.SubmitTestEvent": {"target": test}},
    });
    if spec.sse
        && let Some(body) = body.as_object_mut()
    {
        body.insert("ServerSentEventUri".into(), format!("{events}/SSE").into());
        body.insert("SSEFilterPropertiesSupported".into(), json!({
            "EventFormatType": true, "MessageId": false, "MetricReportDefinition": false, "OriginResource": false, "RegistryPrefix": false, "ResourceType": false,
        }));
    }
    draft.put(events, "EventService.v1_7_0.EventService", body);
    draft.setting(events, "/DeliveryRetryAttempts", Check::Whole(0, 10));
    draft.dynamic(
        &format!("{events}/Subscriptions"),
        "EventDestination",
        "Event Subscriptions Collection",
        "subscriptions",
        Dynamic::Subscriptions,
    );
    if spec.sse {
        let path = format!("{events}/SSE");
        draft.put(&path, "", serde_json::Value::Null);
        draft.kind(&path, Kind::EventStream);
    }
}
