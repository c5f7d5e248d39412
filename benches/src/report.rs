//! The tables: figures per server, and ratios to the floor of the same run.

use std::{fmt::Write, path::Path};

use anyhow::{Context, Result};

use crate::onboard::Run;

/// One run in a line, for people who wait.
pub fn row(run: &Run) -> String {
    let n = run.machines as f64;
    let mut line = format!(
        "{} BMCs: {:.1} s, {:.0} servers/s, {:.4} CPU-s, {:.1} writes, {:.1} requests, {:.2} connections per server, peak {:.0} MiB",
        run.machines,
        run.seconds,
        n / run.seconds,
        run.cpu_seconds / n,
        run.writes.total() as f64 / n,
        run.requests as f64 / n,
        run.connections as f64 / n,
        run.peak_mib,
    );
    if let Some(rest) = &run.rest {
        let _ = write!(
            line,
            "; at rest {:.0} s: {} writes {:?}, {:.1} requests/min and server, {:.4} CPU-s/s, {:.0} MiB",
            rest.seconds,
            rest.writes.total(),
            rest.writes.by_resource,
            rest.requests as f64 / n / rest.seconds * 60.0,
            rest.cpu_seconds / rest.seconds,
            rest.rss_mib,
        );
    }
    let _ = write!(line, "\n   writes: {:?}", run.writes.by_resource);
    line
}

/// The section for the document.
pub fn tables(runs: &[Run], large: bool, tls: bool) -> String {
    let mut text = String::new();
    let inventory = if large {
        "inventories as large as an R750's and a DGX's"
    } else {
        "four vendors' shapes, small inventories"
    };
    let transport = if tls { "HTTPS" } else { "HTTP" };
    let _ = writeln!(
        text,
        "### {inventory}, {transport}\n\nMeasured {} on {}.\n",
        jiff::Zoned::now().date(),
        machine()
    );
    text.push_str("| BMCs | s | servers/s | CPU-s/server | API writes/server | Redfish requests/server | connections/server | logins/server | peak RSS MiB | API floor writes/s | writes/s ÷ floor |\n");
    text.push_str("|---|---|---|---|---|---|---|---|---|---|---|\n");
    for run in runs {
        let n = run.machines as f64;
        let rate = run.writes.total() as f64 / run.seconds;
        let _ = writeln!(
            text,
            "| {} | {:.1} | {:.0} | {:.4} | {:.2} | {:.1} | {:.2} | {:.2} | {:.0} | {:.0} | {:.2} |",
            run.machines,
            run.seconds,
            n / run.seconds,
            run.cpu_seconds / n,
            run.writes.total() as f64 / n,
            run.requests as f64 / n,
            run.connections as f64 / n,
            run.logins as f64 / n,
            run.peak_mib,
            run.floor,
            rate / run.floor,
        );
    }
    if runs.iter().any(|run| run.rest.is_some()) {
        text.push_str("\nAt rest, Lease renewals left out:\n\n| BMCs | watched s | API writes | Redfish requests/min and server | CPU-s a second | RSS MiB |\n|---|---|---|---|---|---|\n");
    }
    for (run, rest) in runs
        .iter()
        .filter_map(|run| Some((run, run.rest.as_ref()?)))
    {
        let _ = writeln!(
            text,
            "| {} | {:.0} | {} | {:.2} | {:.4} | {:.0} |",
            run.machines,
            rest.seconds,
            rest.writes.total(),
            rest.requests as f64 / run.machines as f64 / rest.seconds * 60.0,
            rest.cpu_seconds / rest.seconds,
            rest.rss_mib,
        );
    }
    if let Some(last) = runs.last() {
        text.push_str("\nWrites per server by resource, in the largest run:\n\n| resource | writes/server |\n|---|---|\n");
        for (resource, count) in &last.writes.by_resource {
            let _ = writeln!(
                text,
                "| {resource} | {:.2} |",
                *count as f64 / last.machines as f64
            );
        }
    }
    if let Some(last) = runs.last() {
        let (busy, idle) = last.machine;
        let whole = busy + idle;
        let _ = writeln!(
            text,
            "\nWhere the time of the largest run went: CPU seconds by process, of {whole:.0} that the machine had in {:.0} s. The fleet's process took {:.0} MiB at most.\n\n| process | CPU-s | share |\n|---|---|---|",
            last.seconds, last.fleet_mib
        );
        let mut rows = vec![("corten serve".to_owned(), last.cpu_seconds)];
        rows.extend(last.others.iter().cloned());
        let known: f64 = rows.iter().map(|(_, cpu)| cpu).sum();
        // Other programs, and the kernel's work that belongs to none.
        rows.push(("everything else".to_owned(), (busy - known).max(0.0)));
        rows.push(("idle".to_owned(), idle));
        for (name, cpu) in &rows {
            let share = cpu / whole * 100.0;
            let _ = writeln!(text, "| {name} | {cpu:.1} | {share:.0} % |");
        }
    }
    text.push('\n');
    text
}

