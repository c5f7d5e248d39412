//! The whole life of a server on real firmware and a real kernel: discovered from inside, installed, given back, proved clean.
//!
//! QEMU with OVMF in a network namespace, dnsmasq as the site's DHCP, `corten serve` as a process of its own with its boot services, a real
//! kube-apiserver, the real probe in its ramdisk. `make e2e`, and part of `make test`.

mod e2e {
    pub mod faults;
    pub mod hardware;
    pub mod life;
    pub mod secure;
    pub mod site;
}
