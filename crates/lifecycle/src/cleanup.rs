//! Cleaning between claims: which drives are erased, what counts as proof, and what keeps a server from being offered again.
//!
//! It fails closed: a drive that was not erased, cannot be named, is gone, or is erased by a BMC's word alone where policy wants more, keeps the
//! server here with the reason. Only local, fixed drives are ever written.
//!
//! The proof lies in the open run: it ends only after the server has been marked clean, so no proof serves twice.
//!
//! Promise held here: what was claimed is not claimable again before it is clean.

mod probed;

use jiff::{SignedDuration, Timestamp};

use corten_api::metal::{PowerState, ServerState};

use crate::{
    inband, names,
    plan::Plan,
    policy::Cleaning,
    run::{Kind, Outcome, Phase, Run, Step},
    server::{
        Act, Amendment, Attachment, Decision, Drive, HANDED_OVER, Handover, Inventory, Observed,
        Reach, after, condition, leftover,
        pursuit::{self, Tidy},
        send, take_over, unreachable_now,
    },
};

/// The list of drives that a cleaning is planned from, or judged by, is not older than this.
const LIST: SignedDuration = SignedDuration::from_mins(15);
/// A list with gaps is read again after this long.
const UNREAD: SignedDuration = SignedDuration::from_secs(20);
/// How often a server that cannot be cleaned is looked at again: somebody may have replaced the drive.
const LOOK: SignedDuration = SignedDuration::from_hours(1);
/// So often one drive may fail in one run.
const TRIES: usize = 3;
/// A drive that was refused is tried again after this long.
const AGAIN: SignedDuration = SignedDuration::from_secs(30);
/// One of which nobody knows whether it began, on a drive that does not tell what it is busy with, is not asked for again before.
const UNKNOWN: SignedDuration = SignedDuration::from_mins(10);
/// So many drives of one machine are erased side by side, if its BMC takes them.
const AT_ONCE: usize = 8;
/// Virtual drives that cannot be emptied are looked at again after this long.
const MEDIA: SignedDuration = SignedDuration::from_mins(2);

