use corten_api::metal::{PowerState, ServerState};
use jiff::SignedDuration;

use super::bench::{Bench, Delivery};
use crate::{
    names,
    operation::EXPIRES,
    run::Step,
    server::{Act, after, decide},
};

fn asked(mut bench: Bench, operation: &str) -> Bench {
    bench.set(names::OPERATION, operation);
    bench
}

#[test]
fn an_operation_happens_once_and_its_annotation_goes_before_it_is_sent() {
    let mut bench = asked(Bench::available(), "force-on-server");
    let mut gone_at_send = None;
    for _ in 0..20 {
        if matches!(decide(&bench.observe()).act, Act::Send(_)) {
            gone_at_send = Some(bench.note(names::OPERATION).is_none());
        }
        bench.step();
    }
    assert_eq!(gone_at_send, Some(true));
    assert_eq!(bench.sent, [Step::PowerOn]);
    assert!(bench.remarks.contains(&"OperationDone"));
}

#[test]
fn on_a_reserved_server_an_operation_needs_its_owners_consent() {
    let mut bench = asked(Bench::provisioned("a"), "power-cycle-server");
    bench.rest();
    assert_eq!(bench.sent, []);
    assert_eq!(bench.note(names::OPERATION), None);
    assert!(bench.remarks.contains(&"OperationRefused"));
    bench.claim.as_mut().unwrap().allow_operations = true;
    let mut bench = asked(bench, "power-cycle-server");
    bench.rest();
    assert_eq!(bench.sent, [Step::PowerCycle]);
}

#[test]
fn an_override_names_who_answers_for_it() {
    let mut bench = asked(Bench::provisioned("a"), "graceful-restart-server");
    bench.set(names::OPERATION_ACTOR, "jane");
    bench.rest();
    assert_eq!(bench.sent, [Step::GracefulRestart]);
    assert_eq!(bench.note(names::OPERATION_ACTOR), None);
}

#[test]
fn a_restart_of_which_nobody_knows_whether_it_happened_is_not_repeated() {
    let mut bench = Bench::provisioned("a");
    bench.claim.as_mut().unwrap().allow_operations = true;
    let mut bench = asked(bench, "hard-restart-server");
    while !matches!(decide(&bench.observe()).act, Act::Send(_)) {
        bench.step();
    }
    bench.step_with(Delivery::DiesBefore);
    // This BMC keeps no LastResetTime.
    bench
        .run
        .as_mut()
        .unwrap()
        .intent
        .as_mut()
        .unwrap()
        .before
        .last_reset = None;
    bench.rest();
    assert_eq!(bench.sent, []);
    assert!(bench.remarks.contains(&"OperationOutcomeUnknown"));
}

#[test]
fn a_restart_that_the_last_reset_time_does_not_show_is_unknown_and_is_not_repeated() {
    for delivery in [Delivery::DiesBefore, Delivery::DiesAfter] {
        let mut bench = Bench::provisioned("a");
        bench.claim.as_mut().unwrap().allow_operations = true;
        let mut bench = asked(bench, "hard-restart-server");
        while !matches!(decide(&bench.observe()).act, Act::Send(_)) {
            bench.step();
        }
        bench.step_with(delivery);
        // Shown late, or never: it is as it was when the intent was written.
        let before = bench.look().last_reset;
        let intent = bench.run.as_mut().unwrap().intent.as_mut().unwrap();
        intent.before.last_reset = before;
        let sent = bench.sent.clone();
        bench.rest();
        assert_eq!(bench.sent, sent);
        assert!(bench.remarks.contains(&"OperationOutcomeUnknown"));
        assert!(!bench.remarks.contains(&"OperationFailed"));
        assert!(bench.run.is_none(), "an unknown outcome holds nobody up");
    }
}

#[test]
fn a_power_call_of_a_person_that_shows_no_effect_yet_is_unknown_and_not_failed() {
    let mut bench = asked(Bench::available(), "force-on-server");
    while !matches!(decide(&bench.observe()).act, Act::Send(_)) {
        bench.step();
    }
    bench.step_with(Delivery::DiesBefore);
    bench.rest();
    assert_eq!(bench.sent, []);
    assert!(bench.remarks.contains(&"OperationOutcomeUnknown"));
    assert!(!bench.remarks.contains(&"OperationFailed"));
}

