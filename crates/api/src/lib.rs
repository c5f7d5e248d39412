//! The kinds that Corten speaks, as Rust types and CustomResourceDefinitions.
