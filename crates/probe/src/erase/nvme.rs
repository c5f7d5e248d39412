//! NVMe: Identify, Sanitize (followed by log page 81h) and Format NVM (NVM Express Base Specification 2.0, sections 5.17, 5.24, 5.14).

use super::method::Method;
use super::{EraseError, Job};
use crate::device::NvmeAdmin;
use corten_probe_ioctl::{NvmeCommand, Transfer};
use std::io;
use std::time::Duration;

const GET_LOG: u8 = 0x02;
const IDENTIFY: u8 = 0x06;
const FORMAT: u8 = 0x80;
const SANITIZE: u8 = 0x84;
/// Identify: namespaces attached to this controller, and all that exist (CNS 02h, 10h).
const ACTIVE: u32 = 0x02;
const ALLOCATED: u32 = 0x10;
const ALL: u32 = 0xffff_ffff;
const SHORT: Duration = Duration::from_secs(30);
/// A format may erase every cell of a large drive.
const LONG: Duration = Duration::from_secs(12 * 3600);

/// What a controller says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Controller {
    /// Serial number.
    pub serial_number: String,
    /// It can sanitize by crypto erase.
    pub sanitize_crypto: bool,
    /// It can sanitize by block erase.
    pub sanitize_block: bool,
    /// It can format.
    pub format: bool,
    /// A format can erase cryptographically.
    pub format_crypto: bool,
    /// It can make, detach and delete namespaces.
    pub manages_namespaces: bool,
}

impl Controller {
    /// Asks it.
    ///
    /// # Errors
    /// Where it does not answer.
    pub fn identify(admin: &dyn NvmeAdmin) -> io::Result<Self> {
        Ok(Self::parse(&identify(admin, 0, 1)?))
    }

    /// Reads the data structure (figure 275).
    #[must_use]
    pub fn parse(data: &[u8]) -> Self {
        let byte = |at: usize| data.get(at).copied().unwrap_or_default();
        Self {
            serial_number: String::from_utf8_lossy(data.get(4..24).unwrap_or_default())
                .trim_matches(|c: char| c.is_whitespace() || c == '\0')
                .to_owned(),
            sanitize_crypto: byte(328) & 1 != 0,
            sanitize_block: byte(328) & 2 != 0,
            format: byte(256) & 2 != 0,
            manages_namespaces: byte(256) & 8 != 0,
            format_crypto: byte(524) & 4 != 0,
        }
    }
}

/// What a drive offers.
#[derive(Default)]
pub(super) struct Offer {
    /// Its own methods, strongest first.
    pub methods: Vec<Method>,
    /// Data lies, or may lie, where only these reach it: what works on the namespace that is seen is not enough.
    pub hidden: bool,
}

/// What the controller can.
pub(super) fn offer(admin: &dyn NvmeAdmin, told: &mut Vec<String>) -> Offer {
    let controller = match Controller::identify(admin) {
        Ok(controller) => controller,
        Err(error) => {
            told.push(format!("NVMe Identify: {error}"));
            return Offer::default();
        }
    };
    // Sanitize, and Format on many drives, takes all namespaces with it: of others than ours nothing was granted.
    let active = match namespaces(admin, ACTIVE) {
        Ok(active) if active.len() == 1 => active,
        Ok(active) => {
            told.push(format!(
                "NVMe Sanitize and Format: {} namespaces",
                active.len()
            ));
            return Offer::default();
        }
        Err(error) => {
            told.push(format!(
                "NVMe Sanitize and Format: namespaces unknown: {error}"
            ));
            return Offer::default();
        }
    };
    let hidden = controller.manages_namespaces && detached(admin, &active, told);
    let methods = [
        (controller.sanitize_crypto, Method::NvmeSanitizeCrypto),
        (controller.sanitize_block, Method::NvmeSanitizeBlock),
        (
            !hidden && controller.format && controller.format_crypto,
            Method::NvmeFormatCrypto,
        ),
        (!hidden && controller.format, Method::NvmeFormatUser),
    ]
    .into_iter()
    .filter(|(can, _)| *can)
    .map(|(_, method)| method)
    .collect();
    Offer { methods, hidden }
}

/// Whether there are, or may be, namespaces that no host sees and that keep what was written to them. A sanitize takes them with it.
fn detached(admin: &dyn NvmeAdmin, active: &[u32], told: &mut Vec<String>) -> bool {
    match namespaces(admin, ALLOCATED) {
        Ok(allocated) => {
            let count = allocated.iter().filter(|id| !active.contains(id)).count();
            if count > 0 {
                told.push(format!("{count} more namespace(s) are allocated and not attached: only a sanitize reaches them (`nvme list-ns --all`; attach or delete them)"));
            }
            count > 0
        }
        Err(error) => {
            told.push(format!(
                "the allocated namespaces are unknown ({error}): only a sanitize reaches them all"
            ));
            true
        }
    }
}

