//! A cleaning by the probe: what is granted, and what is enough.

use corten_api::metal::{PowerState, ServerState};
use jiff::SignedDuration;

use super::bench::{Bench, drive};
use super::inband::{until_up, with_probe};
use crate::{
    identity::Identity,
    inband::{Grant, SeenDrive},
    names,
    policy::Cleaning,
    run::{Kind, Outcome, Phase, Step, Worth},
    server::{Act, Attachment, after, condition},
};

#[test]
fn a_cleaning_by_the_probe_ends_only_with_each_drive_verified() {
    let mut bench = with_probe(Bench::dirty("a"));
    until_up(&mut bench);
    assert_eq!(bench.sent, [Step::BootHttpOnce, Step::PowerOn]);
    let Grant::Erase { drives, method, .. } = bench.probe_calls() else {
        panic!("no grant")
    };
    assert_eq!(drives, ["D1", "D2"]);
    assert_eq!(method, Cleaning::Purge);
    bench.step();
    assert_eq!(bench.state, Some(ServerState::Cleanup));
    bench.probe_reports(Outcome::Succeeded, Worth::Purge, true);
    bench.rest();
    assert_eq!(bench.iron.power, PowerState::Off);
    assert_eq!(bench.state, Some(ServerState::Available));
    assert_eq!(bench.note(names::DIRTY), None);
    assert_eq!(bench.reason(condition::ERASED), "Verified");
    // On record as what it was.
    assert_eq!(bench.closed[0].kind, Kind::Cleaning);
    assert_eq!(bench.closed[0].phase, Phase::Succeeded);
}

#[test]
fn what_the_probe_erased_is_no_proof_where_nobody_recorded_the_drives_from_before_the_claim() {
    let mut bench = with_probe(Bench::dirty("a"));
    bench.known_drives = None;
    until_up(&mut bench);
    bench.probe_calls();
    bench.step();
    bench.probe_reports(Outcome::Succeeded, Worth::Purge, true);
    bench.rest();
    assert_eq!(bench.state, Some(ServerState::Cleanup));
    assert_eq!(bench.reason(condition::ERASED), "EvidenceInsufficient");
}

#[test]
fn what_was_not_read_back_or_is_worth_too_little_keeps_the_server_in_cleanup() {
    for (worth, verified) in [
        (Worth::Purge, false),
        (Worth::Metadata, true),
        (Worth::None, true),
    ] {
        let mut bench = with_probe(Bench::dirty("a"));
        until_up(&mut bench);
        bench.probe_calls();
        bench.probe_reports(Outcome::Succeeded, worth, verified);
        while bench.run.is_some() {
            bench.step();
            bench.pass_time();
        }
        assert_eq!(bench.iron.power, PowerState::Off);
        assert_eq!(bench.state, Some(ServerState::Cleanup));
        assert!(bench.note(names::DIRTY).is_some(), "{worth:?} {verified}");
        assert_eq!(bench.closed[0].phase, Phase::Failed);
    }
}

#[test]
fn a_drive_that_the_bmc_lists_and_the_probe_did_not_erase_keeps_the_server_in_cleanup() {
    let mut bench = with_probe(Bench::dirty("a"));
    until_up(&mut bench);
    bench.probe_calls();
    bench.probe_reports(Outcome::Succeeded, Worth::Clear, true);
    bench.iron.drives.push(drive("D3"));
    bench.until_run_is_over();
    assert_eq!(bench.state, Some(ServerState::Cleanup));
    assert!(bench.note(names::DIRTY).is_some());
}

/// A cleaning in which the probe sees `seen` beside what the BMC lists as D1 and D2, and erases all that it was given leave for.
fn cleaned_with(seen: Vec<SeenDrive>, also: impl FnOnce(&mut Bench)) -> Bench {
    let mut bench = with_probe(Bench::dirty("a"));
    also(&mut bench);
    bench.iron.seen = Some(seen);
    until_up(&mut bench);
    bench.probe_calls();
    bench.probe_reports(Outcome::Succeeded, Worth::Purge, true);
    for _ in 0..200 {
        let waits = ["DrivesNeverWritten", "EvidenceInsufficient"];
        if bench.run.is_none() || waits.contains(&bench.reason(condition::ERASED)) {
            break;
        }
        bench.step();
        bench.pass_time();
    }
    if bench.note(names::DIRTY).is_none() {
        bench.rest();
    }
    bench
}

