//! Work that the probe does: how a machine is brought up for it, how long it is waited for, and what a grant may name.
//!
//! A run with such work sets a boot target, switches the machine on once, waits until the probe has reported, and takes the machine down
//! again. It switches on **once**: a boot target serves one start, and a second start would boot whatever is on the disk. What does not come
//! up as the probe is noticed by its silence, and nothing is ever erased or written because a machine runs.
//!
//! Promise held here: leave to erase or write is given once, to the machine of the record, for a run that is open and due.

use jiff::{SignedDuration, Timestamp};

use corten_api::metal::PowerState;

use crate::{
    cleanup::{self, Sorted},
    identity::Identity,
    plan::Planned,
    policy::Cleaning,
    run::{Kind, Outcome, Run, Step},
    server::{
        Abilities, Act, Attachment, Decision, Observed, Reach, after,
        pursuit::{self, Progress, Tidy},
        send, unreachable_now,
    },
};

/// A probe that is at work says so every second, and stops by itself when it is not heard for ten minutes: one that is silent for longer has gone.
const SILENCE: SignedDuration = SignedDuration::from_mins(12);
/// What a machine boots of a claim's image is served for so long after its first start, where it is not needed at each.
const FETCHING: SignedDuration = SignedDuration::from_hours(1);
/// An inventory with gaps, which a grant waits for, is read again after this long.
const UNREAD: SignedDuration = SignedDuration::from_secs(20);

/// Occasion of the run in which the probe takes inventory.
pub(crate) const PROBING: &str = "probe";
/// Occasion of the run in which the probe tests a new machine.
pub(crate) const BURN_IN: &str = "burn-in";

/// How a machine gets what it boots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BootMethod {
    /// UEFI HTTP boot of an address that is set over Redfish (`Boot.HttpBootUri`); needs nothing of DHCP but an address.
    HttpBootUri,
    /// An ISO image in a virtual drive.
    VirtualMedia,
    /// UEFI HTTP boot of the address that DHCP says. Only where it is declared: DHCP may know of PXE alone.
    UefiHttp,
    /// Whatever DHCP says: PXE where the machine can, else UEFI HTTP boot.
    Network,
}

/// A chosen method, and why it is this one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Choice {
    /// The method.
    pub method: BootMethod,
    /// For people.
    pub why: String,
}

// === impl BootMethod ===

impl BootMethod {
    /// The word in annotations and conditions.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::HttpBootUri => "HttpBootUri",
            Self::VirtualMedia => "VirtualMedia",
            Self::UefiHttp => "UefiHttp",
            Self::Network => "Network",
        }
    }

    /// Reads the word.
    pub fn parse(text: &str) -> Option<Self> {
        [
            Self::HttpBootUri,
            Self::VirtualMedia,
            Self::UefiHttp,
            Self::Network,
        ]
        .into_iter()
        .find(|method| method.as_str().eq_ignore_ascii_case(text.trim()))
    }

    fn is_offered(self, can: &Abilities) -> bool {
        match self {
            Self::HttpBootUri => can.http_boot_uri,
            Self::VirtualMedia => can.virtual_media && can.boot_override,
            Self::UefiHttp => can.uefi_http,
            Self::Network => true,
        }
    }

    /// The calls that make the next start use it.
    pub(crate) fn steps(self, can: &Abilities) -> Vec<Step> {
        match self {
            Self::HttpBootUri => vec![Step::BootHttpOnce],
            Self::VirtualMedia => vec![Step::InsertMedia, Step::BootMediaOnce],
            Self::UefiHttp => vec![Step::BootUefiHttpOnce],
            Self::Network if can.boot_override => vec![Step::BootNetworkOnce],
            Self::Network => Vec::new(),
        }
    }
}

