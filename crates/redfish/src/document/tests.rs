//! Documents as real firmware gets them wrong.

use super::*;
use serde_json::json;

fn document(body: Value) -> Document {
    Document::new("/redfish/v1/Systems/1", None, body)
}

#[test]
fn a_mistyped_property_costs_itself_only() {
    let doc = document(
        json!({"Model": "R750", "SerialNumber": {"odd": 1}, "MemorySummary": {"TotalSystemMemoryGiB": "512"}}),
    );
    assert_eq!(doc.root().text("Model").as_deref(), Some("R750"));
    assert_eq!(doc.root().text("SerialNumber"), None);
    assert_eq!(
        doc.root()
            .object("MemorySummary")
            .whole("TotalSystemMemoryGiB"),
        Some(512)
    );
    assert_eq!(
        doc.anomalies(),
        [
            Anomaly {
                property: "SerialNumber".into(),
                fault: Fault::Mistyped
            },
            Anomaly {
                property: "TotalSystemMemoryGiB".into(),
                fault: Fault::Coerced
            },
        ]
    );
}

#[test]
fn a_property_in_another_case_is_found_and_noted() {
    let doc = document(json!({"serialNumber": "A1", "Power_State": "On"}));
    assert_eq!(doc.root().text("SerialNumber").as_deref(), Some("A1"));
    assert_eq!(doc.root().text("PowerState").as_deref(), Some("On"));
    assert!(doc.anomalies().iter().all(|a| a.fault == Fault::Misspelt));
}

#[test]
fn null_and_placeholders_count_as_absent() {
    let doc = document(
        json!({"SKU": "....................", "Model": null, "PartNumber": " ", "AssetTag": "N/A"}),
    );
    for name in ["SKU", "Model", "PartNumber", "AssetTag"] {
        assert_eq!(doc.root().text(name), None, "{name}");
    }
    assert!(doc.anomalies().is_empty());
}

#[test]
fn a_log_date_of_all_zeroes_is_no_date() {
    let doc = document(
        json!({"Created": "0000-00-00T00:00:00Z", "Modified": "2025-01-02T03:04:05+01:00", "Never": "1970-01-01T00:00:00Z"}),
    );
    assert_eq!(doc.root().time("Created"), None);
    assert_eq!(doc.root().time("Never"), None);
    assert!(doc.root().time("Modified").is_some());
}

#[test]
fn links_are_objects_strings_or_lists_of_one() {
    let doc = document(json!({
        "Bios": {"@odata.id": "/redfish/v1/Systems/1/Bios/"},
        "Storage": "/redfish/v1/Systems/1/Storage",
        "ContainedBy": [{"@odata.id": "/redfish/v1/Chassis/1"}],
        "Elsewhere": {"@odata.id": "//evil.example/redfish"},
    }));
    assert_eq!(
        doc.root().link("Bios").map(|l| l.to_string()).as_deref(),
        Some("/redfish/v1/Systems/1/Bios/")
    );
    assert!(doc.root().link("Storage").is_some());
    assert!(doc.root().link("ContainedBy").is_some());
    assert_eq!(doc.root().link("Elsewhere"), None);
}

#[test]
fn duplicate_links_are_given_once() {
    let doc = document(
        json!({"PCIeDevices": [{"@odata.id": "/a/1"}, {"@odata.id": "/a/1/"}, null, 7, {"@odata.id": "/a/2"}]}),
    );
    assert_eq!(doc.root().links("PCIeDevices").len(), 2);
}

#[test]
fn links_that_climb_or_carry_a_user_are_refused() {
    for bad in [
        "",
        "/redfish/../etc",
        "/redfish/%2E%2e/etc",
        "http://user@host/x",
        "relative",
        "/a\\b",
        "/a\nb",
        "//h/x",
    ] {
        assert!(Link::parse(bad).is_err(), "{bad:?}");
    }
    assert_eq!(
        Link::parse("/redfish/v1/ #").unwrap(),
        Link::service_root(),
        "space before the fragment is as much as none"
    );
    let part = Link::parse("/redfish/v1/Chassis/1/Power#/PowerControl/0").unwrap();
    assert_eq!(
        (part.path(), part.fragment()),
        ("/redfish/v1/Chassis/1/Power", Some("/PowerControl/0"))
    );
}

#[test]
fn a_body_that_is_no_object_has_no_properties() {
    for body in [json!(null), json!([1, 2]), json!("text"), json!(3)] {
        let doc = document(body);
        assert_eq!(doc.root().text("Model"), None);
        assert!(doc.root().objects("Members").is_empty());
        assert_eq!(doc.kind(), None);
    }
}

#[test]
fn anomalies_are_bounded() {
    let body: serde_json::Map<String, Value> =
        (0..1000).map(|i| (format!("P{i}"), json!([1]))).collect();
    let doc = document(Value::Object(body));
    for i in 0..1000 {
        assert_eq!(doc.root().text(&format!("P{i}")), None);
    }
    assert!(doc.anomalies().len() <= 16);
}

#[test]
fn expanded_resources_come_out_and_leave_links() {
    let storage = json!({
        "@odata.id": "/s", "@odata.type": "#StorageCollection.StorageCollection",
        "Members": [{
            "@odata.id": "/s/1", "@odata.type": "#Storage.v1_0_0.Storage", "Id": "1", "Name": "RAID",
            "StorageControllers": [{"@odata.id": "/s/1#/StorageControllers/0", "@odata.type": "#Storage.v1_0_0.StorageController", "MemberId": "0", "Name": "C"}],
            "Drives": [{"@odata.id": "/d/1", "@odata.type": "#Drive.v1_0_0.Drive", "Id": "1", "Name": "D"}, {"@odata.id": "/d/2"}],
            "Volumes": {"@odata.id": "/v", "@odata.type": "#VolumeCollection.VolumeCollection", "Name": "Volumes"},
        }],
    });
    let (outer, inner) = document(storage).split();
    assert_eq!(outer.root().links("Members").len(), 1);
    let paths: Vec<&str> = inner.iter().map(Document::path).collect();
    assert_eq!(
        paths,
        ["/d/1", "/s/1"],
        "the volumes came without members and are only a link"
    );
    let storage = inner.last().unwrap().root();
    assert_eq!(storage.links("Drives").len(), 2);
    assert_eq!(
        storage
            .objects("StorageControllers")
            .first()
            .unwrap()
            .text("Name")
            .as_deref(),
        Some("C")
    );
}

#[test]
fn a_trailing_slash_is_kept_for_the_request_and_does_not_tell_links_apart() {
    let link = Link::parse("/redfish/v1/Systems/1/").unwrap();
    assert_eq!(link.path(), "/redfish/v1/Systems/1/");
    assert_eq!(link, Link::parse("/redfish/v1/Systems/1").unwrap());
    assert_eq!(link.last_segment(), "1");
}