#[test]
fn what_is_off_is_not_restarted() {
    let mut bench = asked(Bench::available(), "hard-restart-server");
    bench.rest();
    assert_eq!(bench.sent, []);
    assert!(bench.remarks.contains(&"OperationFailed"));
}

#[test]
fn an_operation_that_could_not_be_sent_in_time_is_no_surprise_later() {
    let mut bench = asked(Bench::available(), "force-on-server");
    bench.step();
    bench.step();
    assert!(bench.run.is_some());
    bench.answers = false;
    bench.step();
    bench.now = bench
        .now
        .checked_add(EXPIRES)
        .unwrap()
        .checked_add(jiff::SignedDuration::from_secs(1))
        .unwrap();
    bench.answers = true;
    bench.restart();
    bench.rest();
    assert_eq!(bench.sent, []);
    assert!(bench.remarks.contains(&"OperationExpired"));
}

#[test]
fn an_operation_does_not_wait_for_an_image_to_be_written() {
    let mut bench = Bench::bound("a");
    bench.claim.as_mut().unwrap().allow_operations = true;
    while bench.run.is_none() {
        bench.step();
    }
    let mut bench = asked(bench, "hard-restart-server");
    bench.step();
    assert_eq!(bench.note(names::OPERATION), None);
    assert!(bench.remarks.contains(&"OperationRefused"));
    bench.rest();
    assert!(!bench.sent.contains(&Step::ForceRestart));
}

#[test]
fn a_wish_to_park_waits_for_what_is_under_way() {
    let mut bench = Bench::bound("a");
    bench.claim.as_mut().unwrap().allow_operations = true;
    while bench.run.is_none() {
        bench.step();
    }
    let mut bench = asked(bench, "park");
    bench.step();
    assert_eq!(bench.note(names::OPERATION), Some("park"));
    bench.rest();
    assert_eq!(bench.state, Some(ServerState::Parked));
}

#[test]
fn what_is_no_operation_of_a_server_is_refused_by_name() {
    for operation in ["graceful-restart-bmc", "rotate-credentials", "make-coffee"] {
        let mut bench = asked(Bench::available(), operation);
        bench.rest();
        assert_eq!(bench.sent, []);
        assert!(bench.remarks.contains(&"UnsupportedOperation"));
        assert_eq!(bench.note(names::OPERATION), None);
    }
}

#[test]
fn no_operation_is_carried_out_or_kept_while_a_hold_asks() {
    let mut bench = Bench::provisioned("a");
    bench.claim = None;
    let mut bench = asked(bench, "force-off-server");
    bench.rest();
    assert_eq!(bench.sent, []);
    assert_eq!(bench.note(names::OPERATION), None);
}

#[test]
fn no_operation_comes_between_a_release_or_a_cleaning() {
    for bench in [Bench::releasing("a"), Bench::dirty("a")] {
        let before = bench.sent.clone();
        let mut bench = asked(bench, "force-on-server");
        bench.step();
        assert_eq!(bench.note(names::OPERATION), None);
        assert_eq!(bench.sent, before);
    }
}

#[test]
fn a_parked_server_is_off_and_left_alone_until_it_is_unparked() {
    let mut bench = asked(Bench::available(), "park");
    bench.iron.power = PowerState::On;
    bench.restart();
    bench.rest();
    assert_eq!(bench.state, Some(ServerState::Parked));
    assert_eq!(bench.iron.power, PowerState::Off);
    let sent = bench.sent.len();
    bench.iron.power = PowerState::On;
    bench.restart();
    bench.rest();
    assert_eq!(bench.sent.len(), sent);
    bench.iron.power = PowerState::Off;
    bench.restart();
    let mut bench = asked(bench, "unpark");
    bench.rest();
    assert_eq!(bench.state, Some(ServerState::Available));
}

#[test]
fn parking_a_reserved_server_needs_consent_and_keeps_its_claim() {
    let mut bench = asked(Bench::provisioned("a"), "park");
    bench.rest();
    assert_eq!(bench.sent, []);
    bench.claim.as_mut().unwrap().allow_operations = true;
    let mut bench = asked(bench, "park");
    bench.rest();
    assert_eq!(bench.state, Some(ServerState::Parked));
    assert!(bench.claim_ref.is_some());
    let mut bench = asked(bench, "unpark");
    bench.rest();
    assert_eq!(bench.state, Some(ServerState::Reserved));
    assert_eq!(bench.iron.power, PowerState::On);
}

