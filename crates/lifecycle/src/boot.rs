//! Whether a ServerBootConfiguration can be booted.
//!
//! [`decide`] is the entry point. Until the boot services land, Ready means: the image's text names an image, the server
//! exists, and the ignition Secret is there and readable. Nothing of the Secret's contents is ever in a result.

use crate::image::{self, BootMode, ImageReference};

/// What is known of the ignition Secret.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Ignition {
    /// None is referred to.
    #[default]
    NotWanted,
    /// It is there, and can be served.
    Present,
    /// There is no such Secret.
    Missing,
    /// It is there and cannot be served: where it is wrong, never what it says.
    Invalid(String),
    /// It could not be read for now: neither good nor bad.
    Unknown,
}

/// What is known of the Secret with user data.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum UserData {
    /// None is referred to.
    #[default]
    NotWanted,
    /// It is there, with something to serve.
    Present,
    /// There is no such Secret.
    Missing(String),
    /// It is there, and this is wrong with it.
    Invalid(String, &'static str),
    /// It could not be read for now.
    Unknown(String),
}

/// What is known of the pull Secret.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Pull {
    /// None is named, or its logins are there.
    #[default]
    Fine,
    /// There is no such Secret.
    Missing(String),
    /// It is there and holds no logins.
    Invalid(String),
    /// It could not be read for now.
    Unknown(String),
}

/// What a booted image is told of the claim's data, by its command line or its config drive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    /// Where its ignition configuration is.
    pub ignition: bool,
    /// Where its cloud-init data is.
    pub user_data: bool,
}

/// What became of the image's text, where Corten's boot services fetch what it names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Resolution {
    /// Nobody fetches it: its text is all that is checked.
    #[default]
    NotWanted,
    /// It is being fetched.
    UnderWay,
    /// It is in the cache, whole and verified.
    Fetched {
        /// Digest of what it is.
        digest: String,
        /// What it is, for people.
        what: String,
        /// It is written to a disk, not booted as it is.
        is_disk_image: bool,
        /// What it is told.
        told: Told,
    },
    /// It could not be fetched.
    Failed {
        /// CamelCase.
        reason: &'static str,
        /// Cause and remedy.
        message: String,
        /// Trying again can help without anybody changing anything here.
        passing: bool,
    },
}

/// What the decision rests on.
#[derive(Clone, Debug)]
pub struct Observed<'a> {
    /// `spec.image`; empty where there is none.
    pub image: &'a str,
    /// Annotation `corten.dev/boot-mode`.
    pub mode: Option<&'a str>,
    /// `spec.serverRef.name`.
    pub server: &'a str,
    /// Whether that Server exists.
    pub server_exists: bool,
    /// Name of the ignition Secret, with namespace, for messages.
    pub secret: &'a str,
    /// The ignition Secret.
    pub ignition: Ignition,
    /// The claim's user data.
    pub user_data: UserData,
    /// The Secret with the registry's logins.
    pub pull: Pull,
    /// What is wrong with the root-device hints, if something is.
    pub hints: Option<String>,
    /// The image itself.
    pub resolution: Resolution,
}

/// State and condition of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It can be booted.
    Ready {
        /// Where later starts are from.
        mode: BootMode,
        /// Digest of what was fetched; none where nobody fetches.
        digest: Option<String>,
        /// What was fetched, for people.
        what: String,
        /// What was fetched is written to a disk, not booted as it is.
        is_disk_image: bool,
        /// Data of the claim that nothing tells the image of: which, and the remedy.
        untold: Option<String>,
    },
    /// Something may still come.
    Pending {
        /// CamelCase.
        reason: &'static str,
        /// Cause and remedy.
        message: String,
    },
    /// It cannot, before somebody changes something.
    Error {
        /// CamelCase.
        reason: &'static str,
        /// Cause and remedy.
        message: String,
    },
}

