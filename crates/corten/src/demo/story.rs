//! What the demo says, each line with the time since it began, and what it remembers for the table at the end.

use std::io::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use comfy_table::Table;
use comfy_table::presets::UTF8_FULL_CONDENSED;

#[derive(Clone, Debug)]
pub struct Story {
    begun: Instant,
    milestones: Arc<Mutex<Vec<Milestone>>>,
}

#[derive(Clone, Debug)]
struct Milestone {
    what: String,
    at: Duration,
    took: Duration,
}

// === impl Story ===

impl Story {
    pub fn begin() -> Self {
        Self {
            begun: Instant::now(),
            milestones: Arc::default(),
        }
    }

    /// Says a line. A closed pipe is no reason to stop: things still have to be cleaned up.
    pub fn say(&self, line: impl AsRef<str>) {
        let _ = writeln!(
            std::io::stdout(),
            "[{:6.1} s] {}",
            self.begun.elapsed().as_secs_f64(),
            line.as_ref()
        );
    }

    /// Says a line without a time, such as a command to type.
    pub fn plain(&self, line: impl AsRef<str>) {
        let _ = writeln!(std::io::stdout(), "{}", line.as_ref());
    }

    /// Says that something was reached, and remembers how long it took since `since`.
    pub fn reached(&self, what: impl Into<String>, since: Instant) {
        let (what, took) = (what.into(), since.elapsed());
        self.say(format!("{what} ({:.1} s)", took.as_secs_f64()));
        let milestone = Milestone {
            what,
            at: self.begun.elapsed(),
            took,
        };
        self.milestones
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(milestone);
    }

    /// What was reached, and when.
    pub fn table(&self) -> Table {
        let mut table = table(["what happened", "took", "at"]);
        for milestone in self
            .milestones
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
        {
            let seconds = |time: Duration| format!("{:.1} s", time.as_secs_f64());
            table.add_row([
                milestone.what.clone(),
                seconds(milestone.took),
                seconds(milestone.at),
            ]);
        }
        table
    }
}

/// An empty table with a heading.
pub fn table<const N: usize>(heading: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED).set_header(heading);
    table
}
