//! The definitions in a real cluster.

use corten_kit::definitions::{Defect, defects};
use corten_tests::control_plane;

#[tokio::test]
async fn installed_definitions_have_no_defect_and_a_foreign_one_is_named() {
    let client = control_plane::client().await;
    assert_eq!(defects(&client, &corten_api::crds()).await.unwrap(), []);
    let mut absent = corten_api::crds().remove(0);
    absent.metadata.name = Some("racks.example.com".into());
    assert_eq!(
        defects(&client, &[absent]).await.unwrap(),
        [Defect::Missing {
            name: "racks.example.com".into()
        }]
    );
}