/// Decides.
pub fn decide(observed: &Observed<'_>) -> Decision {
    let error = |reason, message| Decision::Error { reason, message };
    let pending = |reason, message| Decision::Pending { reason, message };
    let image = match ImageReference::parse(observed.image) {
        Ok(image) => image,
        Err(cause) => return error("ImageInvalid", format!("spec.image: {cause}")),
    };
    let mode = match image.mode(observed.mode) {
        Ok(mode) => mode,
        Err(word) => {
            return error(
                "BootModeInvalid",
                format!(
                    "the annotation corten.dev/boot-mode says {word:?}: diskless and disk are allowed"
                ),
            );
        }
    };
    if observed.server.is_empty() {
        return error(
            "ServerMissing",
            "spec.serverRef names no Server: set its name".to_owned(),
        );
    }
    if !observed.server_exists {
        return pending(
            "ServerMissing",
            format!(
                "there is no Server {}: create it or correct spec.serverRef",
                observed.server
            ),
        );
    }
    let secret = observed.secret;
    match &observed.ignition {
        Ignition::NotWanted | Ignition::Present => {
            let later = image.later_starts(observed.mode).unwrap_or(mode);
            fetched(observed, mode, later)
        }
        Ignition::Missing => pending(
            "IgnitionSecretMissing",
            format!("there is no Secret {secret}: create it with the key ignition"),
        ),
        Ignition::Unknown => pending("IgnitionSecretUnread", unread(secret)),
        Ignition::Invalid(why) => error(
            "IgnitionSecretInvalid",
            format!("the Secret {secret}: {why}. Mend it, or say format: fcos for Butane"),
        ),
    }
}

/// The user data, then the image itself, when all that it needs beside it is there.
fn fetched(observed: &Observed<'_>, mode: BootMode, later: BootMode) -> Decision {
    match &observed.user_data {
        UserData::NotWanted | UserData::Present => {}
        UserData::Missing(secret) => {
            return Decision::Pending {
                reason: "UserDataSecretMissing",
                message: format!(
                    "there is no Secret {secret}, which the claim's userDataRef names: create it with the key user-data"
                ),
            };
        }
        UserData::Invalid(secret, why) => {
            return Decision::Error {
                reason: "UserDataSecretInvalid",
                message: format!("the Secret {secret} {why}"),
            };
        }
        UserData::Unknown(secret) => {
            return Decision::Pending {
                reason: "UserDataSecretUnread",
                message: unread(secret),
            };
        }
    }
    match &observed.pull {
        Pull::Fine => {}
        Pull::Missing(secret) => {
            return Decision::Pending {
                reason: "PullSecretMissing",
                message: format!(
                    "there is no Secret {secret}, which the annotation {} names: create it, of type kubernetes.io/dockerconfigjson",
                    corten_api::names::IMAGE_PULL_SECRET
                ),
            };
        }
        Pull::Invalid(secret) => {
            return Decision::Error {
                reason: "PullSecretInvalid",
                message: format!(
                    "the Secret {secret} has no key .dockerconfigjson with logins of registries: mend it"
                ),
            };
        }
        Pull::Unknown(secret) => {
            return Decision::Pending {
                reason: "PullSecretUnread",
                message: unread(secret),
            };
        }
    }
    match &observed.resolution {
        Resolution::NotWanted => Decision::Ready {
            mode: later,
            digest: None,
            what: String::new(),
            is_disk_image: false,
            untold: None,
        },
        Resolution::UnderWay => Decision::Pending {
            reason: "ImageBeingFetched",
            message: format!(
                "{} is being fetched and verified",
                image::shown(observed.image)
            ),
        },
        Resolution::Fetched {
            is_disk_image: true,
            ..
        } if mode == BootMode::Diskless => Decision::Error {
            reason: "BootModeInvalid",
            message: format!(
                "{} is an image of a disk, and cannot be booted diskless: remove the annotation corten.dev/boot-mode, or give a kernel, an EFI program or an ISO image",
                image::shown(observed.image)
            ),
        },
        Resolution::Fetched {
            is_disk_image: true,
            ..
        } if observed.hints.is_some() => Decision::Error {
            reason: "RootDeviceHintsInvalid",
            message: format!(
                "the annotation {}: {}",
                corten_api::names::ROOT_DEVICE_HINTS,
                observed.hints.as_deref().unwrap_or_default()
            ),
        },
        Resolution::Fetched {
            is_disk_image: false,
            ..
        } if mode == BootMode::Disk && observed.mode.is_none() => Decision::Error {
            reason: "ImageInvalid",
            message: format!(
                "{} is named like an image of a disk and is none: correct it, or say how it boots with corten.dev/boot-mode",
                image::shown(observed.image)
            ),
        },
        Resolution::Fetched {
            digest,
            what,
            is_disk_image,
            told,
        } => Decision::Ready {
            mode: later,
            digest: Some(digest.clone()),
            what: what.clone(),
            is_disk_image: *is_disk_image,
            untold: untold(observed, *told),
        },
        Resolution::Failed {
            reason,
            message,
            passing: true,
        } => Decision::Pending {
            reason,
            message: message.clone(),
        },
        Resolution::Failed {
            reason, message, ..
        } => Decision::Error {
            reason,
            message: message.clone(),
        },
    }
}

