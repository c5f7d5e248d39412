//! The probe: started once, granted once, believed only for what it was asked.

use corten_api::metal::{PowerState, ServerState};
use jiff::SignedDuration;

use super::bench::Bench;
use crate::{
    identity::Identity,
    inband::{BootMethod, Boots, Grant, boots, choose, nonce, window},
    names,
    policy::Discovery,
    run::{Kind, Outcome, Phase, Step, Worth},
    server::{Abilities, Act, Handover, Services, after, condition, decide},
};

pub(super) fn with_probe(mut bench: Bench) -> Bench {
    bench.services = Some(Services::default());
    bench.iron.can.http_boot_uri = true;
    bench.policy.accept_reported = false;
    if let Some(claim) = &mut bench.claim {
        claim.written = true;
    }
    bench.restart();
    bench
}

/// Decides until the machine was switched on and nothing is due now.
pub(super) fn until_up(bench: &mut Bench) {
    for _ in 0..60 {
        let decision = bench.step();
        if bench.iron.power == PowerState::On && decision.act == Act::Nothing {
            return;
        }
    }
    panic!("not up: {:?} {:?}", bench.state, decide(&bench.observe()));
}

#[test]
fn a_probe_that_falls_silent_or_starts_again_at_its_work_has_not_done_it() {
    let mut bench = with_probe(Bench::dirty("a"));
    until_up(&mut bench);
    bench.probe_calls();
    bench.heard = Some(bench.now);
    bench.step();
    assert_eq!(bench.iron.power, PowerState::On);
    bench.now = after(bench.now, SignedDuration::from_mins(13));
    bench.restart();
    bench.until_run_is_over();
    assert_eq!(bench.iron.power, PowerState::Off);
    assert!(bench.note(names::DIRTY).is_some());
    assert_eq!(bench.closed[0].phase, Phase::Failed);

    let mut bench = with_probe(Bench::dirty("a"));
    until_up(&mut bench);
    bench.probe_calls();
    bench
        .run
        .as_mut()
        .unwrap()
        .results
        .last_mut()
        .unwrap()
        .evidence = "another start".into();
    assert_eq!(bench.probe_calls(), Grant::Restarted(Step::ProbeErase));
}

#[test]
fn leave_to_erase_is_given_once() {
    let mut bench = with_probe(Bench::dirty("a"));
    until_up(&mut bench);
    assert!(matches!(bench.probe_calls(), Grant::Erase { .. }));
    assert!(matches!(bench.probe_calls(), Grant::Refuse(_)));
}

#[test]
fn another_machine_or_another_run_is_granted_nothing() {
    let mut bench = with_probe(Bench::dirty("a"));
    until_up(&mut bench);
    let run = bench.run.as_ref().unwrap().name.clone();
    let other = Identity::new("11111111-2222-3333-4444-555555555555", "S9");
    let nobody = Identity::default();
    let own = bench.iron.identity.clone();
    assert!(matches!(
        bench.stranger_calls(run.clone(), other),
        Grant::Refuse(_)
    ));
    assert!(matches!(
        bench.stranger_calls(run, nobody),
        Grant::Refuse(_)
    ));
    assert!(matches!(
        bench.stranger_calls("run-0".into(), own),
        Grant::Refuse(_)
    ));
}

#[test]
fn a_machine_that_was_not_started_for_the_probe_is_granted_nothing() {
    let mut bench = with_probe(Bench::dirty("a"));
    while bench.run.is_none() {
        bench.step();
    }
    bench.iron.power = PowerState::On;
    assert!(matches!(bench.probe_calls(), Grant::Refuse(_)));
}

#[test]
fn a_server_that_comes_up_from_its_disk_is_noticed_taken_down_and_never_taken_for_clean() {
    let mut bench = with_probe(Bench::dirty("a"));
    until_up(&mut bench);
    // No probe ever calls.
    bench.now = after(bench.now, bench.policy.probe_timeout);
    bench.until_run_is_over();
    assert_eq!(bench.iron.power, PowerState::Off);
    assert_eq!(bench.state, Some(ServerState::Cleanup));
    assert_eq!(bench.closed[0].phase, Phase::Failed);
    let ons = bench.sent.iter().filter(|s| **s == Step::PowerOn).count();
    assert_eq!(ons, 1, "started a second time with its boot target used up");
}

