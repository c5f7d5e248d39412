//! The `corten` binary: subcommands and wiring, no logic.

fn main() {}
