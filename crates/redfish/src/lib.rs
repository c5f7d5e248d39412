//! The gateway to BMCs: sessions, budgets, a tolerant Redfish model.

pub mod document;
pub mod inventory;
pub mod operations;

pub use document::Document;