#[test]
fn power_lost_while_erasing_or_writing_is_never_taken_for_done() {
    let mut bench = with_probe(Bench::dirty("a"));
    until_up(&mut bench);
    bench.probe_calls();
    bench.iron.power = PowerState::Off;
    bench.now = after(bench.now, SignedDuration::from_secs(5));
    bench.reading = Some(bench.look());
    bench.until_run_is_over();
    assert_eq!(bench.state, Some(ServerState::Cleanup));
    assert_eq!(bench.closed[0].phase, Phase::Failed);

    let mut bench = with_probe(Bench::bound("a"));
    until_up(&mut bench);
    assert!(matches!(bench.probe_calls(), Grant::Write { .. }));
    bench.iron.power = PowerState::Off;
    bench.now = after(bench.now, SignedDuration::from_secs(5));
    bench.reading = Some(bench.look());
    bench.until_run_is_over();
    assert_eq!(bench.note(names::PROVISIONED), None);
    assert_eq!(bench.closed[0].phase, Phase::Failed);
}

#[test]
fn an_image_for_a_disk_is_written_by_the_probe_and_then_the_machine_is_its_owners() {
    let mut bench = with_probe(Bench::bound("a"));
    until_up(&mut bench);
    assert_eq!(bench.sent, [Step::BootHttpOnce, Step::PowerOn]);
    assert!(matches!(bench.probe_calls(), Grant::Write { .. }));
    bench.probe_reports(Outcome::Succeeded, Worth::None, false);
    bench.rest();
    assert_eq!(bench.note(names::PROVISIONED), Some("a"));
    assert_eq!(bench.iron.power, PowerState::On);
    assert_eq!(bench.sent, [Step::BootHttpOnce, Step::PowerOn]);
    assert_eq!(bench.closed[0].kind, Kind::Provisioning);
    assert_eq!(bench.closed[0].phase, Phase::Succeeded);
    // Later calls of the same probe get nothing any more.
    assert!(matches!(bench.probe_calls(), Grant::Refuse(_)));
}

#[test]
fn an_image_without_a_disk_is_booted_by_the_chosen_method_and_written_nowhere() {
    let mut bench = with_probe(Bench::bound("a"));
    let claim = bench.claim.as_mut().unwrap();
    (claim.diskless, claim.written) = (true, false);
    until_up(&mut bench);
    assert_eq!(bench.sent, [Step::BootHttpOnce, Step::PowerOn]);
    // Its token names the claim, since what it boots is fetched for longer than the run is open.
    let run = bench.run.clone().unwrap();
    assert_eq!(nonce(&run, Some("a")), "a");
    assert_eq!(boots(&bench.observe(), "a"), Ok(Boots::Image));
    assert!(boots(&bench.observe(), &run.name).is_err());
    assert_eq!(bench.note(names::PROVISIONED), None, "nothing asked for it");
    bench.served();
    bench.rest();
    assert_eq!(bench.note(names::PROVISIONED), Some("a"));
    assert_eq!(bench.closed[0].phase, Phase::Succeeded);
    assert_eq!(boots(&bench.observe(), "a"), Ok(Boots::Image));
    assert!(boots(&bench.observe(), "b").is_err());
    bench.claim.as_mut().unwrap().deleting = true;
    assert!(boots(&bench.observe(), "a").is_err());
}

#[test]
fn an_image_that_is_being_sent_counts_though_that_could_not_be_recorded() {
    let mut bench = with_probe(Bench::bound("a"));
    bench.claim.as_mut().unwrap().written = false;
    // Of an earlier start it tells nothing.
    bench.served_at = Some(bench.now);
    until_up(&mut bench);
    bench.step();
    assert_eq!(bench.note(names::PROVISIONED), None);
    bench.now = after(bench.now, SignedDuration::from_secs(1));
    bench.served_at = Some(bench.now);
    bench.rest();
    assert_eq!(bench.note(names::PROVISIONED), Some("a"));
}

