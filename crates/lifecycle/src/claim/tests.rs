use std::collections::BTreeMap;

use corten_api::ObjectReference;
use corten_api::metal::{
    PowerState, ServerClaimPhase, ServerClaimSpec, ServerState, Taint, TaintEffect, Toleration,
    TolerationOperator,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, OwnerReference, Time};

use super::*;

/// A claim of UID `uid` that any server may serve.
fn claim(uid: &str) -> ServerClaim {
    let mut claim = ServerClaim::new(
        "web",
        serde_json::from_value::<ServerClaimSpec>(
            serde_json::json!({ "power": "On", "image": "example.org/os:1" }),
        )
        .unwrap(),
    );
    claim.metadata.namespace = Some("shop".into());
    claim.metadata.uid = Some(uid.into());
    claim
}

fn protected(mut claim: ServerClaim) -> ServerClaim {
    claim.metadata.finalizers = Some(vec![names::FINALIZER_SERVER_CLAIM.into()]);
    claim
}

fn deleted(mut claim: ServerClaim) -> ServerClaim {
    claim.metadata.deletion_timestamp = Some(Time(jiff::Timestamp::UNIX_EPOCH));
    claim
}

fn for_server(mut claim: ServerClaim, name: &str) -> ServerClaim {
    claim.spec.server_ref = Some(name.into());
    claim
}

fn published(claim: ServerClaim, server: &Server) -> ServerClaim {
    let mut claim = for_server(claim, &name(server));
    claim.metadata.annotations = Some([(BOUND_SERVER.to_owned(), record_of(server))].into());
    claim
}

/// A server that can be bound.
fn server(name: &str) -> Server {
    let mut server = Server::new(name, Default::default());
    server.metadata.uid = Some(format!("uid-of-{name}"));
    let status = server.status.get_or_insert_default();
    status.state = Some(ServerState::Available);
    status.power_state = Some(PowerState::Off);
    server
}

fn annotate(server: &mut Server, key: &str, value: &str) {
    server
        .metadata
        .annotations
        .get_or_insert_default()
        .insert(key.into(), value.into());
}

fn say(server: &mut Server, kind: &str, status: &str, reason: &str, message: &str) {
    server
        .status
        .get_or_insert_default()
        .conditions
        .push(Condition {
            type_: kind.into(),
            status: status.into(),
            reason: reason.into(),
            message: message.into(),
            last_transition_time: Time(jiff::Timestamp::UNIX_EPOCH),
            observed_generation: None,
        });
}

/// `server` as it is bound to the claim `shop/web` of UID `uid`.
fn bound(mut server: Server, uid: &str) -> Server {
    server.spec.server_claim_ref = Some(ObjectReference {
        name: "web".into(),
        namespace: "shop".into(),
    });
    annotate(&mut server, names::CLAIM_UID, uid);
    annotate(&mut server, names::DIRTY, uid);
    server.status.get_or_insert_default().state = Some(ServerState::Reserved);
    server
}

fn boot_for(claim: &ServerClaim, server: &str) -> ServerBootConfiguration {
    let mut boot = ServerBootConfiguration::new("web", Default::default());
    boot.spec.server_ref.name = server.into();
    boot.spec.image = Some(claim.spec.image.clone());
    boot.metadata.owner_references = Some(vec![OwnerReference {
        kind: "ServerClaim".into(),
        uid: claim.metadata.uid.clone().unwrap(),
        controller: Some(true),
        ..OwnerReference::default()
    }]);
    boot
}

fn observed(claim: &ServerClaim) -> Observed<'_> {
    Observed {
        claim,
        referring: Vec::new(),
        former: None,
        chosen: None,
        boot: None,
        choice: Choice::NotAsked,
    }
}

fn report(decision: Decision) -> Report {
    match decision {
        Decision::Settled(report) => report,
        other => panic!("not settled: {other:?}"),
    }
}

// --- binding ---

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

// --- identity of claims ---

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

// --- release ---

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

// --- who fits ---

fn fits(claim: &ServerClaim, server: &Server) -> Result<(), Misfit> {
    Demand::of(&claim.spec).check(&Offer::of(server))
}

fn standing_after(change: impl FnOnce(&mut Server)) -> Standing {
    let mut server = server("s");
    change(&mut server);
    Offer::of(&server).standing().clone()
}

#[test]
fn a_claim_is_told_that_the_bmc_of_the_server_it_names_does_not_answer() {
    let demand = Demand::of(&for_server(claim("u"), "s").spec);
    let mut report = NoFit::new(&demand);
    report.count(Misfit::NotFree(Standing::Unreachable), 1);
    assert_eq!(report.reason(), "ServerUnreachable");
    assert_eq!(
        report.to_string(),
        "server \"s\" is behind a BMC that does not answer"
    );
}