/// Chooses a method: the declared one, else the one that supposes least of the network around the machine.
///
/// # Errors
/// Cause and remedy, where the declared method is unknown or the machine does not offer it.
pub fn choose(can: &Abilities, declared: Option<&str>) -> Result<Choice, String> {
    if let Some(text) = declared {
        let Some(method) = BootMethod::parse(text) else {
            return Err(format!(
                "the annotation {} says {text:?}: HttpBootUri, VirtualMedia, UefiHttp and Network are allowed",
                crate::names::BOOT_METHOD
            ));
        };
        return if method.is_offered(can) {
            Ok(Choice {
                method,
                why: format!("the annotation {} asks for it", crate::names::BOOT_METHOD),
            })
        } else {
            Err(format!(
                "the annotation {} asks for {text}, which this machine's BMC does not offer: take another, or remove the annotation",
                crate::names::BOOT_METHOD
            ))
        };
    }
    let (method, why) = if can.http_boot_uri {
        (
            BootMethod::HttpBootUri,
            "the BMC takes an address for UEFI HTTP boot, which needs no boot options of DHCP",
        )
    } else if BootMethod::VirtualMedia.is_offered(can) {
        (
            BootMethod::VirtualMedia,
            "the BMC takes no address for HTTP boot and has a virtual drive",
        )
    } else {
        (
            BootMethod::Network,
            "the BMC takes neither an address for HTTP boot nor a virtual medium: DHCP has to say where to boot",
        )
    };
    Ok(Choice {
        method,
        why: why.to_owned(),
    })
}

/// How this server would boot from our services; none where there are none.
pub(crate) fn choice(o: &Observed) -> Option<Result<Choice, String>> {
    let services = o.services.as_ref()?;
    let can = o.machine().map(|machine| machine.can).unwrap_or_default();
    Some(choose(&can, services.declared.as_deref()))
}

/// The steps that bring a machine up by `choice` and let the probe do `work`.
pub(crate) fn planned(choice: &Choice, can: &Abilities, work: Step, reason: &str) -> Vec<Planned> {
    let mut steps: Vec<Planned> = choice
        .method
        .steps(can)
        .into_iter()
        .map(|step| Planned {
            step,
            reason: choice.why.clone(),
        })
        .collect();
    steps.push(Planned {
        step: Step::PowerOn,
        reason: "once, for the probe".into(),
    });
    steps.push(Planned {
        step: work,
        reason: reason.to_owned(),
    });
    steps
}

/// The steps that take a machine down after the probe's work.
pub(crate) fn taken_down(choice: &Choice) -> Vec<Planned> {
    let mut steps = vec![
        Planned {
            step: Step::RequestShutdown,
            reason: "the probe's work has ended".into(),
        },
        Planned {
            step: Step::ForceOff,
            reason: "if it does not shut down within the grace".into(),
        },
    ];
    if choice.method == BootMethod::VirtualMedia {
        steps.push(Planned {
            step: Step::EjectMedia,
            reason: "the probe's medium goes".into(),
        });
    }
    steps
}

/// The probe's work in a run; none in a run without.
pub fn work(run: &Run) -> Option<Step> {
    run.plan.iter().find(|step| step.is_probe()).cloned()
}

/// True once the run has, or may have, switched the machine on.
pub fn is_up(run: &Run) -> bool {
    run.last(&Step::PowerOn)
        .is_some_and(|done| !matches!(done.outcome, Outcome::Failed | Outcome::NotSent))
}

