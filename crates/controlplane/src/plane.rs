use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::{Api, PostParams};
use kube::{Client, Config};

use crate::pki::{Authority, Files};
use crate::process::{Janitor, Process, ProcessSpec, remove_when_gone};
use crate::{Binaries, Error, Progress, kubeconfig, ports};

const READY_WITHIN: Duration = Duration::from_secs(90);
const STOP_WITHIN: Duration = Duration::from_secs(10);
/// A port may be taken between our look and the component's bind.
const ATTEMPTS: u32 = 4;

/// How to start a [`ControlPlane`].
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The programs; found or built if absent.
    pub binaries: Option<Binaries>,
    /// The folder under which the control plane makes its own; the system's temporary folder if absent.
    pub folder: Option<PathBuf>,
    /// Where progress lines go.
    pub progress: Progress,
    /// Flags added to kube-apiserver's, as in `--event-ttl=10m`.
    pub apiserver_flags: Vec<String>,
}

/// One of the three processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Component {
    /// etcd.
    Etcd,
    /// kube-apiserver.
    ApiServer,
    /// kube-controller-manager.
    ControllerManager,
}

/// A running control plane. Dropping it kills its processes and removes its folder; so does the end of this process.
pub struct ControlPlane {
    // Fields drop in this order: the processes before the folder that they write to.
    running: BTreeMap<Component, Process>,
    specs: BTreeMap<Component, ProcessSpec>,
    binaries: Binaries,
    config: Config,
    kubeconfig: PathBuf,
    authority: Authority,
    port: u16,
    folder: PathBuf,
    _janitor: Janitor,
}

// === impl Component ===

impl Component {
    const ALL: [Self; 3] = [Self::Etcd, Self::ApiServer, Self::ControllerManager];

    /// The program's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::ApiServer => "kube-apiserver",
            Self::ControllerManager => "kube-controller-manager",
        }
    }
}

// === impl ControlPlane ===