fn seen(serial: &str) -> SeenDrive {
    SeenDrive {
        serial: serial.into(),
        ..SeenDrive::default()
    }
}

#[test]
fn a_local_drive_that_the_probe_sees_and_cannot_erase_keeps_the_server_in_cleanup() {
    let read_only = SeenDrive {
        untouchable: Some("read-only".into()),
        ..seen("D3")
    };
    for odd in [read_only, seen(""), seen("D2")] {
        let bench = cleaned_with(vec![seen("D1"), seen("D2"), odd.clone()], |bench| {
            // Also where the BMC lists nothing, and where policy is generous with what is not the machine's own.
            bench.iron.drives.clear();
            bench.policy.ignore_unreachable_drives = true;
        });
        assert_eq!(bench.state, Some(ServerState::Cleanup), "{odd:?}");
        assert!(bench.note(names::DIRTY).is_some(), "{odd:?}");
        assert_eq!(bench.closed[0].phase, Phase::Failed, "{odd:?}");
    }
}

#[test]
fn a_cleaning_that_failed_names_each_drive_and_is_not_said_to_go_on_while_it_waits() {
    let read_only = SeenDrive {
        untouchable: Some("read-only".into()),
        ..seen("D3")
    };
    let mut bench = with_probe(Bench::dirty("a"));
    bench.iron.seen = Some(vec![seen("D1"), seen("D2"), read_only]);
    until_up(&mut bench);
    assert!(matches!(bench.probe_calls(), Grant::Erase { .. }));
    bench.probe_reports(Outcome::Failed, Worth::None, false);
    while bench.run.is_some() {
        bench.step();
        bench.pass_time();
    }
    assert_eq!(bench.closed[0].kind, Kind::Cleaning);
    let said = &bench.closed[0].message;
    assert!(said.contains("D3: read-only"), "{said}");
    bench.step();
    bench.step();
    assert_eq!(bench.reason(condition::ERASED), "WaitingToRetry");
    let said = bench.finding(condition::ERASED).unwrap().message.clone();
    assert!(said.contains("D3: read-only"), "{said}");
}

/// Where a server is of whose drives some were not erased, as policy says.
fn where_drives_are_passed_over(ignore: bool) -> ServerState {
    if ignore {
        ServerState::Available
    } else {
        ServerState::Cleanup
    }
}

#[test]
fn a_drive_that_is_not_the_machines_own_is_never_named_in_a_grant_and_blocks_as_policy_says() {
    let fabric = SeenDrive {
        attachment: Attachment::Fabric,
        untouchable: Some("fabric".into()),
        ..seen("F1")
    };
    for ignore in [false, true] {
        let bench = cleaned_with(vec![seen("D1"), seen("D2"), fabric.clone()], |bench| {
            bench.policy.ignore_unreachable_drives = ignore;
        });
        assert_eq!(bench.state, Some(where_drives_are_passed_over(ignore)));
        assert_eq!(bench.note(names::DIRTY).is_some(), !ignore);
    }
}

#[test]
fn a_drive_that_the_bmc_knows_other_machines_to_reach_is_never_named_in_a_grant() {
    let mut bench = with_probe(Bench::dirty("a"));
    bench.iron.drives[1].attachment = Attachment::Shared;
    // The probe sees one path, like any drive's.
    bench.iron.seen = Some(vec![seen("D1"), seen("D2")]);
    until_up(&mut bench);
    let Grant::Erase {
        drives, left_out, ..
    } = bench.probe_calls()
    else {
        panic!("no grant")
    };
    assert_eq!(drives, ["D1"]);
    assert_eq!(left_out[0].drive.attachment, Attachment::Shared);
}