#[test]
fn that_an_image_was_booted_is_said_where_something_shows_it_and_nowhere_else() {
    let said = |bench: &Bench| {
        let found = bench.finding(condition::PROVISIONED);
        found.map(|found| found.message.clone()).unwrap_or_default()
    };
    let mut bench = with_probe(Bench::bound("a"));
    bench.claim.as_mut().unwrap().written = false;
    until_up(&mut bench);
    bench.served();
    bench.rest();
    assert_eq!(said(&bench), "the claim's image was booted");

    // A BMC fetches a medium when it is put in, not when the machine boots it.
    let mut bench = with_probe(Bench::bound("a"));
    bench.claim.as_mut().unwrap().written = false;
    bench.iron.can.http_boot_uri = false;
    bench.iron.can.virtual_media = true;
    bench.iron.can.boot_override = true;
    bench.restart();
    bench.rest();
    assert!(
        bench.sent.contains(&Step::BootMediaOnce),
        "{:?}",
        bench.sent
    );
    assert_eq!(bench.reason(condition::PROVISIONED), "Booted");
    assert!(
        said(&bench).contains("nothing outside shows"),
        "{}",
        said(&bench)
    );
}

#[test]
fn an_image_that_is_booted_once_is_served_for_an_hour_and_no_longer() {
    let mut bench = with_probe(Bench::bound("a"));
    let claim = bench.claim.as_mut().unwrap();
    (claim.diskless, claim.written) = (false, false);
    until_up(&mut bench);
    bench.served();
    bench.rest();
    assert_eq!(boots(&bench.observe(), "a"), Ok(Boots::Image));
    // What has begun may go on fetching. A machine that comes by DHCP again is not let in: an installer would install again.
    assert!(window(&bench.observe()).is_err());
    bench.now = after(bench.now, SignedDuration::from_mins(61));
    assert!(boots(&bench.observe(), "a").is_err());
}

#[test]
fn a_server_with_a_disk_is_started_from_it_after_a_loss_of_power_and_let_in_nowhere() {
    for written in [true, false] {
        let mut bench = with_probe(Bench::provisioned("a"));
        let claim = bench.claim.as_mut().unwrap();
        (claim.diskless, claim.written) = (false, written);
        bench.now = after(bench.now, SignedDuration::from_hours(2));
        bench.iron.power = PowerState::Off;
        bench.restart();
        while bench.run.is_none() {
            bench.step();
        }
        assert_eq!(bench.run.as_ref().unwrap().kind, Kind::Power);
        assert!(boots(&bench.observe(), "a").is_err());
        assert!(window(&bench.observe()).is_err());
    }
}

#[test]
fn an_installer_is_taken_out_of_the_drive_before_its_server_is_started_again() {
    for stuck in [false, true] {
        let mut bench = with_probe(Bench::provisioned("a"));
        (bench.iron.can.http_boot_uri, bench.iron.can.virtual_media) = (false, true);
        let claim = bench.claim.as_mut().unwrap();
        (claim.diskless, claim.written) = (false, false);
        bench.iron.media = vec!["/m/Cd".into()];
        bench.iron.stuck = stuck;
        bench.now = after(bench.now, SignedDuration::from_hours(2));
        bench.iron.power = PowerState::Off;
        bench.restart();
        for _ in 0..40 {
            bench.step();
            bench.pass_time();
        }
        let eject = Step::EjectMedium("/m/Cd".into());
        if stuck {
            assert!(bench.remarks.contains(&"PowerOnFailed"));
            assert_eq!(bench.iron.power, PowerState::Off);
            assert!(!bench.sent.contains(&Step::PowerOn));
        } else {
            assert_eq!(bench.sent, [eject, Step::ClearBootOverride, Step::PowerOn]);
            assert_eq!(bench.iron.power, PowerState::On);
        }
    }
}

