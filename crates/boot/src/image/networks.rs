//! Which addresses images may come from.
//!
//! Whoever may write a claim says what Corten fetches, and Corten asks from a place in the network where the author of a claim is not: among BMCs, and
//! at its own host. So names are resolved first, each redirect again, and only what is allowed is connected to.

use std::net::IpAddr;

use ipnet::IpNet;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// Networks that images may come from; with none named, all but this host itself and its link.
#[derive(Clone, Debug, Default)]
pub struct Networks {
    allowed: Vec<IpNet>,
    /// Hosts that the site's own settings name: its proxies. What they fetch for us they resolve themselves.
    proxies: Vec<String>,
}

/// The name has addresses, and none of them is allowed.
#[derive(Debug, thiserror::Error)]
#[error("not an address that images are fetched from")]
pub(super) struct NotAllowed;

// === impl Networks ===

impl Networks {
    /// These and no others.
    #[must_use]
    pub fn only(networks: Vec<IpNet>) -> Self {
        Self {
            allowed: networks,
            proxies: Vec::new(),
        }
    }

    /// Beside the proxies of the environment (`HTTPS_PROXY` and the like), which are asked whatever their address is.
    #[must_use]
    pub fn with_proxies_of_the_environment(self) -> Self {
        const NAMES: [&str; 3] = ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"];
        let set = NAMES.iter().flat_map(|name| {
            let lower = name.to_ascii_lowercase();
            [std::env::var(name), std::env::var(lower)]
        });
        Self {
            proxies: set.flatten().filter_map(|proxy| host_of(&proxy)).collect(),
            ..self
        }
    }

    pub(super) fn allow(&self, address: IpAddr) -> bool {
        // ::ffff:127.0.0.1 is 127.0.0.1.
        let address = address.to_canonical();
        if self.allowed.is_empty() {
            return !is_near(address);
        }
        self.allowed
            .iter()
            .any(|network| network.contains(&address))
    }
}

impl Resolve for Networks {
    fn resolve(&self, name: Name) -> Resolving {
        let networks = self.clone();
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let is_proxy = networks.proxies.iter().any(|proxy| proxy == name.as_str());
            let allowed: Vec<_> = found
                .filter(|address| is_proxy || networks.allow(address.ip()))
                .collect();
            if allowed.is_empty() {
                return Err(NotAllowed.into());
            }
            let allowed: Addrs = Box::new(allowed.into_iter());
            Ok(allowed)
        })
    }
}

/// The host of a proxy's setting, with or without a scheme.
fn host_of(proxy: &str) -> Option<String> {
    let with_scheme = if proxy.contains("://") {
        proxy.to_owned()
    } else {
        format!("http://{proxy}")
    };
    let url = url::Url::parse(&with_scheme).ok()?;
    url.host_str().map(str::to_owned)
}

/// This host, or what is only on its link: the metadata services of clouds are there too.
fn is_near(address: IpAddr) -> bool {
    address.is_loopback()
        || address.is_unspecified()
        || address.is_multicast()
        || match address {
            IpAddr::V4(address) => address.is_link_local() || address.is_broadcast(),
            IpAddr::V6(address) => address.is_unicast_link_local(),
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_host_and_its_link_are_no_place_for_images_unless_they_are_named() {
        let any = Networks::default();
        let near = [
            "127.0.0.1",
            "::1",
            "::ffff:127.0.0.1",
            "0.0.0.0",
            "169.254.169.254",
            "fe80::1",
            "224.0.0.1",
        ];
        for address in near {
            assert!(!any.allow(address.parse().unwrap()), "{address}");
        }
        for address in ["10.0.0.1", "192.0.2.1", "2001:db8::1"] {
            assert!(any.allow(address.parse().unwrap()), "{address}");
        }
        let only = Networks::only(vec!["10.1.0.0/16".parse().unwrap()]);
        assert!(only.allow("10.1.2.3".parse().unwrap()));
        assert!(!only.allow("10.2.0.1".parse().unwrap()));
        assert!(!only.allow("127.0.0.1".parse().unwrap()));
    }

    #[test]
    fn a_proxy_is_known_by_its_host() {
        for proxy in [
            "http://proxy.site:3128",
            "proxy.site:3128",
            "https://u:p@proxy.site/",
        ] {
            assert_eq!(host_of(proxy).as_deref(), Some("proxy.site"), "{proxy}");
        }
        assert_eq!(host_of(""), None);
    }
}
