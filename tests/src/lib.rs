//! What the tests that cross processes share.
//!
//! A test against a real API server takes [`control_plane::shared`], or a whole [`lab`] with machines and controllers.
//! A test that cannot run here says so with [`skip!`], and `make test` counts it.

pub mod control_plane;
pub mod lab;
pub mod netns;
pub mod replay;

/// Ends the test, counted as skipped: `make test` counts the lines that begin with `skipped: `.
#[macro_export]
macro_rules! skip {
    ($($reason:tt)*) => {{
        println!("skipped: {}: {}", ::std::thread::current().name().unwrap_or("a test"), format_args!($($reason)*));
        return;
    }};
}

/// Shows the controllers' logs in a failing test's output; `CORTEN_TEST_LOG` says how much (default `warn`).
pub fn logs() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("CORTEN_TEST_LOG")
        .unwrap_or_else(|_| "warn,kube_client=off".into());
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_test_writer()
        .try_init();
}

/// The folder of metal-operator's own programs, `metalprobe` and `registry`, or why they cannot be had. The first call builds them, which takes minutes.
///
/// # Errors
/// Why not, for [`skip!`].
///
/// # Panics
/// They could be had, and do not build.
pub async fn metal_operator() -> Result<std::path::PathBuf, String> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/interop-metal");
    let made = tokio::process::Command::new(script)
        .stdin(std::process::Stdio::null())
        .output()
        .await
        .map_err(|error| format!("scripts/interop-metal does not run: {error}"))?;
    let said = String::from_utf8_lossy(&made.stderr).trim().to_owned();
    match made.status.code() {
        Some(0) => Ok(String::from_utf8_lossy(&made.stdout).trim().into()),
        Some(3) => Err(said),
        _ => panic!("scripts/interop-metal: {said}"),
    }
}
