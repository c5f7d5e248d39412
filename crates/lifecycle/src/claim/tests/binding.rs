//! Binding.

use super::*;

fn chosen_for(claim: ServerClaim, server: &Server) -> ServerClaim {
    let mut claim = protected(claim);
    claim.metadata.annotations = Some([(CHOSEN_SERVER.to_owned(), record_of(server))].into());
    claim
}

#[test]
fn the_choice_is_on_record_and_the_claim_protected_before_a_server_knows_of_it() {
    let (fresh, server) = (claim("u1"), server("s"));
    let seen = Observed {
        choice: Choice::Server(&server),
        ..observed(&fresh)
    };
    assert_eq!(
        decide(&seen),
        Decision::Choose {
            server: "s".into(),
            record: "s/uid-of-s".into()
        }
    );
    let claim = chosen_for(fresh, &server);
    assert_eq!(
        decide(&Observed {
            chosen: Some(&server),
            ..observed(&claim)
        }),
        Decision::Bind { server: "s".into() }
    );
}

#[test]
fn a_choice_on_record_is_kept_as_long_as_its_server_fits() {
    let (first, second) = (server("s"), server("t"));
    let claim = chosen_for(claim("u1"), &first);
    let seen = Observed {
        chosen: Some(&first),
        choice: Choice::Server(&second),
        ..observed(&claim)
    };
    assert_eq!(decide(&seen), Decision::Bind { server: "s".into() });
    assert!(!wants_server(&seen));
    let taken = bound(first.clone(), "u9");
    let seen = Observed {
        chosen: Some(&taken),
        choice: Choice::Server(&second),
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
    // Another machine under the chosen one's name is another server.
    let mut anew = first.clone();
    anew.metadata.uid = Some("other".into());
    assert!(wants_server(&Observed {
        chosen: Some(&anew),
        ..observed(&claim)
    }));
}

#[test]
fn a_claim_that_two_servers_record_keeps_the_one_it_names_and_says_so() {
    let (named, second) = (bound(server("t"), "u1"), bound(server("s"), "u1"));
    let claim = published(protected(claim("u1")), &named);
    let boot = boot_for(&claim, "t");
    let seen = Observed {
        referring: vec![&second, &named],
        boot: Some(&boot),
        ..observed(&claim)
    };
    let settled = report(decide(&seen));
    assert_eq!(settled.bound.reason, "BoundTwice");
    assert!(
        settled
            .bound
            .message
            .contains("server \"s\" records the claim too"),
        "{}",
        settled.bound.message
    );
}

#[test]
fn a_server_that_ceased_to_fit_since_it_was_set_aside_is_not_bound() {
    let (claim, mut server) = (protected(claim("u1")), server("s"));
    server.spec.unclaimable = Some(true);
    let decision = decide(&Observed {
        choice: Choice::Server(&server),
        ..observed(&claim)
    });
    assert_eq!(decision, Decision::Reconsider { server: "s".into() });
}

#[test]
fn a_bound_claim_gets_its_boot_configuration_before_its_server_is_published() {
    let server = bound(server("s"), "u1");
    let claim = protected(claim("u1"));
    let seen = Observed {
        referring: vec![&server],
        ..observed(&claim)
    };
    assert_eq!(decide(&seen), Decision::PrepareBoot { server: "s".into() });
    let boot = boot_for(&claim, "s");
    let record = "s/uid-of-s".to_owned();
    assert_eq!(
        decide(&Observed {
            boot: Some(&boot),
            ..seen
        }),
        Decision::Publish {
            server: "s".into(),
            record,
            reference: true
        }
    );
    let claim = published(claim, &server);
    let settled = report(decide(&Observed {
        referring: vec![&server],
        boot: Some(&boot),
        ..observed(&claim)
    }));
    assert!(settled.bound_phase && settled.bound.status);
    assert_eq!(settled.bound.reason, "Bound");
}

#[test]
fn a_changed_digest_pull_secret_or_mode_reaches_the_boot_configuration() {
    let server = bound(server("s"), "u1");
    let claim = published(protected(claim("u1")), &server);
    let boot = boot_for(&claim, "s");
    for name in crate::claim::BOOT_ANNOTATIONS {
        let (mut changed, mut gone) = (claim.clone(), boot.clone());
        let annotations = |meta: &mut kube::api::ObjectMeta| {
            let all = meta.annotations.get_or_insert_default();
            all.insert(name.to_owned(), "value".to_owned());
        };
        annotations(&mut changed.metadata);
        annotations(&mut gone.metadata);
        for (claim, boot) in [(&changed, &boot), (&claim, &gone)] {
            let decision = decide(&Observed {
                referring: vec![&server],
                boot: Some(boot),
                ..observed(claim)
            });
            assert_eq!(decision, Decision::PrepareBoot { server: "s".into() });
        }
    }
}

#[test]
fn a_changed_image_reaches_the_boot_configuration() {
    let server = bound(server("s"), "u1");
    let mut claim = published(protected(claim("u1")), &server);
    let boot = boot_for(&claim, "s");
    claim.spec.image = "example.org/os:2".into();
    let decision = decide(&Observed {
        referring: vec![&server],
        boot: Some(&boot),
        ..observed(&claim)
    });
    assert_eq!(decision, Decision::PrepareBoot { server: "s".into() });
}

#[test]
fn a_boot_configuration_left_by_an_earlier_claim_is_cleared_and_anothers_is_left_alone() {
    let server = bound(server("s"), "u2");
    let claim = protected(claim("u2"));
    let mut boot = boot_for(&self::claim("u1"), "s");
    let seen = Observed {
        referring: vec![&server],
        boot: Some(&boot),
        ..observed(&claim)
    };
    assert_eq!(decide(&seen), Decision::ClearBoot);
    boot.metadata.owner_references.as_mut().unwrap()[0].kind = "ServerMaintenance".into();
    let seen = Observed {
        referring: vec![&server],
        boot: Some(&boot),
        ..observed(&claim)
    };
    assert_eq!(report(decide(&seen)).bound.reason, "BootConfigurationTaken");
}

#[test]
fn a_reference_that_a_foreign_client_dropped_is_put_back() {
    let mut server = bound(server("s"), "u1");
    server.spec.server_claim_ref = None;
    let claim = published(protected(claim("u1")), &server);
    let decision = decide(&Observed {
        referring: vec![&server],
        ..observed(&claim)
    });
    assert_eq!(decision, Decision::Bind { server: "s".into() });
}

#[test]
fn a_claim_that_came_to_name_another_server_while_it_was_bound_is_told_so() {
    let server = bound(server("s"), "u1");
    let mut claim = for_server(published(protected(claim("u1")), &server), "t");
    claim
        .metadata
        .annotations
        .get_or_insert_default()
        .insert(BOUND_SERVER.into(), record_of(&server));
    let boot = boot_for(&claim, "s");
    let settled = report(decide(&Observed {
        referring: vec![&server],
        boot: Some(&boot),
        ..observed(&claim)
    }));
    assert_eq!(settled.bound.reason, "BoundElsewhere");
}
