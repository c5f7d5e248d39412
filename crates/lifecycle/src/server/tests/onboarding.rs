use corten_api::metal::{Power, PowerState, ServerState};
use jiff::SignedDuration;

use super::bench::{Bench, UUID};
use crate::{
    identity::Identity,
    names,
    policy::Discovery,
    run::Step,
    server::{Act, Tombstone, condition, decide},
};

#[test]
fn a_machine_found_off_is_inventoried_and_offered_without_being_touched() {
    let bench = Bench::available();
    assert_eq!(bench.sent, []);
    assert_eq!(bench.runs_made, 0);
    assert_eq!(
        bench.note(names::IDENTITY),
        Some(format!("{UUID}/S1").as_str())
    );
    assert_eq!(bench.reason(condition::READY), "Available");
}

#[test]
fn nothing_is_due_for_a_server_at_rest() {
    let bench = Bench::available();
    let decision = decide(&bench.observe());
    assert_eq!((decision.act, decision.wake), (Act::Nothing, None));
}

#[test]
fn a_machine_found_running_is_left_alone_until_it_is_handed_over() {
    let mut bench = Bench::new();
    bench.iron.power = PowerState::On;
    bench.rest();
    assert_eq!(bench.state, Some(ServerState::Discovery));
    assert_eq!(
        bench.reason(condition::RUNNING_UNEXPECTEDLY),
        "FoundRunning"
    );
    assert!(
        bench
            .finding(condition::DISCOVERED)
            .is_some_and(|f| f.holds == Some(true))
    );
    assert_eq!(bench.sent, []);
    bench.set(names::HANDOVER, "accepted");
    bench.rest();
    assert_eq!(bench.sent, [Step::RequestShutdown]);
    assert_eq!(bench.state, Some(ServerState::Available));
    assert_eq!(bench.note(names::HANDOVER), None);
}

#[test]
fn a_machine_found_running_that_restarts_by_itself_is_not_taken_in_between() {
    let mut bench = Bench::new();
    bench.iron.power = PowerState::On;
    bench.rest();
    bench.iron.power = PowerState::Off;
    bench.restart();
    bench.rest();
    assert_eq!(bench.state, Some(ServerState::Discovery));
    // Even when the status is lost.
    bench.state = None;
    bench.findings.clear();
    bench.restart();
    bench.rest();
    assert_eq!(bench.state, Some(ServerState::Discovery));
    assert_eq!(bench.sent, []);
}

#[test]
fn policy_may_hand_running_machines_over() {
    let mut bench = Bench::new();
    bench.iron.power = PowerState::On;
    bench.policy.handover = true;
    bench.rest();
    assert_eq!(bench.state, Some(ServerState::Available));
    assert_eq!(bench.iron.power, PowerState::Off);
}

#[test]
fn the_brake_holds_back_a_policy_that_hands_a_fleet_over() {
    let mut bench = Bench::new();
    bench.iron.power = PowerState::On;
    bench.policy.handover = true;
    bench.guard.brake = Some("six servers in ten minutes".into());
    for _ in 0..30 {
        bench.step();
        bench.pass_time();
    }
    assert_eq!(bench.sent, []);
    assert_eq!(bench.iron.power, PowerState::On);
    assert_eq!(bench.reason(condition::READY), "BrakeEngaged");
}

#[test]
fn an_available_server_that_somebody_switches_on_is_reported_and_not_switched_off() {
    let mut bench = Bench::available();
    bench.iron.power = PowerState::On;
    bench.restart();
    bench.rest();
    assert_eq!(bench.state, Some(ServerState::Available));
    assert_eq!(bench.reason(condition::READY), "RunningUnexpectedly");
    assert_eq!(bench.sent, []);
    bench.iron.power = PowerState::Off;
    bench.restart();
    bench.rest();
    assert!(bench.finding(condition::RUNNING_UNEXPECTEDLY).is_none());
}

#[test]
fn spec_power_is_followed_while_nobody_has_the_server() {
    let mut bench = Bench::available();
    bench.power = Some(Power::On);
    bench.rest();
    assert_eq!(bench.sent, [Step::PowerOn]);
    bench.power = Some(Power::Off);
    bench.rest();
    assert_eq!(bench.sent, [Step::PowerOn, Step::RequestShutdown]);
}

#[test]
fn spec_power_off_never_cuts_power_under_an_operating_system_that_does_not_listen() {
    let mut bench = Bench::available();
    bench.iron.power = PowerState::On;
    bench.iron.listens = false;
    bench.power = Some(Power::Off);
    bench.restart();
    for _ in 0..40 {
        bench.step();
        bench.pass_time();
    }
    assert!(!bench.sent.contains(&Step::ForceOff), "{:?}", bench.sent);
}

#[test]
fn a_section_that_cannot_be_read_keeps_the_server_from_being_offered() {
    let mut bench = Bench::new();
    bench.unread = vec!["storage".into()];
    for _ in 0..10 {
        bench.step();
        bench.pass_time();
    }
    assert_eq!(bench.state, Some(ServerState::Discovery));
    assert_eq!(bench.reason(condition::DISCOVERED), "SectionsUnread");
    bench.unread.clear();
    bench.rest();
    assert_eq!(bench.state, Some(ServerState::Available));
}

