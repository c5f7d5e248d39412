use corten_api::metal::{Power, PowerState, ServerState};

use super::bench::{Bench, Delivery};
use crate::{
    names,
    run::Step,
    server::{Act, Boot, Reclaim, condition, decide},
};

#[test]
fn a_claimed_server_boots_the_network_once_and_stays_on() {
    let mut bench = Bench::bound("a");
    bench.rest();
    assert_eq!(bench.sent, [Step::BootNetworkOnce, Step::PowerOn]);
    assert_eq!(bench.state, Some(ServerState::Reserved));
    assert_eq!(bench.reason(condition::READY), "Reserved");
    assert_eq!(bench.run, None);
}

#[test]
fn nothing_boots_before_the_boot_configuration_is_ready() {
    for (boot, reason) in [
        (Boot::Missing, "BootConfigurationPending"),
        (Boot::Pending, "BootConfigurationPending"),
        (
            Boot::Error("no such image".into()),
            "BootConfigurationError",
        ),
    ] {
        let mut bench = Bench::bound("a");
        bench.boot = boot;
        bench.rest();
        assert_eq!(bench.sent, []);
        assert_eq!(bench.reason(condition::READY), reason);
    }
}

#[test]
fn after_a_loss_of_power_an_installed_server_starts_from_its_disk() {
    let mut bench = Bench::provisioned("a");
    bench.iron.power = PowerState::Off;
    bench.iron.boot_override = false;
    bench.restart();
    bench.rest();
    assert_eq!(bench.sent, [Step::PowerOn]);
}

#[test]
fn a_boot_override_that_lingers_goes_before_an_installed_server_is_started() {
    let mut bench = Bench::provisioned("a");
    bench.iron.power = PowerState::Off;
    bench.iron.boot_override = true;
    bench.restart();
    bench.rest();
    assert_eq!(bench.sent, [Step::ClearBootOverride, Step::PowerOn]);
}

#[test]
fn an_installed_server_whose_boot_override_cannot_be_cleared_is_not_started_with_it() {
    let mut bench = Bench::provisioned("a");
    bench.iron.power = PowerState::Off;
    bench.iron.boot_override = true;
    bench.restart();
    for _ in 0..600 {
        let refused = decide(&bench.observe()).act == Act::Send(Step::ClearBootOverride);
        let delivery = if refused {
            Delivery::Refused
        } else {
            Delivery::Done
        };
        let decision = bench.step_with(delivery);
        match (decision.act, decision.wake) {
            (Act::Nothing, Some(wake)) => bench.now = wake.max(bench.now),
            (Act::Nothing, None) => break,
            _ => {}
        }
    }
    assert_eq!(bench.sent, []);
    assert_eq!(bench.iron.power, PowerState::Off);
    assert_eq!(bench.reason(condition::READY), "GivenUp");
}

#[test]
fn after_a_loss_of_power_a_diskless_server_starts_from_the_network() {
    let mut bench = Bench::provisioned("a");
    bench.claim.as_mut().unwrap().diskless = true;
    bench.iron.power = PowerState::Off;
    bench.restart();
    bench.rest();
    assert_eq!(bench.sent, [Step::BootNetworkOnce, Step::PowerOn]);
}

#[test]
fn spec_power_is_ignored_while_reserved() {
    let mut bench = Bench::provisioned("a");
    bench.power = Some(Power::Off);
    bench.rest();
    assert_eq!(bench.sent, []);
}

#[test]
fn a_claim_that_wants_it_off_gets_it_off() {
    let mut bench = Bench::provisioned("a");
    bench.claim.as_mut().unwrap().power = Power::Off;
    bench.iron.listens = false;
    bench.rest();
    assert_eq!(bench.sent, [Step::RequestShutdown, Step::ForceOff]);
    assert_eq!(bench.reason(condition::READY), "Reserved");
}

