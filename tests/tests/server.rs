//! Servers on a real API server, with simulated machines.

use corten_api::{
    corten::{RunKind, RunPhase, ServerPolicy, ServerRun, StepOutcome},
    metal::{PowerState, ServerBootConfiguration, ServerClaim, ServerState},
    names,
};
use corten_tests::lab::{Lab, World};
use kube::{Api, ResourceExt as _, api::PostParams};
use serde_json::json;

/// A policy that takes a BMC's word for an erasure, for the machines of this laboratory.
async fn take_their_word(lab: &Lab) {
    let policy: ServerPolicy = serde_json::from_value(json!({
        "metadata": {"name": lab.name()},
        "spec": {
            "selector": {"matchLabels": lab.labels()},
            "cleaning": {"acceptReported": true},
            "timeouts": {"shutdownGraceSeconds": 5},
        },
    }))
    .expect("a ServerPolicy");
    let policies: Api<ServerPolicy> = lab.all();
    policies
        .create(&PostParams::default(), &policy)
        .await
        .expect("the policy");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_goes_from_its_bmc_to_a_claim_and_back() {
    let lab = Lab::start().servers(3).available().await;
    take_their_word(&lab).await;
    lab.claim("web").await;
    let server = lab.bound_server("web").await.name_any();
    lab.eventually(|w| {
        w.server(&server)
            .is_some_and(|s| World::power(s) == Some(&PowerState::On))
    })
    .await;
    lab.release("web").await;
    let world = lab
        .eventually(|w| w.available() == 3 && w.claims.is_empty())
        .await;
    let run = |kind: RunKind| {
        world
            .runs
            .iter()
            .find(|run| run.spec.kind == kind)
            .expect("its run")
    };
    for kind in [RunKind::Provisioning, RunKind::Release, RunKind::Cleaning] {
        let status = run(kind.clone()).status.clone().expect("a status");
        assert_eq!(status.phase, Some(RunPhase::Succeeded), "{kind}");
        assert!(status.intent.is_none(), "{kind}");
    }
    let drives = run(RunKind::Cleaning)
        .status
        .clone()
        .expect("a status")
        .drives;
    assert!(
        !drives.is_empty()
            && drives
                .iter()
                .all(|drive| drive.outcome == StepOutcome::Succeeded),
        "{drives:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_whose_erasure_nobody_verified_stays_in_cleanup_with_the_reason() {
    let lab = Lab::start().servers(1).available().await;
    lab.claim("web").await;
    let server = lab.bound_server("web").await.name_any();
    lab.eventually(|w| w.powered_on() == 1).await;
    lab.release("web").await;
    lab.eventually(|w| {
        w.server_condition(&server, "Erased")
            .is_some_and(|c| c.reason == "EvidenceInsufficient")
    })
    .await;
    lab.annotate_server(&server, corten_api::names::CLEANED_BY, "jane")
        .await;
    lab.eventually(|w| w.available() == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_that_vanished_without_a_release_holds_the_server_as_it_runs() {
    let mut lab = Lab::start().servers(1).available().await;
    lab.claim("web").await;
    let server = lab.bound_server("web").await.name_any();
    lab.eventually(|w| {
        let provisioned = |run: &ServerRun| {
            run.spec.kind == RunKind::Provisioning
                && run.status.as_ref().and_then(|s| s.phase.as_ref()) == Some(&RunPhase::Succeeded)
        };
        w.powered_on() == 1 && w.runs.iter().any(provisioned)
    })
    .await;
    let machine = lab.fleet().machine(0);
    assert_eq!((machine.resets().len(), machine.power_state()), (1, "On"));
    // As after a restore of the cluster's backup: nobody released it, and the claim is not there.
    lab.stop_claims().await;
    let claims = lab.here::<ServerClaim>();
    lab.edit(&claims, "web", json!({"metadata": {"finalizers": null}}))
        .await;
    lab.release("web").await;
    lab.eventually(|w| {
        w.server_condition(&server, "Held")
            .is_some_and(|c| c.status == "True" && c.reason == "ClaimMissing")
    })
    .await;
    let runs = lab.world().await.runs.len();
    // Longer than the engine needs for a release or for a first step of any run.
    lab.stays(std::time::Duration::from_secs(5), |w| {
        w.powered_on() == 1
            && w.runs.len() == runs
            && w.in_state(&ServerState::Reserved) == 1
            && w.server_condition(&server, "Held")
                .is_some_and(|c| c.status == "True")
    })
    .await;
    assert_eq!(machine.resets().len(), 1, "{:?}", machine.resets());
    assert_eq!(machine.power_state(), "On");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_is_cut_off_in_the_middle_is_taken_over_and_each_power_on_is_sent_once() {
    let mut lab = Lab::start().servers(2).available().await;
    lab.fleet().machines().for_each(|m| m.record(true));
    lab.claim_many(2).await;
    for _ in 0..4 {
        tokio::time::sleep(std::time::Duration::from_millis(700)).await;
        lab.crash_engine().await;
        lab.start_engine();
    }
    let world = lab
        .eventually(|w| w.powered_on() == 2 && w.in_state(&ServerState::Reserved) == 2)
        .await;
    // What the machines were asked, whatever the records say: a reset that a BMC refused or that changed nothing counts too.
    for machine in lab.fleet().machines() {
        let journal = machine.journal();
        let sent = journal
            .iter()
            .filter(|request| request.contains("ComputerSystem.Reset"));
        assert_eq!(
            (sent.count(), machine.resets().len()),
            (1, 1),
            "{journal:?}"
        );
    }
    for run in &world.runs {
        let results = run.status.clone().unwrap_or_default().results;
        let sent = results
            .iter()
            .filter(|r| r.step == "PowerOn" && r.outcome == StepOutcome::Succeeded)
            .count();
        assert!(sent <= 1, "{results:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_and_a_boot_configuration_that_are_to_be_ignored_are_left_alone() {
    let lab = Lab::start().servers(1).available().await;
    let ignore = [(names::OPERATION, names::OPERATION_IGNORE)];
    lab.claim_annotated("web", &ignore, json!({})).await;
    let boot: ServerBootConfiguration = serde_json::from_value(json!({
        "metadata": {"name": "by-hand", "namespace": lab.namespace(), "annotations": {names::OPERATION: names::OPERATION_IGNORE}},
        "spec": {"serverRef": {"name": lab.world().await.servers[0].name_any()}, "image": "no image"},
    }))
    .expect("a ServerBootConfiguration");
    let boots = lab.here::<ServerBootConfiguration>();
    boots
        .create(&PostParams::default(), &boot)
        .await
        .expect("the boot configuration");
    lab.stays(std::time::Duration::from_secs(3), |w| {
        w.available() == 1
            && w.claims
                .iter()
                .all(|claim| claim.status.is_none() && claim.metadata.finalizers.is_none())
            && w.boots.iter().all(|boot| boot.status.is_none())
    })
    .await;
    let heed = json!({"metadata": {"annotations": {names::OPERATION: null}}});
    lab.edit(&lab.here::<ServerClaim>(), "web", heed.clone())
        .await;
    lab.edit(&boots, "by-hand", heed).await;
    lab.eventually(|w| {
        let judged =
            |boot: &ServerBootConfiguration| boot.name_any() == "by-hand" && boot.status.is_some();
        w.bound() == 1 && w.boots.iter().any(judged)
    })
    .await;
}
