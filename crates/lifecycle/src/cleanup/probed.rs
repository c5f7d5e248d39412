//! Cleaning by the probe: each local drive erased by the strongest method it has, and read back.
//!
//! Preferred wherever the probe can be booted, since a BMC's word is no proof; where policy takes that word and each drive can be erased out of
//! band, nothing is booted.

use crate::{
    inband,
    plan::Plan,
    policy::Cleaning,
    run::{Phase, Run, Worth},
    server::{
        Act, Decision, Observed, condition,
        pursuit::{self, Progress},
    },
};

use super::{Sorted, cleaned, list, remedy, waiting};

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
    let working = erasing(
        base.clone(),
        "the probe erases its drives and reads them back",
    );
    match inband::carry_through(o, run, &working) {
        Progress::Doing(decision) => Some(decision),
        Progress::Done => None,
        Progress::Exhausted(message) => Some(failed(base.clone(), message)),
    }
}

/// The probe has reported and the machine is off. Is every drive clean?
pub(super) fn verdict(o: &Observed, base: Decision, run: &Run, sorted: &Sorted) -> Decision {
    let enough = |worth: Worth| match o.policy.cleaning {
        Cleaning::Metadata => worth >= Worth::Metadata,
        _ => worth >= Worth::Clear,
    };
    let bad: Vec<String> = run
        .drives
        .iter()
        .filter(|drive| !(drive.done && drive.verified && enough(drive.class)))
        .map(|drive| format!("{}: {}", drive.serial, drive.message))
        .collect();
    if !bad.is_empty() {
        return failed(base, format!("not erased and verified: {}", bad.join("; ")));
    }
    let erased = |serial: &String| run.drives.iter().any(|drive| &drive.serial == serial);
    let unseen: Vec<&String> = sorted
        .local
        .iter()
        .chain(&o.known_drives)
        .filter(|serial| !serial.is_empty() && !erased(serial))
        .filter(|serial| {
            !sorted
                .untouched
                .iter()
                .any(|(label, _)| label == *serial || label.starts_with(&format!("{serial} ")))
        })
        .collect();
    if let Some(first) = unseen.first() {
        return failed(
            base,
            format!(
                "the probe did not erase {} drive(s) that the BMC or the last inventory lists, such as {first}: it does not see them, or may not write them",
                unseen.len()
            ),
        );
    }
    if run.drives.is_empty() && !sorted.unavailable.is_empty() {
        return failed(
            base,
            "the probe saw no drive, and the BMC does not list them".into(),
        );
    }
    if !sorted.untouched.is_empty() && !o.policy.ignore_unreachable_drives {
        return waiting(
            base,
            "DrivesNeverWritten",
            &format!(
                "these drives are never written and the policy {} lets them block (cleaning.unreachableDrives): {}. {}",
                o.policy.name,
                list(&sorted.untouched),
                remedy()
            ),
        )
        .until(super::look(o));
    }
    let least = run
        .drives
        .iter()
        .map(|drive| drive.class)
        .min()
        .unwrap_or(Worth::Purge);
    let mut message = format!(
        "{} drive(s) erased and read back by the probe, each at least {}",
        run.drives.len(),
        least.as_str()
    );
    if !sorted.untouched.is_empty() {
        message = format!("{message}; never written: {}", list(&sorted.untouched));
    }
    cleaned("Verified", message, true)
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
