//! Release.

use super::*;

#[test]
fn a_claim_that_is_to_be_ignored_is_neither_bound_nor_released() {
    let free = server("s1");
    let mut waiting = claim("u1");
    waiting.metadata.annotations =
        Some([(names::OPERATION.to_owned(), "ignore".to_owned())].into());
    let seen = Observed {
        choice: Choice::Server(&free),
        ..observed(&waiting)
    };
    assert!(!wants_server(&seen));
    assert_eq!(decide(&seen), Decision::Ignored);
    let going = deleted(protected(waiting));
    let taken = bound(server("s1"), "u1");
    let seen = Observed {
        referring: vec![&taken],
        ..observed(&going)
    };
    assert_eq!(decide(&seen), Decision::Ignored);
}

#[test]
fn a_claim_deleted_while_it_waits_goes_at_once() {
    assert_eq!(decide(&observed(&deleted(claim("u1")))), Decision::Gone);
}

#[test]
fn a_claim_deleted_while_binding_releases_the_server_that_it_was_bound_to() {
    let server = bound(server("s"), "u1");
    let claim = deleted(protected(claim("u1")));
    let decision = decide(&Observed {
        referring: vec![&server],
        ..observed(&claim)
    });
    assert_eq!(decision, Decision::BeginRelease { server: "s".into() });
}

#[test]
fn a_claim_stays_until_its_server_is_confirmed_off_and_says_what_keeps_it() {
    let mut server = bound(server("s"), "u1");
    annotate(&mut server, names::RELEASE, "u1");
    say(
        &mut server,
        names::CONDITION_POWERED_OFF,
        "False",
        "BMCUnreachable",
        "BMC b does not answer since 10:00",
    );
    let claim = deleted(published(protected(claim("u1")), &server));
    let waiting = report(decide(&Observed {
        referring: vec![&server],
        ..observed(&claim)
    }));
    let released = waiting.released.unwrap();
    assert_eq!(
        (released.status, released.reason.as_str()),
        (false, "BMCUnreachable")
    );
    assert!(
        released.message.contains("BMC b does not answer"),
        "{}",
        released.message
    );

    // How far the release was is no answer while something stands in its way.
    let mut blocked = server.clone();
    let said = [
        (names::CONDITION_POWERED_OFF, "ShuttingDown"),
        (names::CONDITION_READY, "IdentityMismatch"),
    ];
    for (kind, reason) in said {
        say(&mut blocked, kind, "False", reason, "because");
    }
    let waiting = report(decide(&Observed {
        referring: vec![&blocked],
        ..observed(&claim)
    }));
    assert_eq!(waiting.released.unwrap().reason, "IdentityMismatch");

    // In Cleanup, but nobody saw it off: still waiting.
    server.status.get_or_insert_default().state = Some(ServerState::Cleanup);
    assert!(matches!(
        decide(&Observed {
            referring: vec![&server],
            ..observed(&claim)
        }),
        Decision::Settled(_)
    ));

    server.status.get_or_insert_default().conditions.clear();
    say(
        &mut server,
        names::CONDITION_POWERED_OFF,
        "True",
        "ConfirmedOff",
        "",
    );
    let farewell = Farewell {
        server: "s".into(),
        confirmed: true,
    };
    assert_eq!(
        decide(&Observed {
            referring: vec![&server],
            ..observed(&claim)
        }),
        Decision::LetGo {
            released: Some(farewell)
        }
    );
}

#[test]
fn a_claim_goes_when_the_engine_has_let_go_of_its_server() {
    let held = bound(server("s"), "u1");
    let claim = deleted(published(protected(claim("u1")), &held));
    let cleaning = server("s");
    assert_eq!(
        decide(&Observed {
            former: Some(&cleaning),
            ..observed(&claim)
        }),
        Decision::LetGo {
            released: Some(Farewell {
                server: "s".into(),
                confirmed: true
            })
        }
    );
    // The Server was deleted by force: the claim goes too, and it is said that nobody saw the machine off.
    assert_eq!(
        decide(&observed(&claim)),
        Decision::LetGo {
            released: Some(Farewell {
                server: "s".into(),
                confirmed: false
            })
        }
    );
}

#[test]
fn a_claim_whose_record_somebody_wrote_over_stays_while_the_server_refers_to_it() {
    let held = bound(server("s"), "u1");
    let claim = deleted(published(protected(claim("u1")), &held));
    let mut stripped = held.clone();
    stripped.metadata.annotations = None;
    say(
        &mut stripped,
        names::CONDITION_HELD,
        "True",
        "ClaimNotRecorded",
        "no claim is recorded",
    );
    let decided = decide(&Observed {
        former: Some(&stripped),
        ..observed(&claim)
    });
    let Decision::Settled(report) = decided else {
        panic!("{decided:?}");
    };
    assert_eq!(report.released.unwrap().reason, "ClaimNotRecorded");
}

#[test]
fn the_release_of_another_claim_does_not_count_for_this_one() {
    let mut server = bound(server("s"), "u1");
    annotate(&mut server, names::RELEASE, "u0");
    server.status.get_or_insert_default().state = Some(ServerState::Cleanup);
    say(
        &mut server,
        names::CONDITION_POWERED_OFF,
        "True",
        "ConfirmedOff",
        "",
    );
    let claim = deleted(protected(claim("u1")));
    let decision = decide(&Observed {
        referring: vec![&server],
        ..observed(&claim)
    });
    assert_eq!(decision, Decision::BeginRelease { server: "s".into() });
}
