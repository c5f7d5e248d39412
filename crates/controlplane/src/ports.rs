//! Free ports for programs that cannot say which port the kernel gave them.
//!
//! They lie below the range from which Linux takes ports for outgoing connections (32768 and up), so that a component
//! which is stopped and started again finds its port still free.

use std::hash::{BuildHasher, RandomState};
use std::net::{Ipv4Addr, TcpListener};

use crate::Error;

const FROM: u16 = 20_000;
const TO: u16 = 32_000;

/// A port on which nobody listens now. Somebody may take it before we do: callers try again with another.
pub(crate) fn free() -> Result<u16, Error> {
    let span = u64::from(TO - FROM);
    (0..200)
        .map(|attempt: u32| RandomState::new().hash_one(attempt) % span)
        .filter_map(|offset| u16::try_from(offset).ok())
        .map(|offset| FROM + offset)
        .find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok())
        .ok_or(Error::NoFreePort { from: FROM, to: TO })
}
