//! Where the control plane's programs are.

use std::path::{Path, PathBuf};

use crate::{Error, Progress, builder};

/// The Kubernetes version that is built.
pub const KUBERNETES_VERSION: &str = "1.35.4";
/// The etcd version that is built.
pub const ETCD_VERSION: &str = "3.6.8";

/// What a folder must hold to be used.
pub(crate) const PROGRAMS: [&str; 4] = [
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kubectl",
];

/// The paths of the four programs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binaries {
    /// etcd.
    pub etcd: PathBuf,
    /// kube-apiserver.
    pub apiserver: PathBuf,
    /// kube-controller-manager.
    pub controller_manager: PathBuf,
    /// kubectl, for people.
    pub kubectl: PathBuf,
}

// === impl Binaries ===

impl Binaries {
    /// Takes them from `KUBEBUILDER_ASSETS`, else from the user's cache folder, else builds them there with Go (once;
    /// some six minutes on two cores, said by `progress`).
    pub async fn find_or_build(progress: &Progress) -> Result<Self, Error> {
        if let Some(assets) =
            std::env::var_os("KUBEBUILDER_ASSETS").filter(|value| !value.is_empty())
        {
            let folder = PathBuf::from(assets);
            match Self::in_folder(&folder) {
                Ok(found) => return Ok(found),
                Err(missing) => progress.say(format!(
                    "KUBEBUILDER_ASSETS={} has no {missing}: not used",
                    folder.display()
                )),
            }
        }
        let folder = cache_folder()?;
        if let Ok(found) = Self::in_folder(&folder) {
            return Ok(found);
        }
        builder::build(&folder, progress).await?;
        Self::in_folder(&folder).map_err(|missing| Error::File {
            action: "find",
            path: folder.join(missing),
            source: std::io::ErrorKind::NotFound.into(),
        })
    }

    /// The programs in `folder`, or the name of the first one that is not there.
    pub(crate) fn in_folder(folder: &Path) -> Result<Self, &'static str> {
        if let Some(missing) = PROGRAMS
            .into_iter()
            .find(|name| !folder.join(name).is_file())
        {
            return Err(missing);
        }
        Ok(Self {
            etcd: folder.join("etcd"),
            apiserver: folder.join("kube-apiserver"),
            controller_manager: folder.join("kube-controller-manager"),
            kubectl: folder.join("kubectl"),
        })
    }
}

/// `$XDG_CACHE_HOME/corten/controlplane/<versions>`, default `~/.cache`.
fn cache_folder() -> Result<PathBuf, Error> {
    let set = |name| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    // The XDG specification: a relative path is to be ignored.
    let cache = set("XDG_CACHE_HOME")
        .filter(|path| path.is_absolute())
        .or_else(|| set("HOME").map(|home| home.join(".cache")))
        .ok_or(Error::NoCacheFolder)?;
    Ok(cache
        .join("corten/controlplane")
        .join(format!("k8s-{KUBERNETES_VERSION}-etcd-{ETCD_VERSION}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_used_only_when_all_four_programs_are_there() {
        let folder = tempfile::tempdir().unwrap();
        for (present, name) in PROGRAMS.iter().enumerate() {
            assert_eq!(Binaries::in_folder(folder.path()), Err(PROGRAMS[present]));
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        assert!(Binaries::in_folder(folder.path()).is_ok());
    }

    #[test]
    fn the_versions_are_those_that_the_go_modules_pin() {
        assert!(
            builder::KUBERNETES
                .go_mod
                .contains(&format!("k8s.io/kubernetes v{KUBERNETES_VERSION}\n"))
        );
        assert!(
            builder::ETCD
                .go_mod
                .contains(&format!("go.etcd.io/etcd/server/v3 v{ETCD_VERSION}\n"))
        );
    }
}
