//! The gateway to BMCs: sessions, budgets, a tolerant Redfish model.
