//! From a link in a document to the URL that is asked for: always on the BMC's own authority.

use crate::{document::Link, error::GatewayError, target::authority};
use std::sync::Arc;
use url::Url;

/// Where a conforming service starts (DSP0266 section 6.4), the slash included: some firmware knows no other form.
pub(crate) const SERVICE_ROOT: &str = "/redfish/v1/";

/// The URL for a link as found in a document, a request or an answer's `Location`.
pub(crate) fn resolve(base: &Url, text: &str) -> Result<Url, GatewayError> {
    let malformed = |what: String| GatewayError::Malformed {
        path: Arc::from(shortened(text)),
        what: Arc::from(what),
    };
    let foreign = || GatewayError::ForeignLink {
        link: Arc::from(shortened(text)),
        authority: authority(base),
    };
    if text.trim_start().starts_with("//") {
        return Err(foreign());
    }
    let link = Link::parse(text).map_err(|bad| malformed(bad.to_string()))?;
    let path = if is_service_root(link.path()) {
        SERVICE_ROOT
    } else {
        link.path()
    };
    let url = base
        .join(path)
        .map_err(|error| malformed(error.to_string()))?;
    let own = url.scheme() == base.scheme()
        && url.host() == base.host()
        && url.port_or_known_default() == base.port_or_known_default()
        && url.username().is_empty()
        && url.password().is_none();
    if own { Ok(url) } else { Err(foreign()) }
}

/// As [`resolve`], for `Location`, which may be relative to the URL that was asked for (RFC 9110 section 10.2.2).
pub(crate) fn resolve_location(
    base: &Url,
    asked: &Url,
    location: &str,
) -> Result<Url, GatewayError> {
    let location = location.trim();
    if location.starts_with('/') || location.contains("://") {
        return resolve(base, location).map(|url| with_slash_of(url, location));
    }
    let absolute = asked.join(location).map(String::from).unwrap_or_default();
    resolve(base, &absolute).map(|url| with_slash_of(url, &absolute))
}

pub(crate) fn is_service_root(path: &str) -> bool {
    path.split('?')
        .next()
        .unwrap_or_default()
        .trim_end_matches('/')
        == "/redfish/v1"
}

/// A trailing slash matters in a redirect: it is often the only difference.
fn with_slash_of(mut url: Url, text: &str) -> Url {
    let path = text.split(['?', '#']).next().unwrap_or_default();
    if path.ends_with('/') && !url.path().ends_with('/') {
        let path = format!("{}/", url.path());
        url.set_path(&path);
    }
    url
}

/// Enough of a link to recognise it, never a megabyte in a log.
fn shortened(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn base() -> Url {
        "https://10.0.0.1:8443/".parse().unwrap()
    }

    #[test]
    fn links_on_the_bmc_are_followed_in_every_form() {
        for (link, url) in [
            (
                "/redfish/v1/Systems/1",
                "https://10.0.0.1:8443/redfish/v1/Systems/1",
            ),
            (
                "/redfish/v1/Systems/1/",
                "https://10.0.0.1:8443/redfish/v1/Systems/1/",
            ),
            (
                "https://10.0.0.1:8443/redfish/v1/Systems",
                "https://10.0.0.1:8443/redfish/v1/Systems",
            ),
            ("/redfish/v1", "https://10.0.0.1:8443/redfish/v1/"),
            (
                "/redfish/v1/Chassis/A B#/x",
                "https://10.0.0.1:8443/redfish/v1/Chassis/A%20B",
            ),
        ] {
            assert_eq!(resolve(&base(), link).unwrap().as_str(), url, "{link}");
        }
    }

    #[test]
    fn links_that_lead_away_are_refused() {
        for link in [
            "https://10.0.0.2:8443/redfish/v1",
            "https://10.0.0.1/redfish/v1",
            "http://10.0.0.1:8443/redfish/v1",
            "//10.0.0.2/redfish/v1",
        ] {
            assert!(
                matches!(
                    resolve(&base(), link),
                    Err(GatewayError::ForeignLink { .. })
                ),
                "{link}"
            );
        }
        for link in [
            "",
            "javascript:x",
            "\\\\host\\x",
            "https://u:p@10.0.0.1:8443/",
            "/a/../b",
        ] {
            assert!(resolve(&base(), link).is_err(), "{link}");
        }
    }

    #[test]
    fn a_location_may_be_relative_and_keeps_its_slash() {
        let asked = "https://10.0.0.1:8443/redfish/v1/Systems".parse().unwrap();
        let to = |location| {
            resolve_location(&base(), &asked, location)
                .unwrap()
                .path()
                .to_owned()
        };
        assert_eq!(to("Systems/"), "/redfish/v1/Systems/");
        assert_eq!(to("/redfish/v1/Systems/"), "/redfish/v1/Systems/");
        assert_eq!(to("/x/1"), "/x/1");
        assert!(resolve_location(&base(), &asked, "http://evil/").is_err());
    }

    proptest! {
        #[test]
        fn whatever_the_bmc_sends_the_url_stays_on_the_bmc(text in "(https?:)?/{0,3}[-a-z0-9.@:/\\\\#?%é\\x00 ]{0,40}") {
            let asked = base().join("/redfish/v1/x").unwrap();
            for url in [resolve(&base(), &text), resolve_location(&base(), &asked, &text)].into_iter().flatten() {
                prop_assert_eq!(authority(&url), authority(&base()));
                prop_assert_eq!(url.scheme(), "https");
            }
        }
    }
}
