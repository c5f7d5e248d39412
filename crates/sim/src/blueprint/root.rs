//! The service root and what it names without further ado.

use serde_json::{Value, json};

use super::{Draft, link};
use crate::template::slot;

pub(super) fn write(draft: &mut Draft) {
    let spec = draft.spec.clone();
    let expand = spec.expand.map_or_else(
        || json!({"ExpandAll": false, "Levels": false, "Links": false, "NoLinks": false}),
        |e| json!({"ExpandAll": e.all, "Levels": true, "Links": e.links, "NoLinks": e.no_links, "MaxLevels": e.levels}),
    );
    let mut root = json!({
        "Id": "RootService",
        "Name": "Root Service",
        "Description": "Root Service",
        "RedfishVersion": spec.redfish_version,
        "UUID": slot("service-uuid", 0),
        "ProtocolFeaturesSupported": {
            "DeepOperations": {"DeepPATCH": false, "DeepPOST": false},
            "ExcerptQuery": false,
            "ExpandQuery": expand,
            "FilterQuery": false,
            "OnlyMemberQuery": true,
            "SelectQuery": spec.select,
        },
        "Links": {"Sessions": link("/redfish/v1/SessionService/Sessions")},
    });
    if let Some(root) = root.as_object_mut() {
        for (name, path) in [
            ("Systems", "Systems"),
            ("Chassis", "Chassis"),
            ("Managers", "Managers"),
            ("AccountService", "AccountService"),
            ("SessionService", "SessionService"),
            ("EventService", "EventService"),
            ("UpdateService", "UpdateService"),
            ("Tasks", "TaskService"),
            ("Registries", "Registries"),
            ("JsonSchemas", "JsonSchemas"),
            ("CertificateService", "CertificateService"),
        ] {
            root.insert(name.into(), link(&format!("/redfish/v1/{path}")));
        }
        if spec.jobs {
            root.insert("JobService".into(), link("/redfish/v1/JobService"));
        }
        if let Some(vendor) = spec.vendor {
            root.insert("Vendor".into(), vendor.into());
        }
        if let Some(product) = spec.product {
            root.insert("Product".into(), product.into());
        }
    }
    draft.put("/redfish/v1", spec.root_schema, root);
    certificates(draft);
}

fn certificates(draft: &mut Draft) {
    let path = "/redfish/v1/CertificateService";
    draft.put(
        path,
        "CertificateService.v1_0_4.CertificateService",
        json!({
            "Name": "Certificate Service",
            "CertificateLocations": link(&format!("{path}/CertificateLocations")),
            "Actions": Value::Object(serde_json::Map::new()),
        }),
    );
    draft.put(
        &format!("{path}/CertificateLocations"),
        "CertificateLocations.v1_0_3.CertificateLocations",
        json!({"Name": "Certificate Locations", "Links": {"Certificates": []}}),
    );
}