#[test]
fn a_drive_behind_a_sas_expander_is_erased_only_where_the_bmc_lists_it_as_the_machines_own() {
    let behind = |serial: &str| SeenDrive {
        attachment: Attachment::Expander,
        ..seen(serial)
    };
    for ignore in [false, true] {
        // D2 is on the machine's own backplane, J1 in a shelf that another machine may be cabled to.
        let bench = cleaned_with(vec![seen("D1"), behind("D2"), behind("J1")], |bench| {
            bench.policy.ignore_unreachable_drives = ignore;
        });
        assert_eq!(bench.state, Some(where_drives_are_passed_over(ignore)));
        if !ignore {
            assert_eq!(bench.reason(condition::ERASED), "DrivesNeverWritten");
            let said = bench.finding(condition::ERASED).unwrap();
            assert!(said.message.contains("J1"), "{}", said.message);
            assert!(!said.message.contains("D2"), "{}", said.message);
        }
    }
    let mut bench = with_probe(Bench::bound("a"));
    bench.iron.seen = Some(vec![seen("D1"), behind("D2"), behind("J1")]);
    until_up(&mut bench);
    assert_eq!(
        bench.probe_calls(),
        Grant::Write {
            drives: vec!["D1".to_owned(), "D2".to_owned()]
        }
    );
}

#[test]
fn without_the_bmcs_list_of_drives_nothing_is_granted_and_it_is_read() {
    let mut bench = with_probe(Bench::dirty("a"));
    until_up(&mut bench);
    // A new process.
    bench.inventory = None;
    assert_eq!(bench.probe_calls_once(), Grant::Wait);
    assert_eq!(bench.step().act, Act::ReadInventory);
    assert!(matches!(bench.probe_calls_once(), Grant::Erase { .. }));
}

