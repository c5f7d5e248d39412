//! The agent as an ordinary process of a made-up machine, against a tiny registry over HTTP.

// Helpers outside `#[test]` functions.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use corten_probe::agent::{Agent, Pace};
use corten_probe::config::{Config, Settings};
use corten_probe::inventory::root::Root;
use corten_probe::power::{End, Power};
use corten_probe::registry::Registry;
use corten_probe::stop::Stop;
use corten_wire::{BurnIn, EraseGrant, Outcome, Registration, Report, Task, Verdict, Welcome};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// What was posted: path, authorization, body.
type Posts = Arc<Mutex<Vec<(String, String, Vec<u8>)>>>;

/// Answers hellos with `tasks` in turn, progress with `verdict`; refuses the first call altogether.
fn registry(tasks: Vec<Task>, verdict: Verdict) -> (String, Posts) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let posts = Posts::default();
    let tasks = Arc::new(Mutex::new(tasks.into_iter()));
    let kept = Arc::clone(&posts);
    let refused = Arc::new(Mutex::new(false));
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (posts, tasks, refused) = (kept.clone(), tasks.clone(), refused.clone());
            let verdict = verdict.clone();
            std::thread::spawn(move || {
                while let Some(post) = receive(&stream) {
                    let mut refused = refused.lock().unwrap();
                    let (status, body) = if !std::mem::replace(&mut *refused, true) {
                        ("503 Not Yet", Vec::new())
                    } else {
                        ("200 OK", answer(&post.0, &tasks, &verdict))
                    };
                    posts.lock().unwrap().push(post);
                    let head = format!(
                        "HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n",
                        body.len()
                    );
                    (&stream).write_all(head.as_bytes()).unwrap();
                    (&stream).write_all(&body).unwrap();
                }
            });
        }
    });
    (url, posts)
}

fn answer(path: &str, tasks: &Mutex<std::vec::IntoIter<Task>>, verdict: &Verdict) -> Vec<u8> {
    match path {
        corten_wire::path::HELLO => serde_json::to_vec(&Welcome {
            task: tasks.lock().unwrap().next().unwrap_or(Task::PowerOff),
            again_seconds: 1,
        })
        .unwrap(),
        corten_wire::path::PROGRESS => serde_json::to_vec(verdict).unwrap(),
        _ => Vec::new(),
    }
}

fn receive(stream: &TcpStream) -> Option<(String, String, Vec<u8>)> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let path = line.split(' ').nth(1)?.to_owned();
    let (mut length, mut authorization) = (0, String::new());
    loop {
        line.clear();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim().split_once(':') else {
            break;
        };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.trim().parse().unwrap(),
            "authorization" => authorization = value.trim().to_owned(),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some((path, authorization, body))
}

#[derive(Default)]
struct Recorded(Mutex<Vec<End>>);

impl Power for Recorded {
    fn end(&self, how: End) -> std::io::Result<()> {
        self.0.lock().unwrap().push(how);
        Ok(())
    }
}

/// A machine with one drive of 24 MiB, all of it 0xa5.
fn machine(folder: &Path) -> Root {
    let device = folder.join("sys/devices/pci0/virtio1/block/vda");
    std::fs::create_dir_all(device.join("queue")).unwrap();
    std::fs::write(device.join("size"), "49152\n").unwrap();
    std::fs::write(device.join("serial"), "DRIVE1\n").unwrap();
    std::fs::create_dir_all(folder.join("sys/block")).unwrap();
    std::os::unix::fs::symlink(&device, folder.join("sys/block/vda")).unwrap();
    let dmi = folder.join("sys/class/dmi/id");
    std::fs::create_dir_all(&dmi).unwrap();
    std::fs::write(
        dmi.join("product_uuid"),
        "ABCDEF00-0000-0000-0000-000000000001\n",
    )
    .unwrap();
    std::fs::create_dir_all(folder.join("proc")).unwrap();
    std::fs::write(folder.join("proc/meminfo"), "MemAvailable: 65536 kB\n").unwrap();
    std::fs::create_dir_all(folder.join("dev")).unwrap();
    std::fs::write(folder.join("dev/vda"), vec![0xa5; 24 << 20]).unwrap();
    Root::at(folder)
}

fn run(root: Root, tasks: Vec<Task>, verdict: Verdict) -> (Vec<(String, Vec<u8>)>, Vec<End>) {
    let (url, posts) = registry(tasks, verdict);
    let mut settings = Settings::default();
    settings.set("corten.url", &url);
    settings.set("corten.token", "secret-token");
    let power = Arc::new(Recorded::default());
    let pace = Pace {
        progress: Duration::from_millis(20),
        ..Pace::default()
    };
    let registry = Registry::new(settings.finish().unwrap());
    Agent::new(root, registry, power.clone(), pace).run(&Stop::default());
    let posts = posts.lock().unwrap();
    assert!(
        posts
            .iter()
            .all(|(_, token, _)| token == "Bearer secret-token")
    );
    let posts = posts
        .iter()
        .map(|(path, _, body)| (path.clone(), body.clone()))
        .collect();
    (posts, power.0.lock().unwrap().clone())
}

