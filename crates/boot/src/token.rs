//! Boot tokens: a [`Ticket`] in a form that a machine can carry in a URL, and that any replica with the key can check.
//!
//! A token says who boots and for which occasion, never what may be done: the [`crate::Desk`] is asked about that each time one is shown. What one is
//! for ([`Purpose`]) is signed with it, so that the token in a boot URL does not itself open user data or the probe's calls. It opens the boot script and
//! the UKI whose command line carries the tokens that do: whoever has it, and reaches the boot server, has the boot, until the run or the claim ends.
//!
//! Layout before base64url: version, purpose, end (seconds since 1970, big endian, 0 for none), three fields, HMAC-SHA256 over all of it. The same ticket
//! always makes the same token: a URL that stands in a BMC can be compared.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;

use crate::Ticket;

/// Longest token that is looked at, in characters. The longest that can be made (server names have at most 253) is shorter.
pub const MAX_LENGTH: usize = 640;
/// Shortest key that is accepted, in bytes.
pub const MIN_KEY: usize = 32;

const VERSION: u8 = 1;
const MAC_LENGTH: usize = 32;
/// Signed before the token's own bytes, so that a key that signs something else as well makes no tokens by accident.
const CONTEXT: &[u8] = b"corten boot token\0";
/// Marks a field that is a UUID, kept as its 16 bytes: URLs in BMCs are short.
const UUID_MARK: u8 = 0xff;

/// What a token opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// Boot scripts, kernels, images. Stands in HttpBootUri and virtual media, so the BMC knows it.
    Boot,
    /// Ignition and cloud-init data.
    UserData,
    /// The probe's calls.
    Probe,
    /// Reading and ending registrations (`GET /systems`, `DELETE /delete`), as the original's operator does.
    Operator,
}

impl Purpose {
    fn code(self) -> u8 {
        match self {
            Purpose::Boot => 1,
            Purpose::UserData => 2,
            Purpose::Probe => 3,
            Purpose::Operator => 4,
        }
    }
}

/// A signed ticket. Its `Debug` shows nothing of it.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// The token itself, for a URL or a kernel's command line.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(redacted)")
    }
}

/// Why keys or tickets are not usable. Trying again does not help.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// There is no key to sign with.
    #[error("no key is given to sign boot tokens with")]
    NoKey,
    /// A key is too short to be one.
    #[error("a key for boot tokens has {0} bytes, it needs {MIN_KEY}")]
    ShortKey(usize),
    /// A field does not fit into a token.
    #[error("the {0} is too long for a boot token")]
    LongField(&'static str),
}

/// Why a token is not accepted. The caller is told one word for all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// It is none, or not signed with one of the keys.
    #[error("the token is none of ours")]
    Foreign,
    /// It is for something else.
    #[error("the token is for another purpose")]
    OtherPurpose,
    /// Its time is over.
    #[error("the token has expired")]
    Expired,
}

/// A token that was accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// Whom it stands for.
    pub ticket: Ticket,
    /// When it ends; links that are made for its holder end then too.
    pub end: Option<jiff::Timestamp>,
}

/// Keys that can be exchanged while they are in use.
#[derive(Clone, Debug)]
pub struct KeyRing(std::sync::Arc<parking_lot::RwLock<std::sync::Arc<Keys>>>);

impl KeyRing {
    /// A ring of these keys.
    #[must_use]
    pub fn new(keys: Keys) -> Self {
        Self(std::sync::Arc::new(parking_lot::RwLock::new(
            std::sync::Arc::new(keys),
        )))
    }

    /// The keys of now.
    #[must_use]
    pub fn current(&self) -> std::sync::Arc<Keys> {
        self.0.read().clone()
    }

    /// Other keys from now on.
    pub fn replace(&self, keys: Keys) {
        *self.0.write() = std::sync::Arc::new(keys);
    }
}

/// The keys: the first signs, each of them is accepted. A new one is put in front, and the old one taken out when no boot is under way with it.
pub struct Keys {
    first: hmac::Key,
    others: Vec<hmac::Key>,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Keys({} redacted)", self.others.len() + 1)
    }
}

impl Keys {
    /// Keys of the bytes in a Secret.
    ///
    /// # Errors
    /// None is given, or one is shorter than [`MIN_KEY`].
    pub fn new<K: AsRef<[u8]>>(keys: impl IntoIterator<Item = K>) -> Result<Self, TokenError> {
        let mut all = keys.into_iter().map(|key| {
            let key = key.as_ref();
            if key.len() < MIN_KEY {
                Err(TokenError::ShortKey(key.len()))
            } else {
                Ok(hmac::Key::new(hmac::HMAC_SHA256, key))
            }
        });
        let first = all.next().ok_or(TokenError::NoKey)??;
        Ok(Self {
            first,
            others: all.collect::<Result<_, _>>()?,
        })
    }

