//! QEMU's machine protocol, over the process's standard input and output.

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::unix::pipe;

/// A longer line is no answer of QEMU's.
const LONGEST_LINE: u64 = 1 << 20;

/// What QEMU said.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Said {
    /// The machine stopped, for this reason (`ShutdownCause`).
    Shutdown(String),
    /// A command failed.
    Failed(String),
    /// Something that nobody here waits for.
    Other,
}

/// The reading half.
pub(crate) struct Listener(BufReader<pipe::Receiver>);

/// The writing half.
pub(crate) struct Speaker(pipe::Sender);

/// Both halves, when QEMU has greeted and the session is open.
pub(crate) async fn open(
    output: pipe::Receiver,
    input: pipe::Sender,
) -> Option<(Listener, Speaker)> {
    let (mut listener, mut speaker) = (Listener(BufReader::new(output)), Speaker(input));
    listener.next().await?;
    speaker.say("qmp_capabilities", json!({})).await;
    listener.next().await?;
    Some((listener, speaker))
}

impl Listener {
    /// The next message; none at the end, that is when the process is gone. Can be dropped while it waits only if it is
    /// then not asked again.
    pub async fn next(&mut self) -> Option<Said> {
        let mut line = Vec::new();
        let read = (&mut self.0)
            .take(LONGEST_LINE)
            .read_until(b'\n', &mut line)
            .await
            .ok()?;
        (read > 0).then(|| said(&line))
    }
}

impl Speaker {
    /// Sends a command. That the process is gone is seen by the listener.
    pub async fn say(&mut self, command: &str, arguments: Value) {
        let mut line = json!({"execute": command, "arguments": arguments}).to_string();
        line.push('\n');
        let _ = self.0.write_all(line.as_bytes()).await;
    }
}

fn said(line: &[u8]) -> Said {
    let Ok(message) = serde_json::from_slice::<Value>(line) else {
        return Said::Other;
    };
    if let Some(error) = message.pointer("/error/desc").and_then(Value::as_str) {
        return Said::Failed(error.to_owned());
    }
    match message.get("event").and_then(Value::as_str) {
        Some("SHUTDOWN") => Said::Shutdown(
            message
                .pointer("/data/reason")
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned(),
        ),
        _ => Said::Other,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_shutdown_says_why() {
        let line = br#"{"timestamp": {"seconds": 1, "microseconds": 2}, "event": "SHUTDOWN", "data": {"guest": true, "reason": "guest-reset"}}"#;
        assert_eq!(said(line), Said::Shutdown("guest-reset".to_owned()));
        assert_eq!(said(br#"{"return": {}}"#), Said::Other);
        assert_eq!(
            said(br#"{"error": {"class": "GenericError", "desc": "no"}}"#),
            Said::Failed("no".to_owned())
        );
    }

    proptest! {
        #[test]
        fn no_line_makes_the_reader_panic(line in proptest::collection::vec(any::<u8>(), 0..200)) {
            said(&line);
        }
    }
}
