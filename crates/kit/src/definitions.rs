//! CustomResourceDefinitions in a cluster: are they there, do they take what we write, and putting them there when asked to.

use std::{collections::BTreeMap, time::Duration};

use futures::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, CustomResourceValidation, JSONSchemaProps, JSONSchemaPropsOrArray,
};
use kube::{
    Api, Client, ResourceExt as _,
    api::{Patch, PatchParams},
};
use tokio::time::{Instant, sleep};

/// Field manager of installed definitions.
const MANAGER: &str = "corten-crds";
const AT_ONCE: usize = 4;
const ESTABLISHED_WITHIN: Duration = Duration::from_secs(60);

/// Why the definitions are not as they have to be.
#[derive(Debug, thiserror::Error)]
pub enum DefinitionError {
    /// The API server refused or did not answer; a retry can help with the latter.
    #[error("definition {name}")]
    Api {
        /// Name of the definition.
        name: String,
        /// The client's error.
        #[source]
        source: Box<kube::Error>,
    },
    /// Installed, but not served in time; a retry can help.
    #[error("definition {name} is installed but not served after {seconds} s")]
    NotServed {
        /// Name of the definition.
        name: String,
        /// The bound.
        seconds: u64,
    },
}

/// What is wrong with one definition in the cluster.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Defect {
    /// It is not installed.
    #[error("{name} is not installed")]
    Missing {
        /// Name of the definition.
        name: String,
    },
    /// It is installed, but the API server does not serve our version of it.
    #[error("{name} is installed but {version} is not served")]
    NotServed {
        /// Name of the definition.
        name: String,
        /// The version that we speak.
        version: String,
    },
    /// It would refuse or drop what we write.
    #[error("{name} is narrower than ours at {}", paths.join(", "))]
    Narrower {
        /// Name of the definition.
        name: String,
        /// Paths of the fields, at most a handful.
        paths: Vec<String>,
    },
}

/// Installs or updates `definitions` with `labels`, by server-side apply, and waits until they are served.
pub async fn install(
    client: &Client,
    definitions: Vec<CustomResourceDefinition>,
    labels: &BTreeMap<String, String>,
) -> Result<(), DefinitionError> {
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    stream::iter(definitions)
        .map(|mut definition| {
            let api = api.clone();
            definition
                .metadata
                .labels
                .get_or_insert_default()
                .extend(labels.clone());
            async move { apply(&api, &definition).await }
        })
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await
}

async fn apply(
    api: &Api<CustomResourceDefinition>,
    definition: &CustomResourceDefinition,
) -> Result<(), DefinitionError> {
    let name = definition.name_any();
    let failed = |source| DefinitionError::Api {
        name: name.clone(),
        source: Box::new(source),
    };
    let params = PatchParams::apply(MANAGER).force();
    let mut installed = api
        .patch(&name, &params, &Patch::Apply(definition))
        .await
        .map_err(failed)?;
    let deadline = Instant::now() + ESTABLISHED_WITHIN;
    while !established(&installed) {
        if Instant::now() >= deadline {
            let seconds = ESTABLISHED_WITHIN.as_secs();
            return Err(DefinitionError::NotServed { name, seconds });
        }
        sleep(Duration::from_millis(50)).await;
        installed = api.get(&name).await.map_err(failed)?;
    }
    Ok(())
}

/// What is wrong in the cluster with any of `definitions`; empty if nothing is.
pub async fn defects(
    client: &Client,
    definitions: &[CustomResourceDefinition],
) -> Result<Vec<Defect>, DefinitionError> {
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    let found: Vec<Option<Defect>> = stream::iter(definitions)
        .map(|ours| {
            let api = api.clone();
            async move {
                let name = ours.name_any();
                match api.get_opt(&name).await {
                    Ok(theirs) => Ok(defect(ours, theirs.as_ref())),
                    Err(source) => Err(DefinitionError::Api {
                        name,
                        source: Box::new(source),
                    }),
                }
            }
        })
        .buffered(AT_ONCE)
        .try_collect()
        .await?;
    Ok(found.into_iter().flatten().collect())
}

