//! One real control plane from start to end. It is the only test of this binary, so that no two run at once.

use std::time::Duration;

use corten_controlplane::{Component, ControlPlane, Options};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, ServiceAccount};
use kube::Client;
use kube::api::{Api, DeleteParams, ListParams, ObjectMeta, PostParams};

#[tokio::test]
async fn a_control_plane_serves_enforces_rbac_survives_its_components_and_leaves_nothing() {
    let mut plane = ControlPlane::start(Options::default()).await.unwrap();
    let client = plane.client().unwrap();
    let version = client.apiserver_version().await.unwrap();
    assert_eq!(
        (version.major.as_str(), version.minor.as_str()),
        ("1", "35")
    );

    let stranger = Client::try_from(plane.config_as("mallory", &["system:authenticated"])).unwrap();
    let refused = Api::<ConfigMap>::namespaced(stranger, "default")
        .list(&ListParams::default())
        .await
        .unwrap_err();
    assert!(
        matches!(refused, kube::Error::Api(status) if status.code == 403),
        "RBAC is on"
    );

    let account = ServiceAccount {
        metadata: ObjectMeta {
            name: Some("robot".into()),
            ..ObjectMeta::default()
        },
        ..ServiceAccount::default()
    };
    Api::<ServiceAccount>::namespaced(client.clone(), "default")
        .create(&PostParams::default(), &account)
        .await
        .unwrap();
    let robot = Client::try_from(
        plane
            .config_of_service_account("default", "robot")
            .await
            .unwrap(),
    )
    .unwrap();
    let refused = Api::<ConfigMap>::namespaced(robot, "default")
        .list(&ListParams::default())
        .await
        .unwrap_err();
    assert!(
        matches!(&refused, kube::Error::Api(status) if status.message.contains("system:serviceaccount:default:robot")),
        "known by its token: {refused}"
    );

    // The namespace controller finishes deletions, so the controller manager works.
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let namespace = Namespace {
        metadata: ObjectMeta {
            name: Some("short".into()),
            ..ObjectMeta::default()
        },
        ..Namespace::default()
    };
    namespaces
        .create(&PostParams::default(), &namespace)
        .await
        .unwrap();
    namespaces
        .delete("short", &DeleteParams::default())
        .await
        .unwrap();
    let mut gone = false;
    for _ in 0..300 {
        gone = namespaces.get_opt("short").await.unwrap().is_none();
        if gone {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(gone, "the namespace is deleted in 30 s");

    plane.kill(Component::ApiServer).await;
    assert!(namespaces.get("default").await.is_err());
    plane.restart(Component::ApiServer).await.unwrap();
    plane.kill(Component::Etcd).await;
    plane.restart(Component::Etcd).await.unwrap();
    namespaces.get("default").await.unwrap();
    Api::<ServiceAccount>::namespaced(client, "default")
        .get("robot")
        .await
        .unwrap();

    let folder = plane.folder().to_path_buf();
    assert!(folder.join("kube-apiserver.log").exists());
    plane.shutdown().await;
    assert!(!folder.exists(), "its folder is removed");
}