    /// The token of `ticket` for `purpose`, until `end` (without one it holds as long as the key and the boot).
    ///
    /// # Errors
    /// A field is longer than 254 bytes.
    pub fn sign(
        &self,
        ticket: &Ticket,
        purpose: Purpose,
        end: Option<jiff::Timestamp>,
    ) -> Result<Token, TokenError> {
        let mut bytes = Vec::with_capacity(160);
        bytes.push(VERSION);
        bytes.push(purpose.code());
        // A time before 1970 is over, as the first second is.
        let end = end.map_or(0, |end| u64::try_from(end.as_second()).unwrap_or(0).max(1));
        bytes.extend_from_slice(&end.to_be_bytes());
        put(&mut bytes, "server's name", &ticket.server)?;
        put(&mut bytes, "server's UID", &ticket.server_uid)?;
        put(&mut bytes, "boot's nonce", &ticket.nonce)?;
        let mac = mac(&self.first, &bytes);
        bytes.extend_from_slice(mac.as_ref());
        Ok(Token(URL_SAFE_NO_PAD.encode(bytes)))
    }

    /// The ticket of a token, if one of the keys signed it for `purpose` and its time is not over.
    ///
    /// # Errors
    /// It is foreign, for something else, or expired.
    pub fn check(
        &self,
        token: &str,
        purpose: Purpose,
        now: jiff::Timestamp,
    ) -> Result<Shown, Rejection> {
        if token.len() > MAX_LENGTH {
            return Err(Rejection::Foreign);
        }
        let bytes = URL_SAFE_NO_PAD
            .decode(token)
            .map_err(|_| Rejection::Foreign)?;
        let split = bytes
            .len()
            .checked_sub(MAC_LENGTH)
            .ok_or(Rejection::Foreign)?;
        let (signed, mac) = bytes.split_at_checked(split).ok_or(Rejection::Foreign)?;
        let known = std::iter::once(&self.first)
            .chain(&self.others)
            .any(|key| verify(key, signed, mac));
        if !known {
            return Err(Rejection::Foreign);
        }
        let read = read(signed).ok_or(Rejection::Foreign)?;
        if read.purpose != purpose.code() {
            return Err(Rejection::OtherPurpose);
        }
        if read.end != 0 && i128::from(read.end) <= i128::from(now.as_second()) {
            return Err(Rejection::Expired);
        }
        let end = match read.end {
            0 => None,
            end => Some(
                i64::try_from(end)
                    .ok()
                    .and_then(|end| jiff::Timestamp::from_second(end).ok())
                    .ok_or(Rejection::Foreign)?,
            ),
        };
        Ok(Shown {
            ticket: read.ticket,
            end,
        })
    }
}

fn mac(key: &hmac::Key, bytes: &[u8]) -> hmac::Tag {
    let mut context = hmac::Context::with_key(key);
    context.update(CONTEXT);
    context.update(bytes);
    context.sign()
}

/// In constant time; `ring` has it for one piece only.
fn verify(key: &hmac::Key, bytes: &[u8], mac: &[u8]) -> bool {
    hmac::verify(key, &[CONTEXT, bytes].concat(), mac).is_ok()
}

fn put(bytes: &mut Vec<u8>, what: &'static str, field: &str) -> Result<(), TokenError> {
    if let Some(uuid) = canonical_uuid(field) {
        bytes.push(UUID_MARK);
        bytes.extend_from_slice(&uuid);
        return Ok(());
    }
    let length = u8::try_from(field.len())
        .ok()
        .filter(|length| *length != UUID_MARK)
        .ok_or(TokenError::LongField(what))?;
    bytes.push(length);
    bytes.extend_from_slice(field.as_bytes());
    Ok(())
}

/// The bytes of a UUID in the one spelling that it can be written back in.
fn canonical_uuid(text: &str) -> Option<[u8; 16]> {
    let uuid = uuid::Uuid::try_parse(text).ok()?;
    (uuid.hyphenated().to_string() == text).then(|| uuid.into_bytes())
}

struct Read {
    purpose: u8,
    end: u64,
    ticket: Ticket,
}

fn read(bytes: &[u8]) -> Option<Read> {
    let (&version, rest) = bytes.split_first()?;
    let (&purpose, rest) = rest.split_first()?;
    let (end, mut rest) = rest.split_first_chunk::<8>()?;
    let mut take = || {
        let (&length, after) = rest.split_first()?;
        if length == UUID_MARK {
            let (uuid, after) = after.split_first_chunk::<16>()?;
            rest = after;
            return Some(uuid::Uuid::from_bytes(*uuid).hyphenated().to_string());
        }
        let (field, after) = after.split_at_checked(usize::from(length))?;
        rest = after;
        Some(std::str::from_utf8(field).ok()?.to_owned())
    };
    let ticket = Ticket {
        server: take()?,
        server_uid: take()?,
        nonce: take()?,
    };
    (version == VERSION && rest.is_empty()).then_some(Read {
        purpose,
        end: u64::from_be_bytes(*end),
        ticket,
    })
}

#[cfg(test)]
mod tests;
