//! The play with clockwork machines: what is started, applied, waited for and taken back.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use corten_api::corten::ServerPolicy;
use corten_api::metal::{Endpoint, ServerClaim};
use corten_sim::{Fleet, Shape, Timing};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use kube::ResourceExt as _;
use kube::api::{Api, PostParams};
use serde_json::{Value, json};

use super::cluster::{NAMESPACE, labels};
use super::stage::Stage;
use super::view::{self, View};

const SHAPES: [Shape; 4] = [Shape::Dell, Shape::Hpe, Shape::Lenovo, Shape::Supermicro];
const BY_NAME: &str = "by-name";
const CLAIMS: [&str; 3] = [BY_NAME, "by-label", "any-server"];
/// A reference that a registry could have. Clockwork boots nothing: its text is checked and nothing is fetched.
const IMAGE: &str = "ghcr.io/gardenlinux/gardenlinux:1877";
const AT_ONCE: usize = 8;
/// Each is many times what it takes on two cores; beyond it something is wrong.
const AVAILABLE_WITHIN: Duration = Duration::from_secs(180);
const BOUND_WITHIN: Duration = Duration::from_secs(120);
const CLEAN_WITHIN: Duration = Duration::from_secs(240);

// === impl Stage ===

impl Stage {
    /// From nothing to bound claims, and with --once back again. Without, it ends only with an error: Ctrl-C drops it.
    pub async fn play(&mut self) -> anyhow::Result<()> {
        self.start_fleet().await?;
        self.cluster.install().await?;
        self.apply_policy().await?;
        self.start_serve(Vec::new()).await?;
        self.onboard().await?;
        self.claim().await?;
        if self.args.once {
            self.give_back().await?;
            self.summary().await?;
            return Ok(());
        }
        self.how_to_look();
        self.stay().await
    }

    async fn start_fleet(&mut self) -> anyhow::Result<()> {
        let begun = Instant::now();
        let timing = Timing {
            post: Duration::from_secs(3),
            shutdown: Duration::from_secs(2),
            cycle: Duration::from_secs(1),
            erase: Duration::from_millis(500),
            ..Timing::default()
        };
        let builder = Fleet::builder()
            .machines(self.args.machines())
            .shapes(SHAPES.to_vec())
            .tls(true)
            .timing(timing);
        let fleet = builder.start().await.context("the simulated fleet")?;
        let vendors: Vec<&str> = SHAPES
            .iter()
            .zip(fleet.machines())
            .map(|(_, machine)| machine.manufacturer())
            .collect();
        self.story.reached(
            format!(
                "{} simulated machines listen (HTTPS, each with its own certificate): {}",
                fleet.len(),
                vendors.join(", ")
            ),
            begun,
        );
        self.fleet = Some(fleet);
        Ok(())
    }

    /// Out of band, all evidence of an erasure is the BMC's own word, which counts only where somebody says so.
    async fn apply_policy(&self) -> anyhow::Result<()> {
        let policy: ServerPolicy = serde_json::from_value(json!({
            "metadata": {"name": NAMESPACE, "labels": labels()},
            "spec": {"selector": {"matchLabels": labels()}, "cleaning": {"acceptReported": true}},
        }))?;
        let api: Api<ServerPolicy> = Api::all(self.cluster.client.clone());
        api.create(&PostParams::default(), &policy)
            .await
            .context("the ServerPolicy")?;
        self.story.say("applied a ServerPolicy: a BMC's word that it erased a drive is enough (cleaning.acceptReported)");
        Ok(())
    }

    async fn onboard(&mut self) -> anyhow::Result<()> {
        let begun = Instant::now();
        let api: Api<Endpoint> = Api::all(self.cluster.client.clone());
        let mut endpoints = Vec::new();
        for (number, machine) in (1..).zip(self.fleet.iter().flat_map(Fleet::machines)) {
            endpoints.push(serde_json::from_value::<Endpoint>(json!({
                "metadata": {"name": format!("{}-{number:02}", machine.shape()), "labels": labels()},
                "spec": {"macAddress": machine.mac().to_string(), "ip": machine.ip().to_string()},
            }))?);
        }
        let count = endpoints.len();
        let create = async |endpoint: Endpoint| {
            let created = api.create(&PostParams::default(), &endpoint).await;
            created
                .map(drop)
                .with_context(|| format!("Endpoint {}", endpoint.name_any()))
        };
        stream::iter(endpoints)
            .map(create)
            .buffer_unordered(AT_ONCE)
            .try_collect::<()>()
            .await?;
        self.story.say(format!(
            "applied {count} Endpoints: a MAC and an IP address each"
        ));
        self.until(
            &format!("{count} servers Available"),
            AVAILABLE_WITHIN,
            |view| view.free() == count,
        )
        .await?;
        self.story
            .reached(format!("{count} servers discovered and Available"), begun);
        Ok(())
    }