#[test]
fn a_power_that_nobody_can_name_is_not_guessed_at() {
    let mut bench = Bench::provisioned("a");
    bench.claim.as_mut().unwrap().power = Power::Other("Hibernate".into());
    bench.rest();
    assert_eq!(bench.sent, []);
    assert_eq!(bench.reason(condition::READY), "PowerNotUnderstood");
}

#[test]
fn one_that_somebody_switched_on_before_its_image_was_booted_is_left_alone() {
    let mut bench = Bench::bound("a");
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
    assert_eq!(
        bench.sent,
        [Step::RequestShutdown, Step::BootNetworkOnce, Step::PowerOn]
    );
}

#[test]
fn a_shutdown_that_could_not_be_asked_for_is_asked_for_again_and_power_is_not_cut() {
    let mut bench = Bench::releasing("a");
    let mut lost = vec![Delivery::Refused, Delivery::NotSent, Delivery::NotSent];
    while let Some(delivery) = lost.last() {
        if let Act::Send(step) = bench.step_with(*delivery).act {
            assert_eq!(step, Step::RequestShutdown);
            lost.pop();
        }
        bench.pass_time();
    }
    bench.rest();
    assert_eq!(bench.state, Some(ServerState::Available));
    assert!(bench.sent.contains(&Step::RequestShutdown));
    assert!(!bench.sent.contains(&Step::ForceOff), "{:?}", bench.sent);
}

#[test]
fn a_shutdown_that_cannot_be_asked_for_is_tried_through_the_grace_before_power_is_cut() {
    let mut bench = Bench::releasing("a");
    let began = bench.now;
    let mut tries = 0;
    loop {
        let decision = bench.step_with(Delivery::NotSent);
        if decision.act == Act::Send(Step::RequestShutdown) {
            tries += 1;
        }
        if decision.act == Act::Send(Step::ForceOff) {
            break;
        }
        bench.pass_time();
    }
    assert!(bench.now.duration_since(began) >= bench.policy.shutdown_grace);
    assert!((3..=20).contains(&tries), "{tries}");
}

#[test]
fn a_bmc_that_refuses_to_ask_for_a_shutdown_three_times_has_its_power_cut() {
    let mut bench = Bench::releasing("a");
    let began = bench.now;
    loop {
        let decision = bench.step_with(Delivery::Refused);
        if decision.act == Act::Send(Step::ForceOff) {
            break;
        }
        bench.pass_time();
    }
    assert!(bench.now.duration_since(began) < bench.policy.shutdown_grace);
    assert_eq!(bench.run.as_ref().unwrap().tries(&Step::RequestShutdown), 3);
}

#[test]
fn a_release_asks_first_cuts_power_after_the_grace_and_tidies_up() {
    let mut bench = Bench::releasing("a");
    bench.iron.listens = false;
    bench.iron.boot_override = true;
    bench.iron.media = vec!["/m/CD".into(), "/m/USB".into()];
    let began = bench.now;
    while bench.claim_ref.is_some() {
        bench.step();
        if bench.sent.last() == Some(&Step::ForceOff) && bench.sent.len() == 2 {
            assert!(bench.now.duration_since(began) >= bench.policy.shutdown_grace);
        }
        bench.pass_time();
    }
    assert_eq!(
        bench.sent,
        [
            Step::RequestShutdown,
            Step::ForceOff,
            Step::ClearBootOverride,
            Step::EjectMedium("/m/CD".into()),
            Step::EjectMedium("/m/USB".into()),
        ]
    );
    assert_eq!(bench.reason(condition::POWERED_OFF), "ConfirmedOff");
    assert_eq!(bench.note(names::DIRTY), Some("a"));
    assert_eq!(bench.note(names::CLAIM_UID), None);
    bench.rest();
    assert_eq!(bench.state, Some(ServerState::Available));
}