/// Brings the machine up and waits for the probe's work. Done and Exhausted both leave the machine as it is: taking it down comes next.
pub(crate) fn pursue(o: &Observed, run: &Run, base: Decision) -> Progress {
    let Some(work) = work(run) else {
        return Progress::Exhausted("the run has no work for the probe".into());
    };
    match run.last(&work).map(|done| (done.outcome, done)) {
        Some((Outcome::Succeeded, _)) => return Progress::Done,
        Some((Outcome::Accepted, done)) => {
            // Large drives take days; what gets on is not cut short.
            let since = run
                .progressed_at
                .map_or(done.started_at, |at| at.max(done.started_at));
            let until = after(since, limit(o, &work));
            if o.now >= until {
                return Progress::Exhausted(format!(
                    "the probe took {work} on and has not got on with it for {} minutes",
                    limit(o, &work).as_mins()
                ));
            }
            if is_down_since(o, done.finished_at) {
                return Progress::Exhausted(format!(
                    "the machine lost power while the probe was at {work}: nothing shows that it was done"
                ));
            }
            let silent = o
                .heard
                .map(|heard| after(heard.max(done.finished_at), SILENCE));
            if silent.is_some_and(|silent| o.now >= silent) {
                return Progress::Exhausted(format!(
                    "the probe has not been heard of for {} minutes while it was at {work}: it or its machine was started again, or does not reach the boot services",
                    SILENCE.as_mins()
                ));
            }
            let until = silent.map_or(until, |silent| silent.min(until));
            return Progress::Doing(watch(o, base, done.finished_at).until(until));
        }
        Some((_, done)) => return Progress::Exhausted(done.evidence.clone()),
        None => {}
    }
    if !is_up(run) {
        return bring_up(o, run, base);
    }
    let since = run
        .last(&Step::PowerOn)
        .map_or(o.now, |done| done.finished_at);
    let until = after(since, o.policy.probe_timeout);
    let call = o.call.as_ref().filter(|call| call.at > since);
    // Leave to erase or write rests on what the BMC knows of the drives while the machine runs: many list none, or not all, while it is off.
    let needs_list = matches!(work, Step::ProbeErase | Step::ProbeWrite);
    let unlisted = o.inventory.as_ref().is_none_or(|read| {
        !read.unread.is_empty() && after(read.read_at, UNREAD) <= o.now
            || call.is_some_and(|call| read.read_at < call.at)
    });
    if unlisted && needs_list && o.machine().is_some() && o.now < until {
        return Progress::Doing(base.with(Act::ReadInventory).until(until));
    }
    if o.now >= until {
        let refused = call.and_then(|call| call.refused.as_ref());
        return Progress::Exhausted(match (refused, unserved(o, run)) {
            (Some(why), _) => format!("the probe called and was given nothing: {why}"),
            (None, Some(why)) => format!("it came for the probe and could not be sent it: {why}"),
            (None, None) => format!(
                "it was switched on for the probe and no probe called within {} minutes: it started something else, or does not reach the boot services. See its console",
                o.policy.probe_timeout.as_mins()
            ),
        });
    }
    // A machine needs a while to show that it is on; one that is off long after that is not started a second time.
    if o.now > after(since, o.policy.power_confirm) && is_down_since(o, since) {
        return Progress::Exhausted(
            "it was switched on for the probe and is off again before a probe called".into(),
        );
    }
    Progress::Doing(watch(o, base, since).until(until))
}

/// Why the machine was not sent what it boots, since this run switched it on.
pub(crate) fn unserved<'a>(o: &'a Observed, run: &Run) -> Option<&'a str> {
    let since = run.last(&Step::PowerOn)?.started_at;
    let (_, why) = o.unserved.as_ref().filter(|(at, _)| *at >= since)?;
    Some(why)
}

/// Whether something of the claim's image was on its way to the machine since this run switched it on.
pub(crate) fn was_sent(o: &Observed, run: &Run) -> bool {
    let begun = run.last(&Step::PowerOn).map(|done| done.started_at);
    let sent = o.served_at.zip(begun);
    sent.is_some_and(|(at, begun)| at >= begun)
}

fn bring_up(o: &Observed, run: &Run, base: Decision) -> Progress {
    if !o.is_off() {
        return match o.machine() {
            Some(_) => Progress::Exhausted(
                "somebody switched it on before it was started for the probe".into(),
            ),
            None => Progress::Doing(send(o, base, Step::PowerOn)),
        };
    }
    for step in run.plan.iter().take_while(|step| **step != Step::PowerOn) {
        if let Some(doing) = pursuit::once(o, run, base.clone(), step.clone()) {
            return Progress::Doing(doing);
        }
        let last = run.last(step);
        if last.is_none_or(|done| done.outcome != Outcome::Succeeded) {
            let why = last.map_or_else(String::new, |done| format!(": {}", done.evidence));
            return Progress::Exhausted(format!("{step} could not be done{why}"));
        }
    }
    match run.last(&Step::PowerOn) {
        Some(done) if run.failures(&Step::PowerOn) >= 2 => {
            Progress::Exhausted(format!("it could not be switched on: {}", done.evidence))
        }
        _ => Progress::Doing(send(o, base, Step::PowerOn)),
    }
}

