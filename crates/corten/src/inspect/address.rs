//! How an address may be typed.

use anyhow::{Context as _, bail};
use url::Url;

/// `host`, `host:port`, `[v6]:port`, a bare IPv6 address, `https://…`, and `http://…` where it is written out.
pub fn parse(text: &str) -> anyhow::Result<Url> {
    let text = text.trim();
    let with_scheme = if text.contains("://") {
        text.to_owned()
    } else if text.parse::<std::net::Ipv6Addr>().is_ok() {
        format!("https://[{text}]")
    } else {
        format!("https://{text}")
    };
    let url = Url::parse(&with_scheme).with_context(|| format!("{text:?} is no address"))?;
    if !matches!(url.scheme(), "https" | "http") {
        bail!(
            "{:?} is no scheme for a BMC; use https:// or http://",
            url.scheme()
        );
    }
    if !url.username().is_empty() || url.password().is_some() {
        bail!("credentials do not belong into an address; use --username and --password-file");
    }
    if !matches!(url.path(), "" | "/" | "/redfish/v1" | "/redfish/v1/") {
        bail!("{text:?} has a path; only the BMC's address is needed");
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_https_unless_it_says_http() {
        for (text, url) in [
            ("10.0.0.1", "https://10.0.0.1/"),
            ("bmc-7.example:8443", "https://bmc-7.example:8443/"),
            ("https://10.0.0.1", "https://10.0.0.1/"),
            ("http://10.0.0.1:8000", "http://10.0.0.1:8000/"),
            ("[2001:db8::1]:8443", "https://[2001:db8::1]:8443/"),
            ("2001:db8::1", "https://[2001:db8::1]/"),
        ] {
            assert_eq!(parse(text).unwrap().as_str(), url);
        }
    }

    #[test]
    fn what_is_no_address_is_refused_with_a_reason() {
        for text in [
            "",
            "ftp://h",
            "https://",
            "https://root:x@h",
            "h:99999",
            "https://h/redfish/v1/Systems",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