#[test]
fn a_server_whose_bmc_is_dead_stays_reserved_and_says_why() {
    let mut bench = Bench::releasing("a");
    bench.answers = false;
    bench.rest();
    assert_eq!(bench.state, Some(ServerState::Reserved));
    assert_eq!(
        bench.finding(condition::POWERED_OFF).map(|f| f.holds),
        Some(Some(false))
    );
    assert_eq!(bench.reason(condition::POWERED_OFF), "BMCUnreachable");
    assert_eq!(bench.note(names::CLAIM_UID), Some("a"));
    bench.answers = true;
    bench.rest();
    assert_eq!(bench.state, Some(ServerState::Available));
}

#[test]
fn a_machine_that_cannot_be_switched_off_is_not_given_on() {
    let mut bench = Bench::releasing("a");
    for _ in 0..200 {
        bench.step();
        bench.iron.power = PowerState::On;
        bench.pass_time();
    }
    assert_eq!(bench.note(names::CLAIM_UID), Some("a"));
    assert!(
        bench
            .closed
            .iter()
            .any(|run| run.phase == crate::run::Phase::Failed)
    );
}

#[test]
fn a_retained_server_waits_until_its_reference_is_cleared() {
    let mut bench = Bench::releasing("a");
    bench.reclaim = Reclaim::Retain;
    bench.rest();
    assert_eq!(bench.state, Some(ServerState::Released));
    assert_eq!(bench.iron.erased, Vec::<String>::new());
    assert_eq!(bench.reason(condition::POWERED_OFF), "ConfirmedOff");
    // The claim is gone by now, and somebody made one of the same name.
    bench.claim.as_mut().unwrap().uid = "b".into();
    bench.claim.as_mut().unwrap().deleting = false;
    bench.rest();
    assert_eq!(bench.state, Some(ServerState::Released));
    bench.claim_ref = None;
    bench.rest();
    assert_eq!(bench.state, Some(ServerState::Available));
    assert_eq!(bench.iron.erased, ["D1", "D2"]);
}

#[test]
fn a_claim_that_is_missing_another_or_unrecorded_holds_the_server() {
    type Happens = fn(&mut Bench);
    let cases: [(&str, Happens); 4] = [
        ("ClaimMissing", |b| b.claim = None),
        ("ClaimChanged", |b| {
            b.claim.as_mut().unwrap().uid = "b".into()
        }),
        ("ClaimNotRecorded", |b| {
            drop(b.annotations.remove(names::CLAIM_UID))
        }),
        ("ClaimRefRemoved", |b| b.claim_ref = None),
    ];
    for (reason, happens) in cases {
        for power in [PowerState::On, PowerState::Off] {
            let mut bench = Bench::provisioned("a");
            happens(&mut bench);
            bench.iron.power = power;
            bench.restart();
            bench.rest();
            assert_eq!(bench.reason(condition::HELD), reason);
            assert_eq!(bench.state, Some(ServerState::Reserved));
            assert_eq!(bench.sent, []);
        }
    }
}

#[test]
fn a_held_server_goes_on_when_its_claim_is_there_again() {
    let mut bench = Bench::provisioned("a");
    let claim = bench.claim.take();
    bench.rest();
    assert_eq!(bench.reason(condition::HELD), "ClaimMissing");
    bench.claim = claim;
    bench.rest();
    assert!(bench.finding(condition::HELD).is_none());
    assert_eq!(bench.reason(condition::READY), "Reserved");
}

#[test]
fn a_person_releases_a_held_server() {
    let mut bench = Bench::provisioned("a");
    bench.claim = None;
    bench.rest();
    bench.set(names::HOLD, "release");
    bench.rest();
    assert_eq!(bench.state, Some(ServerState::Available));
    assert_eq!(bench.iron.erased, ["D1", "D2"]);
    assert_eq!(bench.note(names::HOLD), None);
}