fn established(definition: &CustomResourceDefinition) -> bool {
    definition
        .status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten())
        .any(|condition| condition.type_ == "Established" && condition.status == "True")
}

fn defect(
    ours: &CustomResourceDefinition,
    theirs: Option<&CustomResourceDefinition>,
) -> Option<Defect> {
    let name = ours.name_any();
    let Some(theirs) = theirs else {
        return Some(Defect::Missing { name });
    };
    for version in &ours.spec.versions {
        let served = theirs
            .spec
            .versions
            .iter()
            .find(|v| v.name == version.name && v.served);
        let Some(served) = served.filter(|_| established(theirs)) else {
            let version = version.name.clone();
            return Some(Defect::NotServed { name, version });
        };
        let root = |schema: &Option<CustomResourceValidation>| {
            schema
                .as_ref()
                .and_then(|schema| schema.open_api_v3_schema.clone())
        };
        if let (Some(wanted), Some(actual)) = (root(&version.schema), root(&served.schema)) {
            let mut paths = Vec::new();
            narrower(&wanted, &actual, "", &mut paths);
            if !paths.is_empty() {
                paths.truncate(5);
                return Some(Defect::Narrower { name, paths });
            }
        }
    }
    None
}

/// Collects the paths at which `theirs` lacks a field of ours, or allows only some of the values that we write.
fn narrower(ours: &JSONSchemaProps, theirs: &JSONSchemaProps, path: &str, found: &mut Vec<String>) {
    if theirs.x_kubernetes_preserve_unknown_fields == Some(true) && theirs.properties.is_none() {
        return;
    }
    if let Some(allowed) = &theirs.enum_ {
        let all = ours
            .enum_
            .as_ref()
            .is_some_and(|wanted| wanted.iter().all(|value| allowed.contains(value)));
        if !all {
            found.push(format!("{path} (values)"));
        }
    }
    for (name, wanted) in ours.properties.iter().flatten() {
        let path = format!("{path}.{name}");
        match theirs.properties.as_ref().and_then(|all| all.get(name)) {
            Some(actual) => narrower(wanted, actual, &path, found),
            None => found.push(path),
        }
    }
    if let (
        Some(JSONSchemaPropsOrArray::Schema(wanted)),
        Some(JSONSchemaPropsOrArray::Schema(actual)),
    ) = (&ours.items, &theirs.items)
    {
        narrower(wanted, actual, &format!("{path}[]"), found);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn schema(value: serde_json::Value) -> JSONSchemaProps {
        serde_json::from_value(value).unwrap()
    }

    fn compared(ours: serde_json::Value, theirs: serde_json::Value) -> Vec<String> {
        let mut found = Vec::new();
        narrower(&schema(ours), &schema(theirs), "", &mut found);
        found
    }

    #[test]
    fn a_field_or_a_value_that_would_be_refused_is_named() {
        let ours = json!({"type": "object", "properties": {"status": {"type": "object", "properties": {
            "state": {"type": "string"},
            "drives": {"type": "array", "items": {"type": "object", "properties": {"model": {"type": "string"}}}},
        }}}});
        let theirs = json!({"type": "object", "properties": {"status": {"type": "object", "properties": {
            "state": {"type": "string", "enum": ["Initial"]},
            "drives": {"type": "array", "items": {"type": "object", "properties": {}}},
        }}}});
        assert_eq!(
            compared(ours, theirs),
            [".status.drives[].model", ".status.state (values)"]
        );
    }

    #[test]
    fn a_wider_definition_is_no_defect() {
        let ours = json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {"a": {"type": "string"}}}}});
        let theirs = json!({"type": "object", "properties": {"spec": {"type": "object", "properties":
            {"a": {"type": "string"}, "b": {"type": "string"}}}}});
        assert_eq!(compared(ours, theirs), [""; 0]);
    }
}
