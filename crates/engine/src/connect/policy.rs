//! Which ServerPolicy holds for an object, and what it says about trust.
//!
//! Of all that select the object's labels the one with the highest priority holds, then the first by name.

use std::{collections::BTreeMap, sync::Arc};

use corten_api::corten::ServerPolicy;
use corten_kit::Store;
use corten_redfish::CaBundle;
use dashmap::DashMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::ResourceExt;

use super::ConnectError;

/// The policies of the cluster. Clones share what was parsed.
#[derive(Clone, Debug)]
pub struct Policies {
    store: Store<ServerPolicy>,
    bundles: Arc<DashMap<String, Parsed>>,
}

/// What a policy says about trust.
#[derive(Clone, Debug, Default)]
pub struct TrustPolicy {
    /// Pin the certificate that is seen first, and send a site's own credentials to it.
    pub trust_on_first_use: bool,
    /// CA for BMCs' certificates.
    pub ca: Option<CaBundle>,
}

#[derive(Clone, Debug)]
struct Parsed {
    version: Option<String>,
    bundle: Result<CaBundle, String>,
}

// === impl Policies ===

impl Policies {
    /// Policies from `store`.
    pub fn new(store: Store<ServerPolicy>) -> Self {
        Self {
            store,
            bundles: Arc::default(),
        }
    }

    /// The policy for an object with these labels.
    pub fn of(&self, labels: &BTreeMap<String, String>) -> Option<Arc<ServerPolicy>> {
        if self.store.is_empty() {
            return None;
        }
        choose(self.store.all(), labels)
    }

    /// What holds for an object with these labels.
    ///
    /// # Errors
    /// [`ConnectError::BadCa`].
    pub fn trust(&self, labels: &BTreeMap<String, String>) -> Result<TrustPolicy, ConnectError> {
        let Some(policy) = self.of(labels) else {
            return Ok(TrustPolicy::default());
        };
        let ca = match policy.spec.ca_certificates.as_deref() {
            None => None,
            Some(pem) => Some(self.bundle(&policy, pem)?),
        };
        Ok(TrustPolicy {
            trust_on_first_use: policy.spec.trust_on_first_use.unwrap_or_default(),
            ca,
        })
    }

    /// One bundle for the whole fleet: parsing it for each BMC would cost more than the connection.
    fn bundle(&self, policy: &ServerPolicy, pem: &str) -> Result<CaBundle, ConnectError> {
        let name = policy.name_any();
        let version = policy.resource_version();
        let known = self
            .bundles
            .get(&name)
            .filter(|parsed| parsed.version == version)
            .map(|parsed| parsed.clone());
        let parsed = known.unwrap_or_else(|| {
            let bundle = CaBundle::from_pem(pem.as_bytes()).map_err(|error| error.to_string());
            let parsed = Parsed { version, bundle };
            self.bundles.insert(name.clone(), parsed.clone());
            parsed
        });
        parsed.bundle.map_err(|cause| ConnectError::BadCa {
            policy: name,
            cause,
        })
    }
}

fn choose(
    policies: impl IntoIterator<Item = Arc<ServerPolicy>>,
    labels: &BTreeMap<String, String>,
) -> Option<Arc<ServerPolicy>> {
    policies
        .into_iter()
        .filter(|policy| {
            policy
                .spec
                .selector
                .as_ref()
                .is_none_or(|selector| selects(selector, labels))
        })
        .min_by(|a, b| {
            b.spec
                .priority
                .cmp(&a.spec.priority)
                .then_with(|| a.name_any().cmp(&b.name_any()))
        })
}

/// Whether a label selector selects `labels` (Kubernetes API, `LabelSelector`). An unknown operator selects nothing.
pub fn selects(selector: &LabelSelector, labels: &BTreeMap<String, String>) -> bool {
    let equal = selector
        .match_labels
        .iter()
        .flatten()
        .all(|(key, value)| labels.get(key) == Some(value));
    let expressions = selector
        .match_expressions
        .iter()
        .flatten()
        .all(|expression| {
            let value = labels.get(&expression.key);
            let listed = || {
                value.is_some_and(|value| {
                    expression
                        .values
                        .iter()
                        .flatten()
                        .any(|listed| listed == value)
                })
            };
            match expression.operator.as_str() {
                "In" => listed(),
                "NotIn" => !listed(),
                "Exists" => value.is_some(),
                "DoesNotExist" => value.is_none(),
                _ => false,
            }
        });
    equal && expressions
}

/// Whether a label selector selects every object that has at least the labels `demanded`: what other labels they have is not known, so that a
/// demand for the absence of one is never met.
pub fn covers(selector: &LabelSelector, demanded: &BTreeMap<String, String>) -> bool {
    let mut expressions = selector.match_expressions.iter().flatten();
    selects(selector, demanded)
        && expressions.all(|expression| demanded.contains_key(&expression.key))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect()
    }

    fn policy(name: &str, priority: i32, selector: serde_json::Value) -> Arc<ServerPolicy> {
        serde_json::from_value(json!({
            "apiVersion": "corten.dev/v1alpha1", "kind": "ServerPolicy", "metadata": { "name": name },
            "spec": { "priority": priority, "selector": selector },
        }))
        .map(Arc::new)
        .unwrap()
    }

    #[test]
    fn the_highest_priority_holds_then_the_first_name() {
        let all = [
            policy("b", 5, json!({})),
            policy("a", 5, json!({})),
            policy("c", 9, json!({ "matchLabels": { "site": "x" } })),
        ];
        let name = |labels: &BTreeMap<String, String>| {
            choose(all.clone(), labels).map(|policy| policy.name_any())
        };
        assert_eq!(name(&labels(&[])).as_deref(), Some("a"));
        assert_eq!(name(&labels(&[("site", "x")])).as_deref(), Some("c"));
    }

    #[test]
    fn selectors_mean_what_kubernetes_says() {
        let selector = |value| serde_json::from_value::<LabelSelector>(value).unwrap();
        let one = labels(&[("site", "x")]);
        let expression = |operator: &str| {
            selector(
                json!({ "matchExpressions": [{ "key": "site", "operator": operator, "values": ["x", "y"] }] }),
            )
        };
        assert!(selects(&expression("In"), &one));
        assert!(!selects(&expression("NotIn"), &one));
        assert!(selects(&expression("NotIn"), &labels(&[])));
        assert!(selects(&expression("Exists"), &one));
        assert!(selects(&expression("DoesNotExist"), &labels(&[])));
        assert!(!selects(&expression("Near"), &one));
    }

    #[test]
    fn a_selector_covers_a_shard_only_if_no_other_label_of_a_server_could_exclude_it() {
        let selector = |value| serde_json::from_value::<LabelSelector>(value).unwrap();
        let shard = labels(&[("site", "x")]);
        let expression = |key: &str, operator: &str| {
            selector(
                json!({ "matchExpressions": [{ "key": key, "operator": operator, "values": ["y"] }] }),
            )
        };
        assert!(covers(&selector(json!({})), &shard));
        assert!(covers(
            &selector(json!({ "matchLabels": { "site": "x" } })),
            &shard
        ));
        assert!(covers(&expression("site", "NotIn"), &shard));
        assert!(!covers(&expression("rack", "NotIn"), &shard));
        assert!(!covers(&expression("rack", "DoesNotExist"), &shard));
        assert!(!covers(
            &selector(json!({ "matchLabels": { "rack": "y" } })),
            &shard
        ));
    }
}
