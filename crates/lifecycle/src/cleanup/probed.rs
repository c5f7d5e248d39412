//! Cleaning by the probe: each local drive erased by the strongest method it has, and read back.
//!
//! Preferred wherever the probe can be booted, since a BMC's word is no proof; where policy takes that word and each drive can be erased out of
//! band, nothing is booted.

use std::collections::BTreeSet;

use crate::{
    inband,
    plan::Plan,
    policy::Cleaning,
    run::{Erased, Outcome, Phase, Run, Step, Worth},
    server::{
        Act, Decision, Observed, condition,
        pursuit::{self, Progress},
    },
};

use super::{Sorted, cleaned, remedy, waiting};

/// Reasons that are shown only after the probe's machine was found off.
const JUDGED: [&str; 4] = [
    "DrivesNeverWritten",
    "EvidenceInsufficient",
    "MediumInserted",
    "DrivesUnread",
];

/// Whether the probe is to do it, and what comes next then.
pub(super) fn begin(
    o: &Observed,
    base: &Decision,
    occasion: &str,
    sorted: &Sorted,
) -> Option<Decision> {
    let choice = inband::choice(o)?;
    let out_of_band = o.policy.accept_reported
        && sorted.unavailable.is_empty()
        && !sorted.erasable.is_empty()
        && o.policy.cleaning != Cleaning::Metadata;
    if out_of_band {
        return None;
    }
    let about = erasing(base.clone(), "the probe is started to erase its drives");
    Some(match choice {
        Err(why) => waiting(base.clone(), "BootMethodUnavailable", &why),
        Ok(choice) => {
            let can = o.machine().map(|machine| machine.can).unwrap_or_default();
            pursuit::start(o, about, Plan::cleaning_by_probe(occasion, &choice, &can))
        }
    })
}

/// Brings the probe up, waits for it, takes the machine down; none when the machine is off again and the verdict is due.
pub(super) fn pursue(o: &Observed, run: &Run, base: &Decision) -> Option<Decision> {
    // Somebody else switched it on before this run did: it is left alone, as any machine that runs unasked.
    if !inband::is_up(run) && o.machine().is_some() && !o.is_off() {
        return None;
    }
    // Its work has ended, it was off, and what keeps the server is on record: who runs it now is somebody else, and what was proved is not so any more.
    let is_over = run
        .last(&Step::ProbeErase)
        .is_some_and(|done| done.outcome == Outcome::Succeeded);
    let was_judged = o
        .record
        .erased
        .as_deref()
        .is_some_and(|reason| JUDGED.contains(&reason));
    if is_over && was_judged {
        return match o.machine() {
            None => Some(base.clone().with(Act::ReadMachine)),
            Some(_) if o.is_off() => None,
            Some(_) => Some(failed(
                base.clone(),
                "somebody switched it on after its drives were erased: they are erased again once it is off".into(),
            )),
        };
    }
    let working = erasing(
        base.clone(),
        "the probe erases its drives and reads them back",
    );
    match inband::carry_through(o, run, &working) {
        Progress::Doing(decision) => Some(decision),
        Progress::Done => None,
        Progress::Exhausted(message) => Some(failed(base.clone(), with_the_left_out(run, message))),
    }
}

