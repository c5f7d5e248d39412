//! Packets.

/// Largest block: a datagram of it fits an Ethernet frame, since firmware often cannot put fragments together.
pub(super) const MAX_BLOCK: u16 = 1468;
/// Largest window.
pub(super) const MAX_WINDOW: u16 = 32;
/// Longest timeout that a client may ask for, in seconds.
const LONGEST_WAIT: u8 = 5;

/// No read request that is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// A read request, with options as they will be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) name: String,
    pub(super) block: Option<u16>,
    pub(super) window: Option<u16>,
    pub(super) timeout: Option<u8>,
    pub(super) size: bool,
}

pub(super) fn request(packet: &[u8]) -> Result<Request, Malformed> {
    let (code, rest) = packet.split_first_chunk::<2>().ok_or(Malformed)?;
    if u16::from_be_bytes(*code) != 1 {
        return Err(Malformed);
    }
    let rest = rest.strip_suffix(&[0]).ok_or(Malformed)?;
    let mut words = rest
        .split(|byte| *byte == 0)
        .map(|word| std::str::from_utf8(word).map_err(|_| Malformed));
    let name = words.next().ok_or(Malformed)??.to_owned();
    let mode = words.next().ok_or(Malformed)??;
    if !mode.eq_ignore_ascii_case("octet") {
        return Err(Malformed);
    }
    let mut request = Request {
        name,
        block: None,
        window: None,
        timeout: None,
        size: false,
    };
    // At most so many pairs; unknown and unusable options are left out of the answer, as RFC 2347 has it.
    for _ in 0..16 {
        let (Some(option), Some(value)) = (words.next(), words.next()) else {
            break;
        };
        let (option, value) = (option?.to_ascii_lowercase(), value?);
        match option.as_str() {
            "blksize" => {
                request.block = value
                    .parse::<u16>()
                    .ok()
                    .filter(|size| *size >= 8)
                    .map(|size| size.min(MAX_BLOCK))
            }
            "windowsize" => {
                request.window = value
                    .parse::<u16>()
                    .ok()
                    .filter(|size| *size >= 1)
                    .map(|size| size.min(MAX_WINDOW))
            }
            // RFC 2349: taken as it is, or not at all. One that never answers holds its place for six of them.
            "timeout" => {
                request.timeout = value
                    .parse::<u8>()
                    .ok()
                    .filter(|seconds| (1..=LONGEST_WAIT).contains(seconds))
            }
            "tsize" => request.size = true,
            _ => {}
        }
    }
    Ok(request)
}

/// The option acknowledgement; none if there is nothing to acknowledge.
pub(super) fn acknowledgement(request: &Request, length: u64) -> Option<Vec<u8>> {
    let mut packet = vec![0, 6];
    let mut put = |name: &str, value: String| {
        packet.extend_from_slice(name.as_bytes());
        packet.push(0);
        packet.extend_from_slice(value.as_bytes());
        packet.push(0);
    };
    if request.size {
        put("tsize", length.to_string());
    }
    if let Some(block) = request.block {
        put("blksize", block.to_string());
    }
    if let Some(window) = request.window {
        put("windowsize", window.to_string());
    }
    if let Some(timeout) = request.timeout {
        put("timeout", timeout.to_string());
    }
    (packet.len() > 2).then_some(packet)
}

pub(super) fn data(number: u16, block: &[u8]) -> Vec<u8> {
    let mut packet = Vec::with_capacity(block.len() + 4);
    packet.extend_from_slice(&[0, 3]);
    packet.extend_from_slice(&number.to_be_bytes());
    packet.extend_from_slice(block);
    packet
}

pub(super) fn error(code: u16, message: &str) -> Vec<u8> {
    let mut packet = vec![0, 5];
    packet.extend_from_slice(&code.to_be_bytes());
    packet.extend_from_slice(message.as_bytes());
    packet.push(0);
    packet
}

/// What a client says during a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reply {
    Acknowledged(u16),
    /// It gives up, or wanted the size only.
    Ended,
    Other,
}

pub(super) fn reply(packet: &[u8]) -> Reply {
    match packet {
        [0, 4, high, low, ..] => Reply::Acknowledged(u16::from_be_bytes([*high, *low])),
        [0, 5, ..] => Reply::Ended,
        _ => Reply::Other,
    }
}
