//! The laboratory itself, and the shortest way through it.

use std::time::Duration;

use corten_tests::lab::{Lab, World};

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_without_any_server_waits_and_says_why() {
    let lab = Lab::start().servers(0).idle().await;
    lab.claim("patience").await;
    let world = lab.eventually(|world| world.waiting() == 1).await;
    let bound = world.claim_condition("patience", "Bound").unwrap();
    assert_eq!(bound.status, "False");
    assert!(!bound.message.is_empty());
    lab.stays(Duration::from_secs(1), |world| world.bound() == 0)
        .await;
    lab.release("patience").await;
    lab.eventually(|world| world.claims.is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_laboratories_on_one_control_plane_do_not_see_each_other() {
    let (one, other) = tokio::join!(
        Lab::start().servers(2).idle(),
        Lab::start().servers(3).idle()
    );
    one.plug_in().await;
    other.plug_in().await;
    assert_eq!(
        (
            one.world().await.endpoints.len(),
            other.world().await.endpoints.len()
        ),
        (2, 3)
    );
    let nobody_else = |world: &World, lab: &Lab| {
        world.endpoints.iter().all(|endpoint| {
            endpoint
                .metadata
                .name
                .as_deref()
                .is_some_and(|name| name.starts_with(lab.name()))
        })
    };
    assert!(nobody_else(&one.world().await, &one) && nobody_else(&other.world().await, &other));
}