#[test]
fn only_an_available_clean_server_that_is_off_and_nobodys_is_a_candidate() {
    assert_eq!(standing_after(|_| {}), Standing::Free);
    for state in [
        ServerState::Initial,
        ServerState::Discovery,
        ServerState::Reserved,
        ServerState::Released,
        ServerState::Cleanup,
        ServerState::Maintenance,
        ServerState::Parked,
        ServerState::Error,
        ServerState::Retired,
        ServerState::Other("Strange".into()),
    ] {
        let standing =
            standing_after(|s| s.status.get_or_insert_default().state = Some(state.clone()));
        assert_eq!(standing, Standing::State(state));
    }
    assert_eq!(
        standing_after(|s| s.status = None),
        Standing::State(ServerState::Initial)
    );
    assert_eq!(
        standing_after(|s| annotate(s, names::DIRTY, "u")),
        Standing::Dirty
    );
    assert_eq!(
        standing_after(|s| annotate(s, names::CLAIM_UID, "u")),
        Standing::Taken
    );
    assert_eq!(
        standing_after(|s| s.spec.server_claim_ref = Some(ObjectReference {
            name: "a".into(),
            namespace: "b".into()
        })),
        Standing::Taken
    );
    assert_eq!(
        standing_after(|s| s.spec.unclaimable = Some(true)),
        Standing::Unclaimable
    );
    assert_eq!(
        standing_after(|s| annotate(s, names::OPERATION, "ignore")),
        Standing::Ignored
    );
    assert_eq!(
        standing_after(|s| annotate(s, names::PARKED, "true")),
        Standing::Parked
    );
    assert_eq!(
        standing_after(|s| say(s, names::CONDITION_HELD, "True", "X", "")),
        Standing::Held
    );
    assert_eq!(
        standing_after(|s| say(s, "Ready", "False", "BMCUnreachable", "")),
        Standing::Unreachable
    );
    assert_eq!(
        standing_after(|s| say(s, "Ready", "False", "BrakeEngaged", "")),
        Standing::Free
    );
    assert_eq!(
        standing_after(|s| say(s, names::CONDITION_RUNNING_UNEXPECTEDLY, "True", "X", "")),
        Standing::Running
    );
    assert_eq!(
        standing_after(|s| say(s, names::CONDITION_RUNNING_UNEXPECTEDLY, "False", "X", "")),
        Standing::Free
    );
    assert_eq!(
        standing_after(|s| s.status.get_or_insert_default().power_state = Some(PowerState::On)),
        Standing::Running
    );
    assert_eq!(
        standing_after(|s| s.status.get_or_insert_default().power_state = None),
        Standing::PowerUnknown
    );
    assert_eq!(
        standing_after(|s| s.metadata.deletion_timestamp = Some(Time(jiff::Timestamp::UNIX_EPOCH))),
        Standing::Deleting
    );
}

#[test]
fn a_taint_keeps_claims_away_that_do_not_tolerate_it() {
    let mut server = server("s");
    server.spec.taints = vec![Taint {
        key: "gpu".into(),
        value: Some("h100".into()),
        effect: TaintEffect::NoBind,
    }];
    let tolerating =
        |operator: Option<TolerationOperator>, value: Option<&str>, effect: Option<TaintEffect>| {
            let mut claim = claim("u");
            claim.spec.tolerations = vec![Toleration {
                key: "gpu".into(),
                operator,
                value: value.map(Into::into),
                effect,
            }];
            fits(&claim, &server).is_ok()
        };
    assert!(matches!(
        fits(&claim("u"), &server),
        Err(Misfit::Tainted(_))
    ));
    assert!(tolerating(Some(TolerationOperator::Exists), None, None));
    assert!(tolerating(
        Some(TolerationOperator::Equal),
        Some("h100"),
        Some(TaintEffect::NoBind)
    ));
    assert!(tolerating(None, Some("h100"), None));
    assert!(!tolerating(
        Some(TolerationOperator::Equal),
        Some("a100"),
        None
    ));
    assert!(!tolerating(
        Some(TolerationOperator::Exists),
        None,
        Some(TaintEffect::Evict)
    ));
    assert!(!tolerating(
        Some(TolerationOperator::Other("Like".into())),
        None,
        None
    ));
}

#[test]
fn a_server_that_would_evict_the_claim_is_not_bound_to_it() {
    let mut server = server("s");
    server.spec.taints = vec![Taint {
        key: "broken".into(),
        value: None,
        effect: TaintEffect::Evict,
    }];
    assert!(matches!(
        fits(&claim("u"), &server),
        Err(Misfit::Tainted(_))
    ));
}

#[test]
fn a_name_wins_over_a_selector_and_an_empty_one_asks_for_any() {
    let mut claim = for_server(claim("u"), "s");
    claim.spec.server_selector = Some(LabelSelector {
        match_labels: Some([("a".to_owned(), "b".to_owned())].into()),
        ..LabelSelector::default()
    });
    assert!(fits(&claim, &server("s")).is_ok());
    assert_eq!(fits(&claim, &server("t")), Err(Misfit::NotSelected));
    assert_eq!(
        Demand::of(&for_server(self::claim("u"), "").spec).target(),
        &Target::Any
    );
}