/// Identifiers of the namespaces that `list` is of.
fn namespaces(admin: &dyn NvmeAdmin, list: u32) -> io::Result<Vec<u32>> {
    let list = identify(admin, 0, list)?;
    let (ids, _) = list.as_chunks::<4>();
    Ok(ids
        .iter()
        .map(|id| u32::from_le_bytes(*id))
        .take_while(|id| *id != 0)
        .collect())
}

fn identify(admin: &dyn NvmeAdmin, nsid: u32, structure: u32) -> io::Result<Vec<u8>> {
    let mut data = vec![0_u8; 4096];
    send(
        admin,
        IDENTIFY,
        nsid,
        structure,
        SHORT,
        Transfer::FromDevice(&mut data),
    )?;
    Ok(data)
}

fn send(
    admin: &dyn NvmeAdmin,
    opcode: u8,
    nsid: u32,
    cdw10: u32,
    timeout: Duration,
    data: Transfer<'_>,
) -> io::Result<()> {
    let command = NvmeCommand {
        opcode,
        nsid,
        cdw: [cdw10, 0, 0, 0, 0, 0],
        timeout,
    };
    let completion = admin.admin(&command, data)?;
    if completion.status == 0 {
        return Ok(());
    }
    Err(io::Error::other(format!(
        "the drive refused NVMe command {opcode:#04x} with status {:#06x}",
        completion.status
    )))
}

pub(super) fn run(
    admin: &dyn NvmeAdmin,
    namespace: u32,
    method: Method,
    job: &Job<'_>,
) -> Result<(), EraseError> {
    match method {
        // Bit 3: after a failure the drive may be used again without another sanitize.
        Method::NvmeSanitizeCrypto => sanitize(admin, 4 | 1 << 3, job),
        Method::NvmeSanitizeBlock => sanitize(admin, 2 | 1 << 3, job),
        Method::NvmeFormatCrypto => format(admin, namespace, 2),
        _ => format(admin, namespace, 1),
    }
}

/// Keeps the namespace's format (size of blocks, metadata, protection), and erases.
fn format(admin: &dyn NvmeAdmin, namespace: u32, secure_erase: u32) -> Result<(), EraseError> {
    let data = identify(admin, namespace, 0)?;
    let flbas = u32::from(data.get(26).copied().unwrap_or_default());
    let protection = u32::from(data.get(29).copied().unwrap_or_default());
    let cdw10 = flbas & 0x1f | (protection & 0xf) << 5 | secure_erase << 9 | (flbas >> 5 & 3) << 12;
    send(admin, FORMAT, namespace, cdw10, LONG, Transfer::None)?;
    Ok(())
}

/// Begins a sanitize and follows it to its end. It cannot be stopped: once work is to end, the drive goes on alone.
fn sanitize(admin: &dyn NvmeAdmin, action: u32, job: &Job<'_>) -> Result<(), EraseError> {
    send(admin, SANITIZE, 0, action, SHORT, Transfer::None)?;
    let mut silent = 0;
    loop {
        if job.stop.wait(Duration::from_millis(200)) {
            job.go_on()?;
        }
        match status(admin) {
            Ok(Status::Running(percent)) => {
                silent = 0;
                (job.progress)(percent);
            }
            Ok(Status::Done) => return Ok(()),
            Ok(Status::Failed(code)) => {
                return Err(io::Error::other(format!("sanitize failed, status {code}")).into());
            }
            // Some firmware does not answer while it begins.
            Err(_) if silent < 50 => silent += 1,
            Err(error) => return Err(error.into()),
        }
    }
}

/// What log page 81h says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Status {
    Running(u8),
    Done,
    Failed(u16),
}

fn status(admin: &dyn NvmeAdmin) -> io::Result<Status> {
    let mut page = [0_u8; 512];
    let cdw10 = 0x81 | 127 << 16;
    send(
        admin,
        GET_LOG,
        ALL,
        cdw10,
        SHORT,
        Transfer::FromDevice(&mut page),
    )?;
    Ok(parse_status(page))
}

fn parse_status(page: [u8; 512]) -> Status {
    let [a, b, c, d, ..] = page;
    let progress = u32::from(u16::from_le_bytes([a, b]));
    match u16::from_le_bytes([c, d]) & 7 {
        1 | 4 => Status::Done,
        2 => Status::Running(u8::try_from(progress * 100 / 65536).unwrap_or(100)),
        code => Status::Failed(code),
    }
}
