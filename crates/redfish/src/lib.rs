//! The gateway to BMCs: sessions, budgets, a tolerant Redfish model.

pub mod document;

pub use document::Document;
