use std::path::PathBuf;

/// Why there is no control plane. A retry helps only where the variant says so.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file or folder of ours could not be read or written.
    #[error("{action} {path}")]
    File {
        /// What was attempted, as in "cannot write".
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The operating system's reason.
        source: std::io::Error,
    },
    /// A program could not be started at all.
    #[error("cannot start {program}")]
    Spawn {
        /// The program.
        program: String,
        /// The operating system's reason.
        source: std::io::Error,
    },
    /// Neither `HOME` nor `XDG_CACHE_HOME` is set, so there is no place for the built programs.
    #[error("neither XDG_CACHE_HOME nor HOME is set: set one of them, or point KUBEBUILDER_ASSETS at a folder with {}", crate::binaries::PROGRAMS.join(", "))]
    NoCacheFolder,
    /// The programs have to be built, and there is no Go on the path.
    #[error("the control plane's programs have to be built once and need Go 1.25 or newer, but no `go` was found: install it (https://go.dev/doc/install), or point KUBEBUILDER_ASSETS at a folder with {}", crate::binaries::PROGRAMS.join(", "))]
    GoMissing,
    /// The Go build failed; often the network, in which case a retry continues where it stopped.
    #[error("go build of {what} failed ({status}):\n{output}")]
    Build {
        /// Which programs.
        what: &'static str,
        /// Go's exit status.
        status: std::process::ExitStatus,
        /// The end of Go's output.
        output: String,
    },
    /// A component ended while it should have run. A retry helps if its port was taken meanwhile.
    #[error("{component} ended early; the end of {log}:\n{tail}", log = .log.display())]
    EndedEarly {
        /// The component.
        component: &'static str,
        /// Its log file.
        log: PathBuf,
        /// The last lines of its log.
        tail: String,
    },
    /// A component runs, but did not become ready in time.
    #[error("{component} was not ready within {seconds} s; the end of {log}:\n{tail}", log = .log.display())]
    NotReady {
        /// The component.
        component: &'static str,
        /// The bound.
        seconds: u64,
        /// Its log file.
        log: PathBuf,
        /// The last lines of its log.
        tail: String,
    },
    /// No free port was found on loopback.
    #[error("no free port between {from} and {to} on 127.0.0.1")]
    NoFreePort {
        /// First port tried from.
        from: u16,
        /// End of the range.
        to: u16,
    },
    /// A certificate could not be made.
    #[error("cannot make a certificate")]
    Certificate(#[from] rcgen::Error),
    /// The kubeconfig that we wrote could not be read back.
    #[error("cannot use the kubeconfig")]
    Kubeconfig(#[from] kube::config::KubeconfigError),
    /// The API server refused or did not answer.
    #[error("the API server")]
    Api(#[from] kube::Error),
}

impl Error {
    pub(crate) fn file(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::File {
            action,
            path,
            source,
        }
    }
}
