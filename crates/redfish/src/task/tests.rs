use super::*;
use proptest::prelude::*;
use serde_json::json;
use std::sync::Arc;

fn reply(status: u16, location: Option<&str>, body: Option<Value>) -> Reply {
    Reply {
        status,
        location: location.map(str::to_owned),
        etag: None,
        retry_after: None,
        path: Arc::from("/x"),
        body,
        token: None,
        digest: 0,
    }
}

#[test]
fn the_uri_to_follow_is_found_wherever_vendors_put_it() {
    let task =
        json!({"@odata.id": "/redfish/v1/TaskService/Tasks/1", "@odata.type": "#Task.v1_4_3.Task"});
    let job = "/redfish/v1/Managers/iDRAC.Embedded.1/Oem/Dell/Jobs/JID_471269252011";
    for (reply, uri) in [
        (
            reply(
                202,
                Some("/redfish/v1/TaskService/TaskMonitors/1"),
                Some(task.clone()),
            ),
            Some("/redfish/v1/TaskService/TaskMonitors/1"),
        ),
        (
            reply(202, None, Some(task.clone())),
            Some("/redfish/v1/TaskService/Tasks/1"),
        ),
        (reply(201, Some(job), None), Some(job)),
        (reply(200, Some(job), None), Some(job)),
        (
            reply(200, None, Some(task)),
            Some("/redfish/v1/TaskService/Tasks/1"),
        ),
        (reply(202, None, None), None),
        (
            reply(201, Some("/redfish/v1/SessionService/Sessions/1"), None),
            None,
        ),
        (reply(204, None, None), None),
    ] {
        assert_eq!(reply.task().as_deref(), uri, "{reply:?}");
    }
}

#[test]
fn each_state_means_what_its_vendor_means_by_it() {
    let running = |body| {
        matches!(
            progress(&reply(200, None, Some(body))),
            TaskProgress::Running { .. }
        )
    };
    let failed = |body| {
        matches!(
            progress(&reply(200, None, Some(body))),
            TaskProgress::Failed { .. }
        )
    };
    let done = |body| {
        matches!(
            progress(&reply(200, None, Some(body))),
            TaskProgress::Succeeded { .. }
        )
    };
    for state in [
        "New",
        "Starting",
        "Running",
        "Suspended",
        "Pending",
        "Stopping",
        "SomethingNew",
    ] {
        assert!(running(json!({"TaskState": state})), "{state}");
    }
    for state in [
        "Scheduled",
        "Downloading",
        "ReadyForExecution",
        "RebootPending",
    ] {
        assert!(running(json!({"JobState": state})), "{state}");
    }
    for state in ["Killed", "Exception", "Cancelled"] {
        assert!(failed(json!({"TaskState": state})), "{state}");
    }
    for state in ["Failed", "CompletedWithErrors", "RebootFailed"] {
        assert!(failed(json!({"JobState": state})), "{state}");
    }
    assert!(done(
        json!({"TaskState": "Completed", "TaskStatus": "Warning"})
    ));
    assert!(failed(
        json!({"TaskState": "Completed", "TaskStatus": "Critical"})
    ));
    assert!(done(json!({"JobState": "Completed"})));
}

#[test]
fn a_monitor_is_running_while_it_says_202_and_done_when_it_answers_otherwise() {
    assert!(matches!(
        progress(&reply(202, None, None)),
        TaskProgress::Running { .. }
    ));
    assert!(matches!(
        progress(&reply(204, None, None)),
        TaskProgress::Succeeded { .. }
    ));
    let result = json!({"@odata.id": "/redfish/v1/Systems/1/Storage/1/Volumes/3"});
    assert!(matches!(
        progress(&reply(201, None, Some(result))),
        TaskProgress::Succeeded { .. }
    ));
}

#[test]
fn the_last_message_and_the_percentage_are_told() {
    let body = json!({"TaskState": "Running", "PercentComplete": "40",
        "Messages": [{"Message": "started"}, {"Message": "erasing"}]});
    let TaskProgress::Running {
        percent, message, ..
    } = progress(&reply(200, None, Some(body)))
    else {
        panic!()
    };
    assert_eq!((percent, message.as_deref()), (Some(40), Some("erasing")));
}

proptest! {
    #[test]
    fn no_task_document_can_do_harm(state in ".{0,12}", percent in any::<f64>(), extra in ".{0,500}") {
        for percent in [json!(percent), json!(extra), json!(null)] {
            let body = json!({"TaskState": state, "PercentComplete": percent, "Messages": [extra, {"Message": extra}], "EndTime": extra});
            let told = progress(&reply(200, Some(&extra), Some(body)));
            if let TaskProgress::Running { percent: Some(percent), .. } = told {
                prop_assert!(percent <= 100);
            }
        }
    }
}