/// Takes the machine down after the work, however that ended.
pub(crate) fn take_down(o: &Observed, run: &Run, base: Decision) -> Progress {
    if !is_up(run) {
        return Progress::Done;
    }
    match pursuit::off(o, run, base.clone(), true) {
        Progress::Done if run.plan.contains(&Step::EjectMedia) => {
            match pursuit::eject(o, run, base) {
                Tidy::Doing(doing) => Progress::Doing(doing),
                // It would not be booted again by itself, and the next cleaning or release looks anew.
                Tidy::Stays(_) | Tidy::Empty => Progress::Done,
            }
        }
        progress => progress,
    }
}

/// Brings the machine up, waits for the work and takes the machine down, whatever became of the work: Exhausted says what was not done.
pub(crate) fn carry_through(o: &Observed, run: &Run, base: &Decision) -> Progress {
    let ended = match pursue(o, run, base.clone()) {
        doing @ Progress::Doing(_) => return doing,
        Progress::Done => None,
        Progress::Exhausted(message) => Some(message),
    };
    match (take_down(o, run, base.clone()), ended) {
        (doing @ Progress::Doing(_), _) => doing,
        (Progress::Done, None) => Progress::Done,
        (Progress::Done, Some(message)) => Progress::Exhausted(message),
        (Progress::Exhausted(down), None) => Progress::Exhausted(down),
        (Progress::Exhausted(down), Some(message)) => {
            Progress::Exhausted(format!("{message}; {down}"))
        }
    }
}

fn watch(o: &Observed, base: Decision, since: Timestamp) -> Decision {
    match &o.reach {
        Reach::Reached(machine) => pursuit::watch(o, machine, base, since),
        Reach::Unknown => base.with(Act::ReadMachine),
        Reach::Lost { .. } => unreachable_now(o, base),
    }
}

fn is_down_since(o: &Observed, since: Timestamp) -> bool {
    o.machine()
        .is_some_and(|machine| machine.power == PowerState::Off && machine.read_at > since)
}

fn limit(o: &Observed, work: &Step) -> SignedDuration {
    match work {
        Step::ProbeErase => o.policy.erase_timeout,
        Step::ProbeWrite => o.policy.write_timeout,
        Step::ProbeBurnIn(seconds) => {
            o.policy.probe_timeout + SignedDuration::from_secs(i64::from(*seconds))
        }
        _ => o.policy.probe_timeout,
    }
}

// === grants ===

/// A probe that calls, as far as rules look at it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Caller {
    /// The run that its token was made for.
    pub run: String,
    /// Who it says it is.
    pub identity: Identity,
    /// What a grant to this start of it is recorded as.
    pub start: String,
    /// Drives that it sees.
    pub drives: Vec<SeenDrive>,
    /// Storage controllers that it has no driver for.
    pub unseen: Vec<String>,
}

/// A drive as a probe sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SeenDrive {
    /// Serial number; empty where it has none.
    pub serial: String,
    /// Model, for people.
    pub model: String,
    /// How it is attached.
    pub attachment: Attachment,
    /// Why the probe may not write it, if it may not.
    pub untouchable: Option<String>,
}

/// A drive that a grant leaves out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// The drive.
    pub drive: SeenDrive,
    /// Why.
    pub why: String,
}

/// What a probe is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Grant {
    /// Nothing is due; it may ask again.
    Wait,
    /// Take inventory.
    Inventory,
    /// Test memory and drives for so many seconds, changing nothing.
    BurnIn(u32),
    /// Erase these drives, once.
    Erase {
        /// Serial numbers.
        drives: Vec<String>,
        /// How thorough.
        method: Cleaning,
        /// Those that it sees and that are not named. Local ones keep the server in Cleanup.
        left_out: Vec<LeftOut>,
    },
    /// Write the claim's image to one of these drives, once.
    Write {
        /// Serial numbers.
        drives: Vec<String>,
    },
    /// Its work is done.
    PowerOff,
    /// Another start of it was given this leave and has not reported: what that one was at has ended, nobody knows how.
    Restarted(Step),
    /// It is not served, and why.
    Refuse(String),
}

