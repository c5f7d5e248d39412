use std::sync::atomic::{AtomicUsize, Ordering};

use k8s_openapi::{api::core::v1::ConfigMap, apimachinery::pkg::apis::meta::v1::ObjectMeta};

use super::*;

fn map(name: &str, version: u64) -> ConfigMap {
    ConfigMap {
        metadata: ObjectMeta {
            name: Some(name.into()),
            namespace: Some("n".into()),
            resource_version: Some(version.to_string()),
            ..ObjectMeta::default()
        },
        ..ConfigMap::default()
    }
}

fn read(name: &str, version: u64) -> Tolerant<ConfigMap> {
    Tolerant::Read(Box::new(map(name, version)))
}

fn key(name: &str) -> ObjectKey {
    ObjectKey::namespaced("n", name)
}

#[test]
fn a_list_after_a_restored_snapshot_is_believed_and_a_late_event_is_not() {
    let store: Store<ConfigMap> = Store::new();
    let list = |versions: &[u64], between: &dyn Fn()| {
        store.heard(Ok(Event::Init));
        between();
        for version in versions {
            store.heard(Ok(Event::InitApply(read("a", *version))));
        }
        store.heard(Ok(Event::InitDone));
    };
    list(&[10], &|| {});
    store.heard(Ok(Event::Apply(read("a", 9))));
    assert_eq!(version_of(&store, "a"), Some(10));
    list(&[5], &|| {});
    assert_eq!(version_of(&store, "a"), Some(5), "the API server went back");
    assert_eq!(store.relisted().borrow().back, 1);
    // What we wrote while the list was under way is newer than it.
    list(&[6], &|| drop(store.wrote(map("a", 20))));
    assert_eq!(version_of(&store, "a"), Some(20));
    assert_eq!(store.relisted().borrow().back, 1);
    // A version that is no number says nothing of before and after.
    list(&[0], &|| {});
    assert_eq!(store.relisted().borrow().back, 1);
}

#[test]
fn what_nobody_asks_for_is_kept_as_text_and_comes_back_the_same() {
    let store = Store::packed();
    let told = Arc::new(AtomicUsize::new(0));
    let olds = told.clone();
    store.observe(move |_, old: Option<&ConfigMap>, _| {
        if let Some(data) = old.and_then(|old| old.data.as_ref()) {
            olds.fetch_add(data.len(), Ordering::Relaxed);
        }
    });
    let mut whole = map("a", 3);
    whole.data = Some([("k".to_owned(), "v".to_owned())].into());
    let held = store.wrote(whole.clone());
    let is_packed = || {
        let state = store.inner.state.read();
        matches!(state.objects[&key("a")].object, Kept::Packed { .. })
    };
    store.cool();
    store.cool();
    assert!(!is_packed(), "somebody holds it");
    drop(held);
    let _ = store.get(&key("a"));
    store.cool();
    assert!(!is_packed(), "somebody has just asked");
    store.cool();
    assert!(is_packed());
    assert_eq!(*store.get(&key("a")).unwrap(), whole);
    assert_eq!(*store.all()[0], whole);
    store.heard(Ok(Event::Apply(read("a", 2))));
    assert_eq!(*store.get(&key("a")).unwrap(), whole, "older news are none");
    store.heard(Ok(Event::Apply(read("a", 4))));
    assert_eq!(told.load(Ordering::Relaxed), 1, "observers see what it was");
    assert_eq!(version_of(&store, "a"), Some(4));
    assert!(!is_packed());
}

fn version_of(store: &Store<ConfigMap>, name: &str) -> Option<u64> {
    store.get(&key(name)).map(|o| version(&*o))
}

#[test]
fn a_watch_event_older_than_our_own_write_is_dropped() {
    let store = Store::new();
    store.wrote(map("a", 9));
    store.heard(Ok(Event::Apply(read("a", 5))));
    assert_eq!(version_of(&store, "a"), Some(9));
    store.heard(Ok(Event::Apply(read("a", 10))));
    assert_eq!(version_of(&store, "a"), Some(10));
}

