//! What the tests that cross processes share.
//!
//! A test against a real API server takes [`control_plane::shared`], or a whole [`lab`] with machines and controllers.
//! A test that cannot run here says so with [`skip!`], and `make test` counts it.

pub mod control_plane;
pub mod replay;

/// Ends the test, counted as skipped: `make test` counts the lines that begin with `skipped: `.
#[macro_export]
macro_rules! skip {
    ($($reason:tt)*) => {{
        println!("skipped: {}: {}", ::std::thread::current().name().unwrap_or("a test"), format_args!($($reason)*));
        return;
    }};
}
