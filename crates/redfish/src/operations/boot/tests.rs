//! Overrides as the recorded vendors want them.

use super::*;
use crate::quirks::Vendor;

fn system(body: Value) -> System {
    System::new(Document::new(
        "/redfish/v1/Systems/1",
        Some("\"7\"".into()),
        body,
    ))
}

fn product(vendor: Vendor, name: &str) -> Product {
    Product {
        vendor,
        name: Some(name.to_owned()),
        redfish_version: None,
    }
}

fn once(target: BootTarget) -> BootOverride {
    BootOverride::Enabled {
        target,
        duration: BootDuration::Once,
        mode: None,
    }
}

fn hpe() -> System {
    system(json!({"Boot": {
        "BootSourceOverrideEnabled": "Disabled", "BootSourceOverrideMode": "UEFI", "BootSourceOverrideTarget": "None",
        "BootSourceOverrideTarget@Redfish.AllowableValues": ["None", "Cd", "Hdd", "Usb", "Pxe", "UefiHttp", "UefiTarget"],
    }}))
}

fn plan_here(
    system: &System,
    product: &Product,
    wanted: &BootOverride,
) -> Result<Call, OperationError> {
    plan(system, system.document(), product, wanted)
}

#[test]
fn an_override_is_one_patch_of_target_and_duration_for_the_state_read() {
    let call = plan_here(&hpe(), &Product::default(), &once(BootTarget::Pxe)).unwrap();
    assert_eq!(
        call.body,
        json!({"Boot": {"BootSourceOverrideEnabled": "Once", "BootSourceOverrideTarget": "Pxe"}})
    );
    assert_eq!(
        (call.verb, call.if_match),
        (
            super::super::Verb::Patch,
            crate::IfMatch::Prefer("\"7\"".into())
        )
    );
}

#[test]
fn a_target_that_is_not_allowed_is_refused_with_those_that_are() {
    let openbmc = system(
        json!({"Boot": {"BootSourceOverrideTarget": "None", "BootSourceOverrideTarget@Redfish.AllowableValues": ["None", "Pxe", "Hdd", "Cd", "Usb"]}}),
    );
    let refusal =
        plan_here(&openbmc, &Product::default(), &once(BootTarget::UefiHttp)).unwrap_err();
    assert_eq!(
        refusal.to_string(),
        "the BMC does not offer boot target UefiHttp; it offers None, Pxe, Hdd, Cd, Usb"
    );
}

#[test]
fn an_http_address_needs_the_property_for_it() {
    let wanted = once(BootTarget::HttpBootUri("http://10.0.0.1/boot.efi".into()));
    assert!(plan_here(&hpe(), &Product::default(), &wanted).is_err());
    let capable = system(
        json!({"Boot": {"BootSourceOverrideTarget": "None", "BootSourceOverrideMode": "Legacy", "HttpBootUri": null}}),
    );
    let call = plan_here(&capable, &Product::default(), &wanted).unwrap();
    assert_eq!(
        call.body.pointer("/Boot/HttpBootUri"),
        Some(&json!("http://10.0.0.1/boot.efi"))
    );
    assert_eq!(
        call.body.pointer("/Boot/BootSourceOverrideMode"),
        Some(&json!("UEFI")),
        "HTTP boot is UEFI only"
    );
}

#[test]
fn a_device_is_named_by_its_uefi_path_and_an_override_may_last() {
    let path = "PciRoot(0x0)/Pci(0x2,0x0)/NVMe(0x1,00-00-00-00-00-00-00-00)";
    let wanted = BootOverride::Enabled {
        target: BootTarget::UefiTarget(path.into()),
        duration: BootDuration::Continuous,
        mode: None,
    };
    let call = plan_here(&hpe(), &Product::default(), &wanted).unwrap();
    assert_eq!(
        call.body,
        json!({"Boot": {
            "BootSourceOverrideEnabled": "Continuous", "BootSourceOverrideTarget": "UefiTarget",
            "UefiTargetBootSourceOverride": path,
        }})
    );
}

