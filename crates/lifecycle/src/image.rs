//! What a boot image's text means: an OCI reference or an HTTP(S) URL, for a machine without or with a disk.
//!
//! [`ImageReference::parse`] is the entry point. The grammar of OCI references is that of the distribution project's
//! `reference` package; a URL must not carry credentials, because an image is shown in statuses and logs.

/// A boot image, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImageReference {
    /// An artefact in an OCI registry.
    Oci(OciReference),
    /// An `http://` or `https://` URL, as written.
    Url(String),
}

/// The parts of an OCI reference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OciReference {
    /// Host and port of the registry; none means the resolver's default.
    pub registry: Option<String>,
    /// Path of the repository in the registry.
    pub repository: String,
    /// Tag, without the colon.
    pub tag: Option<String>,
    /// Digest with its algorithm, without the `@`.
    pub digest: Option<String>,
}

/// Where the system that is booted lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BootMode {
    /// In memory: every boot is a network boot of the image.
    Diskless,
    /// On a local disk: the image is installed once, and booted from there.
    Disk,
}

/// Why a text names no image. Trying again does not help; the text has to be changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImageError {
    /// No text.
    #[error(
        "the image is empty: give an OCI reference (registry/repository:tag or @sha256:…) or an http(s) URL"
    )]
    Empty,
    /// White space or a control character.
    #[error("the image contains white space or a control character")]
    Whitespace,
    /// A scheme that is not served.
    #[error(
        "scheme {0:?} is not supported: write an OCI reference without a scheme, or a URL beginning with http:// or https://"
    )]
    Scheme(String),
    /// A URL with a user's name or password in it.
    #[error(
        "the URL carries a user name or password: remove it, because the image is shown in statuses and logs"
    )]
    UserInfo,
    /// A URL whose host or port is wrong.
    #[error("the URL has no valid host and port: {0:?}")]
    Authority(String),
    /// A URL with a fragment.
    #[error("the URL has a fragment (#…), which no server is ever sent: remove it")]
    Fragment,
    /// A wrong registry.
    #[error("{0:?} is no registry host with optional port")]
    Registry(String),
    /// A wrong repository.
    #[error(
        "{0:?} is no repository path: lower-case letters, digits and single separators '.', '_', '__', '-' between '/'"
    )]
    Repository(String),
    /// A wrong tag.
    #[error(
        "{0:?} is no tag: up to 128 letters, digits, '_', '.' and '-', beginning with a letter, digit or '_'"
    )]
    Tag(String),
    /// A wrong digest.
    #[error("{0:?} is no digest: sha256: and 64 hexadecimal digits, or sha512: and 128")]
    Digest(String),
    /// Too long.
    #[error("the image has {0} characters, at most 2048 are allowed (255 for an OCI name)")]
    TooLong(usize),
}

/// An image's text for messages and logs: without a URL's query, which may be a signature that opens the image to whoever reads it.
#[must_use]
pub fn shown(text: &str) -> &str {
    text.split('?').next().unwrap_or(text)
}

// === impl ImageReference ===

impl ImageReference {
    /// Reads an image's text.
    pub fn parse(text: &str) -> Result<Self, ImageError> {
        if text.is_empty() {
            return Err(ImageError::Empty);
        }
        if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err(ImageError::Whitespace);
        }
        if text.len() > 2048 {
            return Err(ImageError::TooLong(text.len()));
        }
        match text.split_once("://") {
            Some((scheme, rest))
                if scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https") =>
            {
                check_url(rest)?;
                Ok(Self::Url(text.to_owned()))
            }
            Some((scheme, _)) => Err(ImageError::Scheme(scheme.to_owned())),
            None => parse_oci(text).map(Self::Oci),
        }
    }

    /// What the image is by its form alone: a disk image's ending means a disk, everything else (kernels, EFI programs, ISO images, OCI artefacts) is
    /// booted.
    pub fn usual_mode(&self) -> BootMode {
        const DISK: [&str; 7] = ["raw", "img", "qcow2", "vmdk", "vhd", "vhdx", "wic"];
        const PACKED: [&str; 5] = ["gz", "xz", "zst", "bz2", "lz4"];
        let Self::Url(url) = self else {
            return BootMode::Diskless;
        };
        let path = url.split(['?', '#']).next().unwrap_or_default();
        let file = path
            .rsplit('/')
            .next()
            .unwrap_or_default()
            .to_ascii_lowercase();
        let mut endings = file.rsplit('.');
        let last = endings.next().unwrap_or_default();
        let ending = if PACKED.contains(&last) {
            endings.next().unwrap_or_default()
        } else {
            last
        };
        if DISK.contains(&ending) {
            BootMode::Disk
        } else {
            BootMode::Diskless
        }
    }

    /// Where a machine that has booted the image starts from later, after a loss of power say. OCI images are booted each time, as the original boots them.
    /// What else is booted may have installed itself: booted again it would wipe its owner's disk. So it is booted once, unless `stated` says `diskless`.
    ///
    /// # Errors
    /// The stated word, if it is neither `diskless` nor `disk`.
    pub fn later_starts<'a>(&self, stated: Option<&'a str>) -> Result<BootMode, &'a str> {
        match (self, stated) {
            (Self::Url(_), None) => Ok(BootMode::Disk),
            _ => self.mode(stated),
        }
    }

    /// The mode, `stated` (annotation `corten.dev/boot-mode`) before the usual one.
    ///
    /// # Errors
    /// The stated word, if it is neither `diskless` nor `disk`.
    pub fn mode<'a>(&self, stated: Option<&'a str>) -> Result<BootMode, &'a str> {
        match stated {
            None => Ok(self.usual_mode()),
            Some("diskless") => Ok(BootMode::Diskless),
            Some("disk") => Ok(BootMode::Disk),
            Some(other) => Err(other),
        }
    }
}