// --- which one, and why none ---

fn labelled(name: &str, labels: &[(&str, &str)]) -> Server {
    let mut server = server(name);
    server.metadata.labels = Some(
        labels
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect::<BTreeMap<_, _>>(),
    );
    server
}

fn chosen(claim: &ServerClaim, servers: &[Server]) -> Result<String, NoFit> {
    let offers: Vec<_> = servers.iter().map(Offer::of).collect();
    let uid = claim.metadata.uid.clone().unwrap();
    choose(&Demand::of(&claim.spec), &uid, &offers, 7).map(|offer| offer.name().to_owned())
}

#[test]
fn a_claim_takes_a_server_kept_for_its_like_first_and_a_special_one_last() {
    let plain = labelled("plain", &[("zone", "a")]);
    let special = labelled("special", &[("zone", "a"), ("gpu", "h100")]);
    let mut kept = labelled("kept", &[("zone", "a"), ("gpu", "h100")]);
    kept.spec.taints = vec![Taint {
        key: "team".into(),
        value: None,
        effect: TaintEffect::NoBind,
    }];
    let servers = [special, kept, plain];
    assert_eq!(chosen(&claim("u"), &servers).unwrap(), "plain");
    let mut of_team = claim("u");
    of_team.spec.tolerations = vec![Toleration {
        key: "team".into(),
        operator: Some(TolerationOperator::Exists),
        value: None,
        effect: None,
    }];
    assert_eq!(chosen(&of_team, &servers).unwrap(), "kept");
}

#[test]
fn equal_servers_are_spread_over_and_the_same_seed_chooses_the_same() {
    let servers: Vec<_> = (0..20).map(|i| server(&format!("rack1-{i:02}"))).collect();
    let picks: std::collections::BTreeSet<_> = (0..20)
        .map(|i| chosen(&claim(&format!("u{i}")), &servers).unwrap())
        .collect();
    assert!(picks.len() > 8, "{picks:?}");
    let mut reversed = servers.clone();
    reversed.reverse();
    assert_eq!(
        chosen(&claim("u3"), &servers).unwrap(),
        chosen(&claim("u3"), &reversed).unwrap()
    );
}

#[test]
fn a_claim_that_no_server_fits_is_told_how_many_fail_which_demand() {
    let mut servers = vec![
        labelled("other", &[]),
        bound(labelled("a", &[("zone", "a")]), "x"),
    ];
    for i in 0..3 {
        let mut cleaning = labelled(&format!("c{i}"), &[("zone", "a")]);
        cleaning.status.get_or_insert_default().state = Some(ServerState::Cleanup);
        servers.push(cleaning);
    }
    let mut tainted = labelled("t", &[("zone", "a")]);
    tainted.spec.taints = vec![Taint {
        key: "gpu".into(),
        value: None,
        effect: TaintEffect::NoBind,
    }];
    servers.push(tainted);
    let mut claim = claim("u");
    claim.spec.server_selector = Some(LabelSelector {
        match_labels: Some([("zone".to_owned(), "a".to_owned())].into()),
        ..LabelSelector::default()
    });
    let report = chosen(&claim, &servers).unwrap_err();
    assert_eq!(report.reason(), "NoServerFits");
    let text = report.to_string();
    assert!(
        text.starts_with("none of 6 servers fits: 3 in state Cleanup"),
        "{text}"
    );
    for part in [
        "1 not matched by serverSelector",
        "1 bound to other claims",
        "1 with the taint gpu:NoBind",
    ] {
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn a_claim_by_name_is_told_whether_the_server_is_missing_taken_or_not_ready() {
    let claim = for_server(claim("u"), "s");
    let reason = |servers: &[Server]| chosen(&claim, servers).unwrap_err().reason();
    assert_eq!(reason(&[server("t")]), "ServerNotFound");
    assert_eq!(reason(&[bound(server("s"), "x")]), "ServerTaken");
    let mut dirty = server("s");
    annotate(&mut dirty, names::DIRTY, "x");
    assert_eq!(reason(&[dirty]), "ServerNotAvailable");
}

#[test]
fn a_selector_that_means_nothing_binds_nothing_and_says_so() {
    let mut claim = claim("u");
    claim.spec.server_selector = Some(
        serde_json::from_value(
            serde_json::json!({ "matchExpressions": [{ "key": "zone", "operator": "Near" }] }),
        )
        .unwrap(),
    );
    let report = chosen(&claim, &[server("s")]).unwrap_err();
    assert_eq!(report.reason(), "InvalidSelector");
    assert!(report.to_string().contains("zone"));
}

#[test]
fn the_phases_are_those_that_third_parties_read() {
    assert_eq!(
        (
            ServerClaimPhase::Bound.as_str(),
            ServerClaimPhase::Unbound.as_str()
        ),
        ("Bound", "Unbound")
    );
}
