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
        cache.store(Some(&wanted), None, 100, stream(b"evil")).await,
        Err(CacheError::Mismatch { .. })
    ));
    assert!(cache.get(&wanted).await.unwrap().is_none());
    assert!(matches!(
        cache.store(None, None, 3, stream(b"long")).await,
        Err(CacheError::TooLong { limit: 3 })
    ));
    let broken = futures::stream::iter([Ok(Bytes::from_static(b"go")), Err("cut".into())]);
    assert!(matches!(
        cache.store(Some(&wanted), None, 100, broken).await,
        Err(CacheError::Source(_))
    ));
    assert_eq!(files(folder.path()), 0);
}

fn place(path: &str) -> Place {
    Place::of(
        &url::Url::parse("https://files.example")
            .unwrap()
            .join(path)
            .unwrap(),
    )
}

#[tokio::test]
async fn many_who_ask_at_once_cause_one_download_and_each_asks_for_access() {
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::open(folder.path(), 100).unwrap();
    let (asked, taken) = (AtomicUsize::new(0), Arc::new(AtomicUsize::new(0)));
    let (wanted, place) = (sha256(b"bytes"), place("/a"));
    let all = futures::future::join_all((0..20).map(|_| {
        cache.fetch(&wanted, &place, 100, async || {
            asked.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            let taken = taken.clone();
            Ok::<_, CacheError>(stream(b"bytes").inspect(move |_| {
                taken.fetch_add(1, Ordering::Relaxed);
            }))
        })
    }))
    .await;
    assert!(all.iter().all(Result::is_ok));
    assert_eq!(taken.load(Ordering::Relaxed), 2, "chunks");
    assert_eq!(asked.load(Ordering::Relaxed), 20);
    assert!(cache.flights.lock().is_empty());
}

#[tokio::test]
async fn what_one_place_gave_another_has_to_give_itself() {
    let folder = tempfile::tempdir().unwrap();
    let wanted = sha256(b"bytes");
    let cache = Cache::open(folder.path(), 8).unwrap();
    let held = cache
        .store(None, Some(&place("/a")), 8, stream(b"bytes"))
        .await
        .unwrap();
    for cache in [&cache, &Cache::open(folder.path(), 8).unwrap()] {
        let other = async || Ok::<_, CacheError>(stream(b"other"));
        assert!(matches!(
            cache.fetch(&wanted, &place("/b"), 8, other).await,
            Err(CacheError::Mismatch { .. })
        ));
        let refused = async || Err::<futures::stream::Empty<_>, _>(CacheError::Full);
        assert!(
            cache
                .fetch(&wanted, &place("/a"), 8, refused)
                .await
                .is_err()
        );
        // Its word is enough: what it would send is not looked at.
        assert!(cache.fetch(&wanted, &place("/a"), 8, other).await.is_ok());
    }
    // Bytes that are here do not count twice, also where they are in use and the cache is full.
    let same = async || Ok::<_, CacheError>(stream(b"bytes"));
    assert!(cache.fetch(&wanted, &place("/b"), 8, same).await.is_ok());
    drop(held);
    for path in 0..100 {
        let same = async || Ok::<_, CacheError>(stream(b"bytes"));
        let place = place(&format!("/{path}"));
        assert!(cache.fetch(&wanted, &place, 8, same).await.is_ok());
    }
    assert_eq!(places_at(&folder.path().join(&wanted)).len(), MOST_PLACES);
    assert_eq!(files(folder.path()), 2);
    cache.store(None, None, 8, stream(b"else")).await.unwrap();
    assert_eq!(files(folder.path()), 1, "notes go with their file");
}

#[tokio::test]
async fn what_was_damaged_while_nobody_looked_is_not_served() {
    let folder = tempfile::tempdir().unwrap();
    let digest = Cache::open(folder.path(), 100)
        .unwrap()
        .store(None, None, 100, stream(b"bytes"))
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
    let held = cache.store(None, None, 10, stream(b"aaaa")).await.unwrap();
    let other = cache
        .store(None, None, 10, stream(b"bbbb"))
        .await
        .unwrap()
        .sha256;
    let third = cache.store(None, None, 10, stream(b"cccc")).await.unwrap();
    assert!(cache.get(&other).await.unwrap().is_none());
    assert!(matches!(
        cache.store(None, None, 10, stream(b"dddd")).await,
        Err(CacheError::Full)
    ));
    drop(third);
    assert!(cache.store(None, None, 10, stream(b"dddd")).await.is_ok());
    assert!(held.path.exists());
}

#[tokio::test]
async fn what_arrives_counts_from_its_first_byte_and_no_longer_than_it_stays() {
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::open(folder.path(), 100).unwrap();
    let (mut feed, slow) = futures::channel::mpsc::channel::<Result<Bytes, Failure>>(1);
    let first = cache.store(None, None, 100, slow);
    tokio::pin!(first);
    feed.try_send(Ok(Bytes::from_static(&[1; 80]))).unwrap();
    assert!(futures::poll!(&mut first).is_pending());
    while cache.arriving.load(Ordering::Relaxed) < 80 {
        tokio::task::yield_now().await;
        assert!(futures::poll!(&mut first).is_pending());
    }
    let second = cache.store(None, None, 100, stream(&[2; 30])).await;
    assert!(matches!(second, Err(CacheError::Full)), "{second:?}");
    drop(feed);
    first.await.unwrap();
    assert_eq!(cache.arriving.load(Ordering::Relaxed), 0);
    // The first may go now, since nobody holds it.
    cache
        .store(None, None, 100, stream(&[2; 30]))
        .await
        .unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_comes_in_drops_is_given_up() {
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::open(folder.path(), 1 << 20).unwrap();
    let drops = futures::stream::unfold((), |()| async {
        tokio::time::sleep(std::time::Duration::from_secs(20)).await;
        Some((Ok::<_, Failure>(Bytes::from_static(b"x")), ()))
    });
    let came = cache.store(None, None, 1 << 20, Box::pin(drops)).await;
    assert!(matches!(came, Err(CacheError::Slow)), "{came:?}");
    assert_eq!(files(folder.path()), 0);
}
