use proptest::prelude::*;

use super::files::{Wanted, wanted};
use super::*;
use crate::server::tests::{MAC, SIZE, data, services, token, window};
use crate::token::Purpose;

fn rrq(name: &str, options: &[(&str, &str)]) -> Vec<u8> {
    let mut packet = vec![0, 1];
    for word in [name, "octet"]
        .into_iter()
        .chain(options.iter().flat_map(|(name, value)| [*name, *value]))
    {
        packet.extend_from_slice(word.as_bytes());
        packet.push(0);
    }
    packet
}

struct Server {
    address: SocketAddr,
    shutdown: CancellationToken,
    desk: Arc<crate::server::tests::TestDesk>,
}

async fn start(config: TftpConfig) -> Server {
    let (services, desk) = services();
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let (address, shutdown) = (socket.local_addr().unwrap(), CancellationToken::new());
    tokio::spawn(serve(socket, config, services, shutdown.clone()));
    Server {
        address,
        shutdown,
        desk,
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

/// A client that loses every `lose`-th data packet. The answer to the options, and the file or the error's word.
async fn get(
    server: SocketAddr,
    name: &str,
    options: &[(&str, &str)],
    block: usize,
    window: usize,
    lose: usize,
) -> (Option<Vec<u8>>, Result<Vec<u8>, String>) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.send_to(&rrq(name, options), server).await.unwrap();
    let (mut all, mut oack, mut expected, mut seen, mut in_window) =
        (Vec::new(), None, 1u16, 0usize, 0usize);
    let mut buffer = vec![0; 2000];
    loop {
        let (length, peer) =
            tokio::time::timeout(Duration::from_secs(10), socket.recv_from(&mut buffer))
                .await
                .expect("an answer")
                .unwrap();
        let packet = &buffer[..length];
        let ack = |number: u16| [&[0, 4][..], &number.to_be_bytes()].concat();
        match packet[1] {
            6 => {
                oack = Some(packet[2..].to_vec());
                socket.send_to(&ack(0), peer).await.unwrap();
            }
            5 => {
                return (
                    oack,
                    Err(String::from_utf8_lossy(&packet[4..length - 1]).into_owned()),
                );
            }
            3 => {
                seen += 1;
                if lose > 0 && seen % lose == 0 {
                    continue;
                }
                let number = u16::from_be_bytes([packet[2], packet[3]]);
                if number == expected {
                    all.extend_from_slice(&packet[4..]);
                    expected = expected.wrapping_add(1);
                    in_window += 1;
                    let last = length - 4 < block;
                    if last || in_window == window {
                        in_window = 0;
                        socket.send_to(&ack(number), peer).await.unwrap();
                    }
                    if last {
                        return (oack, Ok(all));
                    }
                } else if in_window > 0 {
                    in_window = 0;
                    socket
                        .send_to(&ack(expected.wrapping_sub(1)), peer)
                        .await
                        .unwrap();
                }
            }
            other => panic!("opcode {other}"),
        }
    }
}

#[tokio::test]
async fn a_file_comes_in_windows_of_large_blocks_with_its_size_said_first() {
    let server = start(TftpConfig::default()).await;
    let name = format!("/boot/{}/kernel", token(Purpose::Boot).expose());
    let (oack, file) = get(
        server.address,
        &name,
        &[("tsize", "0"), ("blksize", "9000"), ("windowsize", "8")],
        1468,
        8,
        0,
    )
    .await;
    assert_eq!(
        oack.unwrap(),
        format!("tsize\0{SIZE}\0blksize\01468\0windowsize\08\0").into_bytes()
    );
    assert!(file.unwrap() == data());
    // RFC 2349: a timeout is taken as it is, or not at all. One of minutes would hold the place of a client that never comes.
    for (asked, answer) in [("3", "timeout\x003\0"), ("255", "")] {
        let options = [("tsize", "0"), ("timeout", asked)];
        let (oack, _) = get(server.address, &name, &options, 512, 1, 0).await;
        let oack = String::from_utf8(oack.unwrap()).unwrap();
        assert_eq!(oack.replace(&format!("tsize\0{SIZE}\0"), ""), answer);
    }
}

#[tokio::test]
async fn a_client_without_options_gets_small_blocks_and_an_empty_last_one() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("own.efi"), vec![7u8; 1024]).unwrap();
    std::fs::write(folder.path().join("secret"), "x").unwrap();
    let server = start(TftpConfig {
        folder: Some(folder.path().into()),
        allowed: vec!["own.efi".into()],
        ..TftpConfig::default()
    })
    .await;
    assert_eq!(
        get(server.address, "own.efi", &[], 512, 1, 0).await,
        (None, Ok(vec![7u8; 1024]))
    );
    assert_eq!(
        get(server.address, "secret", &[], 512, 1, 0).await.1,
        Err("nothing".into()),
        "it is not in the list"
    );
}

