//! Whoever asks for too much, too slowly or too often is cut off, and nobody else notices.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{LARGE, TestDesk, start, token};
use crate::server::Limits;
use crate::token::Purpose;

#[tokio::test]
async fn a_probe_that_posts_a_hundred_megabytes_is_stopped_early() {
    let server = start(TestDesk::default(), Limits::default()).await;
    let mut stream = tokio::net::TcpStream::connect(server.address)
        .await
        .unwrap();
    let head = format!(
        "POST /register HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-length: 104857600\r\n\r\n",
        token(Purpose::Probe).expose()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let chunk = vec![b'x'; 64 * 1024];
    let mut sent = 0;
    while sent < 104_857_600 && stream.write_all(&chunk).await.is_ok() {
        sent += chunk.len();
    }
    assert!(sent < 20_000_000, "{sent} bytes were taken");
    assert!(server.desk.registered.lock().is_empty());
}

fn hasty() -> Limits {
    Limits {
        header: Duration::from_millis(300),
        request: Duration::from_millis(300),
        stall: Duration::from_millis(300),
        grace: Duration::from_millis(300),
        ..Limits::default()
    }
}

#[tokio::test]
async fn who_sends_no_request_or_half_of_one_is_cut_off() {
    let server = start(TestDesk::default(), hasty()).await;
    for half in [
        "",
        "GET /healthz HTTP/1.1\r\nhost: x",
        "GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n",
    ] {
        let mut stream = tokio::net::TcpStream::connect(server.address)
            .await
            .unwrap();
        stream.write_all(half.as_bytes()).await.unwrap();
        let mut rest = Vec::new();
        tokio::time::timeout(Duration::from_secs(5), stream.read_to_end(&mut rest))
            .await
            .unwrap_or_else(|_| panic!("still open after {half:?}"))
            .ok();
    }
    let mut stream = tokio::net::TcpStream::connect(server.address)
        .await
        .unwrap();
    let head = format!(
        "POST /register HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-length: 10\r\n\r\n{{",
        token(Purpose::Probe).expose()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    tokio::time::timeout(Duration::from_secs(5), stream.read_to_end(&mut answer))
        .await
        .unwrap()
        .ok();
    assert!(String::from_utf8_lossy(&answer).starts_with("HTTP/1.1 408"));
}

#[tokio::test]
async fn a_reader_that_takes_nothing_is_cut_off_and_one_that_is_merely_slow_is_not() {
    let server = start(
        TestDesk::default(),
        Limits {
            stall: Duration::from_secs(1),
            ..hasty()
        },
    )
    .await;
    let request = format!(
        "GET /boot/{}/image HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
        token(Purpose::Boot).expose()
    );
    let connect = async || {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(64 * 1024).unwrap();
        let mut stream = socket.connect(server.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        stream
    };
    let (mut stuck, mut slow) = (connect().await, connect().await);
    let mut got = 0;
    let mut buffer = vec![0; 400_000];
    let mut some = vec![0; 200_000];
    for _ in 0..20 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        got += slow.read_exact(&mut some).await.unwrap();
    }
    while let Ok(more @ 1..) = slow.read(&mut buffer).await {
        got += more;
    }
    assert!(got > LARGE, "the slow one got {got}");
    let mut got = 0;
    while let Ok(more @ 1..) = stuck.read(&mut buffer).await {
        got += more;
    }
    assert!(got < LARGE, "the stuck one got all");
}

#[tokio::test]
async fn no_more_come_in_than_there_are_places() {
    let server = start(
        TestDesk::default(),
        Limits {
            per_address: 2,
            ..Limits::default()
        },
    )
    .await;
    let mut kept = Vec::new();
    for _ in 0..2 {
        kept.push(
            tokio::net::TcpStream::connect(server.address)
                .await
                .unwrap(),
        );
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    let mut third = tokio::net::TcpStream::connect(server.address)
        .await
        .unwrap();
    let mut byte = [0];
    assert!(matches!(
        tokio::time::timeout(Duration::from_secs(5), third.read(&mut byte))
            .await
            .unwrap(),
        Ok(0) | Err(_)
    ));
    kept.clear();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(server.get(server.url("/healthz")).await, (200, "ok".into()));
}

#[tokio::test]
async fn all_ends_on_shutdown_even_with_a_reader_that_is_stuck() {
    let server = start(
        TestDesk::default(),
        Limits {
            grace: Duration::from_millis(300),
            ..Limits::default()
        },
    )
    .await;
    let mut stuck = tokio::net::TcpStream::connect(server.address)
        .await
        .unwrap();
    let request = format!(
        "GET /boot/{}/image HTTP/1.1\r\nhost: x\r\n\r\n",
        token(Purpose::Boot).expose()
    );
    stuck.write_all(request.as_bytes()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    server.shutdown.cancel();
    tokio::time::timeout(Duration::from_secs(5), server.task)
        .await
        .unwrap()
        .unwrap();
    assert!(
        tokio::net::TcpStream::connect(server.address)
            .await
            .is_err()
    );
}