/// The boot server's section.
pub fn boot(outcome: &crate::boot::Outcome) -> String {
    let mut text = format!(
        "### boot server\n\nMeasured {} on {}, which server and clients share. One artefact of 64 MiB, from the page cache; small answers over 32 connections.\n\n\
         | | corten | nginx | corten ÷ nginx |\n|---|---|---|---|\n",
        jiff::Zoned::now().date(),
        machine().split(',').next().unwrap_or_default(),
    );
    let ours = &outcome.corten;
    let theirs = outcome.nginx.as_ref();
    let mut row = |what: &str, ours: f64, theirs: Option<f64>| {
        let ratio = theirs.map_or("-".to_owned(), |theirs| format!("{:.2}", ours / theirs));
        let theirs = theirs.map_or("not installed".to_owned(), |theirs| format!("{theirs:.0}"));
        let _ = writeln!(text, "| {what} | {ours:.0} | {theirs} | {ratio} |");
    };
    row("MiB/s to 1 client", ours.alone, theirs.map(|f| f.alone));
    row(
        "MiB/s to 200 clients at once",
        ours.many,
        theirs.map(|f| f.many),
    );
    row(
        "iPXE scripts/s (nginx: a file of 600 bytes)",
        ours.script,
        theirs.map(|f| f.script),
    );
    row(
        "ignition/s (nginx: a file of 4 KiB)",
        ours.ignition,
        theirs.map(|f| f.ignition),
    );
    row("RSS MiB before", ours.rss.0, theirs.map(|f| f.rss.0));
    row(
        "RSS MiB at most, 200 clients",
        ours.rss.1,
        theirs.map(|f| f.rss.1),
    );
    row("RSS MiB after", ours.rss.2, theirs.map(|f| f.rss.2));
    text.push('\n');
    text
}

fn machine() -> String {
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .map_or("an unnamed processor", |rest| {
            rest.trim_start_matches([' ', '\t', ':'])
        });
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    format!("{cores} cores of {model}, shared by etcd, the API server, the fleet and Corten")
}

/// Puts `text` in the place of the section with the same heading, or at the end.
pub fn replace_section(path: &Path, text: &str) -> Result<()> {
    let old =
        std::fs::read_to_string(path).with_context(|| format!("{} is missing", path.display()))?;
    let heading = text.lines().next().unwrap_or_default();
    let new = match old.find(&format!("{heading}\n")) {
        Some(start) => {
            let body = start + heading.len();
            let end = old
                .get(body..)
                .and_then(|rest| rest.find("\n##").map(|at| body + at + 1))
                .unwrap_or(old.len());
            format!(
                "{}{}{}",
                old.get(..start).unwrap_or_default(),
                text,
                old.get(end..).unwrap_or_default()
            )
        }
        None => format!("{}\n\n{text}", old.trim_end()),
    };
    std::fs::write(path, new)?;
    Ok(())
}

/// The section of whole machines.
pub fn machines(found: &crate::machines::Machines) -> String {
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let mut text = format!(
        "### whole machines in QEMU\n\nMeasured {} on {}, without KVM: `make demo QEMU=1 ONCE=1`, three machines at once, all on the same cores.\n\n\
         The probe has {:.1} MiB; as one EFI program with its kernel {}.\n",
        jiff::Zoned::now().date(),
        machine(),
        mib(found.probe),
        found
            .ramdisks
            .iter()
            .map(|(profile, bytes)| format!("{:.1} MiB (profile `{profile}`)", mib(*bytes)))
            .collect::<Vec<_>>()
            .join(", "),
    );
    text.push_str("\nEach start of a probe that took inventory; the aim is at most 1 s for the rest. A probe that does not say how long it waited for LLDP has that in the rest.\n\n");
    text.push_str(
        "| PID 1 to registered, s | of it DHCP | of it LLDP | the rest |\n|---|---|---|---|\n",
    );
    for start in &found.starts {
        let lldp = start
            .lldp
            .map_or_else(|| "-".to_owned(), |lldp| format!("{lldp:.1}"));
        let _ = writeln!(
            text,
            "| {:.1} | {:.1} | {lldp} | {:.1} |",
            start.whole,
            start.dhcp,
            start.rest()
        );
    }
    text.push('\n');
    text.push_str("| what happened | took |\n|---|---|\n");
    for (what, took) in &found.phases {
        let _ = writeln!(text, "| {what} | {took} |");
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_machines_are_shown_with_what_of_a_start_was_dhcp_and_lldp_and_both_ramdisks() {
        let start = |lldp| crate::machines::Start {
            whole: 2.5,
            dhcp: 0.2,
            lldp,
        };
        let found = crate::machines::Machines {
            phases: vec![("m1: Available".into(), "48.7 s".into())],
            starts: vec![start(Some(0.6)), start(None)],
            probe: 3 << 20,
            ramdisks: vec![("virtual".into(), 16 << 20), ("hardware".into(), 20 << 20)],
        };
        let text = machines(&found);
        for row in [
            "with its kernel 16.0 MiB (profile `virtual`), 20.0 MiB (profile `hardware`).\n\n",
            "\n| 2.5 | 0.2 | 0.6 | 1.7 |\n| 2.5 | 0.2 | - | 2.3 |\n\n",
            "\n| m1: Available | 48.7 s |\n",
        ] {
            assert!(text.contains(row), "{row:?} in {text}");
        }
    }

    #[test]
    fn a_section_takes_the_place_of_its_former_self() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("b.md");
        std::fs::write(&path, "# B\n\n### a\nold\n\n## c\nkept\n").unwrap();
        replace_section(&path, "### a\nnew\n\n").unwrap();
        assert_eq!(
            std::fs::read_to_string(&path).unwrap(),
            "# B\n\n### a\nnew\n\n## c\nkept\n"
        );
        replace_section(&path, "### d\nmore\n").unwrap();
        assert!(
            std::fs::read_to_string(&path)
                .unwrap()
                .ends_with("### d\nmore\n")
        );
    }
}
