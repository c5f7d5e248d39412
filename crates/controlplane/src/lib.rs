//! A real Kubernetes control plane on loopback, for demo, tests and benchmarks.
//!
//! [`ControlPlane::start`] runs etcd, kube-apiserver and kube-controller-manager as child processes on free loopback
//! ports, RBAC on, certificates its own, everything it writes in one temporary folder. The programs come from
//! [`Binaries::find_or_build`]: `KUBEBUILDER_ASSETS`, the user's cache folder, or a build from the Go modules pinned
//! under `tools/controlplane`.
//!
//! Nothing outlives the process that started it, however that process ends: see [`Process`].

mod binaries;
mod builder;
mod error;
mod kubeconfig;
mod pki;
mod plane;
mod ports;
mod process;
mod progress;

pub use binaries::{Binaries, ETCD_VERSION, KUBERNETES_VERSION};
pub use error::Error;
pub use plane::{Component, ControlPlane, Options};
pub use process::{Janitor, Process, ProcessSpec, remove_when_gone};
pub use progress::Progress;
