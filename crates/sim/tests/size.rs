//! What machines cost. Alone in its binary, so that nobody else's memory is counted.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::large_futures,
    reason = "a test says what is wrong by ending"
)]

use std::time::Instant;

use corten_sim::{Fleet, Shape};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Resident memory of this process in KiB, from `/proc`.
fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// How many descriptors this process may open.
fn descriptors() -> Option<u64> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max open files"))?;
    line.split_whitespace().nth(3)?.parse().ok()
}

async fn ask(stream: &mut TcpStream, request: &str) -> usize {
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut whole = Vec::new();
    let mut buffer = [0; 16 << 10];
    loop {
        let count = stream.read(&mut buffer).await.unwrap();
        assert!(count > 0, "closed");
        whole.extend_from_slice(&buffer[..count]);
        let Some(end) = whole.windows(4).position(|window| window == b"\r\n\r\n") else {
            continue;
        };
        let head = String::from_utf8_lossy(&whole[..end]).to_ascii_lowercase();
        assert!(head.starts_with("http/1.1 200"), "{head}");
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "));
        let length: usize = length.expect("a length").parse().unwrap();
        if whole.len() >= end + 4 + length {
            return length;
        }
    }
}

/// Ten thousand fit in 1 GiB, connections included: measured on as many as the process may open files for.
#[tokio::test]
async fn a_machine_with_an_open_connection_takes_less_than_a_hundred_kilobytes() {
    let (Some(before), Some(files)) = (resident(), descriptors()) else {
        println!("skipped: there is no /proc to measure by");
        return;
    };
    // A listener, its connection, and this side of the connection.
    let machines = usize::try_from(files.saturating_sub(200) / 3)
        .unwrap_or(0)
        .min(2_000);
    let fleet = Fleet::builder()
        .machines(machines)
        .shapes(Shape::ALL.to_vec())
        .start()
        .await
        .unwrap();
    let idle = resident().unwrap();
    let mut connections = Vec::with_capacity(machines);
    let get = "GET /redfish/v1 HTTP/1.1\r\nHost: bmc\r\n\r\n";
    for machine in fleet.machines() {
        let mut stream = TcpStream::connect(machine.address()).await.unwrap();
        ask(&mut stream, get).await;
        connections.push(stream);
    }
    let busy = resident().unwrap();
    let each = (busy - before) as f64 / machines as f64;
    println!(
        "{machines} machines: {} KiB before, {idle} idle, {busy} connected; {each:.1} KiB a machine",
        before
    );
    // 1 GiB over 10,000 machines is 104 KiB each, and the shapes' documents are shared.
    assert!(each < 100.0, "{each:.1} KiB a machine");

    let system = fleet.machine(0).systems()[0].path.clone();
    let login = base64(&format!(
        "{}:{}",
        fleet.machine(0).user(),
        fleet.machine(0).password()
    ));
    let request =
        format!("GET {system} HTTP/1.1\r\nHost: bmc\r\nAuthorization: Basic {login}\r\n\r\n");
    let begun = Instant::now();
    let mut bytes = 0;
    for _ in 0..1_000 {
        bytes = ask(&mut connections[0], &request).await;
    }
    println!(
        "a GET of a system, {bytes} bytes: {:?} with this client's share",
        begun.elapsed() / 1_000
    );
}

fn base64(text: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(text)
}
