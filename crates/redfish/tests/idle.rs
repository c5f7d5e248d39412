//! A fleet at rest holds no connections. A process of its own, because its descriptors are counted.

// Helpers of a test fail as the test does.
#![allow(clippy::unwrap_used)]

use corten_redfish::{Credentials, Gateway, GatewayConfig, Priority, Target, Trust};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// Open descriptors; 0 where the system does not say.
fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd")
        .map(Iterator::count)
        .unwrap_or(0)
}

/// One listener that plays every BMC: a service root, sessions, and `{}` for the rest. Small buffers of its own, as
/// it lives in the process that is measured.
async fn everybody() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                loop {
                    let mut head = Vec::with_capacity(512);
                    while !head.ends_with(b"\r\n\r\n") {
                        match stream.read_u8().await {
                            Ok(byte) => head.push(byte),
                            Err(_) => return,
                        }
                    }
                    let head = String::from_utf8_lossy(&head).to_ascii_lowercase();
                    let length = head
                        .split("content-length: ")
                        .nth(1)
                        .and_then(|rest| rest.lines().next());
                    let mut body =
                        vec![0; length.and_then(|length| length.parse().ok()).unwrap_or(0)];
                    let _ = stream.read_exact(&mut body).await;
                    let (extra, body) = if head.starts_with("post") {
                        (
                            "X-Auth-Token: t\r\nLocation: /redfish/v1/SessionService/Sessions/1\r\n",
                            "{}",
                        )
                    } else {
                        (
                            "",
                            r#"{"RedfishVersion":"1.0","Systems":{"@odata.id":"/redfish/v1/Systems"},"Links":{"Sessions":{"@odata.id":"/redfish/v1/SessionService/Sessions"}}}"#,
                        )
                    };
                    let answer = format!(
                        "HTTP/1.1 200 OK\r\n{extra}Content-Length: {}\r\n\r\n{body}",
                        body.len()
                    );
                    if stream.write_all(answer.as_bytes()).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    port
}

#[tokio::test]
async fn connections_of_a_fleet_at_rest_are_given_back() {
    let port = everybody().await;
    let gateway = Gateway::new(GatewayConfig {
        idle: Duration::from_millis(300),
        ..GatewayConfig::default()
    });
    let mut bmcs = Vec::new();
    for i in 0..400 {
        let bmc = gateway.bmc(Target {
            name: format!("bmc-{i}"),
            url: format!("http://127.0.0.1:{port}").parse().unwrap(),
            credentials: Credentials::new("root", "x"),
            trust: Trust::Plain,
        });
        bmc.get("/redfish/v1/Systems", Priority::Sensors)
            .await
            .unwrap();
        bmcs.push(bmc);
    }
    // Until the pools have closed what is idle, both ends of it.
    while descriptors() > 60 {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(gateway.counters().connections, 400);
    // And the session outlives its connection.
    bmcs[0]
        .get("/redfish/v1/Systems", Priority::Sensors)
        .await
        .unwrap();
    assert_eq!(bmcs[0].counters().logins, 1);
}