/// The probe has reported and the machine is off. Is every drive clean?
pub(super) fn verdict(o: &Observed, base: Decision, run: &Run, sorted: &Sorted) -> Decision {
    let enough = |worth: Worth| match o.policy.cleaning {
        Cleaning::Metadata => worth >= Worth::Metadata,
        _ => worth >= Worth::Clear,
    };
    // What the BMC says of a drive weighs more than what one path shows.
    let is_foreign = |drive: &Erased| drive.foreign || sorted.attachment(&drive.serial).is_some();
    let bad: Vec<String> = run
        .drives
        .iter()
        .filter(|drive| !is_foreign(drive))
        .filter(|drive| !(drive.done && drive.verified && enough(drive.class)))
        .map(|drive| format!("{}: {}", named(drive), drive.message))
        .collect();
    if !bad.is_empty() {
        return failed(base, format!("not erased and verified: {}", bad.join("; ")));
    }
    let erased: Vec<&Erased> = run.drives.iter().filter(|d| !is_foreign(d)).collect();
    let is_seen = |serial: &str| run.drives.iter().any(|drive| drive.serial == serial);
    let (hidden, unseen): (Vec<&String>, Vec<&String>) = sorted
        .local
        .iter()
        .chain(o.known_drives.iter().flatten())
        .filter(|serial| !serial.is_empty() && !is_seen(serial))
        .filter(|serial| sorted.attachment(serial).is_none())
        .partition(|serial| !sorted.volumes(serial).is_empty());
    if let Some(first) = unseen.first() {
        return failed(
            base,
            format!(
                "the probe did not erase {} drive(s) that the BMC or the last inventory lists, such as {first}: it does not see them, or may not write them",
                unseen.len()
            ),
        );
    }
    // A drive that the BMC cannot name is one of those that it did not name to the probe, if there are as many.
    let unnamed = erased
        .iter()
        .filter(|drive| !sorted.local.contains(&drive.serial))
        .count();
    if sorted.nameless.len() > unnamed {
        return failed(
            base,
            format!(
                "the BMC lists {} drive(s) without a serial number of their own ({}), and the probe erased {unnamed} that the BMC does not name",
                sorted.nameless.len(),
                sorted.nameless.join("; ")
            ),
        );
    }
    // A volume is a drive that the BMC does not name. One that a tenant has hidden, or that is offline, is erased by nobody.
    let volumes: BTreeSet<&String> = hidden
        .iter()
        .flat_map(|serial| sorted.volumes(serial))
        .collect();
    let as_volumes = unnamed - sorted.nameless.len();
    if volumes.len() > as_volumes {
        return failed(
            base,
            format!(
                "{} drive(s) that the probe does not see belong to {} RAID volume(s), and it erased {as_volumes} drive(s) that can be one: a volume may be hidden, blocked or offline",
                hidden.len(),
                volumes.len()
            ),
        );
    }
    if erased.is_empty() && !o.inventory.as_ref().is_some_and(|read| read.lists_drives) {
        return failed(
            base,
            "the probe saw no drive that it may write, and the BMC does not list them".into(),
        );
    }
    let seen_by_probe = run.drives.iter().filter(|drive| {
        is_foreign(drive)
            && !sorted
                .foreign
                .iter()
                .any(|(known, _)| *known == drive.serial)
    });
    // One of the two is wrong, and if it is the probe this is a drive of the machine that nobody erased.
    let contested: Vec<&str> = run
        .drives
        .iter()
        .filter(|drive| drive.foreign && sorted.local.contains(&drive.serial))
        .map(named)
        .collect();
    let never: Vec<String> = sorted
        .untouched
        .iter()
        .map(|(label, why)| format!("{label}: {why}"))
        .chain(seen_by_probe.map(|drive| format!("{}: {}", named(drive), drive.message)))
        .chain(hidden.iter().map(|serial| {
            format!(
                "{serial}: in a RAID volume, and as many drives as there are volumes were erased"
            )
        }))
        .collect();
    let blocks = if !contested.is_empty() {
        Some(format!(
            "the probe may not write drives that the BMC lists as this machine's own, which no policy passes over: {}. All that was not written: {}. {}",
            contested.join(", "),
            never.join("; "),
            remedy()
        ))
    } else if !never.is_empty() && !o.policy.ignore_unreachable_drives {
        Some(format!(
            "these drives are never written and the policy {} lets them block (cleaning.unreachableDrives): {}. {}",
            o.policy.name,
            never.join("; "),
            remedy()
        ))
    } else {
        None
    };
    if let Some(message) = blocks {
        return waiting(base, "DrivesNeverWritten", &message).until(super::look(o));
    }
    if let Some(decided) = super::unrecorded(o, &base).or_else(|| super::media(o, &base, run)) {
        return decided;
    }
    let least = erased.iter().map(|drive| drive.class).min();
    let mut message = match least {
        Some(least) => format!(
            "{} drive(s) erased and read back by the probe, each at least {}",
            erased.len(),
            least.as_str()
        ),
        None => "neither the BMC nor the probe sees a drive of this machine".to_owned(),
    };
    if !never.is_empty() {
        message = format!("{message}; never written: {}", never.join("; "));
    }
    cleaned("Verified", message, true)
}

/// What a probe reports of drives that it failed to erase, and the machine's drives that it was not told to: each has to be mended.
fn with_the_left_out(run: &Run, message: String) -> String {
    let last = run.last(&Step::ProbeErase);
    if last.is_none_or(|done| done.outcome != Outcome::Failed) {
        return message;
    }
    let is_left_out =
        |drive: &&Erased| !drive.foreign && !drive.done && !message.contains(named(drive));
    let left_out = run.drives.iter().filter(is_left_out);
    let told = left_out.map(|drive| format!("{}: {}", named(drive), drive.message));
    let all: Vec<String> = std::iter::once(message.clone()).chain(told).collect();
    all.join("; ")
}

fn named(drive: &Erased) -> &str {
    if drive.serial.is_empty() {
        "a drive without a serial number"
    } else {
        &drive.serial
    }
}

fn erasing(base: Decision, message: &str) -> Decision {
    waiting(base, "Erasing", message)
}

/// The run has failed; the server stays, says why, and is tried again.
fn failed(base: Decision, message: String) -> Decision {
    let base = Decision {
        findings: Vec::new(),
        ..base
    };
    base.finding(
        condition::ERASED,
        Some(false),
        "ErasureFailed",
        message.clone(),
    )
    .not_ready("ErasureFailed", format!("{message}. {}", remedy()))
    .with(Act::FinishRun {
        phase: Phase::Failed,
        message,
    })
}