#[test]
fn a_list_of_drives_from_before_the_machine_ran_gives_no_leave() {
    for mut bench in [with_probe(Bench::dirty("a")), with_probe(Bench::bound("a"))] {
        until_up(&mut bench);
        // What the BMC shows only while the machine is on.
        let mut shared = drive("JBOD1");
        shared.attachment = Attachment::Shared;
        bench.iron.drives.push(shared);
        bench.iron.seen = Some(vec![seen("D1"), seen("D2"), seen("JBOD1")]);
        assert_eq!(bench.probe_calls_once(), Grant::Wait);
        assert_eq!(bench.step().act, Act::ReadInventory);
        match bench.probe_calls_once() {
            Grant::Erase { drives, .. } | Grant::Write { drives } => {
                assert_eq!(drives, ["D1", "D2"]);
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_shared_drive_that_the_probe_does_not_see_by_its_name_may_be_any_that_the_bmc_does_not_list() {
    for serial in ["JBOD1", ""] {
        let mut bench = with_probe(Bench::dirty("a"));
        let mut shared = drive(serial);
        shared.attachment = Attachment::Shared;
        bench.iron.drives.push(shared);
        bench.iron.seen = Some(vec![seen("D1"), seen("D2"), seen("jbod-1"), seen("X")]);
        until_up(&mut bench);
        let Grant::Erase {
            drives, left_out, ..
        } = bench.probe_calls()
        else {
            panic!("no grant")
        };
        assert_eq!(drives, ["D1", "D2"], "{serial:?}");
        assert_eq!(left_out.len(), 2);
    }
}

#[test]
fn a_controller_that_the_probe_has_no_driver_for_hides_drives_and_blocks_as_policy_says() {
    for ignore in [false, true] {
        // Nobody sees a drive of this machine, or some: what is behind the controller is not among them.
        for drives in [vec![], vec![seen("D1"), seen("D2")]] {
            let bench = cleaned_with(drives.clone(), |bench| {
                if drives.is_empty() {
                    bench.iron.drives.clear();
                    bench.known_drives = Some(Vec::new());
                }
                bench.iron.unseen = vec!["0000:00:17.0 [8086:a182]".into()];
                bench.policy.ignore_unreachable_drives = ignore;
            });
            assert_eq!(bench.note(names::DIRTY).is_some(), !ignore, "{drives:?}");
            if !ignore {
                let said = bench.finding(condition::ERASED).unwrap();
                assert_eq!(said.reason, "DrivesNeverWritten");
                assert!(said.message.contains("0000:00:17.0"), "{}", said.message);
            }
        }
    }
}

#[test]
fn a_drive_that_the_bmc_lists_as_the_machines_own_and_the_probe_calls_anothers_is_passed_over_by_no_policy()
 {
    for attachment in [Attachment::Multipath, Attachment::Removable] {
        let contested = SeenDrive {
            attachment,
            untouchable: Some("not its own".into()),
            ..seen("D2")
        };
        let bench = cleaned_with(vec![seen("D1"), contested], |bench| {
            bench.policy.ignore_unreachable_drives = true;
        });
        assert_eq!(bench.state, Some(ServerState::Cleanup));
        assert!(bench.note(names::DIRTY).is_some());
        assert_eq!(bench.reason(condition::ERASED), "DrivesNeverWritten");
    }
}

#[test]
fn who_switches_a_server_on_while_its_proof_is_judged_keeps_it_and_the_proof_is_void() {
    for reason in ["DrivesNeverWritten", "EvidenceInsufficient"] {
        keeps_it_and_the_proof_is_void(reason);
    }
}

fn keeps_it_and_the_proof_is_void(reason: &str) {
    let fabric = SeenDrive {
        attachment: Attachment::Fabric,
        untouchable: Some("fabric".into()),
        ..seen("F1")
    };
    let is_unrecorded = reason == "EvidenceInsufficient";
    let mut bench = cleaned_with(vec![seen("D1"), seen("D2"), fabric], |bench| {
        if is_unrecorded {
            bench.known_drives = None;
            bench.policy.ignore_unreachable_drives = true;
        }
    });
    assert_eq!(bench.reason(condition::ERASED), reason);
    let sent = bench.sent.len();
    bench.now = after(bench.now, SignedDuration::from_hours(30));
    bench.iron.power = PowerState::On;
    bench.restart();
    for _ in 0..20 {
        bench.step();
        bench.pass_time();
    }
    assert_eq!(bench.iron.power, PowerState::On);
    assert_eq!(bench.sent.len(), sent, "touched: {:?}", bench.sent);
    assert_eq!(
        bench.reason(condition::RUNNING_UNEXPECTEDLY),
        "FoundRunning"
    );
    bench.now = after(bench.now, SignedDuration::from_hours(1));
    // Off again it is cleaned anew, whatever policy says by then.
    bench.policy.ignore_unreachable_drives = true;
    bench.iron.power = PowerState::Off;
    bench.restart();
    until_up(&mut bench);
    assert!(matches!(bench.probe_calls(), Grant::Erase { .. }));
}

#[test]
fn drives_behind_a_raid_volume_are_named_and_wait_for_a_person_instead_of_being_wiped_again() {
    for ignore in [false, true] {
        let bench = cleaned_with(vec![seen("VOLUME")], |bench| {
            for drive in &mut bench.iron.drives {
                drive.volumes = vec!["RAID.1/0".into()];
            }
            bench.policy.ignore_unreachable_drives = ignore;
        });
        assert_eq!(bench.state, Some(where_drives_are_passed_over(ignore)));
        if !ignore {
            assert_eq!(bench.reason(condition::ERASED), "DrivesNeverWritten");
            assert!(bench.run.is_some(), "erased once");
        }
    }
}

#[test]
fn a_raid_volume_that_nobody_saw_is_passed_over_by_no_policy() {
    // None is seen; or one of two.
    for (seen_by_probe, names) in [(vec![], ["0", "0"]), (vec![seen("VOLUME")], ["0", "1"])] {
        let bench = cleaned_with(seen_by_probe, |bench| {
            for (drive, name) in bench.iron.drives.iter_mut().zip(names) {
                drive.volumes = vec![name.into()];
            }
            bench.policy.ignore_unreachable_drives = true;
        });
        assert_eq!(bench.state, Some(ServerState::Cleanup), "{names:?}");
        assert_eq!(bench.reason(condition::ERASED), "ErasureFailed");
    }
}

#[test]
fn an_erasure_that_gets_on_is_not_cut_short_and_one_that_stands_still_is() {
    let mut bench = with_probe(Bench::dirty("a"));
    until_up(&mut bench);
    bench.probe_calls();
    let limit = bench.policy.erase_timeout;
    for _ in 0..5 {
        bench.now = after(bench.now, limit - SignedDuration::from_secs(5));
        bench.heard = Some(bench.now);
        bench.run.as_mut().unwrap().progressed_at = Some(bench.now);
        bench.restart();
        bench.step();
        bench.step();
        assert_eq!(bench.iron.power, PowerState::On);
    }
    bench.now = after(bench.now, limit);
    bench.heard = Some(bench.now);
    bench.restart();
    bench.until_run_is_over();
    assert_eq!(bench.iron.power, PowerState::Off);
    assert!(bench.note(names::DIRTY).is_some());
}

#[test]
fn a_probe_that_waits_and_a_machine_that_is_not_sent_what_it_boots_are_not_said_to_be_silent() {
    for (waits, said) in [
        (true, "a section could not be read"),
        (false, "boot.efi: nothing there"),
    ] {
        let mut bench = with_probe(Bench::dirty("a"));
        until_up(&mut bench);
        bench.now = after(bench.now, SignedDuration::from_secs(1));
        if waits {
            bench.call = Some(crate::server::Call {
                at: bench.now,
                refused: Some(said.into()),
            });
        } else {
            bench.unserved = Some((bench.now, said.into()));
        }
        bench.now = after(bench.now, bench.policy.probe_timeout);
        bench.restart();
        while bench.run.is_some() {
            bench.step();
            bench.pass_time();
        }
        let message = &bench.closed[0].message;
        assert!(message.contains(said), "{message}");
    }
}

#[test]
fn a_probe_that_was_refused_is_not_said_to_have_been_silent() {
    let mut bench = with_probe(Bench::dirty("a"));
    until_up(&mut bench);
    let run = bench.run.as_ref().unwrap().name.clone();
    let other = Identity::new("11111111-2222-3333-4444-555555555555", "S9");
    let Grant::Refuse(why) = bench.stranger_calls(run, other) else {
        panic!("granted")
    };
    bench.call.as_mut().unwrap().refused = Some(why);
    bench.now = after(bench.now, bench.policy.probe_timeout);
    bench.until_run_is_over();
    assert!(
        bench.closed[0].message.contains("given nothing"),
        "{}",
        bench.closed[0].message
    );
}

#[test]
fn drives_that_the_bmc_cannot_name_must_be_matched_by_as_many_that_it_did_not() {
    for (serials, clean) in [(vec!["D1", "D2"], false), (vec!["D1", "D2", "X"], true)] {
        let all = serials.iter().map(|serial| seen(serial)).collect();
        let bench = cleaned_with(all, |bench| bench.iron.drives.push(drive("")));
        let state = if clean {
            ServerState::Available
        } else {
            ServerState::Cleanup
        };
        assert_eq!(bench.state, Some(state), "{serials:?}");
    }
}

#[test]
fn a_medium_of_the_former_claim_is_ejected_before_a_server_cleaned_by_the_probe_is_offered() {
    let bench = cleaned_with(vec![seen("D1"), seen("D2")], |bench| {
        bench.iron.media = vec!["Cd1".into()];
        bench.iron.stuck = true;
    });
    assert_eq!(bench.state, Some(ServerState::Cleanup));
    let bench = cleaned_with(vec![seen("D1"), seen("D2")], |bench| {
        bench.iron.media = vec!["Cd1".into()];
    });
    assert_eq!(bench.state, Some(ServerState::Available));
    assert!(bench.iron.media.is_empty());
}

#[test]
fn a_machine_without_any_drive_is_clean_when_bmc_and_probe_both_see_none() {
    let bench = cleaned_with(Vec::new(), |bench| bench.iron.drives.clear());
    assert_eq!(bench.state, Some(ServerState::Available));
}