#[test]
fn a_discovery_that_fails_is_an_error_is_tried_a_few_times_and_does_not_flap() {
    let mut bench = Bench::new();
    bench.unread = vec!["storage".into()];
    let mut states = Vec::new();
    for _ in 0..2000 {
        let decision = bench.step();
        if decision.act == Act::Nothing {
            match decision.wake {
                Some(wake) => bench.now = wake.max(bench.now),
                None => break,
            }
        }
        if let Some(state) = &bench.state
            && states.last() != Some(state)
        {
            states.push(state.clone());
        }
    }
    assert_eq!(states, [ServerState::Discovery, ServerState::Error]);
    assert_eq!(bench.closed.len(), bench.policy.discovery_attempts);
    assert_eq!(bench.reason(condition::DISCOVERED), "DiscoveryFailed");
    assert_eq!(bench.sent, []);
}

#[test]
fn a_bmc_that_answers_again_gives_a_failed_discovery_fresh_tries() {
    let mut bench = Bench::new();
    bench.answers = false;
    for _ in 0..2000 {
        let decision = bench.step();
        match decision.wake {
            Some(wake) if decision.act == Act::Nothing => bench.now = wake.max(bench.now),
            None if decision.act == Act::Nothing => break,
            _ => {}
        }
    }
    assert_eq!(bench.state, Some(ServerState::Error));
    bench.answers = true;
    let mut observed = bench.observe();
    observed.now = bench
        .now
        .checked_add(SignedDuration::from_secs(10))
        .unwrap();
    observed.answering_since = Some(observed.now);
    assert_eq!(decide(&observed).act, Act::ReadMachine);
}

#[test]
fn discovery_by_the_probe_is_awaited_where_policy_wants_it() {
    let mut bench = Bench::new();
    bench.policy.discovery = Discovery::InBand;
    for _ in 0..4 {
        bench.step();
    }
    assert_eq!(bench.reason(condition::DISCOVERED), "ProbeAwaited");
    assert_eq!(bench.sent, []);
}

#[test]
fn another_machine_in_the_place_is_not_touched() {
    for mut bench in [
        Bench::available(),
        Bench::bound("a"),
        Bench::provisioned("a"),
        Bench::releasing("a"),
        Bench::dirty("a"),
    ] {
        bench.iron.identity = Identity::new("11111111-2222-3333-4444-555555555555", "S2");
        bench.restart();
        let before = bench.sent.clone();
        bench.rest();
        assert_eq!(bench.sent, before);
        assert_eq!(bench.state, Some(ServerState::Error));
        assert_eq!(bench.reason(condition::READY), "IdentityMismatch");
        // Put back, it is what it was.
        bench.iron.identity = Identity::new(UUID, "S1");
        bench.restart();
        bench.rest();
        assert_ne!(bench.state, Some(ServerState::Error));
    }
}

#[test]
fn nothing_is_done_to_a_machine_whose_identity_is_disputed() {
    for mut bench in [Bench::bound("a"), Bench::releasing("a"), Bench::dirty("a")] {
        bench.dispute = Some("two BMCs show it".into());
        let before = bench.sent.clone();
        bench.rest();
        assert_eq!(bench.sent, before);
        assert!(bench.finding(condition::IDENTITY_DISPUTED).is_some());
    }
}

#[test]
fn a_machine_that_was_deleted_by_force_starts_in_cleanup_when_it_is_found_again() {
    let mut bench = Bench::new();
    bench.tombstone = Some(Tombstone {
        run: "tomb".into(),
        claim_uid: "a".into(),
        drives: Some(vec!["D1".into(), "D2".into()]),
    });
    let mut states = Vec::new();
    while bench.state != Some(ServerState::Available) {
        states.push(bench.observe().shown_state());
        if bench.note(names::DIRTY).is_some() {
            assert_eq!(bench.note(names::DRIVES), Some(r#"["D1","D2"]"#));
        }
        bench.step();
        bench.pass_time();
        assert!(states.len() < 100, "{:?}", bench.findings);
    }
    assert!(states.contains(&ServerState::Cleanup));
    assert_eq!(bench.tombstone, None);
    assert_eq!(bench.note(names::DRIVES), None, "they are clean");
    assert_eq!(bench.iron.erased, ["D1", "D2"]);
}

#[test]
fn a_found_again_machine_that_runs_is_not_wiped() {
    let mut bench = Bench::new();
    bench.tombstone = Some(Tombstone {
        run: "tomb".into(),
        claim_uid: "a".into(),
        drives: None,
    });
    bench.iron.power = PowerState::On;
    bench.rest();
    assert_eq!(bench.sent, []);
    assert_eq!(bench.state, Some(ServerState::Cleanup));
    assert_eq!(
        bench.reason(condition::RUNNING_UNEXPECTEDLY),
        "FoundRunning"
    );
}

#[test]
fn an_ignored_server_is_left_alone_whatever_it_is() {
    for mut bench in [
        Bench::new(),
        Bench::bound("a"),
        Bench::releasing("a"),
        Bench::dirty("a"),
    ] {
        bench.set(names::OPERATION, "ignore");
        let decision = bench.step();
        assert_eq!((decision.act, decision.state), (Act::Nothing, None));
    }
}

#[test]
fn a_server_without_our_finalizer_gets_it_first() {
    let mut bench = Bench::new();
    bench.finalized = false;
    bench.step();
    assert!(bench.finalized);
}

#[test]
fn the_locator_light_is_set_once() {
    let mut bench = Bench::available();
    bench.led = Some("Blinking".into());
    for _ in 0..30 {
        bench.step();
        if bench.sent.len() == 1 {
            bench.iron.led = "Blinking";
        }
    }
    assert_eq!(bench.sent, [Step::SetIndicatorLed("Blinking".into())]);
    assert_eq!(bench.state, Some(ServerState::Available));
}
