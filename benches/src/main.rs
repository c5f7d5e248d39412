//! `make bench`: what Corten costs, measured.

fn main() {}
