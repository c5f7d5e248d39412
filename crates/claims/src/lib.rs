//! The allocator: binds ServerClaims to Servers.