// === impl BootMode ===

impl BootMode {
    /// The word used in annotations and conditions.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Diskless => "diskless",
            Self::Disk => "disk",
        }
    }
}

fn check_url(rest: &str) -> Result<(), ImageError> {
    if rest.contains('#') {
        return Err(ImageError::Fragment);
    }
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    if authority.contains('@') {
        return Err(ImageError::UserInfo);
    }
    let wrong = || ImageError::Authority(authority.to_owned());
    let (host, port) = match authority.strip_prefix('[') {
        Some(v6) => {
            let (address, after) = v6.split_once(']').ok_or_else(wrong)?;
            address.parse::<std::net::Ipv6Addr>().map_err(|_| wrong())?;
            (
                address,
                if after.is_empty() {
                    None
                } else {
                    Some(after.strip_prefix(':').ok_or_else(wrong)?)
                },
            )
        }
        None => match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    let host_is_right =
        authority.starts_with('[') || (!host.is_empty() && host.split('.').all(is_label));
    let port_is_right = port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0));
    if host_is_right && port_is_right {
        Ok(())
    } else {
        Err(wrong())
    }
}

fn parse_oci(text: &str) -> Result<OciReference, ImageError> {
    let (name_and_tag, digest) = match text.split_once('@') {
        Some((name, digest)) => (name, Some(digest)),
        None => (text, None),
    };
    if let Some(digest) = digest.filter(|digest| !is_digest(digest)) {
        return Err(ImageError::Digest(digest.to_owned()));
    }
    // A colon after the last slash begins the tag; one before it is the registry's port.
    let last = name_and_tag.rfind('/').map_or(0, |slash| slash + 1);
    let (head, tail) = name_and_tag.split_at(last);
    let (name, tag) = match tail.split_once(':') {
        Some((tail, tag)) => (format!("{head}{tail}"), Some(tag)),
        None => (name_and_tag.to_owned(), None),
    };
    if let Some(tag) = tag.filter(|tag| !is_tag(tag)) {
        return Err(ImageError::Tag(tag.to_owned()));
    }
    if name.len() > 255 {
        return Err(ImageError::TooLong(name.len()));
    }
    let (registry, repository) = match name.split_once('/') {
        Some((first, rest))
            if first.contains(['.', ':'])
                || first == "localhost"
                || first.chars().any(char::is_uppercase) =>
        {
            (Some(first.to_owned()), rest.to_owned())
        }
        _ => (None, name),
    };
    if let Some(registry) = registry
        .as_deref()
        .filter(|registry| !is_registry(registry))
    {
        return Err(ImageError::Registry(registry.to_owned()));
    }
    if !repository.split('/').all(is_path_component) {
        return Err(ImageError::Repository(repository));
    }
    Ok(OciReference {
        registry,
        repository,
        tag: tag.map(str::to_owned),
        digest: digest.map(str::to_owned),
    })
}

fn is_label(label: &str) -> bool {
    !label.is_empty()
        && label
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
        && !label.starts_with('-')
        && !label.ends_with('-')
}

fn is_registry(registry: &str) -> bool {
    match registry.split_once(':') {
        Some((host, port)) => host.split('.').all(is_label) && port.parse::<u16>().is_ok(),
        None => registry.split('.').all(is_label),
    }
}

fn is_path_component(component: &str) -> bool {
    let ends_right =
        |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    if !ends_right(component.chars().next()) || !ends_right(component.chars().last()) {
        return false;
    }
    component
        .split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        .all(|separator| {
            matches!(separator, "" | "." | "_" | "__") || separator.chars().all(|c| c == '-')
        })
}

fn is_tag(tag: &str) -> bool {
    let right = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    !tag.is_empty() && tag.len() <= 128 && tag.chars().all(right) && !tag.starts_with(['.', '-'])
}