/// An image may find its data by a way of its own, so this is said and stops nothing.
fn untold(observed: &Observed<'_>, told: Told) -> Option<String> {
    let ignition = !told.ignition && observed.ignition == Ignition::Present;
    let user_data = !told.user_data && observed.user_data == UserData::Present;
    let (what, placeholder) = match (ignition, user_data) {
        (true, true) => (
            "ignition and user data are",
            "${ignition-url} and ${cloud-init-url}",
        ),
        (true, false) => ("ignition is", "${ignition-url}"),
        (false, true) => ("user data is", "${cloud-init-url}"),
        (false, false) => return None,
    };
    Some(format!(
        "the claim's {what} served, and nothing tells the image where: its command line is its own. Unless it finds it by itself, give kernel and initrd by a manifest whose commandLine has {placeholder}, or an image of a disk"
    ))
}

fn unread(secret: &str) -> String {
    format!(
        "the Secret {secret} could not be read: it is tried again. Corten needs the right to get it: bind the ClusterRole corten-read-secrets in its namespace"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn observed() -> Observed<'static> {
        Observed {
            image: "ghcr.io/ironcore-dev/os-images/gardenlinux:1443.3",
            mode: None,
            server: "r1-system-0",
            server_exists: true,
            secret: "team/db-ignition",
            ignition: Ignition::NotWanted,
            user_data: UserData::NotWanted,
            pull: Pull::Fine,
            hints: None,
            resolution: Resolution::NotWanted,
        }
    }

    fn ready(mode: BootMode) -> Decision {
        Decision::Ready {
            mode,
            digest: None,
            what: String::new(),
            is_disk_image: false,
            untold: None,
        }
    }

    const ALL: Told = Told {
        ignition: true,
        user_data: true,
    };

    fn fetched(is_disk_image: bool) -> Resolution {
        Resolution::Fetched {
            digest: "sha256:00".into(),
            what: "an image".into(),
            is_disk_image,
            told: ALL,
        }
    }

    #[test]
    fn data_that_nothing_tells_the_image_of_is_named_and_stops_nothing() {
        let untold = |ignition: bool, user_data: bool, told| {
            let decided = decide(&Observed {
                ignition: if ignition {
                    Ignition::Present
                } else {
                    Ignition::NotWanted
                },
                user_data: if user_data {
                    UserData::Present
                } else {
                    UserData::NotWanted
                },
                resolution: Resolution::Fetched {
                    digest: "sha256:00".into(),
                    what: "an EFI program".into(),
                    is_disk_image: false,
                    told,
                },
                ..observed()
            });
            match decided {
                Decision::Ready { untold, .. } => untold,
                other => panic!("{other:?}"),
            }
        };
        let none = Told {
            ignition: false,
            user_data: false,
        };
        assert_eq!(untold(true, true, ALL), None);
        assert_eq!(untold(false, false, none), None);
        assert!(
            untold(true, false, none)
                .unwrap()
                .contains("ignition is served")
        );
        assert!(
            untold(false, true, none)
                .unwrap()
                .contains("${cloud-init-url}")
        );
        let only = Told {
            ignition: true,
            ..none
        };
        assert!(
            untold(true, true, only)
                .unwrap()
                .contains("user data is served")
        );
    }

    #[test]
    fn no_message_tells_the_query_that_opens_an_image() {
        let signed = "https://h/disk.raw?sig=geheim";
        for (resolution, mode) in [
            (Resolution::UnderWay, None),
            (fetched(true), Some("diskless")),
            (fetched(false), None),
        ] {
            let decided = decide(&Observed {
                resolution,
                image: signed,
                mode,
                ..observed()
            });
            let text = format!("{decided:?}");
            assert!(
                text.contains("https://h/disk.raw") && !text.contains("geheim"),
                "{text}"
            );
        }
    }

    #[test]
    fn an_image_is_ready_only_when_it_was_fetched_and_is_what_it_is_used_as() {
        let with = |resolution, image, mode| {
            decide(&Observed {
                resolution,
                image,
                mode,
                ..observed()
            })
        };
        let raw = "https://h/disk.raw";
        assert!(matches!(
            with(Resolution::UnderWay, raw, None),
            Decision::Pending { .. }
        ));
        assert!(matches!(
            with(fetched(true), raw, None),
            Decision::Ready {
                mode: BootMode::Disk,
                digest: Some(_),
                ..
            }
        ));
        assert!(matches!(
            with(fetched(false), raw, None),
            Decision::Error { .. }
        ));
        assert!(matches!(
            with(fetched(true), raw, Some("diskless")),
            Decision::Error { .. }
        ));
        let failed = |passing| Resolution::Failed {
            reason: "RegistryUnreachable",
            message: "down".into(),
            passing,
        };
        assert!(matches!(
            with(failed(true), raw, None),
            Decision::Pending { .. }
        ));
        assert!(matches!(
            with(failed(false), raw, None),
            Decision::Error { .. }
        ));
    }

    #[test]
    fn an_image_is_not_ready_before_its_user_data_is() {
        let with = |user_data| {
            decide(&Observed {
                user_data,
                ..observed()
            })
        };
        let at = || "team/web-data".to_owned();
        assert_eq!(with(UserData::Present), ready(BootMode::Diskless));
        for (data, wanted) in [
            (UserData::Missing(at()), "UserDataSecretMissing"),
            (UserData::Unknown(at()), "UserDataSecretUnread"),
            (UserData::Invalid(at(), "is empty"), "UserDataSecretInvalid"),
        ] {
            match with(data) {
                Decision::Pending { reason, message } | Decision::Error { reason, message } => {
                    assert!(reason == wanted && message.contains("team/web-data"));
                }
                ready => panic!("{wanted}: {ready:?}"),
            }
        }
    }

    #[test]
    fn a_valid_image_without_ignition_is_ready() {
        assert_eq!(decide(&observed()), ready(BootMode::Diskless));
        let disk = Observed {
            mode: Some("disk"),
            ..observed()
        };
        assert_eq!(decide(&disk), ready(BootMode::Disk));
    }

    #[test]
    fn a_bad_image_is_an_error_with_its_cause() {
        match decide(&Observed {
            image: "oci://x",
            ..observed()
        }) {
            Decision::Error { reason, message } => {
                assert_eq!(reason, "ImageInvalid");
                assert!(message.contains("oci"), "{message}");
            }
            other => panic!("{other:?}"),
        }
        assert!(matches!(
            decide(&Observed {
                image: "",
                ..observed()
            }),
            Decision::Error { .. }
        ));
        assert!(matches!(
            decide(&Observed {
                mode: Some("tape"),
                ..observed()
            }),
            Decision::Error { .. }
        ));
    }

    #[test]
    fn what_may_still_come_is_pending_and_what_is_wrong_is_an_error() {
        assert!(matches!(
            decide(&Observed {
                server_exists: false,
                ..observed()
            }),
            Decision::Pending { .. }
        ));
        assert!(matches!(
            decide(&Observed {
                ignition: Ignition::Missing,
                ..observed()
            }),
            Decision::Pending { .. }
        ));
        assert!(matches!(
            decide(&Observed {
                ignition: Ignition::Unknown,
                ..observed()
            }),
            Decision::Pending { .. }
        ));
        match decide(&Observed {
            ignition: Ignition::Invalid("the ignition is no JSON object".into()),
            ..observed()
        }) {
            Decision::Error { message, .. } => {
                assert!(message.contains("team/db-ignition") && message.contains("JSON"));
            }
            other => panic!("{other:?}"),
        }
    }
}
