//! The HTTP server.

pub mod artefacts;

pub use artefacts::{Artefact, Artefacts, Boot, Bootable, Piece};
