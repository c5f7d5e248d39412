//! Which certificate of a BMC is believed, and which credentials may go to it.
//!
//! A BMC's certificate is self-signed as a rule, so the one seen first is pinned and a changed one refused. A site's own
//! password is never the price of finding out: it needs a CA, a pin or the policy's word. [`decide`] is the entry point.

/// How the address is to be spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// TLS: said explicitly, or nothing was said.
    Https,
    /// Plain: `protocol.scheme: http`, or nothing was said and `--assume-http-for` covers the address.
    Http,
}

/// Where credentials come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// They stand in the MAC prefix database for this device: anybody may know them.
    Factory,
    /// A site's own.
    Site,
}

/// What the decision rests on.
#[derive(Clone, Copy, Debug)]
pub struct Observed<'a> {
    /// How the address is to be spoken to.
    pub scheme: Scheme,
    /// Whether verification was switched off by an explicit field.
    pub insecure: bool,
    /// Whether a CA was given, by the Secret or the policy.
    pub has_ca: bool,
    /// The pinned fingerprint, as persisted.
    pub pin: Option<&'a str>,
    /// The policy's `trustOnFirstUse`.
    pub trust_on_first_use: bool,
    /// Where the credentials come from.
    pub origin: Origin,
}

/// What to do about the certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Plain HTTP was asked for: there is none.
    Plain,
    /// Take any certificate, because a field says so.
    Insecure,
    /// Take what chains to the CA, and the pinned one if there is a pin.
    Ca,
    /// Take the pinned certificate only.
    Pinned,
    /// Look at the certificate first without credentials, persist its pin, then log in.
    PinFirst,
    /// Do not send these credentials: nothing says whose certificate this is. Look without credentials, to name it.
    Refuse,
}

/// Decides for one BMC.
pub fn decide(observed: &Observed<'_>) -> Decision {
    if observed.scheme == Scheme::Http {
        Decision::Plain
    } else if observed.has_ca {
        Decision::Ca
    } else if observed.insecure {
        Decision::Insecure
    } else if observed.pin.is_some() {
        Decision::Pinned
    } else if observed.origin == Origin::Factory || observed.trust_on_first_use {
        Decision::PinFirst
    } else {
        Decision::Refuse
    }
}

/// Whether `text` is a pin: `sha256:` and 64 hexadecimal digits, of the leaf certificate's DER.
pub fn is_pin(text: &str) -> bool {
    text.strip_prefix("sha256:")
        .is_some_and(|hex| hex.len() == 64 && hex.chars().all(|c| c.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn observed() -> Observed<'static> {
        Observed {
            scheme: Scheme::Https,
            insecure: false,
            has_ca: false,
            pin: None,
            trust_on_first_use: false,
            origin: Origin::Site,
        }
    }

    #[test]
    fn a_sites_own_password_never_goes_to_an_unknown_certificate() {
        assert_eq!(decide(&observed()), Decision::Refuse);
    }

    #[test]
    fn factory_credentials_may_go_to_a_certificate_once_it_is_pinned() {
        assert_eq!(
            decide(&Observed {
                origin: Origin::Factory,
                ..observed()
            }),
            Decision::PinFirst
        );
    }

    #[test]
    fn the_policy_may_trust_on_first_use() {
        assert_eq!(
            decide(&Observed {
                trust_on_first_use: true,
                ..observed()
            }),
            Decision::PinFirst
        );
    }

    #[test]
    fn a_pin_holds_whatever_the_policy_says() {
        for (trust_on_first_use, origin) in [
            (true, Origin::Site),
            (false, Origin::Factory),
            (true, Origin::Factory),
        ] {
            let o = Observed {
                pin: Some("sha256:00"),
                trust_on_first_use,
                origin,
                ..observed()
            };
            assert_eq!(decide(&o), Decision::Pinned);
        }
    }

    #[test]
    fn a_ca_replaces_the_pin() {
        assert_eq!(
            decide(&Observed {
                has_ca: true,
                pin: Some("sha256:00"),
                ..observed()
            }),
            Decision::Ca
        );
        assert_eq!(
            decide(&Observed {
                has_ca: true,
                insecure: true,
                ..observed()
            }),
            Decision::Ca
        );
    }

    #[test]
    fn plain_http_needs_the_scheme() {
        assert_eq!(
            decide(&Observed {
                scheme: Scheme::Http,
                ..observed()
            }),
            Decision::Plain
        );
    }

    #[test]
    fn a_pin_is_recognised() {
        assert!(is_pin(&format!("sha256:{}", "0a".repeat(32))));
        assert!(!is_pin("sha256:00"));
        assert!(!is_pin(&"0a".repeat(35)));
    }
}
