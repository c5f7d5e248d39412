//! Who fits.

use super::*;

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
fn a_name_wins_over_a_selector_and_an_empty_one_names_no_server() {
    let mut claim = for_server(claim("u"), "s");
    claim.spec.server_selector = Some(LabelSelector {
        match_labels: Some([("a".to_owned(), "b".to_owned())].into()),
        ..LabelSelector::default()
    });
    assert!(fits(&claim, &server("s")).is_ok());
    assert_eq!(fits(&claim, &server("t")), Err(Misfit::NotSelected));
    // It could never be filled in: the reference is immutable once it is there.
    let nameless = for_server(self::claim("u"), "");
    assert_eq!(fits(&nameless, &server("s")), Err(Misfit::NotSelected));
    assert_eq!(
        Demand::of(&nameless.spec).target(),
        &Target::Named(String::new())
    );
}
