//! Kubeconfigs with everything in them, so that one file is enough to hand on.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kube::Config;
use kube::config::{KubeConfigOptions, Kubeconfig};

use crate::Error;
use crate::pki::Pair;

/// Text of a kubeconfig for `user` at the API server on `port`.
pub(crate) fn text(port: u16, authority: &str, user: &str, pair: &Pair) -> String {
    let (authority, certificate, key) = (
        STANDARD.encode(authority),
        STANDARD.encode(&pair.certificate),
        STANDARD.encode(&pair.key),
    );
    format!(
        "apiVersion: v1
kind: Config
current-context: corten
contexts:
- name: corten
  context: {{cluster: corten, user: {user:?}}}
clusters:
- name: corten
  cluster:
    server: https://127.0.0.1:{port}
    certificate-authority-data: {authority}
users:
- name: {user:?}
  user:
    client-certificate-data: {certificate}
    client-key-data: {key}
"
    )
}

/// The same as a client configuration.
pub(crate) async fn config(text: &str) -> Result<Config, Error> {
    Ok(
        Config::from_custom_kubeconfig(Kubeconfig::from_yaml(text)?, &KubeConfigOptions::default())
            .await?,
    )
}
