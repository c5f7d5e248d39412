//! What is printed, under the names that the objects have.

use comfy_table::{ContentArrangement, Table, presets};
use corten_api::metal::{BmcStatus, ServerStatus};
use corten_redfish::inventory::{Inventory, SectionState};
use corten_redfish::quirks::Product;
use serde::Serialize;
use serde_json::Value;

/// All that one inspection found.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    pub address: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redfish_version: Option<String>,
    /// What `corten.dev/tls-pin` would hold.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<String>,
    pub requests: u64,
    pub connections: u64,
    pub seconds: f64,
    /// What the table of quirks has for this product.
    pub quirks: Vec<Known>,
    pub bmc: Bmc,
    pub servers: Vec<Server>,
}

/// A deviation that is known of the product.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Known {
    /// As in `corten_redfish::quirks`.
    pub name: String,
    /// `Vendor`: it was applied. `Capability`: it is applied where a document shows it.
    pub told_by: String,
    /// The recording or the public source.
    pub shown_by: &'static str,
}

/// The rows for `product`.
pub fn quirks(product: &Product) -> Vec<Known> {
    product
        .rows()
        .map(|row| Known {
            name: format!("{:?}", row.quirk),
            told_by: format!("{:?}", row.told_by),
            shown_by: row.shown_by,
        })
        .collect()
}

#[derive(Debug, Serialize)]
pub struct Bmc {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<BmcStatus>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Server {
    #[serde(rename = "systemURI")]
    pub system_uri: String,
    #[serde(rename = "systemUUID", skip_serializing_if = "Option::is_none")]
    pub system_uuid: Option<String>,
    pub status: ServerStatus,
    /// What the BMC offers and did not give, with the reason.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub not_read: Vec<String>,
}

/// The parts of the inventory that are missing though the BMC offers them.
pub fn not_read(inventory: &Inventory) -> Vec<String> {
    let mut lines = Vec::new();
    for (name, section) in inventory.sections.named() {
        if let SectionState::Failed(reason) = &section.state {
            lines.push(format!("{name}: {reason}"));
        }
        for unread in &section.unread {
            lines.push(format!("{name}: {}: {}", unread.path, unread.reason));
        }
    }
    lines
}

// === impl Report ===

impl Report {
    /// For people: one table for the BMC and one for each server, a row for each field.
    pub fn table(&self) -> anyhow::Result<String> {
        let mut out = format!("BMC {}", self.address);
        if let Some(version) = &self.redfish_version {
            out.push_str(&format!(", Redfish {version}"));
        }
        out.push('\n');
        let mut bmc = Table::new();
        if let Some(certificate) = &self.certificate {
            row(&mut bmc, "certificate", certificate);
        }
        match &self.bmc.status {
            Some(status) => rows(&mut bmc, "status", &serde_json::to_value(status)?),
            None => row(&mut bmc, "status", "the BMC names no manager"),
        }
        for quirk in &self.quirks {
            let told = match quirk.told_by.as_str() {
                "Capability" => "applied where a document shows it",
                _ => "applied",
            };
            row(&mut bmc, "quirk", &format!("{}, {told}", quirk.name));
        }
        finish(&mut out, bmc);
        for server in &self.servers {
            out.push_str(&format!("\nServer {}\n", server.system_uri));
            let mut table = Table::new();
            row(
                &mut table,
                "systemUUID",
                server.system_uuid.as_deref().unwrap_or("none"),
            );
            rows(&mut table, "status", &serde_json::to_value(&server.status)?);
            for line in &server.not_read {
                row(&mut table, "not read", line);
            }
            finish(&mut out, table);
        }
        if self.servers.is_empty() {
            out.push_str("\nthe BMC names no system\n");
        }
        let (requests, connections) = (self.requests, self.connections);
        out.push_str(&format!(
            "\nrequests: {requests}, connections: {connections}, time: {} s\n",
            self.seconds
        ));
        Ok(out)
    }
}

fn finish(out: &mut String, mut table: Table) {
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Dynamic);
    out.push_str(&table.trim_fmt());
    out.push('\n');
}

fn row(table: &mut Table, name: &str, value: &str) {
    table.add_row([name, value]);
}

/// A row for each scalar; a list of objects gets a row for each of them.
fn rows(table: &mut Table, prefix: &str, value: &Value) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                rows(table, &format!("{prefix}.{name}"), value);
            }
        }
        Value::Array(items) if items.iter().any(Value::is_object) => {
            for (i, item) in items.iter().enumerate() {
                row(table, &format!("{prefix}[{i}]"), &line(item));
            }
        }
        value => row(table, prefix, &line(value)),
    }
}

/// A value on one line: `id: CPU1, cores: 32, drives: [(…), (…)]`.
fn line(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Object(fields) => {
            let fields: Vec<String> = fields
                .iter()
                .map(|(name, value)| format!("{name}: {}", line(value)))
                .collect();
            fields.join(", ")
        }
        Value::Array(items) => {
            let items: Vec<String> = items
                .iter()
                .map(|item| match item {
                    Value::Object(_) => format!("({})", line(item)),
                    item => line(item),
                })
                .collect();
            items.join(" ")
        }
        other => other.to_string(),
    }
}
