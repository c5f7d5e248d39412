//! The network of a ramdisk: links, addresses, DHCP, and who is at the other end of the cable.

pub mod dhcp;
pub mod frame;
pub mod lease;
pub mod link;
pub mod lldp;
pub mod neighbours;
