use corten_api::metal::{PowerState, ServerState};

use super::bench::{Bench, Delivery, drive};
use crate::{
    names,
    policy::Cleaning,
    run::{Phase, Step},
    server::{Act, Attachment, condition, decide},
};

fn erase(serial: &str) -> Step {
    Step::EraseDrive(serial.into())
}

#[test]
fn each_local_drive_is_erased_before_the_server_is_offered_again() {
    let mut bench = Bench::dirty("a");
    bench.rest();
    assert_eq!(bench.sent, [erase("D1"), erase("D2")]);
    assert_eq!(bench.iron.erased, ["D1", "D2"]);
    assert_eq!(bench.state, Some(ServerState::Available));
    assert_eq!(bench.note(names::DIRTY), None);
    assert_eq!(bench.reason(condition::ERASED), "ReportedErased");
}

#[test]
fn the_drives_of_a_machine_are_erased_side_by_side() {
    let mut bench = Bench::dirty("a");
    while bench.sent.len() < 2 {
        bench.step();
        bench.pass_time();
        assert_eq!(bench.iron.erased, [""; 0], "the first was waited for");
    }
    bench.rest();
    assert_eq!(bench.iron.erased, ["D1", "D2"]);
    assert_eq!(bench.state, Some(ServerState::Available));
}

fn until_erasing(bench: &mut Bench) {
    while bench.sent.is_empty() {
        bench.step();
        bench.pass_time();
    }
}

/// The first drive is being erased.
fn erasing() -> Bench {
    let mut bench = Bench::dirty("a");
    until_erasing(&mut bench);
    bench
}

#[test]
fn a_bmc_that_takes_one_erasure_at_a_time_is_given_one_at_a_time() {
    let mut bench = Bench::dirty("a");
    bench.iron.drives.push(drive("D3"));
    until_erasing(&mut bench);
    while !matches!(decide(&bench.observe()).act, Act::Send(_)) {
        bench.step();
    }
    // The second is refused while the first is under way: nothing more is sent until the first has ended.
    bench.step_with(Delivery::Refused);
    let sent = bench.sent.len();
    while bench.iron.erased.is_empty() {
        bench.step();
        assert_eq!(bench.sent.len(), sent);
    }
    bench.rest();
    assert_eq!(bench.sent, [erase("D1"), erase("D3"), erase("D2")]);
    assert_eq!(bench.state, Some(ServerState::Available));
}

#[test]
fn a_medium_that_stays_in_a_virtual_drive_keeps_the_server_and_is_named() {
    let mut bench = Bench::releasing("a");
    bench.iron.media = vec!["/m/CD".into()];
    bench.iron.stuck = true;
    for _ in 0..300 {
        bench.step();
        bench.pass_time();
    }
    assert_eq!(bench.state, Some(ServerState::Cleanup));
    let finding = bench.finding(condition::ERASED).unwrap();
    assert_eq!(finding.reason, "MediumInserted");
    assert!(finding.message.contains("/m/CD"), "{}", finding.message);
    // Somebody takes it out.
    bench.iron.media.clear();
    bench.rest();
    assert_eq!(bench.state, Some(ServerState::Available));
}

#[test]
fn a_drive_that_cannot_be_erased_keeps_the_server_and_is_named() {
    let mut bench = Bench::dirty("a");
    bench.iron.drives[1].can_erase = false;
    bench.rest();
    assert_eq!(bench.state, Some(ServerState::Cleanup));
    let finding = bench.finding(condition::ERASED).unwrap();
    assert_eq!(finding.reason, "ErasureUnavailable");
    assert!(finding.message.contains("D2"), "{}", finding.message);
    assert_eq!(bench.iron.erased, ["D1"]);
}

#[test]
fn a_drive_over_fabric_or_several_paths_or_in_a_shared_enclosure_is_never_written() {
    for attachment in [
        Attachment::Fabric,
        Attachment::Multipath,
        Attachment::Shared,
        Attachment::Removable,
    ] {
        let mut bench = Bench::dirty("a");
        bench.iron.drives.push(crate::server::Drive {
            attachment,
            ..drive("FAR")
        });
        bench.rest();
        assert!(!bench.sent.contains(&erase("FAR")));
        assert_eq!(bench.reason(condition::ERASED), "DrivesNeverWritten");
        assert_eq!(bench.state, Some(ServerState::Cleanup));
        bench.policy.ignore_unreachable_drives = true;
        bench.rest();
        assert_eq!(bench.state, Some(ServerState::Available));
        assert!(!bench.sent.contains(&erase("FAR")));
    }
}