impl Grant {
    /// For logs.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Wait => "nothing yet",
            Self::Inventory => "inventory",
            Self::BurnIn(_) => "burn-in",
            Self::Erase { .. } => "erase",
            Self::Write { .. } => "write",
            Self::PowerOff => "power off",
            Self::Restarted(_) => "nothing, it was started again",
            Self::Refuse(_) => "nothing",
        }
    }
}

/// What a probe that calls may do. `o` was observed live: no cache decides over data.
pub fn grant(o: &Observed, caller: &Caller) -> Grant {
    let Some(run) = o
        .run
        .as_ref()
        .filter(|run| run.name == caller.run && run.is_open())
    else {
        return Grant::Refuse("the run of its boot has ended".into());
    };
    let expected = o
        .record
        .notes
        .identity
        .clone()
        .or_else(|| o.machine().map(|machine| machine.identity.clone()))
        .unwrap_or_default();
    if expected.is_denied_from_inside(&caller.identity) {
        return Grant::Refuse(format!(
            "expected {expected}, and it says that it is {}",
            caller.identity
        ));
    }
    if let Some(why) = &o.dispute {
        return Grant::Refuse(why.clone());
    }
    if o.record.notes.ignores() || o.record.deleting {
        return Grant::Refuse("the server is being left alone, or deleted".into());
    }
    if !is_up(run) {
        return Grant::Refuse("it was not switched on for a probe".into());
    }
    let Some(work) = work(run) else {
        return Grant::Refuse("its run has no work for a probe".into());
    };
    match run.last(&work).map(|done| (done.outcome, &done.evidence)) {
        None => {}
        Some((Outcome::Accepted, given)) => {
            return match work {
                // Looking twice is as once.
                Step::ProbeInventory => Grant::Inventory,
                _ if *given != caller.start => Grant::Restarted(work),
                _ => Grant::Refuse(format!(
                    "{work} was granted before, and leave is given once"
                )),
            };
        }
        Some(_) if run.kind == Kind::Provisioning => return Grant::Wait,
        Some(_) => return Grant::PowerOff,
    }
    match work {
        Step::ProbeInventory => return Grant::Inventory,
        Step::ProbeBurnIn(seconds) => return Grant::BurnIn(seconds),
        _ => {}
    }
    let brake = o.guard.brake.is_some();
    // A probe cannot see that another machine reaches a drive too; its BMC may.
    let fresh = o.inventory.as_ref().filter(|read| {
        let is_fresh = o.call.as_ref().is_some_and(|call| read.read_at >= call.at);
        is_fresh && read.unread.is_empty()
    });
    let Some(listed) = fresh else {
        return Grant::Wait;
    };
    let (drives, mut left_out) = named(&caller.drives, &cleanup::sort(listed, &[]));
    left_out.extend(caller.unseen.iter().map(|controller| behind(controller)));
    match (work, run.kind) {
        (Step::ProbeErase, Kind::Cleaning) => {
            let due = o.record.claim.is_none()
                && o.record.notes.claim_uid.is_none()
                && o.record.notes.cleaning.as_ref().is_some_and(|due| {
                    due.server_uid == o.record.uid && due.occasion == run.occasion
                });
            match due {
                false => Grant::Refuse("no cleaning of this server is due".into()),
                true if brake => Grant::Wait,
                true => Grant::Erase {
                    drives,
                    method: o.policy.cleaning,
                    left_out,
                },
            }
        }
        (Step::ProbeWrite, Kind::Provisioning) => {
            let due = o.claim.as_ref().is_some_and(|claim| {
                !claim.deleting
                    && claim.uid == run.claim_uid
                    && o.record.notes.claim_uid.as_ref() == Some(&claim.uid)
                    && o.record.notes.provisioned.as_ref() != Some(&claim.uid)
            }) && !o.record.notes.is_releasing();
            match due {
                false => {
                    Grant::Refuse("no image is due to be written for this server's claim".into())
                }
                true => Grant::Write { drives },
            }
        }
        _ => Grant::Refuse("the work does not belong to this kind of run".into()),
    }
}