fn is_digest(digest: &str) -> bool {
    let Some((algorithm, hex)) = digest.split_once(':') else {
        return false;
    };
    let length = match algorithm {
        "sha256" => 64,
        "sha512" => 128,
        _ => return false,
    };
    hex.len() == length
        && hex
            .chars()
            .all(|c| c.is_ascii_digit() || ('a'..='f').contains(&c))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn oci(text: &str) -> OciReference {
        match ImageReference::parse(text) {
            Ok(ImageReference::Oci(reference)) => reference,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn oci_references_are_read_in_all_their_forms() {
        let digest = format!("sha256:{}", "0123456789abcdef".repeat(4));
        assert_eq!(oci("ubuntu").repository, "ubuntu");
        assert_eq!(
            oci("ghcr.io/ironcore-dev/os-images/gardenlinux:1443.3")
                .tag
                .as_deref(),
            Some("1443.3")
        );
        assert_eq!(
            oci("localhost:5000/os").registry.as_deref(),
            Some("localhost:5000")
        );
        assert_eq!(oci("localhost:5000/os").tag, None);
        let all = oci(&format!("reg.example.com:5000/a/b__c/d-e.f:v1@{digest}"));
        assert_eq!(all.registry.as_deref(), Some("reg.example.com:5000"));
        assert_eq!(all.repository, "a/b__c/d-e.f");
        assert_eq!(all.digest, Some(digest));
    }

    #[test]
    fn what_is_no_image_is_refused_with_its_cause() {
        let cause = |text: &str| ImageReference::parse(text).unwrap_err();
        assert_eq!(cause(""), ImageError::Empty);
        assert_eq!(cause("a b"), ImageError::Whitespace);
        assert!(matches!(cause("oci://ghcr.io/a"), ImageError::Scheme(_)));
        assert!(matches!(
            cause("ftp://example.com/a"),
            ImageError::Scheme(_)
        ));
        assert!(matches!(cause("Ubuntu"), ImageError::Repository(_)));
        assert!(matches!(cause("a//b"), ImageError::Repository(_)));
        assert!(matches!(cause("a/b._c"), ImageError::Repository(_)));
        assert!(matches!(cause("a:"), ImageError::Tag(_)));
        assert!(matches!(cause("a:-x"), ImageError::Tag(_)));
        assert!(matches!(cause("a@sha256:12"), ImageError::Digest(_)));
        assert!(matches!(cause("reg_.io:x/a"), ImageError::Registry(_)));
        assert!(matches!(cause(&"a".repeat(300)), ImageError::TooLong(300)));
    }

    #[test]
    fn urls_must_name_a_host_and_carry_no_password() {
        for good in [
            "http://10.0.0.1/os.efi",
            "https://[2001:db8::1]:8443/a?b=c",
            "https://images.example.com",
        ] {
            assert!(
                matches!(ImageReference::parse(good), Ok(ImageReference::Url(_))),
                "{good}"
            );
        }
        assert_eq!(
            ImageReference::parse("https://user:pw@example.com/a"),
            Err(ImageError::UserInfo)
        );
        assert!(
            !ImageReference::parse("https://user:hunter2@h/a")
                .unwrap_err()
                .to_string()
                .contains("hunter2")
        );
        assert!(matches!(
            ImageReference::parse("https:///a"),
            Err(ImageError::Authority(_))
        ));
        assert!(matches!(
            ImageReference::parse("http://h:0/a"),
            Err(ImageError::Authority(_))
        ));
        assert!(matches!(
            ImageReference::parse("http://[::1/a"),
            Err(ImageError::Authority(_))
        ));
        assert_eq!(
            ImageReference::parse("http://h/a#b"),
            Err(ImageError::Fragment)
        );
    }

    #[test]
    fn a_signed_query_is_shown_nowhere() {
        assert_eq!(
            shown("https://h/disk.raw?X-Amz-Signature=abc?d"),
            "https://h/disk.raw"
        );
        assert_eq!(shown("ghcr.io/a/b:1"), "ghcr.io/a/b:1");
    }

    #[test]
    fn a_disk_image_means_a_disk_and_everything_else_is_diskless() {
        let mode = |text: &str| ImageReference::parse(text).unwrap().usual_mode();
        assert_eq!(mode("https://h/ubuntu.raw.zst?x=1"), BootMode::Disk);
        assert_eq!(mode("https://h/ubuntu.QCOW2"), BootMode::Disk);
        assert_eq!(mode("https://h/installer.iso"), BootMode::Diskless);
        assert_eq!(mode("https://h/uki.efi"), BootMode::Diskless);
        assert_eq!(mode("https://h/"), BootMode::Diskless);
        assert_eq!(
            mode("ghcr.io/ironcore-dev/os-images/gardenlinux:1443.3"),
            BootMode::Diskless
        );
    }

    #[test]
    fn the_owners_word_on_the_mode_stands_before_the_form() {
        let image = ImageReference::parse("ghcr.io/a/b").unwrap();
        assert_eq!(image.mode(Some("disk")), Ok(BootMode::Disk));
        assert_eq!(image.mode(None), Ok(BootMode::Diskless));
        assert_eq!(image.mode(Some("tape")), Err("tape"));
    }
}