    async fn claim(&mut self) -> anyhow::Result<()> {
        let begun = Instant::now();
        let view = View::read(&self.cluster.client).await?;
        let favourite = view
            .servers
            .last()
            .map(kube::ResourceExt::name_any)
            .unwrap_or_default();
        // The choosiest first: a claim for any server could take the very one that another asks for by name, and it
        // would then wait, as it should.
        let demands = [
            json!({"serverRef": {"name": favourite}}),
            json!({"serverSelector": {"matchLabels": labels()}}),
            json!({}),
        ];
        let api: Api<ServerClaim> = Api::namespaced(self.cluster.client.clone(), NAMESPACE);
        for (name, demand) in CLAIMS.into_iter().zip(demands) {
            api.create(&PostParams::default(), &claim(name, demand)?)
                .await
                .with_context(|| format!("ServerClaim {name}"))?;
            if name == BY_NAME {
                let bound = |view: &View| view.bound() == 1;
                self.until("claim by name Bound", BOUND_WITHIN, bound)
                    .await?;
            }
        }
        self.story.say(format!(
            "applied {} ServerClaims: {}",
            CLAIMS.len(),
            CLAIMS.join(", ")
        ));
        self.until("all claims Bound", BOUND_WITHIN, |view| {
            view.bound() == CLAIMS.len()
        })
        .await?;
        self.story
            .reached(format!("{} claims Bound", CLAIMS.len()), begun);
        let on = |view: &View| {
            view.claimed().filter(|server| view::is_on(server)).count() == CLAIMS.len()
        };
        let view = self.until("their servers on", BOUND_WITHIN, on).await?;
        self.story.reached(
            format!("{} claimed servers powered on", CLAIMS.len()),
            begun,
        );
        for claim in &view.claims {
            let server = claim
                .spec
                .server_ref
                .as_ref()
                .map_or("?", |server| &server.name);
            self.story
                .say(format!("  claim {} has server {server}", claim.name_any()));
        }
        Ok(())
    }

    async fn give_back(&mut self) -> anyhow::Result<()> {
        let begun = Instant::now();
        let api: Api<ServerClaim> = Api::namespaced(self.cluster.client.clone(), NAMESPACE);
        for name in CLAIMS {
            api.delete(name, &kube::api::DeleteParams::default())
                .await
                .with_context(|| format!("deleting claim {name}"))?;
        }
        self.story
            .say("deleted the claims: each stays until its server is confirmed off");
        self.until("the claims gone", CLEAN_WITHIN, |view| {
            view.claims.is_empty()
        })
        .await?;
        self.story
            .reached("claims gone, their servers confirmed off", begun);
        let all = self.args.machines();
        self.until("all servers clean and Available", CLEAN_WITHIN, |view| {
            view.free() == all
        })
        .await?;
        self.story.reached(
            format!("every drive erased, all {all} servers Available again"),
            begun,
        );
        Ok(())
    }

    fn how_to_look(&self) {
        let kubectl = self.cluster.kubectl();
        self.story.plain(format!(
            "\nLook at it from another terminal:\n
  export KUBECONFIG={}
  {kubectl} get servers
  {kubectl} get serverclaims -n {NAMESPACE}
  {kubectl} get bmcs,endpoints,serverruns
  {kubectl} describe server {}
  {kubectl} delete serverclaim {} -n {NAMESPACE}    # and watch its server being cleaned
\nCtrl-C ends everything and leaves nothing but {} behind.\n",
            self.cluster.kubeconfig.display(),
            self.fleet
                .as_ref()
                .and_then(|fleet| fleet.machines().next())
                .map(|machine| format!("{}-01-system-0", machine.shape()))
                .unwrap_or_default(),
            CLAIMS[0],
            self.folder.path().display(),
        ));
    }
}

fn claim(name: &str, demand: Value) -> anyhow::Result<ServerClaim> {
    let mut spec = json!({"power": "On", "image": IMAGE});
    if let (Some(spec), Value::Object(demand)) = (spec.as_object_mut(), demand) {
        spec.extend(demand);
    }
    Ok(serde_json::from_value(json!({
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": labels()},
        "spec": spec,
    }))?)
}