/// What a probe that is told to wait waits for, while its work has not been granted.
pub fn waits_for(o: &Observed) -> Option<String> {
    let run = o.run.as_ref()?;
    let work = work(run).filter(|work| run.last(work).is_none())?;
    let call = o.call.as_ref()?;
    Some(match (&o.inventory, &o.guard.brake) {
        (Some(read), _) if read.read_at >= call.at && !read.unread.is_empty() => format!(
            "these sections of the BMC's inventory could not be read: {}",
            read.unread.join(", ")
        ),
        (Some(read), Some(brake)) if read.read_at >= call.at && work == Step::ProbeErase => {
            format!("what destroys is paused: {brake}")
        }
        _ => "the BMC's list of its drives has not been read since the probe called".to_owned(),
    })
}

/// What a controller without a driver hides, in the place of a drive.
fn behind(controller: &str) -> LeftOut {
    let attachment = Attachment::Unseen;
    LeftOut {
        drive: SeenDrive {
            model: controller.to_owned(),
            attachment,
            ..SeenDrive::default()
        },
        why: format!(
            "any behind the storage controller {controller}, which the probe's kernel has no driver for"
        ),
    }
}

/// Drives that can be named: local, with a serial number of their own, and nobody's else as far as the BMC knows. And the others, each with why.
fn named(drives: &[SeenDrive], listed: &Sorted) -> (Vec<String>, Vec<LeftOut>) {
    let (mut named, mut left_out) = (Vec::new(), Vec::new());
    // A drive that other machines reach is spelt otherwise by the BMC, or has no name there: it may be any that the BMC does not know as local.
    let is_lost = listed.nameless_shared
        || listed.foreign.iter().any(|(serial, attachment)| {
            matches!(attachment, Attachment::Shared | Attachment::Multipath)
                && !drives.iter().any(|drive| drive.serial == *serial)
        });
    for drive in drives {
        let mut drive = drive.clone();
        if let Some(attachment) = listed.attachment(&drive.serial) {
            drive.attachment = attachment;
        } else if drive.attachment == Attachment::Expander && listed.local.contains(&drive.serial) {
            drive.attachment = Attachment::Local;
        }
        let twins = drives.iter().filter(|d| d.serial == drive.serial).count();
        let why = match drive.attachment.never_written() {
            Some(why) => Some(why.to_owned()),
            None if drive.untouchable.is_some() => drive.untouchable.clone(),
            None if drive.serial.is_empty() => Some("it has no serial number".to_owned()),
            None if twins > 1 => Some(format!("{twins} drives show its serial number")),
            None if is_lost && !listed.local.contains(&drive.serial) => Some(
                "the BMC lists a drive that other machines reach, which the probe does not see under that serial number, and does not list this one"
                    .to_owned(),
            ),
            None => None,
        };
        match why {
            None => named.push(drive.serial),
            Some(why) => left_out.push(LeftOut { drive, why }),
        }
    }
    (named, left_out)
}

// === what is served ===

/// What a machine that shows the token of `nonce` is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Boots {
    /// The probe's ramdisk.
    Probe,
    /// The image of the claim.
    Image,
}