#[test]
fn a_person_gives_a_held_server_to_a_claim_as_it_runs() {
    let mut bench = Bench::provisioned("a");
    bench.claim.as_mut().unwrap().uid = "b".into();
    bench.rest();
    bench.set(names::HOLD, "adopt:c");
    bench.rest();
    assert_eq!(bench.reason(condition::HELD), "AdoptionMismatch");
    bench.set(names::HOLD, "adopt:b");
    bench.rest();
    assert_eq!(bench.note(names::CLAIM_UID), Some("b"));
    assert_eq!(bench.reason(condition::READY), "Reserved");
    assert_eq!(bench.sent, []);
}

#[test]
fn one_that_is_given_to_a_claim_while_it_is_off_is_started_from_its_disk_and_nothing_is_installed()
{
    // Once restored, once bound by somebody who recorded nothing.
    for recorded in [true, false] {
        let mut bench = Bench::provisioned("a");
        bench.restore();
        bench.iron.power = PowerState::Off;
        if !recorded {
            bench.annotations.clear();
        }
        bench.rest();
        assert!(bench.finding(condition::HELD).is_some());
        let answer = format!("adopt:{}", bench.claim.as_ref().unwrap().uid);
        bench.set(names::HOLD, &answer);
        bench.rest();
        assert_eq!(bench.reason(condition::READY), "Reserved");
        assert_eq!(bench.sent, [Step::ClearBootOverride, Step::PowerOn]);
    }
}

#[test]
fn an_answer_that_lies_about_is_not_taken_for_the_next_question() {
    let mut bench = Bench::provisioned("a");
    bench.set(names::HOLD, "release");
    bench.rest();
    assert_eq!(bench.note(names::HOLD), None);
    bench.claim = None;
    bench.rest();
    assert_eq!(bench.sent, []);
}

#[test]
fn a_restored_or_moved_object_is_not_released_rebooted_or_wiped() {
    for (mut bench, reason) in [
        (Bench::provisioned("a"), "ClaimChanged"),
        (Bench::releasing("a"), "Restored"),
        (Bench::dirty("a"), "Restored"),
    ] {
        for power in [PowerState::Off, PowerState::On] {
            let before = bench.sent.clone();
            bench.restore();
            bench.iron.power = power;
            bench.rest();
            assert_eq!(bench.reason(condition::HELD), reason);
            assert_eq!(bench.sent, before);
        }
    }
}

#[test]
fn a_lost_status_changes_nothing_about_a_claimed_server() {
    let mut bench = Bench::provisioned("a");
    bench.state = None;
    bench.findings.clear();
    bench.restart();
    bench.rest();
    assert_eq!(bench.state, Some(ServerState::Reserved));
    assert_eq!(bench.sent, []);
}

#[test]
fn a_step_that_may_have_been_sent_is_waited_for_and_settled_and_not_sent_again() {
    for delivery in [Delivery::DiesBefore, Delivery::DiesAfter] {
        let mut bench = Bench::bound("a");
        while !matches!(decide(&bench.observe()).act, Act::Send(Step::PowerOn)) {
            bench.step();
        }
        bench.step_with(delivery);
        let decision = decide(&bench.observe());
        let deadline = bench
            .run
            .as_ref()
            .unwrap()
            .intent
            .as_ref()
            .unwrap()
            .deadline;
        assert_eq!(
            (decision.act, decision.wake),
            (Act::Nothing, Some(deadline))
        );
        bench.rest();
        let sent = bench
            .sent
            .iter()
            .filter(|step| **step == Step::PowerOn)
            .count();
        assert_eq!(sent, 1, "{delivery:?}");
        assert_eq!(bench.note(names::PROVISIONED), Some("a"));
    }
}

