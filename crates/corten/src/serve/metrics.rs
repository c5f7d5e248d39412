//! What the engine knows, as metrics: read when somebody asks, so that nothing is counted twice or kept up to date for nobody.
//!
//! Series: a handful, one for each state that a server is in and each reason for which BMCs do not answer, and one for each BMC of this shard.

use std::collections::BTreeMap;
use std::fmt;

use corten_engine::Context;
use corten_engine::fleet::{Access, Link};
use kube::ResourceExt as _;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

/// One engine's numbers.
pub struct Fleet(Context);

impl Fleet {
    /// Adds the engine's numbers to the process's metrics.
    pub fn register(context: &Context) {
        corten_kit::Metrics::register_collector(Box::new(Self(context.clone())));
    }
}

impl fmt::Debug for Fleet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fleet")
    }
}

impl Collector for Fleet {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let gateway = self.0.gateway.counters();
        let counters = [
            (
                "bmc_requests",
                "HTTP requests sent to BMCs, logins included",
                gateway.requests,
            ),
            (
                "bmc_connections",
                "Connections made to BMCs",
                gateway.connections,
            ),
            ("bmc_logins", "Logins tried at BMCs", gateway.logins),
            (
                "bmc_logins_refused",
                "Logins that BMCs refused",
                gateway.logins_refused,
            ),
            (
                "bmc_sessions_lapsed",
                "Sessions opened again because a BMC had forgotten them",
                gateway.sessions_lapsed,
            ),
            (
                "bmc_silences",
                "Requests that no BMC answered",
                gateway.silences,
            ),
            (
                "bmc_not_modified",
                "Conditional requests that spared a body",
                gateway.not_modified,
            ),
        ];
        for (name, help, value) in counters {
            let counter = ConstCounter::new(value);
            counter.encode(encoder.encode_descriptor(name, help, None, MetricType::Counter)?)?;
        }

        let mut states: BTreeMap<String, i64> = BTreeMap::new();
        for server in self.0.servers.store.all() {
            let state = server
                .status
                .as_ref()
                .and_then(|status| status.state.as_ref());
            let state = state.map_or_else(|| "Initial".to_owned(), ToString::to_string);
            *states.entry(state).or_default() += 1;
        }
        let mut family = encoder.encode_descriptor(
            "servers",
            "Servers of this shard by state",
            None,
            MetricType::Gauge,
        )?;
        for (state, count) in &states {
            ConstGauge::new(*count).encode(family.encode_family(&[("state", state.as_str())])?)?;
        }

        let mut seen = Vec::new();
        let mut links: BTreeMap<String, i64> = BTreeMap::new();
        let mut left_alone = 0;
        for bmc in self.0.bmcs.store.all() {
            let name = bmc.name_any();
            let station = self.0.fleet.station(&Access::Bmc(name.as_str().into()));
            let link = station.as_ref().map(|station| station.link.clone());
            let link = match link.unwrap_or_default() {
                Link::Unknown => "NotTried".to_owned(),
                Link::Up { .. } => "Answers".to_owned(),
                Link::Down { reason, .. } => reason.to_string(),
            };
            *links.entry(link).or_default() += 1;
            let Some(station) = station else { continue };
            let handle = station.bmc.as_ref();
            left_alone += i64::from(handle.is_some_and(|bmc| bmc.is_left_alone()));
            if let Some(at) = station.systems.iter().map(|system| system.read_at).max() {
                seen.push((name, at.as_second()));
            }
        }
        let mut family = encoder.encode_descriptor(
            "bmcs",
            "BMCs of this shard by whether they answer, or why not",
            None,
            MetricType::Gauge,
        )?;
        for (link, count) in &links {
            ConstGauge::new(*count).encode(family.encode_family(&[("link", link.as_str())])?)?;
        }
        let left_alone = ConstGauge::new(left_alone);
        left_alone.encode(encoder.encode_descriptor(
            "bmc_breakers_open",
            "BMCs that were silent too often and are asked only now and then",
            None,
            MetricType::Gauge,
        )?)?;
        let mut family = encoder.encode_descriptor(
            "bmc_last_seen_timestamp_seconds",
            "When a BMC last showed a system, in Unix time",
            None,
            MetricType::Gauge,
        )?;
        for (name, at) in &seen {
            ConstGauge::new(*at).encode(family.encode_family(&[("bmc", name.as_str())])?)?;
        }
        Ok(())
    }
}