#[test]
fn a_drive_that_is_gone_since_the_claim_is_not_clean() {
    let mut bench = Bench::dirty("a");
    bench.known_drives = Some(vec!["D1".into(), "D2".into(), "PULLED".into()]);
    bench.rest();
    assert_eq!(bench.reason(condition::ERASED), "ErasureUnavailable");
    assert!(
        bench
            .finding(condition::ERASED)
            .unwrap()
            .message
            .contains("PULLED")
    );
}

#[test]
fn where_nobody_recorded_the_drives_from_before_the_claim_one_may_be_missing() {
    let mut bench = Bench::dirty("a");
    bench.known_drives = None;
    bench.rest();
    assert_eq!(bench.reason(condition::ERASED), "EvidenceInsufficient");
    assert_eq!(bench.state, Some(ServerState::Cleanup));
    // The proof is kept for when the record is there again.
    let sent = bench.sent.len();
    bench.known_drives = Some(vec!["D1".into(), "D2".into()]);
    bench.rest();
    assert_eq!(bench.state, Some(ServerState::Available));
    assert_eq!(bench.sent.len(), sent);
}

#[test]
fn the_word_of_a_bmc_is_enough_only_if_policy_says_so() {
    let mut bench = Bench::dirty("a");
    bench.policy.accept_reported = false;
    bench.rest();
    assert_eq!(bench.reason(condition::ERASED), "EvidenceInsufficient");
    assert_eq!(bench.state, Some(ServerState::Cleanup));
    // The proof is kept: a change of policy does not erase again.
    let sent = bench.sent.len();
    bench.policy.accept_reported = true;
    bench.rest();
    assert_eq!(bench.state, Some(ServerState::Available));
    assert_eq!(bench.sent.len(), sent);
}

#[test]
fn a_machine_that_reports_no_drive_is_clean_only_by_its_own_word() {
    let mut bench = Bench::dirty("a");
    bench.iron.drives.clear();
    bench.policy.accept_reported = false;
    bench.rest();
    assert_eq!(bench.reason(condition::ERASED), "EvidenceInsufficient");
    bench.policy.accept_reported = true;
    bench.rest();
    assert_eq!(bench.state, Some(ServerState::Available));
}

#[test]
fn a_proof_serves_one_cleaning_only() {
    let mut bench = Bench::dirty("a");
    bench.rest();
    bench.iron.erased.clear();
    // The same claim gets the server again.
    bench.bind("a");
    bench.rest();
    bench.delete_claim();
    bench.rest();
    assert_eq!(bench.iron.erased, ["D1", "D2"]);
}

#[test]
fn a_signed_off_server_is_offered_again_and_it_is_on_record_who_signed() {
    let mut bench = Bench::dirty("a");
    bench.iron.drives[0].can_erase = false;
    bench.iron.drives[1].can_erase = false;
    bench.rest();
    bench.set(names::CLEANED_BY, "jane");
    let runs = bench.runs_made;
    bench.rest();
    assert_eq!(bench.state, Some(ServerState::Available));
    assert_eq!(bench.runs_made, runs + 1);
    assert_eq!(bench.note(names::CLEANED_BY), None);
    assert_eq!(bench.finding(condition::ERASED).unwrap().holds, None);
    assert_eq!(bench.sent, []);
}

#[test]
fn a_sign_off_that_comes_when_no_cleaning_is_due_waives_no_later_one() {
    // On a server that is free, and on one that somebody has.
    for bound in [false, true] {
        let mut bench = Bench::available();
        if bound {
            bench.bind("a");
            bench.rest();
        }
        bench.set(names::CLEANED_BY, "jane");
        bench.rest();
        assert_eq!(bench.note(names::CLEANED_BY), None);
        assert!(bench.remarks.contains(&"SignOffIgnored"));
        if !bound {
            bench.bind("a");
        }
        bench.rest();
        bench.delete_claim();
        bench.rest();
        assert_eq!(bench.iron.erased, ["D1", "D2"], "bound: {bound}");
    }
    // Even one that nobody had the time to look at.
    let mut bench = Bench::available();
    bench.bind("a");
    bench.rest();
    bench.set(names::CLEANED_BY, "jane");
    bench.delete_claim();
    bench.rest();
    assert_eq!(bench.iron.erased, ["D1", "D2"]);
}