#[test]
fn a_server_that_starts_something_else_than_its_image_is_noticed_and_left_running() {
    let mut bench = with_probe(Bench::bound("a"));
    let claim = bench.claim.as_mut().unwrap();
    (claim.diskless, claim.written) = (true, false);
    until_up(&mut bench);
    bench.now = after(bench.now, bench.policy.probe_timeout);
    bench.restart();
    for _ in 0..20 {
        bench.step();
        bench.pass_time();
    }
    assert_eq!(bench.closed[0].phase, Phase::Failed);
    assert_eq!(bench.note(names::PROVISIONED), None);
    assert_eq!(bench.sent, [Step::BootHttpOnce, Step::PowerOn]);
    assert_eq!(bench.iron.power, PowerState::On);
    assert_eq!(
        bench.reason(condition::RUNNING_UNEXPECTEDLY),
        "FoundRunning"
    );
}

#[test]
fn a_claim_that_is_deleted_while_its_image_is_written_is_granted_nothing_more() {
    let mut bench = with_probe(Bench::bound("a"));
    until_up(&mut bench);
    bench.claim.as_mut().unwrap().deleting = true;
    assert!(matches!(bench.probe_calls(), Grant::Refuse(_)));
}

#[test]
fn discovery_from_inside_starts_only_a_machine_that_is_off_and_nobodys() {
    let mut bench = with_probe(Bench::new());
    bench.policy.discovery = Discovery::InBand;
    until_up(&mut bench);
    assert_eq!(bench.state, Some(ServerState::Discovery));
    assert_eq!(bench.probe_calls(), Grant::Inventory);
    bench.probe_reports(Outcome::Succeeded, Worth::None, false);
    bench.rest();
    assert_eq!(bench.iron.power, PowerState::Off);
    assert_eq!(bench.state, Some(ServerState::Available));

    let mut bench = with_probe(Bench::new());
    bench.policy.discovery = Discovery::InBand;
    bench.iron.power = PowerState::On;
    bench.rest();
    assert_eq!(bench.sent, []);
    assert_eq!(bench.observe().record.notes.handover, Handover::Awaited);
}

#[test]
fn a_probe_that_never_calls_ends_discovery_with_the_machine_off() {
    let mut bench = with_probe(Bench::new());
    bench.policy.discovery = Discovery::Both;
    until_up(&mut bench);
    bench.now = after(bench.now, bench.policy.probe_timeout);
    bench.until_run_is_over();
    assert_eq!(bench.iron.power, PowerState::Off);
    assert_ne!(bench.state, Some(ServerState::Available));
    assert!(bench.remarks.contains(&"ProbeFailed"));
}

/// A machine that is off, whose policy wants an inventory from inside and a test of an hour, after the inventory.
fn untested() -> Bench {
    let mut bench = with_probe(Bench::new());
    bench.policy.discovery = Discovery::InBand;
    bench.policy.burn_in_seconds = 3600;
    until_up(&mut bench);
    assert_eq!(bench.probe_calls(), Grant::Inventory);
    bench.probe_reports(Outcome::Succeeded, Worth::None, false);
    until_run_ends(&mut bench);
    until_up(&mut bench);
    assert_eq!(bench.probe_calls(), Grant::BurnIn(3600));
    bench
}

fn until_run_ends(bench: &mut Bench) {
    for _ in 0..200 {
        if bench.run.is_none() {
            return;
        }
        bench.step();
        bench.pass_time();
    }
    panic!("the run does not end");
}

#[test]
fn a_new_machine_is_tested_once_where_the_policy_wants_it_and_the_test_is_not_held_against_discovery()
 {
    let mut bench = untested();
    assert_ne!(bench.state, Some(ServerState::Available));
    bench.now = after(bench.now, SignedDuration::from_mins(59));
    bench.probe_reports(Outcome::Succeeded, Worth::None, false);
    until_run_ends(&mut bench);
    assert_eq!(bench.iron.power, PowerState::Off);
    bench.rest();
    assert_eq!(bench.state, Some(ServerState::Available));
    let of_discovery = bench
        .closed
        .iter()
        .filter(|run| run.kind == Kind::Discovery);
    assert_eq!(
        of_discovery.count(),
        2,
        "no failed discovery, no second test"
    );
}

