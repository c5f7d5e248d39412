//! What the API server itself counted: a foreign judge of how much we write.

use std::collections::BTreeMap;

use anyhow::Result;
use kube::Client;

/// Writes by resource since the API server's start; renewals of Leases apart.
#[derive(Clone, Debug, Default)]
pub struct Writes {
    /// Count by resource, as in `servers` or `servers/status`.
    pub by_resource: BTreeMap<String, u64>,
}

impl Writes {
    /// Reads `apiserver_request_total`.
    pub async fn read(client: &Client) -> Result<Self> {
        let request = http::Request::get("/metrics").body(Vec::new())?;
        Ok(Self::parse(&client.request_text(request).await?))
    }

    fn parse(text: &str) -> Self {
        let mut by_resource: BTreeMap<String, u64> = BTreeMap::new();
        for line in text
            .lines()
            .filter(|line| line.starts_with("apiserver_request_total{"))
        {
            let verb = label(line, "verb");
            if !["POST", "PUT", "PATCH", "APPLY", "DELETE"].contains(&verb) {
                continue;
            }
            let (resource, sub) = (label(line, "resource"), label(line, "subresource"));
            if resource == "leases" || resource.is_empty() || resource.ends_with("reviews") {
                continue;
            }
            let name = if sub.is_empty() {
                resource.to_owned()
            } else {
                format!("{resource}/{sub}")
            };
            let count = line
                .rsplit(' ')
                .next()
                .and_then(|v| v.parse::<f64>().ok())
                .unwrap_or(0.0);
            *by_resource.entry(name).or_default() += count as u64;
        }
        Self { by_resource }
    }

    /// What was written since `before`.
    pub fn since(&self, before: &Self) -> Self {
        let by_resource = self
            .by_resource
            .iter()
            .map(|(k, v)| {
                (
                    k.clone(),
                    v - before.by_resource.get(k).copied().unwrap_or(0),
                )
            })
            .filter(|(_, v)| *v > 0)
            .collect();
        Self { by_resource }
    }

    /// All of them.
    pub fn total(&self) -> u64 {
        self.by_resource.values().sum()
    }
}

fn label<'a>(line: &'a str, name: &str) -> &'a str {
    line.split_once(&format!("{name}=\""))
        .and_then(|(_, rest)| rest.split('"').next())
        .unwrap_or("")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_are_summed_by_resource_and_leases_left_out() {
        let text = r#"
apiserver_request_total{code="201",component="apiserver",dry_run="",group="metal.ironcore.dev",resource="servers",scope="resource",subresource="",verb="POST",version="v1alpha1"} 3
apiserver_request_total{code="200",component="apiserver",dry_run="",group="metal.ironcore.dev",resource="servers",scope="resource",subresource="status",verb="APPLY",version="v1alpha1"} 4
apiserver_request_total{code="200",component="apiserver",dry_run="",group="coordination.k8s.io",resource="leases",scope="resource",subresource="",verb="PUT",version="v1"} 9
apiserver_request_total{code="200",component="apiserver",dry_run="",group="",resource="pods",scope="cluster",subresource="",verb="LIST",version="v1"} 9
"#;
        let writes = Writes::parse(text);
        assert_eq!(writes.total(), 7);
        assert_eq!(writes.by_resource["servers"], 3);
        assert_eq!(writes.by_resource["servers/status"], 4);
    }
}
