use std::sync::atomic::AtomicUsize;

use super::*;
use crate::ramdisk::index::sha256;

type Failure = Box<dyn std::error::Error + Send + Sync>;

fn stream(bytes: &'static [u8]) -> impl Stream<Item = Result<Bytes, Failure>> + Unpin {
    futures::stream::iter(
        bytes
            .chunks(3)
            .map(|chunk| Ok(Bytes::from_static(chunk)))
            .collect::<Vec<_>>(),
    )
}

fn files(folder: &Path) -> usize {
    std::fs::read_dir(folder).unwrap().count()
}

#[tokio::test]
async fn what_has_another_digest_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::open(folder.path(), 100).unwrap();
    let wanted = sha256(b"good");
    assert!(matches!(
        cache.store(Some(&wanted), 100, stream(b"evil")).await,
        Err(CacheError::Mismatch { .. })
    ));
    assert!(cache.get(&wanted).await.unwrap().is_none());
    assert!(matches!(
        cache.store(None, 3, stream(b"long")).await,
        Err(CacheError::TooLong { limit: 3 })
    ));
    let broken = futures::stream::iter([Ok(Bytes::from_static(b"go")), Err("cut".into())]);
    assert!(matches!(
        cache.store(Some(&wanted), 100, broken).await,
        Err(CacheError::Source(_))
    ));
    assert_eq!(files(folder.path()), 0);
}

#[tokio::test]
async fn many_who_ask_at_once_cause_one_fetch() {
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::open(folder.path(), 100).unwrap();
    let count = AtomicUsize::new(0);
    let wanted = sha256(b"bytes");
    let all = futures::future::join_all((0..20).map(|_| {
        cache.fetch(&wanted, 100, async || {
            count.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            Ok::<_, CacheError>(stream(b"bytes"))
        })
    }))
    .await;
    assert!(all.iter().all(Result::is_ok));
    assert_eq!(count.load(Ordering::Relaxed), 1);
    assert!(cache.flights.lock().is_empty());
}

#[tokio::test]
async fn what_was_damaged_while_nobody_looked_is_not_served() {
    let folder = tempfile::tempdir().unwrap();
    let digest = Cache::open(folder.path(), 100)
        .unwrap()
        .store(None, 100, stream(b"bytes"))
        .await
        .unwrap()
        .sha256;
    std::fs::write(folder.path().join("7.part"), b"half").unwrap();
    let again = Cache::open(folder.path(), 100).unwrap();
    assert_eq!(again.get(&digest).await.unwrap().unwrap().length, 5);
    assert_eq!(files(folder.path()), 1);
    std::fs::write(folder.path().join(&digest), b"bytez").unwrap();
    assert!(
        Cache::open(folder.path(), 100)
            .unwrap()
            .get(&digest)
            .await
            .unwrap()
            .is_none()
    );
    assert_eq!(files(folder.path()), 0);
}

#[tokio::test]
async fn the_least_used_goes_first_and_what_is_held_never() {
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::open(folder.path(), 10).unwrap();
    let held = cache.store(None, 10, stream(b"aaaa")).await.unwrap();
    let other = cache.store(None, 10, stream(b"bbbb")).await.unwrap().sha256;
    let third = cache.store(None, 10, stream(b"cccc")).await.unwrap();
    assert!(cache.get(&other).await.unwrap().is_none());
    assert!(matches!(
        cache.store(None, 10, stream(b"dddd")).await,
        Err(CacheError::Full)
    ));
    drop(third);
    assert!(cache.store(None, 10, stream(b"dddd")).await.is_ok());
    assert!(held.path.exists());
}