#[test]
fn nobody_signs_off_a_drive_that_is_being_erased() {
    let mut bench = erasing();
    bench.set(names::CLEANED_BY, "jane");
    let decided = decide(&bench.observe());
    assert!(matches!(decided.act, Act::FollowErasure { .. }));
    let said = decided
        .findings
        .iter()
        .find(|f| f.kind == condition::ERASED);
    assert!(said.is_some_and(|f| f.message.contains("not handed out before that has ended")));
}

#[test]
fn who_takes_an_erasure_over_learns_where_the_drive_is_before_its_task_is_believed() {
    let mut bench = erasing();
    bench.set(names::CLEANED_BY, "jane");
    bench.restart();
    assert_eq!(decide(&bench.observe()).act, Act::ReadInventory);
}

#[test]
fn policy_may_disable_cleaning_and_that_is_on_record() {
    let mut bench = Bench::dirty("a");
    bench.policy.cleaning = Cleaning::Disabled;
    bench.rest();
    assert_eq!(bench.state, Some(ServerState::Available));
    assert_eq!(bench.sent, []);
    assert_eq!(bench.reason(condition::ERASED), "CleaningDisabled");
}

#[test]
fn a_dirty_server_that_somebody_switches_on_is_not_wiped() {
    let mut bench = Bench::dirty("a");
    bench.iron.power = PowerState::On;
    bench.restart();
    bench.rest();
    assert_eq!(bench.sent, []);
    assert_eq!(
        bench.reason(condition::RUNNING_UNEXPECTEDLY),
        "FoundRunning"
    );
    bench.set(names::HANDOVER, "accepted");
    bench.rest();
    assert_eq!(bench.state, Some(ServerState::Available));
    assert_eq!(bench.iron.erased, ["D1", "D2"]);
}

#[test]
fn a_drive_that_fails_to_be_erased_is_tried_a_few_times() {
    let mut bench = Bench::dirty("a");
    for _ in 0..60 {
        bench.step_with(Delivery::Refused);
        bench.pass_time();
        if bench
            .closed
            .iter()
            .any(|run| run.phase == Phase::Failed && run.kind == crate::run::Kind::Cleaning)
        {
            break;
        }
    }
    assert!(
        bench
            .closed
            .iter()
            .any(|run| run.kind == crate::run::Kind::Cleaning && run.phase == Phase::Failed)
    );
    assert_eq!(bench.note(names::DIRTY), Some("a"));
}

#[test]
fn an_erasure_of_which_nobody_knows_whether_it_began_is_done_again() {
    let mut bench = Bench::dirty("a");
    while !matches!(decide(&bench.observe()).act, Act::Send(_)) {
        bench.step();
        bench.pass_time();
    }
    bench.step_with(Delivery::DiesAfter);
    let began = bench.now;
    let count = |bench: &Bench| bench.sent.iter().filter(|s| **s == erase("D1")).count();
    while count(&bench) < 2 {
        bench.step();
        bench.pass_time();
    }
    // The other drive does not wait for it; it itself is given time to show what became of it.
    assert_eq!(bench.sent, [erase("D1"), erase("D2"), erase("D1")]);
    assert!(bench.now.duration_since(began) >= jiff::SignedDuration::from_mins(10));
    bench.rest();
    assert_eq!(bench.state, Some(ServerState::Available));
}

#[test]
fn the_brake_holds_back_releases_and_erasures_and_nothing_else() {
    let why = Some("six servers in ten minutes".to_owned());
    for mut bench in [Bench::releasing("a"), Bench::dirty("a")] {
        bench.guard.brake.clone_from(&why);
        let before = bench.sent.clone();
        for _ in 0..20 {
            bench.step();
            bench.pass_time();
        }
        assert_eq!(bench.sent, before);
        assert_eq!(bench.reason(condition::READY), "BrakeEngaged");
        bench.guard.brake = None;
        bench.rest();
        assert_eq!(bench.state, Some(ServerState::Available));
    }
    let mut bench = Bench::bound("a");
    bench.guard.brake = why;
    bench.rest();
    assert_eq!(bench.sent, [Step::BootNetworkOnce, Step::PowerOn]);
}

#[test]
fn rates_space_power_actions_and_erasures() {
    let mut bench = Bench::bound("a");
    while !matches!(decide(&bench.observe()).act, Act::Send(Step::PowerOn)) {
        bench.step();
    }
    let slot = bench
        .now
        .checked_add(jiff::SignedDuration::from_secs(3))
        .unwrap();
    bench.guard.power_at = Some(slot);
    let decision = decide(&bench.observe());
    assert_eq!((decision.act, decision.wake), (Act::Nothing, Some(slot)));
}