#[test]
fn a_call_that_the_bmc_refuses_is_tried_a_few_times_and_then_given_up_for_a_while() {
    let mut bench = Bench::bound("a");
    let mut refused = 0;
    for _ in 0..600 {
        let decision = bench.step_with(Delivery::Refused);
        if matches!(decision.act, Act::Send(_)) {
            refused += 1;
        }
        if decision.act == Act::Nothing {
            match decision.wake {
                Some(wake) => bench.now = wake.max(bench.now),
                None => break,
            }
        }
    }
    assert_eq!(bench.reason(condition::READY), "GivenUp");
    assert!(refused <= 10, "{refused}");
    // It says why, and what a person can do: without its failed runs it is tried anew.
    let why = bench.closed[0].message.clone();
    let shown = decide(&bench.observe());
    assert!(!why.is_empty());
    assert!(
        shown
            .findings
            .iter()
            .any(|f| f.message.contains(&why) && f.message.contains("delete"))
    );
    bench.closed.clear();
    assert_ne!(decide(&bench.observe()).act, Act::Nothing);
}

#[test]
fn a_reading_that_is_not_fresh_is_no_ground_for_a_step() {
    let mut bench = Bench::bound("a");
    while !matches!(decide(&bench.observe()).act, Act::Send(_)) {
        bench.step();
    }
    bench.now = bench
        .now
        .checked_add(super::super::FRESH)
        .unwrap()
        .checked_add(jiff::SignedDuration::from_secs(1))
        .unwrap();
    assert_eq!(decide(&bench.observe()).act, Act::ReadMachine);
}

#[test]
fn evidence_settles_what_it_can_and_nothing_else() {
    let mut bench = Bench::provisioned("a");
    bench.claim.as_mut().unwrap().allow_operations = true;
    bench.set(names::OPERATION, "hard-restart-server");
    while !matches!(decide(&bench.observe()).act, Act::Send(_)) {
        bench.step();
    }
    bench.step_with(Delivery::DiesAfter);
    bench.rest();
    assert_eq!(bench.sent, [Step::ForceRestart]);
    assert!(bench.remarks.contains(&"OperationDone"));
}

#[test]
fn off_as_it_was_before_the_release_is_not_confirmed_off() {
    let mut bench = Bench::provisioned("a");
    bench.reading.as_mut().unwrap().power = PowerState::Off;
    bench.now = super::super::after(bench.now, jiff::SignedDuration::from_secs(5));
    bench.delete_claim();
    while bench.claim_ref.is_some() {
        bench.step();
        bench.pass_time();
    }
    assert_eq!(bench.iron.power, PowerState::Off);
    assert!(
        bench.sent.contains(&Step::RequestShutdown),
        "{:?}",
        bench.sent
    );
}

#[test]
fn a_machine_without_a_boot_override_starts_as_its_boot_order_says() {
    let mut bench = Bench::available();
    bench.iron.can.boot_override = false;
    bench.reading = None;
    bench.bind("a");
    bench.boot = Boot::Ready;
    bench.claim.as_mut().unwrap().diskless = true;
    bench.rest();
    assert_eq!(bench.sent, [Step::PowerOn]);
    assert_eq!(bench.note(names::PROVISIONED), Some("a"));
    bench.iron.power = PowerState::Off;
    bench.reading = None;
    bench.rest();
    assert_eq!(bench.sent, [Step::PowerOn, Step::PowerOn]);
    bench.delete_claim();
    while bench.claim_ref.is_some() {
        bench.step();
        bench.pass_time();
    }
    assert!(
        !bench.sent.contains(&Step::ClearBootOverride),
        "{:?}",
        bench.sent
    );
}

#[test]
fn a_plan_is_made_from_a_fresh_reading_of_the_machine() {
    let mut bench = Bench::provisioned("a");
    bench.iron.power = PowerState::Off;
    bench.iron.boot_override = true;
    // As after a restart of Corten: the poll tells power, and the document was not read.
    let reading = bench.reading.as_mut().unwrap();
    reading.power = PowerState::Off;
    reading.boot_override = None;
    reading.read_at = jiff::Timestamp::UNIX_EPOCH;
    bench.rest();
    assert_eq!(bench.sent, [Step::ClearBootOverride, Step::PowerOn]);
}