/// The drives of a machine, sorted by what can be done with them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sorted {
    /// Serial numbers of those that are erased.
    pub erasable: Vec<String>,
    /// Those that must be clean and cannot be erased out of band: label and why.
    pub unavailable: Vec<(String, &'static str)>,
    /// Those that are never written: label and why.
    pub untouched: Vec<(String, &'static str)>,
    /// Serial numbers of all that are local and told apart, erasable out of band or not: a probe may erase them.
    pub local: Vec<String>,
    /// Serial numbers of those that are never written, and how each is attached.
    pub foreign: Vec<(String, Attachment)>,
    /// Those that are local and cannot be told by a serial number.
    pub nameless: Vec<String>,
    /// Serial numbers of those that belong to RAID volumes, and to which.
    pub in_volume: Vec<(String, Vec<String>)>,
    /// One that other machines may reach has no serial number.
    pub nameless_shared: bool,
}

impl Sorted {
    /// RAID volumes that a drive belongs to, as far as the BMC knows.
    pub(crate) fn volumes(&self, serial: &str) -> &[String] {
        let found = self.in_volume.iter().find(|(known, _)| known == serial);
        found.map_or(&[], |(_, volumes)| volumes)
    }

    /// How a drive is attached that is never written, as far as the BMC knows.
    pub(crate) fn attachment(&self, serial: &str) -> Option<Attachment> {
        let found = self.foreign.iter().find(|(known, _)| known == serial);
        found.map(|(_, attachment)| *attachment)
    }
}

/// Sorts the drives of a fresh inventory; `known` are the serial numbers of the last recorded one.
pub fn sort(inventory: &Inventory, known: &[String]) -> Sorted {
    let mut sorted = Sorted::default();
    if !inventory.lists_drives {
        sorted
            .unavailable
            .push(("all drives".into(), "the BMC does not list them"));
    }
    for drive in &inventory.drives {
        let label = label(drive);
        let never = drive.attachment.never_written();
        let twins = inventory
            .drives
            .iter()
            .filter(|d| d.serial == drive.serial)
            .count();
        match never {
            None if drive.serial.is_empty() || twins > 1 => sorted.nameless.push(label.clone()),
            None => sorted.local.push(drive.serial.clone()),
            Some(_) if drive.serial.is_empty() => {
                sorted.nameless_shared |=
                    matches!(drive.attachment, Attachment::Shared | Attachment::Multipath);
            }
            Some(_) => {
                let foreign = (drive.serial.clone(), drive.attachment);
                sorted.foreign.push(foreign);
            }
        }
        if !drive.volumes.is_empty() && never.is_none() && !drive.serial.is_empty() {
            let volumes = drive.volumes.clone();
            sorted.in_volume.push((drive.serial.clone(), volumes));
        }
        match never {
            Some(why) => sorted.untouched.push((label, why)),
            None if drive.serial.is_empty() => sorted.unavailable.push((
                label,
                "it has no serial number, so nothing could be reported of it",
            )),
            None if twins > 1 => sorted
                .unavailable
                .push((label, "two drives show its serial number")),
            None if !drive.can_erase => sorted
                .unavailable
                .push((label, "the BMC offers no Drive.SecureErase for it")),
            None => sorted.erasable.push(drive.serial.clone()),
        }
    }
    for serial in known {
        if !serial.is_empty() && !inventory.drives.iter().any(|d| &d.serial == serial) {
            sorted.unavailable.push((
                serial.clone(),
                "it was there when the server was last inventoried, and is gone",
            ));
        }
    }
    sorted
}

fn label(drive: &Drive) -> String {
    match (drive.serial.is_empty(), drive.label.is_empty()) {
        (false, false) => format!("{} ({})", drive.serial, drive.label),
        (false, true) => drive.serial.clone(),
        (true, _) => drive.label.clone(),
    }
}

fn list(drives: &[(String, &'static str)]) -> String {
    drives
        .iter()
        .map(|(label, why)| format!("{label}: {why}"))
        .collect::<Vec<_>>()
        .join("; ")
}

pub(crate) fn decide(o: &Observed) -> Decision {
    let base = Decision::rest(ServerState::Cleanup);
    let occasion = o
        .record
        .notes
        .cleaning
        .as_ref()
        .map(|due| due.occasion.as_str())
        .unwrap_or_default();
    if let Some(found) = &o.tombstone {
        return base.with(Act::SettleTombstone {
            run: found.run.clone(),
        });
    }
    if o.record.state != Some(ServerState::Cleanup) {
        // From now on the status says that it is taken from its claim, so that a later one that says Reserved means what it says.
        return waiting(base, "CleaningDue", "its disks hold data of a former claim")
            .with(Act::Show);
    }
    let handover = if o.is_off() { "" } else { HANDED_OVER };
    if let Some(finish) = leftover(o, &[(Kind::Cleaning, occasion), (Kind::Power, handover)]) {
        return finish;
    }
    if let Some(decided) = waived(o, occasion, &base) {
        return decided;
    }
    if matches!(o.reach, Reach::Lost { .. }) {
        return unreachable_now(o, base);
    }
    let under_way = o.run.as_ref().and_then(unfinished);
    if let (Some(serial), Some(run)) = (&under_way, &o.run)
        && (is_waived(o) || !Erasures::of(run).may_begin_more(run))
    {
        return follow(o, base, serial.clone());
    }
    if let Some(run) = o.run.as_ref().filter(|run| is_by_probe(run))
        && let Some(doing) = probed::pursue(o, run, &base)
    {
        return doing;
    }
    let Some(machine) = o.machine() else {
        return base.with(Act::ReadMachine);
    };
    if machine.power != PowerState::Off {
        if let Some(serial) = under_way {
            return follow(o, base, serial);
        }
        return found_running(o, base);
    }
    // A list from before the machine came back may lack what its tenant put in.
    let since = o
        .closed
        .first()
        .map_or(jiff::Timestamp::MIN, |run| run.finished_at);
    // A cleaning by the probe is judged by what is there after it.
    let since = o
        .run
        .as_ref()
        .filter(|run| is_by_probe(run))
        .and_then(|run| run.last(&Step::ProbeErase))
        .map_or(since, |done| since.max(done.finished_at));
    let is_recent = |read: &Inventory| after(read.read_at, LIST) > o.now && read.read_at >= since;
    let listed = match &o.inventory {
        Some(read) if read.unread.is_empty() && is_recent(read) => read,
        Some(read) if !read.unread.is_empty() && after(read.read_at, UNREAD) > o.now => {
            if let Some(serial) = under_way {
                return follow(o, base, serial);
            }
            let message = format!(
                "these sections could not be read: {}",
                read.unread.join(", ")
            );
            return waiting(base, "DrivesUnread", &message).until(after(read.read_at, UNREAD));
        }
        _ => return base.with(Act::ReadInventory),
    };
    let sorted = sort(listed, o.known_drives.as_deref().unwrap_or_default());
    match o.run.as_ref().filter(|run| run.kind == Kind::Cleaning) {
        None => begin(o, base, occasion, listed, sorted),
        Some(run) if is_by_probe(run) => probed::verdict(o, base, run, &sorted),
        Some(run) => proceed(o, base, run, &sorted),
    }
}

fn begin(
    o: &Observed,
    base: Decision,
    occasion: &str,
    listed: &Inventory,
    sorted: Sorted,
) -> Decision {
    if let Some(by_probe) = probed::begin(o, &base, occasion, &sorted) {
        return by_probe;
    }
    if sorted.erasable.is_empty() && !sorted.unavailable.is_empty() {
        return unavailable(o, base, &sorted);
    }
    if o.policy.cleaning == Cleaning::Metadata {
        // More than was asked for, and the only thing that a BMC can do.
        return pursuit::start(
            o,
            erasing(base),
            Plan::cleaning(
                occasion,
                &sorted.erasable,
                "policy asks for Metadata; out of band only a whole erasure is possible",
            ),
        );
    }
    if sorted.erasable.is_empty() && listed.drives.is_empty() && !o.policy.accept_reported {
        return waiting(base, "EvidenceInsufficient", &format!("the BMC reports no drive at all, and the policy {} does not take its word (cleaning.acceptReported). {}", o.policy.name, remedy()))
            .until(after(listed.read_at, LOOK));
    }
    pursuit::start(
        o,
        erasing(base),
        Plan::cleaning(
            occasion,
            &sorted.erasable,
            "its disks hold data of a former claim",
        ),
    )
}

fn proceed(o: &Observed, base: Decision, run: &Run, sorted: &Sorted) -> Decision {
    let base = erasing(base);
    let erasures = Erasures::of(run);
    let beside = erasures.under_way.first();
    let mut due: Option<jiff::Timestamp> = None;
    for step in &run.plan {
        let Step::EraseDrive(serial) = step else {
            continue;
        };
        let last = run.last(step);
        match last.map(|done| done.outcome) {
            Some(Outcome::Succeeded | Outcome::Accepted) => continue,
            _ if !sorted.erasable.contains(serial) => {
                // What is under way is followed to its end first: a closed run follows nothing.
                if beside.is_some() {
                    continue;
                }
                return base.with(Act::FinishRun {
                    phase: Phase::Failed,
                    message: format!("the drive {serial} of the plan is not there any more, or cannot be erased; a new plan is made"),
                });
            }
            _ if beside.is_some() && !erasures.has_room() => continue,
            _ => {}
        }
        let Some(done) = last else {
            return send(o, base, step.clone());
        };
        if erasures.failures(serial) >= TRIES {
            if beside.is_some() {
                continue;
            }
            let message = format!("the drive {serial} could not be erased: {}", done.evidence);
            return waiting(base, "ErasureFailed", &message).with(Act::FinishRun {
                phase: Phase::Failed,
                message,
            });
        }
        let is_seen = o.inventory.iter().flat_map(|read| &read.drives);
        let is_seen = is_seen
            .filter(|drive| &drive.serial == serial)
            .any(|drive| drive.lists_operations);
        let pause = if done.outcome == Outcome::Unknown && !is_seen {
            UNKNOWN
        } else {
            AGAIN
        };
        let again = after(done.finished_at, pause);
        if o.now >= again {
            return send(o, base, step.clone());
        }
        due = Some(due.map_or(again, |due| due.min(again)));
    }
    match (beside, due) {
        (Some(serial), _) => follow(o, base, serial.clone()),
        (None, Some(again)) => base.until(again),
        (None, None) => verdict(o, base, run, sorted),
    }
}

/// The erasures of a run, as its results tell them in their order.
#[derive(Debug, Default)]
struct Erasures {
    /// Begun and not ended.
    under_way: Vec<String>,
    /// Ends that count against a drive.
    failed: Vec<String>,
    /// The BMC refused one while another was under way: it takes one at a time.
    one_at_a_time: bool,
}

impl Erasures {
    fn of(run: &Run) -> Self {
        let mut erasures = Self::default();
        for done in &run.results {
            let Step::EraseDrive(serial) = &done.step else {
                continue;
            };
            let was_under_way = erasures.under_way.contains(serial);
            erasures.under_way.retain(|other| other != serial);
            match done.outcome {
                Outcome::Accepted => erasures.under_way.push(serial.clone()),
                Outcome::Succeeded => {}
                // That the BMC has its hands full says nothing of the drive.
                Outcome::Failed if !was_under_way && !erasures.under_way.is_empty() => {
                    erasures.one_at_a_time = true;
                }
                _ => erasures.failed.push(serial.clone()),
            }
        }
        erasures
    }

    fn has_room(&self) -> bool {
        self.under_way.is_empty() || !self.one_at_a_time && self.under_way.len() < AT_ONCE
    }

    fn failures(&self, serial: &str) -> usize {
        self.failed.iter().filter(|other| *other == serial).count()
    }

    /// Whether a drive of the plan waits and could be begun beside what is under way.
    fn may_begin_more(&self, run: &Run) -> bool {
        self.has_room()
            && run.plan.iter().any(|step| match step {
                Step::EraseDrive(serial) => {
                    run.last(step).is_none_or(|done| {
                        !matches!(done.outcome, Outcome::Succeeded | Outcome::Accepted)
                    }) && self.failures(serial) < TRIES
                }
                _ => false,
            })
    }
}

/// All that was planned is done. Is that enough?
fn verdict(o: &Observed, base: Decision, run: &Run, sorted: &Sorted) -> Decision {
    let done = |serial: &String| run.plan.contains(&Step::EraseDrive(serial.clone()));
    if let Some(added) = sorted.erasable.iter().find(|serial| !done(serial)) {
        return base.with(Act::FinishRun {
            phase: Phase::Failed,
            message: format!("the drive {added} was added during the cleaning; a new plan is made"),
        });
    }
    if !sorted.unavailable.is_empty() {
        return unavailable(
            o,
            Decision {
                findings: Vec::new(),
                ..base
            },
            sorted,
        );
    }
    if !sorted.untouched.is_empty() && !o.policy.ignore_unreachable_drives {
        return waiting(
            Decision { findings: Vec::new(), ..base },
            "DrivesNeverWritten",
            &format!("these drives are never written and the policy {} lets them block (cleaning.unreachableDrives): {}. {}", o.policy.name, list(&sorted.untouched), remedy()),
        )
        .until(look(o));
    }
    if !o.policy.accept_reported {
        return waiting(
            Decision {
                findings: Vec::new(),
                ..base
            },
            "EvidenceInsufficient",
            &format!(
                "the BMC reports the drives erased, nobody has verified it, and the policy {} does not take its word (cleaning.acceptReported). {}",
                o.policy.name,
                remedy()
            ),
        );
    }
    if let Some(decided) = unrecorded(o, &base).or_else(|| media(o, &base, run)) {
        return decided;
    }
    let mut message = format!("{} drive(s) erased, as reported by the BMC", run.plan.len());
    if !sorted.untouched.is_empty() {
        message = format!("{message}; never written: {}", list(&sorted.untouched));
    }
    cleaned("ReportedErased", message, true)
}

/// Without a record of the drives from before the claim a drive that was taken out, or that nobody sees any more, would not be missed.
fn unrecorded(o: &Observed, base: &Decision) -> Option<Decision> {
    if o.known_drives.is_some() {
        return None;
    }
    let base = Decision {
        findings: Vec::new(),
        ..base.clone()
    };
    let message = format!(
        "the drives that are there were erased, and which drives the machine had before the claim is recorded nowhere (neither in its ServerInventory nor in the annotation corten.dev/drives), so one may be missing. {}",
        remedy()
    );
    Some(waiting(base, "EvidenceInsufficient", &message).until(look(o)))
}

/// A medium of the former claim is no medium to start the next one from: the server stays until its virtual drives are empty.
fn media(o: &Observed, base: &Decision, run: &Run) -> Option<Decision> {
    let is_old = o
        .machine()
        .is_none_or(|machine| after(machine.read_at, MEDIA) <= o.now);
    if is_old {
        return Some(base.clone().with(Act::ReadMedia));
    }
    match pursuit::eject(o, run, base.clone()) {
        Tidy::Empty => None,
        Tidy::Doing(doing) => Some(doing),
        Tidy::Stays(why) => {
            let base = Decision {
                findings: Vec::new(),
                ..base.clone()
            };
            let read_at = o.machine().map_or(o.now, |machine| machine.read_at);
            let message = format!("{why}. Take it out. {}", remedy());
            Some(waiting(base, "MediumInserted", &message).until(after(read_at, MEDIA)))
        }
    }
}

/// Nobody asks for a proof any more: what has begun is followed, and nothing new is.
fn is_waived(o: &Observed) -> bool {
    o.record.notes.cleaned_by.is_some() || o.policy.cleaning == Cleaning::Disabled
}

/// Policy or a person says that no proof is needed. Recorded first, as a run of its own.
fn waived(o: &Observed, occasion: &str, base: &Decision) -> Option<Decision> {
    let (actor, why, reason) = match (&o.record.notes.cleaned_by, o.policy.cleaning) {
        (Some(actor), _) => (
            actor.clone(),
            format!("{actor} signed it off as clean ({})", names::CLEANED_BY),
            "SignedOff",
        ),
        (None, Cleaning::Disabled) => (
            format!("ServerPolicy/{}", o.policy.name),
            format!("the policy {} disables cleaning", o.policy.name),
            "CleaningDisabled",
        ),
        _ => return None,
    };
    match &o.run {
        // A drive that is being erased is no drive to hand out.
        Some(run) if unfinished(run).is_some() => None,
        // The probe's machine is taken down first.
        Some(run) if is_by_probe(run) && inband::is_up(run) && !o.is_off() => None,
        Some(run) if run.kind == Kind::Cleaning && run.plan.is_empty() => {
            Some(cleaned(reason, why, false))
        }
        Some(_) => Some(base.clone().with(Act::FinishRun {
            phase: Phase::Failed,
            message: why,
        })),
        None => Some(
            base.clone()
                .with(Act::StartRun(Plan::waiver(occasion, &actor, &why))),
        ),
    }
}

fn cleaned(reason: &'static str, message: String, erased: bool) -> Decision {
    Decision::rest(ServerState::Available)
        .with(Act::Amend(Amendment::cleaned()))
        .finding(condition::ERASED, erased.then_some(true), reason, message)
}

/// A drive whose task has begun and not ended.
fn unfinished(run: &Run) -> Option<String> {
    run.plan
        .iter()
        .find_map(|step| match (step, run.last(step)) {
            (Step::EraseDrive(serial), Some(done)) if done.outcome == Outcome::Accepted => {
                Some(serial.clone())
            }
            _ => None,
        })
}

/// True for a cleaning that the probe does.
fn is_by_probe(run: &Run) -> bool {
    run.kind == Kind::Cleaning && run.plan.contains(&Step::ProbeErase)
}

/// Why a drive's task is not waited for any longer, if so.
pub fn overdue(
    started_at: Option<Timestamp>,
    now: Timestamp,
    limit: SignedDuration,
) -> Option<String> {
    let started_at = started_at?;
    (now.duration_since(started_at) > limit).then(|| {
        format!("its task, begun at {started_at}, was not seen to end within {limit:#} (the policy's erase timeout): the BMC may still be at it")
    })
}

fn follow(o: &Observed, base: Decision, serial: String) -> Decision {
    // Once its task has ended the drive itself is asked, so its place has to be known.
    let is_listed = o.inventory.as_ref().is_some_and(|read| {
        read.unread.is_empty()
            || read.drives.iter().any(|drive| drive.serial == serial)
            || after(read.read_at, UNREAD) > o.now
    });
    if !is_listed {
        return base.with(Act::ReadInventory);
    }
    let base = if is_waived(o) {
        let message = format!(
            "the drive {serial} is being erased, and is not handed out before that has ended; then no proof is asked for"
        );
        waiting(base, "Erasing", &message)
    } else {
        erasing(base)
    };
    base.with(Act::FollowErasure { serial })
}

fn found_running(o: &Observed, base: Decision) -> Decision {
    if o.record.notes.handover == Handover::Accepted || o.policy.handover {
        return take_over(o, base);
    }
    let message = format!(
        "it is due to be cleaned and runs, and nobody here switched it on: it is left alone. Switch it off, or set the annotation {}=accepted to have it shut down and cleaned",
        names::HANDOVER
    );
    base.finding(
        condition::RUNNING_UNEXPECTEDLY,
        Some(true),
        "FoundRunning",
        message.clone(),
    )
    .finding(
        condition::ERASED,
        Some(false),
        "RunningUnexpectedly",
        message.clone(),
    )
    .not_ready("RunningUnexpectedly", message)
}

fn erasing(base: Decision) -> Decision {
    waiting(base, "Erasing", "its drives are being erased")
}

fn unavailable(o: &Observed, base: Decision, sorted: &Sorted) -> Decision {
    waiting(
        base,
        "ErasureUnavailable",
        &format!(
            "these drives cannot be erased and shown to be so: {}. {}",
            list(&sorted.unavailable),
            remedy()
        ),
    )
    .until(look(o))
}

fn waiting(base: Decision, reason: &'static str, message: &str) -> Decision {
    base.finding(condition::ERASED, Some(false), reason, message)
        .not_ready(reason, message)
}

fn look(o: &Observed) -> jiff::Timestamp {
    after(
        o.inventory.as_ref().map_or(o.now, |read| read.read_at),
        LOOK,
    )
}

fn remedy() -> String {
    format!(
        "To offer it again without proof, sign it off with the annotation {}=<your name>",
        names::CLEANED_BY
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_that_does_not_end_is_waited_for_until_the_policys_limit() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let limit = SignedDuration::from_hours(72);
        let day = 86_400;
        assert_eq!(overdue(Some(at(0)), at(3 * day), limit), None);
        assert_eq!(overdue(None, at(9 * day), limit), None);
        assert!(overdue(Some(at(0)), at(3 * day + 1), limit).is_some());
    }
}
