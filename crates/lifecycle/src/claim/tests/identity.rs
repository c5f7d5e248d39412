//! Which claim is which.

use super::*;

#[test]
fn a_claim_made_anew_under_the_same_name_neither_inherits_nor_takes_another() {
    let (held, free) = (bound(server("s"), "u1"), server("t"));
    let claim = protected(claim("u2"));
    let seen = Observed {
        referring: vec![&held],
        choice: Choice::Server(&free),
        ..observed(&claim)
    };
    let settled = report(decide(&seen));
    assert_eq!(settled.bound.reason, "ServerHeld");
    assert!(
        settled.bound.message.contains("adopt:u2"),
        "{}",
        settled.bound.message
    );
    assert!(!wants_server(&seen));
}

#[test]
fn a_server_that_records_no_uid_is_nobodys() {
    let mut held = bound(server("s"), "u1");
    held.metadata.annotations = None;
    let claim = for_server(claim("u1"), "s");
    assert_eq!(
        report(decide(&Observed {
            referring: vec![&held],
            ..observed(&claim)
        }))
        .bound
        .reason,
        "ServerHeld"
    );
}

#[test]
fn a_server_that_was_released_and_is_retained_does_not_stand_in_a_new_claims_way() {
    let mut retained = bound(server("s"), "u1");
    annotate(&mut retained, names::RELEASE, "u1");
    let free = server("t");
    let claim = protected(claim("u2"));
    let seen = Observed {
        referring: vec![&retained],
        choice: Choice::Server(&free),
        ..observed(&claim)
    };
    assert!(wants_server(&seen));
    assert_eq!(
        decide(&seen),
        Decision::Choose {
            server: "t".into(),
            record: "t/uid-of-t".into()
        }
    );
}

#[test]
fn a_claim_whose_server_object_is_gone_is_not_bound_anew_by_itself() {
    let lost = bound(server("s"), "u1");
    let again = server("s");
    let claim = published(protected(claim("u1")), &lost);
    let settled = report(decide(&Observed {
        choice: Choice::Server(&again),
        ..observed(&claim)
    }));
    assert_eq!(settled.bound.reason, "ServerLost");
    assert!(!settled.bound_phase);
    assert!(!wants_server(&observed(&claim)));
}

#[test]
fn deleting_a_claim_that_was_restored_releases_nothing() {
    let held = bound(server("s"), "u1");
    let claim = deleted(protected(for_server(claim("u2"), "s")));
    assert_eq!(
        decide(&Observed {
            referring: vec![&held],
            ..observed(&claim)
        }),
        Decision::LetGo { released: None }
    );
}
