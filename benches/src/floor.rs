//! The floor under onboarding: how many writes a second this API server takes here, from clients that do nothing else.

use std::time::Instant;

use anyhow::Result;
use corten_api::metal::{Endpoint, EndpointSpec};
use futures::{StreamExt, TryStreamExt};
use kube::{
    Api, Client,
    api::{DeleteParams, ListParams, PostParams},
};

const WRITES: usize = 3_000;
const CLIENTS: usize = 32;

/// Creates a second, over objects that nobody looks at. They are deleted again.
pub async fn writes_per_second(client: &Client) -> Result<f64> {
    let api: Api<Endpoint> = Api::all(client.clone());
    let began = Instant::now();
    futures::stream::iter(0..WRITES)
        .map(|i| {
            let api = api.clone();
            async move {
                let mut endpoint = Endpoint::new(
                    &format!("floor-{i}"),
                    EndpointSpec {
                        mac_address: format!("02:ff:ff:00:{:02x}:{:02x}", i / 256, i % 256),
                        ip: "127.255.255.254".into(),
                    },
                );
                endpoint.metadata.labels = Some([("floor".to_owned(), String::new())].into());
                api.create(&PostParams::default(), &endpoint).await
            }
        })
        .buffer_unordered(CLIENTS)
        .try_for_each(|_| async { Ok(()) })
        .await?;
    let rate = WRITES as f64 / began.elapsed().as_secs_f64();
    api.delete_collection(
        &DeleteParams::default(),
        &ListParams::default().labels("floor"),
    )
    .await?;
    Ok(rate)
}