impl ControlPlane {
    /// Starts a control plane and returns when it serves and its controllers work: some seconds.
    pub async fn start(options: Options) -> Result<Self, Error> {
        // Fails only where somebody installed a provider before us, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let binaries = match options.binaries.clone() {
            Some(binaries) => binaries,
            None => Binaries::find_or_build(&options.progress).await?,
        };
        let begun = Instant::now();
        let mut attempt = 1;
        loop {
            match Self::attempt(&options, &binaries).await {
                Ok(plane) => {
                    options.progress.say(format!(
                        "control plane ready in {:.1} s",
                        begun.elapsed().as_secs_f64()
                    ));
                    return Ok(plane);
                }
                Err(Error::EndedEarly {
                    tail, component, ..
                }) if tail.contains("address already in use") && attempt < ATTEMPTS => {
                    tracing::debug!(
                        component,
                        attempt,
                        "a port was taken meanwhile, trying others"
                    );
                    attempt += 1;
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn attempt(options: &Options, binaries: &Binaries) -> Result<Self, Error> {
        let parent = options.folder.clone().unwrap_or_else(std::env::temp_dir);
        let folder = tempfile::Builder::new()
            .prefix("corten-controlplane-")
            .tempdir_in(&parent)
            .map_err(Error::file("cannot create a folder in", &parent))?
            .keep();
        let janitor = remove_when_gone(&folder)?;
        let authority = Authority::new("corten-controlplane")?;
        let files = Files::write(&folder, &authority)?;
        let (client_port, peer_port, port) = (ports::free()?, ports::free()?, ports::free()?);
        let admin = kubeconfig::text(
            port,
            &authority.certificate(),
            "admin",
            &authority.client("admin", Some("system:masters"))?,
        );
        let controller = "system:kube-controller-manager";
        let manager = kubeconfig::text(
            port,
            &authority.certificate(),
            controller,
            &authority.client(controller, None)?,
        );
        let put = |name: &str, text: &str| {
            let path = folder.join(name);
            std::fs::write(&path, text)
                .map_err(Error::file("cannot write", &path))
                .map(|()| path)
        };
        let admin_path = put("kubeconfig", &admin)?;
        let manager_path = put("kube-controller-manager.kubeconfig", &manager)?;
        let spec = |component: Component, program: &Path, arguments: Vec<String>| {
            let name = component.name();
            (
                component,
                ProcessSpec {
                    name,
                    program: program.to_path_buf(),
                    arguments,
                    environment: Vec::new(),
                    // What a user's shell has set for a cluster or an etcd of his must not steer ours.
                    without: std::env::vars()
                        .map(|(name, _)| name)
                        .filter(|name| foreign(name))
                        .collect(),
                    log: folder.join(format!("{name}.log")),
                },
            )
        };
        let mut apiserver = apiserver_arguments(port, client_port, &files, &folder);
        apiserver.extend(options.apiserver_flags.iter().cloned());
        let specs = BTreeMap::from([
            spec(
                Component::Etcd,
                &binaries.etcd,
                etcd_arguments(client_port, peer_port, &files, &folder),
            ),
            spec(Component::ApiServer, &binaries.apiserver, apiserver),
            spec(
                Component::ControllerManager,
                &binaries.controller_manager,
                manager_arguments(&manager_path, &files),
            ),
        ]);
        let mut plane = Self {
            running: BTreeMap::new(),
            specs,
            binaries: binaries.clone(),
            config: kubeconfig::config(&admin).await?,
            kubeconfig: admin_path,
            authority,
            port,
            folder,
            _janitor: janitor,
        };
        plane.launch(Component::Etcd)?;
        plane.launch(Component::ApiServer)?;
        plane.serves().await?;
        plane.launch(Component::ControllerManager)?;
        plane.controls().await?;
        Ok(plane)
    }

    /// Configuration of the administrator (group `system:masters`).
    pub fn config(&self) -> Config {
        self.config.clone()
    }

    /// A client of the administrator's, with connections of its own.
    pub fn client(&self) -> Result<Client, Error> {
        Ok(Client::try_from(self.config())?)
    }

    /// Configuration that acts as `user` in `groups`, with the permissions that RBAC gives those (by impersonation).
    pub fn config_as(&self, user: &str, groups: &[&str]) -> Config {
        let mut config = self.config();
        config.auth_info.impersonate = Some(user.to_owned());
        config.auth_info.impersonate_groups =
            Some(groups.iter().map(|&group| group.to_owned()).collect());
        config
    }

    /// Configuration of a service account that exists, by a token of one hour for it.
    pub async fn config_of_service_account(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<Config, Error> {
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client()?, namespace);
        let request = TokenRequest {
            spec: TokenRequestSpec {
                expiration_seconds: Some(3600),
                ..TokenRequestSpec::default()
            },
            ..TokenRequest::default()
        };
        let issued = accounts
            .create_token_request(name, &PostParams::default(), &request)
            .await?;
        let mut config = self.config();
        config.auth_info = kube::config::AuthInfo {
            token: issued.status.map(|status| status.token.into()),
            ..kube::config::AuthInfo::default()
        };
        config.default_namespace = namespace.to_owned();
        Ok(config)
    }

    /// Text of a kubeconfig for `user` in `group`, by a client certificate: for programs that run beside us.
    pub fn kubeconfig_for(&self, user: &str, group: Option<&str>) -> Result<String, Error> {
        let pair = self.authority.client(user, group)?;
        Ok(kubeconfig::text(
            self.port,
            &self.authority.certificate(),
            user,
            &pair,
        ))
    }

    /// The administrator's kubeconfig file.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// The programs that this control plane runs, with the kubectl that fits it.
    pub fn binaries(&self) -> &Binaries {
        &self.binaries
    }

    /// The folder with data and logs (`kube-apiserver.log` and so on); it goes with the control plane.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Ends a component in order (SIGTERM, after 10 s SIGKILL).
    pub async fn stop(&mut self, component: Component) {
        if let Some(mut process) = self.running.remove(&component) {
            process.stop(STOP_WITHIN).await;
        }
    }

    /// Ends a component at once (SIGKILL).
    pub async fn kill(&mut self, component: Component) {
        if let Some(mut process) = self.running.remove(&component) {
            process.kill().await;
        }
    }

    /// Stops a component from running without ending it (SIGSTOP): connections stay open and nobody answers.
    pub fn freeze(&mut self, component: Component) {
        if let Some(process) = self.running.get_mut(&component) {
            process.signal("STOP");
        }
    }

    /// Lets a frozen component go on.
    pub fn thaw(&mut self, component: Component) {
        if let Some(process) = self.running.get_mut(&component) {
            process.signal("CONT");
        }
    }

    /// Starts a component again on its old port and data, stopping it first if it runs, and waits until it is ready.
    pub async fn restart(&mut self, component: Component) -> Result<(), Error> {
        self.stop(component).await;
        self.launch(component)?;
        match component {
            Component::Etcd | Component::ApiServer
                if self.running.contains_key(&Component::ApiServer) =>
            {
                self.serves().await
            }
            Component::Etcd | Component::ApiServer => Ok(()),
            Component::ControllerManager => self.controls().await,
        }
    }

    /// Ends everything in order, users before what they use.
    pub async fn shutdown(mut self) {
        for component in Component::ALL.into_iter().rev() {
            self.stop(component).await;
        }
    }

    fn launch(&mut self, component: Component) -> Result<(), Error> {
        if let Some(spec) = self.specs.get(&component) {
            self.running.insert(component, Process::start(spec)?);
        }
        Ok(())
    }

    /// Waits until the API server calls itself ready, etcd included.
    async fn serves(&mut self) -> Result<(), Error> {
        let client = self.client()?;
        self.ready(Component::ApiServer, || async {
            let request = http::Request::get("/readyz").body(Vec::new());
            match request {
                Ok(request) => client.request_text(request).await.is_ok(),
                Err(_) => false,
            }
        })
        .await
    }

    /// Waits until the controllers have made the default namespace's service account, without which no pod may be created.
    async fn controls(&mut self) -> Result<(), Error> {
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client()?, "default");
        self.ready(Component::ControllerManager, || async {
            accounts.get("default").await.is_ok()
        })
        .await
    }

    async fn ready<F: Future<Output = bool>>(
        &mut self,
        component: Component,
        probe: impl Fn() -> F,
    ) -> Result<(), Error> {
        let deadline = Instant::now() + READY_WITHIN;
        loop {
            for process in self.running.values_mut() {
                if process.exited().is_some() {
                    return Err(Error::EndedEarly {
                        component: process.name(),
                        log: process.log().to_path_buf(),
                        tail: process.log_tail(),
                    });
                }
            }
            // A frozen or half-started server accepts and does not answer.
            if tokio::time::timeout(Duration::from_secs(2), probe())
                .await
                .unwrap_or(false)
            {
                return Ok(());
            }
            if Instant::now() >= deadline {
                let (log, tail) = self
                    .running
                    .get(&component)
                    .map(|process| (process.log().to_path_buf(), process.log_tail()))
                    .unwrap_or_default();
                return Err(Error::NotReady {
                    component: component.name(),
                    seconds: READY_WITHIN.as_secs(),
                    log,
                    tail,
                });
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

impl std::fmt::Debug for ControlPlane {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ControlPlane")
            .field("folder", &self.folder)
            .field("port", &self.port)
            .finish_non_exhaustive()
    }
}

/// etcd takes every flag from a variable too; the others follow these.
fn foreign(variable: &str) -> bool {
    variable.starts_with("ETCD_")
        || matches!(
            variable,
            "KUBECONFIG"
                | "KUBERNETES_SERVICE_HOST"
                | "KUBERNETES_SERVICE_PORT"
                | "KUBERNETES_MASTER"
        )
}

fn flag(name: &str, value: impl std::fmt::Display) -> String {
    format!("--{name}={value}")
}

fn etcd_arguments(client_port: u16, peer_port: u16, files: &Files, folder: &Path) -> Vec<String> {
    let (client, peer) = (
        format!("https://127.0.0.1:{client_port}"),
        format!("https://127.0.0.1:{peer_port}"),
    );
    let mut arguments = vec![
        flag("data-dir", folder.join("etcd").display()),
        flag("listen-client-urls", &client),
        flag("advertise-client-urls", &client),
        flag("listen-peer-urls", &peer),
        flag("initial-advertise-peer-urls", &peer),
        flag("initial-cluster", format!("default={peer}")),
        // Throw-away data: what a crash of the machine loses, nobody misses.
        "--unsafe-no-fsync".to_owned(),
        "--log-level=warn".to_owned(),
    ];
    // Mutual TLS: on a shared machine, an open etcd would hand the cluster to everybody.
    for prefix in ["", "peer-"] {
        arguments.extend([
            flag(&format!("{prefix}cert-file"), files.etcd.display()),
            flag(&format!("{prefix}key-file"), files.etcd_key.display()),
            flag(
                &format!("{prefix}trusted-ca-file"),
                files.authority.display(),
            ),
            format!("--{prefix}client-cert-auth"),
        ]);
    }
    arguments
}

fn apiserver_arguments(port: u16, etcd_port: u16, files: &Files, folder: &Path) -> Vec<String> {
    vec![
        flag("etcd-servers", format!("https://127.0.0.1:{etcd_port}")),
        flag("etcd-cafile", files.authority.display()),
        flag("etcd-certfile", files.etcd.display()),
        flag("etcd-keyfile", files.etcd_key.display()),
        flag("bind-address", "127.0.0.1"),
        flag("secure-port", port),
        flag("tls-cert-file", files.server.display()),
        flag("tls-private-key-file", files.server_key.display()),
        flag("cert-dir", folder.display()),
        flag("client-ca-file", files.authority.display()),
        flag("authorization-mode", "RBAC"),
        flag("service-account-issuer", "https://kubernetes.default.svc"),
        flag("service-account-key-file", files.service_accounts.display()),
        flag(
            "service-account-signing-key-file",
            files.service_accounts_key.display(),
        ),
        flag("service-cluster-ip-range", "10.96.0.0/16"),
        flag("allow-privileged", true),
        // A loopback address is refused as an endpoint, and nothing here runs inside the cluster.
        flag("endpoint-reconciler-type", "none"),
        flag("profiling", false),
    ]
}

fn manager_arguments(kubeconfig: &Path, files: &Files) -> Vec<String> {
    vec![
        flag("kubeconfig", kubeconfig.display()),
        flag(
            "service-account-private-key-file",
            files.service_accounts_key.display(),
        ),
        flag("root-ca-file", files.authority.display()),
        flag("use-service-account-credentials", true),
        flag("leader-elect", false),
        flag("secure-port", 0),
        // There are no nodes and no cloud.
        flag(
            "controllers",
            "*,-node-ipam-controller,-node-lifecycle-controller,-service-lb-controller,-cloud-node-lifecycle-controller,-node-route-controller",
        ),
        // Tests delete namespaces by the dozen; the default of 20 a second would be what they wait for.
        flag("kube-api-qps", 200),
        flag("kube-api-burst", 400),
        flag("profiling", false),
    ]
}