#[test]
fn a_list_that_began_before_our_write_does_not_undo_it() {
    let store = Store::new();
    store.heard(Ok(Event::Apply(read("old", 1))));
    store.heard(Ok(Event::Init));
    store.wrote(map("new", 7));
    store.heard(Ok(Event::InitDone));
    assert_eq!(version_of(&store, "new"), Some(7));
    assert_eq!(version_of(&store, "old"), None);
    assert_eq!(
        *store.relisted().borrow(),
        Relisted {
            count: 1,
            before: 2,
            lost: 1,
            back: 0
        }
    );
}

#[test]
fn the_deletion_of_a_predecessor_does_not_remove_what_we_created_anew() {
    let store = Store::new();
    store.wrote(map("a", 12));
    store.heard(Ok(Event::Delete(read("a", 11))));
    assert_eq!(version_of(&store, "a"), Some(12));
    store.heard(Ok(Event::Delete(read("a", 13))));
    assert_eq!(version_of(&store, "a"), None);
}

#[test]
fn an_event_that_was_under_way_does_not_bring_back_what_we_ended() {
    let of_uid = |uid: &str, version| {
        let mut map = map("a", version);
        map.metadata.uid = Some(uid.into());
        map
    };
    let heard = |object| Ok(Event::Apply(Tolerant::Read(Box::new(object))));
    let store = Store::new();
    store.wrote(of_uid("u1", 5));
    store.removed(&key("a"));
    store.heard(heard(of_uid("u1", 4)));
    store.heard(heard(of_uid("u1", 6)));
    assert_eq!(version_of(&store, "a"), None);
    // Its successor is another object.
    store.heard(heard(of_uid("u2", 8)));
    assert_eq!(version_of(&store, "a"), Some(8));
}

#[test]
fn what_the_watch_has_buried_is_remembered_no_longer() {
    let mut ended = map("a", 5);
    ended.metadata.uid = Some("u1".into());
    let store = Store::new();
    store.wrote(ended.clone());
    store.removed(&key("a"));
    assert_eq!(store.inner.state.read().ended.len(), 1);
    store.heard(Ok(Event::Delete(Tolerant::Read(Box::new(ended)))));
    assert!(store.inner.state.read().ended.is_empty());
}

#[test]
fn an_unreadable_object_is_reported_once_and_hides_its_former_self() {
    let store = Store::new();
    let reports = Arc::new(AtomicUsize::new(0));
    let count = reports.clone();
    store.on_broken(move |_| {
        count.fetch_add(1, Ordering::SeqCst);
    });
    store.heard(Ok(Event::Apply(read("a", 1))));
    let broken = || Tolerant::Broken {
        meta: Box::new(map("a", 2).metadata),
        error: "bad".into(),
    };
    store.heard(Ok(Event::Apply(broken())));
    store.heard(Ok(Event::Apply(broken())));
    assert_eq!(reports.load(Ordering::SeqCst), 1);
    assert!(store.get(&key("a")).is_none());
    assert_eq!(store.broken(&key("a")).unwrap().error, "bad");
    store.heard(Ok(Event::Apply(read("a", 3))));
    assert!(store.broken(&key("a")).is_none());
    assert!(store.get(&key("a")).is_some());
}

#[test]
fn the_echo_of_our_own_write_wakes_nobody_a_second_time() {
    let store = Store::new();
    let mut changes = store.subscribe();
    store.wrote(map("a", 4));
    store.heard(Ok(Event::Apply(read("a", 4))));
    assert_eq!(changes.try_recv().unwrap(), key("a"));
    assert!(changes.try_recv().is_err());
}

#[test]
fn observers_see_old_and_new() {
    let store = Store::new();
    let seen = Arc::new(RwLock::new(Vec::new()));
    let log = seen.clone();
    store.observe(move |k, old, new| {
        log.write()
            .push((k.name().to_owned(), old.is_some(), new.is_some()))
    });
    store.wrote(map("a", 1));
    store.wrote(map("a", 2));
    store.removed(&key("a"));
    assert_eq!(
        *seen.read(),
        [
            ("a".into(), false, true),
            ("a".into(), true, true),
            ("a".into(), true, false)
        ]
    );
}