#[test]
fn a_machine_that_fails_its_test_is_off_and_not_available_and_says_why() {
    let mut bench = untested();
    bench.probe_reports(Outcome::Failed, Worth::None, false);
    until_run_ends(&mut bench);
    assert_eq!(bench.iron.power, PowerState::Off);
    assert_ne!(bench.state, Some(ServerState::Available));
    assert!(bench.remarks.contains(&"BurnInFailed"));
}

#[test]
fn a_test_has_its_own_time_and_the_probes_beside_it() {
    let mut bench = untested();
    bench.now = after(bench.now, SignedDuration::from_mins(62));
    bench.step();
    assert!(bench.run.as_ref().is_some_and(|run| run.is_open()));
    assert_eq!(bench.iron.power, PowerState::On);
}

#[test]
fn a_server_that_was_discovered_before_is_not_tested_later() {
    let mut bench = with_probe(Bench::new());
    bench.rest();
    assert_eq!(bench.state, Some(ServerState::Available));
    bench.policy.discovery = Discovery::InBand;
    bench.policy.burn_in_seconds = 3600;
    bench.rest();
    assert_eq!(bench.sent, []);
}

#[test]
fn the_method_that_supposes_least_of_the_network_is_taken_and_a_declared_one_stands() {
    let can = |http_boot_uri, virtual_media| Abilities {
        http_boot_uri,
        virtual_media,
        ..Abilities::default()
    };
    let method = |can: Abilities, declared| choose(&can, declared).map(|choice| choice.method);
    assert_eq!(method(can(true, true), None), Ok(BootMethod::HttpBootUri));
    assert_eq!(method(can(false, true), None), Ok(BootMethod::VirtualMedia));
    assert_eq!(method(can(false, false), None), Ok(BootMethod::Network));
    assert_eq!(
        method(can(true, true), Some("VirtualMedia")),
        Ok(BootMethod::VirtualMedia)
    );
    assert!(method(can(true, false), Some("VirtualMedia")).is_err());
    assert!(method(can(true, true), Some("Floppy")).is_err());
}

#[test]
fn a_machine_whose_bmc_was_told_what_to_boot_is_let_in_by_its_name_alone_nowhere() {
    // By an address, by a medium: the token is in there. By DHCP there is no other way.
    for (uri, media, is_let_in) in [
        (true, true, false),
        (false, true, false),
        (false, false, true),
    ] {
        for claimed in [false, true] {
            let start = if claimed {
                Bench::bound("a")
            } else {
                Bench::dirty("a")
            };
            let mut bench = with_probe(start);
            (bench.iron.can.http_boot_uri, bench.iron.can.virtual_media) = (uri, media);
            if let Some(claim) = bench.claim.as_mut() {
                (claim.diskless, claim.written) = (true, false);
            }
            bench.restart();
            until_up(&mut bench);
            // Of a medium nothing more is waited for once the machine is on.
            if bench.run.is_some() {
                let found = window(&bench.observe());
                assert_eq!(
                    found.is_ok(),
                    is_let_in,
                    "{uri} {media} {claimed}: {found:?}"
                );
            }
            if !claimed {
                continue;
            }
            if bench.run.is_some() {
                bench.served();
            }
            bench.rest();
            // An override for once is used up: only DHCP brings it back. One that lasts aims each start.
            bench.iron.boot_lasts = false;
            bench.restart();
            bench.rest();
            assert!(window(&bench.observe()).is_ok(), "{uri} {media}");
            bench.iron.boot_lasts = true;
            bench.restart();
            bench.rest();
            assert_eq!(window(&bench.observe()).is_ok(), is_let_in, "{uri} {media}");
        }
    }
}