#[test]
fn a_reserved_or_dirty_server_does_not_vanish() {
    let mut bench = Bench::provisioned("a");
    bench.deleting = true;
    bench.rest();
    assert!(!bench.gone);
    assert_eq!(bench.sent, []);
    assert!(bench.remarks.contains(&"DeletionHeld"));
    bench.delete_claim();
    bench.rest();
    assert!(bench.gone);
    assert_eq!(bench.iron.erased, ["D1", "D2"]);
}

#[test]
fn a_forced_deletion_leaves_a_tombstone_first() {
    for mut bench in [Bench::provisioned("a"), Bench::dirty("a")] {
        bench.deleting = true;
        bench.answers = false;
        bench.set("corten.dev/force-delete", "true");
        let before = bench.sent.clone();
        let first = bench.step();
        assert!(matches!(first.act, Act::LeaveTombstone(_)));
        bench.rest();
        assert!(bench.gone && bench.buried);
        assert_eq!(bench.sent, before);
    }
}

#[test]
fn a_free_server_goes_at_once_even_when_its_bmc_is_dead_and_what_was_not_done_is_said() {
    let mut bench = Bench::available();
    bench.deleting = true;
    bench.answers = false;
    let began = bench.now;
    bench.rest();
    assert!(bench.gone && !bench.buried);
    assert!(bench.now.duration_since(began) < jiff::SignedDuration::from_secs(1));
    assert!(bench.remarks.contains(&"DeletedUnseen"));
}

#[test]
fn a_deletion_waits_seconds_for_a_call_that_is_under_way() {
    let mut bench = asked(Bench::available(), "force-on-server");
    while !matches!(decide(&bench.observe()).act, Act::Send(_)) {
        bench.step();
    }
    bench.step_with(Delivery::DiesAfter);
    bench.deleting = true;
    bench.answers = false;
    let began = bench.now;
    bench.rest();
    assert!(bench.gone);
    assert!(bench.now.duration_since(began) <= jiff::SignedDuration::from_secs(10));
}

#[test]
fn an_operation_that_was_agreed_to_before_a_claim_came_is_not_done_to_the_claim() {
    let mut bench = asked(Bench::available(), "force-off-server");
    bench.iron.power = PowerState::On;
    bench.restart();
    while bench.run.is_none() || bench.note(names::OPERATION).is_some() {
        bench.step();
    }
    bench.bind("a");
    bench.rest();
    assert!(!bench.sent.contains(&Step::ForceOff));
    assert!(bench.remarks.contains(&"OperationRefused"));
}

#[test]
fn power_that_was_read_before_an_operation_was_asked_for_is_no_news_to_it() {
    for (operation, sent) in [
        ("hard-restart-server", Step::ForceRestart),
        ("park", Step::RequestShutdown),
    ] {
        let mut bench = Bench::available();
        // Somebody switched it on, and nobody here has looked since.
        bench.iron.power = PowerState::On;
        bench.now = crate::server::after(bench.now, jiff::SignedDuration::from_secs(5));
        let mut bench = asked(bench, operation);
        bench.rest();
        assert_eq!(bench.sent, [sent], "{operation}");
    }
}

#[test]
fn a_light_that_the_bmc_does_not_show_as_set_is_set_a_few_times_and_then_seldom_until_the_spec_changes()
 {
    let mut bench = Bench::available();
    bench.led = Some("Lit".into());
    let set = |bench: &Bench| {
        let lit = Step::SetIndicatorLed("Lit".into());
        bench.sent.iter().filter(|step| **step == lit).count()
    };
    let days = |bench: &mut Bench, hours: i64| {
        for _ in 0..hours {
            bench.now = after(bench.now, SignedDuration::from_hours(1));
            bench.rest();
        }
    };
    days(&mut bench, 10);
    assert_eq!(set(&bench), 3);
    days(&mut bench, 48);
    assert_eq!(set(&bench), 5);
    bench.generation += 1;
    bench.rest();
    assert_eq!(set(&bench), 6);
}
