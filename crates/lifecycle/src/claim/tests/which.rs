//! Which one, and why none.

use super::*;

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