fn reports(posts: &[(String, Vec<u8>)]) -> Vec<Report> {
    posts
        .iter()
        .filter(|(path, _)| path == corten_wire::path::REPORT)
        .map(|(_, body)| serde_json::from_slice(body).unwrap())
        .collect()
}

fn erase(id: &str) -> Task {
    Task::Erase(EraseGrant {
        id: id.into(),
        drives: vec!["DRIVE1".into()],
        ..EraseGrant::default()
    })
}

#[test]
fn a_machine_registers_is_erased_once_for_one_grant_and_goes_off() {
    let folder = tempfile::tempdir().unwrap();
    let root = machine(folder.path());
    let tasks = vec![
        Task::Wait,
        Task::Inventory,
        erase("g1"),
        // The same grant again: its report is repeated, and nothing is erased.
        erase("g1"),
        Task::BurnIn(BurnIn {
            id: "b1".into(),
            seconds: 1,
        }),
    ];
    let (posts, ends) = run(root, tasks, Verdict::Continue);
    let registered: Registration = posts
        .iter()
        .find(|(path, _)| path == corten_wire::path::REGISTER)
        .map(|(_, body)| serde_json::from_slice(body).unwrap())
        .unwrap();
    assert_eq!(
        registered.system_uuid,
        "abcdef00-0000-0000-0000-000000000001"
    );
    assert_eq!(registered.data.storage[0].serial_number, "DRIVE1");
    let reports = reports(&posts);
    assert_eq!(reports.len(), 3);
    assert_eq!(reports[0].outcome, Outcome::Succeeded, "{:?}", reports[0]);
    assert_eq!(reports[0], reports[1]);
    assert!(reports[0].drives[0].verified);
    assert_eq!(reports[2].id, "b1");
    let left = std::fs::read(folder.path().join("dev/vda")).unwrap();
    assert!(left.iter().all(|byte| *byte == 0));
    assert_eq!(ends, [End::PowerOff]);
}

#[test]
fn a_machine_without_drives_does_not_keep_its_tpm_uncleared_in_silence() {
    let folder = tempfile::tempdir().unwrap();
    let root = Root::at(folder.path());
    for path in ["sys/block", "proc", "sys/class/tpm/tpm0"] {
        std::fs::create_dir_all(folder.path().join(path)).unwrap();
    }
    let nothing = |clear_tpm| {
        Task::Erase(EraseGrant {
            id: format!("g{clear_tpm}"),
            clear_tpm,
            ..EraseGrant::default()
        })
    };
    let tasks = vec![nothing(false), nothing(true)];
    let reports = reports(&run(root, tasks, Verdict::Continue).0);
    assert_eq!(reports[0].outcome, Outcome::Succeeded, "{:?}", reports[0]);
    assert_eq!(reports[1].outcome, Outcome::Failed, "{:?}", reports[1]);
    assert!(reports[1].message.contains("TPM"), "{:?}", reports[1]);
}

#[test]
fn a_stop_from_the_registry_ends_a_task_within_a_second() {
    let folder = tempfile::tempdir().unwrap();
    let root = machine(folder.path());
    let tasks = vec![Task::BurnIn(BurnIn {
        id: "b1".into(),
        seconds: 60,
    })];
    let begun = Instant::now();
    let (posts, _) = run(root, tasks, Verdict::Stop);
    assert!(begun.elapsed() < Duration::from_secs(10));
    let reports = reports(&posts);
    assert_eq!(reports[0].outcome, Outcome::Failed);
    assert!(reports[0].message.contains("takes the grant back"));
}

#[test]
fn the_originals_registry_is_told_what_is_seen_without_a_token_and_under_its_uuid() {
    let folder = tempfile::tempdir().unwrap();
    let root = machine(folder.path());
    let (url, posts) = registry(Vec::new(), Verdict::Continue);
    let pace = Pace {
        once: true,
        ..Pace::default()
    };
    let registry = Registry::new(Config::of_the_original(&url).unwrap());
    let power = Arc::new(Recorded::default());
    Agent::new(root, registry, power.clone(), pace)
        .register_only("ABCDEF00-0000-0000-0000-00000000000A", &Stop::default());
    let posts = posts.lock().unwrap();
    // The first call was refused, and it was called again.
    assert_eq!(posts.len(), 2);
    for (path, authorization, body) in posts.iter() {
        assert_eq!((path.as_str(), authorization.as_str()), ("/register", ""));
        let told: Registration = serde_json::from_slice(body).unwrap();
        assert_eq!(told.system_uuid, "ABCDEF00-0000-0000-0000-00000000000A");
        assert_eq!(told.data.storage[0].serial_number, "DRIVE1");
    }
    assert_eq!(power.0.lock().unwrap().len(), 0);
}