/// What the boot named `nonce` boots: for the probe the name of an open run, for a claim's image the UID of the claim.
///
/// # Errors
/// Why nothing of the kind is due; for the log.
pub fn boots(o: &Observed, nonce: &str) -> Result<Boots, String> {
    if o.record.notes.ignores() {
        return Err("the server is being left alone".into());
    }
    if let Some(run) = o.run.as_ref().filter(|run| run.name == nonce) {
        return match (work(run), run.kind) {
            (Some(work), _) => match run.last(&work).map(|done| done.outcome) {
                // A machine that comes back after its work is not to begin again.
                Some(Outcome::Succeeded | Outcome::Failed | Outcome::Unknown) => {
                    Err("the probe's work has ended".into())
                }
                _ => Ok(Boots::Probe),
            },
            _ => Err("the run boots nothing".into()),
        };
    }
    let Some(claim) = o.claim.as_ref().filter(|claim| {
        claim.uid == nonce
            && !claim.deleting
            && o.record.notes.claim_uid.as_ref() == Some(&claim.uid)
            && !o.record.notes.is_releasing()
    }) else {
        return Err("its run has ended, and no claim's image needs the network".into());
    };
    let boots_now = o.run.as_ref().is_some_and(|run| match run.kind {
        Kind::Provisioning => run.claim_uid == claim.uid && work(run).is_none(),
        // A later start is from the network only where there is no disk.
        Kind::Power => claim.diskless,
        _ => false,
    });
    // What has begun to boot goes on fetching: a kernel, its ramdisks, a root file system, the packages of an installer.
    let booted = o
        .closed_for(Kind::Provisioning, &claim.uid)
        .next()
        .is_some_and(|run| o.now < after(run.finished_at, FETCHING));
    let provisioned = o.record.notes.provisioned.as_ref() == Some(&claim.uid);
    if boots_now || provisioned && (claim.diskless || booted) && !claim.written {
        Ok(Boots::Image)
    } else {
        Err("no boot of the claim's image is due".into())
    }
}

/// The boot that a run's machine is started for, as its token names it: the run for the probe, the claim for its image, which is fetched for longer
/// than the run is open.
pub fn nonce<'a>(run: &'a Run, claim: Option<&'a str>) -> &'a str {
    match (work(run), claim) {
        (None, Some(claim)) => claim,
        _ => &run.name,
    }
}

/// The boot that a machine which comes without a token is let into, while a window is open for it: from a boot target that was set until the
/// probe has called, and as long as it lasts for a claim's server whose image lives in memory. Who comes so has shown no more than what it says of
/// itself, so there is a window only where the machine has no other way: not where its BMC was told an address or a medium with a token of its own.
///
/// # Errors
/// Why no window is open; for the log.
pub fn window(o: &Observed) -> Result<String, String> {
    let claim = o.claim.as_ref().map(|claim| claim.uid.as_str());
    if let Some(run) = &o.run
        && run.plan.contains(&Step::PowerOn)
        && boots(o, nonce(run, claim)).is_ok()
    {
        let called = work(run).is_some_and(|work| run.last(&work).is_some());
        let since = run
            .last(&Step::PowerOn)
            .map_or(run.created_at, |done| done.finished_at);
        if called {
            return Err("the probe has called already".into());
        }
        if o.now > after(since, o.policy.probe_timeout) {
            return Err("its boot window is over".into());
        }
        if let Some(aim) = run.plan.iter().find(|step| brings_a_token(step)) {
            return Err(format!(
                "it comes by DHCP, and its BMC was told what to boot ({aim}): where its firmware passes that over, set the annotation {}: Network",
                crate::names::BOOT_METHOD
            ));
        }
        return Ok(nonce(run, claim).to_owned());
    }
    // What was booted once starts from its disk from then on: an installer that is let in again installs again.
    match &o.claim {
        Some(claim) if claim.diskless && boots(o, &claim.uid).is_ok() => {
            let chosen = choice(o).and_then(Result::ok);
            let comes_otherwise = o.machine().zip(chosen).is_some_and(|(machine, choice)| {
                let aims = choice.method.steps(&machine.can);
                machine.boot_lasts && aims.iter().any(brings_a_token)
            });
            if comes_otherwise {
                return Err(
                    "it comes by DHCP, and its BMC was told what to boot at each start".into(),
                );
            }
            Ok(claim.uid.clone())
        }
        _ => Err("no boot of it is due".into()),
    }
}

/// Whether a step tells the machine what to boot with a token in it.
fn brings_a_token(step: &Step) -> bool {
    matches!(
        step,
        Step::BootHttpOnce | Step::InsertMedia | Step::BootMediaOnce
    )
}
