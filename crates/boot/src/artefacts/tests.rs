use url::Url;

use super::*;
use crate::Ticket;
use crate::cache::Cache;
use crate::image::{Options, Reference, Request};
use crate::links::PublicAddress;
use crate::token::Keys;

fn read(artefact: &Artefact) -> Vec<u8> {
    let mut bytes = Vec::new();
    for piece in &artefact.pieces {
        match piece {
            Piece::File {
                path,
                offset,
                length,
            } => bytes.extend_from_slice(
                &std::fs::read(path).unwrap()[*offset as usize..][..*length as usize],
            ),
            Piece::Bytes(part) => bytes.extend_from_slice(part),
            Piece::Zeros(count) => bytes.resize(bytes.len() + *count as usize, 0),
        }
    }
    bytes
}

fn ticket(nonce: &str) -> Ticket {
    Ticket {
        server: "rack1".into(),
        server_uid: "uid".into(),
        nonce: nonce.into(),
    }
}

fn links(ticket: &Ticket) -> crate::links::Links {
    let address = PublicAddress {
        base: Url::parse("http://192.0.2.1").unwrap(),
        registry: None,
    };
    address
        .links(&Keys::new([[7u8; 32]]).unwrap(), ticket, None)
        .unwrap()
}

fn store(folder: &Path) -> Store {
    let index = crate::ramdisk::build(&crate::ramdisk::tests::options(folder, "ramdisk")).unwrap();
    assert!(!index.modules.is_empty());
    let cache = Arc::new(Cache::open(&folder.join("cache"), 1 << 20).unwrap());
    let options = Options {
        networks: crate::image::tests::loopback(),
        ..Options::default()
    };
    Store::new(
        Some(Ramdisk::open(&folder.join("ramdisk")).unwrap()),
        Arc::new(Images::new(cache, crate::image::tests::tls(), options).unwrap()),
    )
}

#[tokio::test]
async fn each_boot_gets_its_own_command_line_in_the_same_length() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    for wanted in [name::EFI, name::ISO] {
        let mut etags = Vec::new();
        for nonce in ["run-1", "run-2", "run-1"] {
            let ticket = ticket(nonce);
            let links = links(&ticket);
            let boot = Boot {
                ticket: &ticket,
                target: &Target::Probe,
                links: &links,
            };
            let artefact = store.open(boot, wanted, None).await.unwrap();
            let bytes = read(&artefact);
            let base = std::fs::read(folder.path().join("ramdisk").join(wanted)).unwrap();
            assert_eq!(
                (bytes.len(), artefact.length()),
                (base.len(), base.len() as u64)
            );
            let line = links.probe_command_line();
            assert!(
                bytes
                    .windows(line.len())
                    .any(|window| window == line.as_bytes())
            );
            etags.push(artefact.etag);
        }
        assert_ne!(etags[0], etags[1]);
        assert_eq!(etags[0], etags[2]);
    }
}

#[test]
fn a_manifests_command_line_says_where_the_claims_data_is() {
    let ticket = ticket("run-1");
    let links = links(&ticket);
    let boot = Boot {
        ticket: &ticket,
        target: &Target::Probe,
        links: &links,
    };
    let mut image = Resolved {
        digest: "d".into(),
        kind: Kind::Linux,
        parts: Vec::new(),
        command_line: Some(
            "quiet ds=nocloud;s=${cloud-init-url} ignition.config.url=${ignition-url} x=${other}"
                .into(),
        ),
        packing: crate::image::resolved::Packing::None,
    };
    assert!(image.tells_ignition() && image.tells_cloud_init());
    assert_eq!(
        live_command_line(&image, &boot),
        format!(
            "quiet ds=nocloud;s={} ignition.config.url={} x=${{other}}",
            links.cloud_init(),
            links.ignition()
        )
    );
    image.command_line = Some("quiet".into());
    assert!(!image.tells_ignition() && !image.tells_cloud_init());
    image.command_line = None;
    assert!(image.tells_ignition() && !image.tells_cloud_init());
    assert!(live_command_line(&image, &boot).contains(&links.ignition()));
    image.kind = Kind::Efi;
    assert!(!image.tells_ignition());
    image.kind = Kind::Disk;
    assert!(image.tells_ignition() && image.tells_cloud_init());
}

#[tokio::test]
async fn a_disk_image_is_served_beside_the_probe_that_writes_it() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    let mut disk = vec![0u8; 1024];
    disk[510..512].copy_from_slice(&[0x55, 0xaa]);
    let url = crate::image::tests::serve_file(disk.clone()).await;
    let reference = Reference::Url(url);
    let request = Request {
        reference: &reference,
        architecture: "amd64",
        credentials: None,
        sha256: None,
    };
    let digest = store.images.resolve(&request).await.unwrap().digest;
    let ticket = ticket("claim-1");
    let links = links(&ticket);
    let target = Target::Image {
        reference: "disk".into(),
        digest,
    };
    let boot = Boot {
        ticket: &ticket,
        target: &target,
        links: &links,
    };
    assert!(
        matches!(store.bootable(boot).await.unwrap(), Bootable::Linux { command_line, .. } if command_line.contains("corten.url="))
    );
    assert_eq!(
        read(&store.open(boot, name::IMAGE, None).await.unwrap()),
        disk
    );
    assert!(store.open(boot, name::EFI, None).await.is_ok());
    for wanted in ["../ramdisk.json", "", name::SQUASHFS] {
        assert!(
            matches!(
                store.open(boot, wanted, None).await,
                Err(Refusal::Nothing(_))
            ),
            "{wanted}"
        );
    }
    assert!(matches!(
        store.open(boot, name::CONFIG_DRIVE, None).await,
        Err(Refusal::Nothing(_))
    ));
}