#[test]
fn http_boot_by_dhcp_takes_the_address_of_an_earlier_boot_away() {
    let system = |uri: Value| {
        system(json!({"Boot": {
            "BootSourceOverrideTarget": "None", "BootSourceOverrideMode": "UEFI", "HttpBootUri": uri,
        }}))
    };
    let sent = |uri| {
        let call = plan_here(
            &system(uri),
            &Product::default(),
            &once(BootTarget::UefiHttp),
        );
        call.unwrap().body["Boot"]["HttpBootUri"].clone()
    };
    assert_eq!(sent(json!("http://10.0.0.1/old.efi")), json!(""));
    assert_eq!(sent(json!("")), Value::Null);
    assert_eq!(sent(Value::Null), Value::Null);
}

#[test]
fn xcc_cannot_override_for_good() {
    let xcc = system(
        json!({"Boot": {"BootSourceOverrideTarget": "None", "BootSourceOverrideEnabled@Redfish.AllowableValues": ["Once", "Disabled"]}}),
    );
    let wanted = BootOverride::Enabled {
        target: BootTarget::Pxe,
        duration: BootDuration::Continuous,
        mode: None,
    };
    assert!(plan_here(&xcc, &Product::default(), &wanted).is_err());
}

#[test]
fn ami_is_written_through_its_settings_resource() {
    let ami = product(Vendor::Ami, "AMI Redfish Server");
    let dgx = system(
        json!({"Boot": {"BootSourceOverrideTarget": "None"}, "@Redfish.Settings": {"SettingsObject": {"@odata.id": "/redfish/v1/Systems/DGX/SD"}}}),
    );
    assert_eq!(written_at(&dgx, &ami).path(), "/redfish/v1/Systems/DGX/SD");
    let sd = Document::new(
        "/redfish/v1/Systems/DGX/SD",
        Some("\"9\"".into()),
        json!({"Boot": {}}),
    );
    let call = plan(&dgx, &sd, &ami, &once(BootTarget::Pxe)).unwrap();
    assert_eq!(
        (call.link.path(), call.if_match),
        (
            "/redfish/v1/Systems/DGX/SD",
            crate::IfMatch::Prefer("\"9\"".into())
        )
    );
    let lenovo = product(Vendor::Lenovo, "");
    assert_eq!(written_at(&dgx, &lenovo).path(), "/redfish/v1/Systems/1");
}

#[test]
fn supermicro_gets_the_mode_with_every_target() {
    let call = plan_here(
        &hpe(),
        &product(Vendor::Supermicro, ""),
        &once(BootTarget::Pxe),
    )
    .unwrap();
    assert_eq!(
        call.body.pointer("/Boot/BootSourceOverrideMode"),
        Some(&json!("UEFI"))
    );
}

#[test]
fn disabling_is_told_from_an_override_that_is_in_force() {
    let call = plan_here(&hpe(), &Product::default(), &BootOverride::Disabled).unwrap();
    assert_eq!(
        call.body,
        json!({"Boot": {"BootSourceOverrideEnabled": "Disabled", "BootSourceOverrideTarget": "None"}})
    );
    let state = BootState::read(hpe().document());
    assert!(state.matches(&BootOverride::Disabled) && !state.matches(&once(BootTarget::Pxe)));
    let none_left = system(
        json!({"Boot": {"BootSourceOverrideEnabled": "Once", "BootSourceOverrideTarget": "None"}}),
    );
    assert!(!BootState::read(none_left.document()).is_overridden());
}

#[test]
fn a_system_without_override_says_so() {
    assert!(
        plan_here(
            &system(json!({"Boot": {"BootOptions": {"@odata.id": "/x"}}})),
            &Product::default(),
            &once(BootTarget::Pxe)
        )
        .is_err()
    );
}
