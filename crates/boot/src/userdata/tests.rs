use proptest::prelude::*;
use serde_json::json;

use super::*;

fn secret(pairs: &[(&str, &str)]) -> BTreeMap<String, Vec<u8>> {
    pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), value.as_bytes().to_vec()))
        .collect()
}

fn butane(text: &str) -> Result<Value, UserDataError> {
    ignition(&secret(&[("format", "fcos"), ("ignition", text)]))
}

/// In the shape of the original's template for discovery.
const DISCOVERY: &str = r#"
variant: fcos
version: "1.3.0"
systemd:
  units:
    - name: probe.service
      enabled: true
      contents: |-
        [Unit]
        Description=probe
storage:
  files:
    - path: /etc/motd
      mode: 0644
      contents:
        inline: "hello\n"
passwd:
  users:
    - name: metal
      password_hash: "$6$x"
      groups: [wheel]
      ssh_authorized_keys: [ssh-ed25519 AAAA]
"#;

#[test]
fn a_butane_document_in_the_original_s_shape_becomes_ignition() {
    let document = butane(DISCOVERY).unwrap();
    assert_eq!(document["ignition"]["version"], "3.2.0");
    assert_eq!(
        document["storage"]["files"][0]["contents"]["source"],
        "data:;base64,aGVsbG8K"
    );
    assert_eq!(
        document["storage"]["files"][0]["mode"], 0o644,
        "octal, as in YAML 1.1, which Butane reads"
    );
    assert_eq!(
        document["passwd"]["users"][0]["sshAuthorizedKeys"],
        json!(["ssh-ed25519 AAAA"])
    );
    assert_eq!(
        document["systemd"]["units"][0]["contents"],
        "[Unit]\nDescription=probe"
    );
    assert!(check(document).is_ok());
}

#[test]
fn what_cannot_be_translated_is_named_and_not_left_out() {
    for (text, key) in [
        ("boot_device: {luks: {tpm2: true}}", "boot_device"),
        (
            "storage: {files: [{path: /a, contents: {local: secret.txt}}]}",
            "storage.files[0].contents.local",
        ),
        ("storage: {trees: [{local: x}]}", "storage.trees"),
        (
            "storage: {filesystems: [{device: /dev/x, with_mount_unit: true}]}",
            "storage.filesystems[0].with_mount_unit",
        ),
    ] {
        assert_eq!(
            butane(&format!("variant: fcos\nversion: 1.4.0\n{text}\n")),
            Err(UserDataError::Untranslatable(key.into()))
        );
    }
    assert_eq!(
        butane("variant: fcos\nversion: 9.0.0\n"),
        Err(UserDataError::Version("Butane"))
    );
    assert_eq!(
        butane("variant: fcos\nversion: 1.4.0\nstorage: [1]\n"),
        Err(UserDataError::Kind("storage".into()))
    );
    assert_eq!(butane(": : :"), Err(UserDataError::NotYaml));
}

#[test]
fn ignition_is_taken_as_it_is_if_it_is_one() {
    let good = r#"{"ignition":{"version":"3.4.0"},"x":1}"#;
    assert_eq!(ignition(&secret(&[("ignition", good)])).unwrap()["x"], 1);
    assert_eq!(
        ignition(&secret(&[("ignition", good), ("format", "ignition")])).unwrap()["x"],
        1
    );
    assert_eq!(
        ignition(&secret(&[("ignition", "nonsense"), ("format", "ignition")])),
        Err(UserDataError::NotJson)
    );
    assert_eq!(
        ignition(&secret(&[(
            "ignition",
            r#"{"ignition":{"version":"2.2.0"}}"#
        )])),
        Err(UserDataError::Version("ignition"))
    );
    assert_eq!(
        ignition(&secret(&[("ignition", good), ("format", "toml")])),
        Err(UserDataError::Foreign)
    );
    assert_eq!(
        ignition(&secret(&[])),
        Err(UserDataError::NoKey("ignition"))
    );
    assert_eq!(
        ignition(&secret(&[("ignition", &" ".repeat(LARGEST + 1))])),
        Err(UserDataError::TooLarge)
    );
    assert_eq!(
        ignition(&secret(&[("ignition", " \n")])),
        Err(UserDataError::Empty("ignition"))
    );
}

#[test]
fn what_is_for_another_provisioner_or_an_older_ignition_is_served_as_it_is() {
    let old = r#"{"ignition":{"version":"2.2.0"}}"#;
    for (text, format) in [
        (old, ""),
        ("#cloud-config\nusers: []\n", ""),
        ("anything", "talos"),
    ] {
        let served = served(&secret(&[("ignition", text), ("format", format)]));
        assert_eq!(served.unwrap(), text.as_bytes());
    }
    let butane = served(&secret(&[("ignition", DISCOVERY)])).unwrap();
    assert!(butane.starts_with(b"{") && !butane.windows(7).any(|part| part == b"variant"));
    for (text, format) in [("{", ""), (r#"{"a":1}"#, "ignition"), (": : :", "fcos")] {
        assert!(served(&secret(&[("ignition", text), ("format", format)])).is_err());
    }
}

#[test]
fn an_error_does_not_quote_the_secret() {
    let error = butane("variant: fcos\nversion: 1.4.0\npasswd: hunter2\n").unwrap_err();
    assert!(!format!("{error} {error:?}").contains("hunter2"));
}

#[test]
fn meta_data_is_yaml_whatever_the_name() {
    let read: Value = serde_saphyr::from_slice(&meta_data("uid: x", "no\nde")).unwrap();
    assert_eq!(
        read,
        json!({"instance-id": "uid: x", "local-hostname": "no\nde"})
    );
}

proptest! {
    #[test]
    fn no_document_panics(text in "(variant: fcos\nversion: 1.4.0\n)?[a-z:{}\\[\\], \n\\-&*!\"]{0,80}", format in "fcos|ignition|") {
        let _ = ignition(&secret(&[("ignition", &text), ("format", &format)]));
    }
}