#[tokio::test]
async fn lost_packets_are_sent_again() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("own.efi"), &data()[..100_000]).unwrap();
    let server = start(TftpConfig {
        folder: Some(folder.path().into()),
        allowed: vec!["own.efi".into()],
        ..TftpConfig::default()
    })
    .await;
    let (_, file) = get(
        server.address,
        "own.efi",
        &[("blksize", "1468"), ("windowsize", "16")],
        1468,
        16,
        40,
    )
    .await;
    assert!(file.unwrap() == data()[..100_000]);
}

#[tokio::test]
async fn nothing_else_is_served() {
    let server = start(TftpConfig::default()).await;
    for name in [
        "../../etc/passwd",
        "/etc/passwd",
        "grub/../../etc/passwd",
        "..\\..\\x",
        "pxelinux.cfg/default",
        "",
        "boot/x/../kernel",
        "unknown.efi",
    ] {
        assert_eq!(
            get(server.address, name, &[], 512, 1, 0).await.1,
            Err("nothing".into()),
            "{name}"
        );
    }
    let foreign = format!("boot/{}/kernel", token(Purpose::UserData).expose());
    assert_eq!(
        get(server.address, &foreign, &[], 512, 1, 0).await.1,
        Err("token".into())
    );
}

#[tokio::test]
async fn writes_and_rubbish_are_refused() {
    let server = start(TftpConfig::default()).await;
    for packet in [
        b"\0\x02x\0octet\0".to_vec(),
        b"\0\x01x\0netascii\0".to_vec(),
        b"\0\x01x".to_vec(),
        vec![0],
    ] {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        socket.send_to(&packet, server.address).await.unwrap();
        let mut buffer = [0; 64];
        let length = tokio::time::timeout(Duration::from_secs(5), socket.recv(&mut buffer))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(&buffer[..4], &[0, 5, 0, 4], "{packet:?} {length}");
    }
}

#[tokio::test]
async fn the_secure_boot_chain_gets_its_configuration_inside_a_window() {
    let server = start(TftpConfig::default()).await;
    let first = get(server.address, "//grub/grub.cfg", &[], 512, 1, 0)
        .await
        .1
        .unwrap();
    assert!(
        String::from_utf8(first)
            .unwrap()
            .contains("/grub/machine/${net_default_mac}.cfg")
    );
    let own = format!("grub/machine/{MAC}.cfg");
    assert_eq!(
        get(server.address, &own, &[], 512, 1, 0).await.1,
        Err("refused".into())
    );
    server.desk.windows.open(window());
    let config =
        String::from_utf8(get(server.address, &own, &[], 512, 1, 0).await.1.unwrap()).unwrap();
    assert!(config.starts_with("linux '/boot/"), "{config}");
}

proptest! {
    #[test]
    fn no_name_leaves_the_list(path in "[a-z./\\\\]{0,40}|.{0,60}") {
        if let Some(Wanted::FirstStage(name) | Wanted::Artefact { name, .. }) = wanted(&path) {
            prop_assert!(!name.contains(['/', '\\']) && !name.starts_with('.'));
        }
    }

    #[test]
    fn no_packet_panics(packet in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = (packet::request(&packet), packet::reply(&packet));
    }

    #[test]
    fn options_stay_within_their_bounds(block in any::<u32>(), window in any::<u32>()) {
        let request = packet::request(&rrq("x", &[("blksize", &block.to_string()), ("windowsize", &window.to_string())])).unwrap();
        prop_assert!(request.block.is_none_or(|block| (8..=packet::MAX_BLOCK).contains(&block)));
        prop_assert!(request.window.is_none_or(|window| (1..=packet::MAX_WINDOW).contains(&window)));
    }
}
