//! Logins of a pull Secret (`.dockerconfigjson`).

use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

/// A login. Its `Debug` shows nothing of it.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    pub(super) user: String,
    pub(super) password: String,
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Login(redacted)")
    }
}

/// Logins by host.
#[derive(Debug, Clone, Default)]
pub struct Credentials(HashMap<String, Login>);

#[derive(Deserialize)]
struct File {
    auths: HashMap<String, Auth>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Auth {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
}

impl Credentials {
    /// Reads the Secret's value; nothing if it is none. Entries that make no sense are passed over.
    #[must_use]
    pub fn read(json: &[u8]) -> Option<Self> {
        let file: File = serde_json::from_slice(json).ok()?;
        let logins = file
            .auths
            .into_iter()
            .filter_map(|(place, auth)| Some((host(&place).to_owned(), login(auth)?)));
        Some(Self(logins.collect()))
    }

    /// The login for a host (with its port, where one is said).
    #[must_use]
    pub fn of(&self, registry: &str) -> Option<&Login> {
        self.0.get(host(registry))
    }
}

fn login(auth: Auth) -> Option<Login> {
    if let (Some(user), Some(password)) = (auth.username, auth.password) {
        return Some(Login { user, password });
    }
    let both = String::from_utf8(STANDARD.decode(auth.auth?.trim()).ok()?).ok()?;
    let (user, password) = both.split_once(':')?;
    Some(Login {
        user: user.to_owned(),
        password: password.to_owned(),
    })
}

/// Secrets say `https://index.docker.io/v1/` as well as `registry:5000`.
fn host(place: &str) -> &str {
    let place = place.split_once("://").map_or(place, |(_, rest)| rest);
    match place.split('/').next().unwrap_or(place) {
        "index.docker.io" | "registry-1.docker.io" => "docker.io",
        host => host,
    }
}
