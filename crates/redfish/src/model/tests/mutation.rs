//! Whatever is dropped, nulled, retyped or replaced in a service's documents: nothing panics, nothing loops, and no
//! document fails as a whole.

use super::tree::{Documents, Tree, machine};
use super::*;
use crate::document::Link;
use crate::inventory::{
    Drive, Firmware, ManagerFacts, MemoryModule, NetworkAdapter, NetworkInterface, PcieDevice,
    Processor, SystemFacts, Volume,
};
use crate::operations::bios::{self, Bios};
use crate::operations::boot::{self, BootDuration, BootOverride, BootState, BootTarget};
use crate::operations::events::EventService;
use crate::operations::firmware::Updater;
use crate::operations::led;
use crate::operations::media::MediaSlot;
use crate::operations::power::{self, ResetKind};
use crate::operations::task::TaskProgress;
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

/// Any JSON, a few levels deep, with names that mean something to the readers.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[ -~]{0,12}".prop_map(Value::from),
        "\\PC{0,6}".prop_map(Value::from),
        prop_oneof![
            Just("/redfish/v1/Systems/1"),
            Just("/redfish/v1/Systems"),
            Just("//evil/x"),
            Just("/redfish/../x"),
            Just("On"),
            Just("Absent")
        ]
        .prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            btree_map(any_name(), inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

fn any_name() -> impl Strategy<Value = String> {
    prop_oneof![
        "[A-Za-z@._]{1,10}",
        proptest::sample::select(vec![
            "@odata.id",
            "@odata.type",
            "Members",
            "Members@odata.nextLink",
            "Id",
            "Name",
            "Status",
            "State",
            "Model",
            "SerialNumber",
            "CapacityMiB",
            "CapacityBytes",
            "Actions",
            "Boot",
            "Drives",
            "Volumes",
            "Links",
            "Chassis",
            "MACAddress",
            "Oem",
            "MemorySummary",
            "Attributes",
            "PowerState",
            "UUID",
        ])
        .prop_map(str::to_owned),
    ]
}

/// One change: the n-th place of the n-th document becomes something else, or is gone.
#[derive(Clone, Debug)]
struct Mutation {
    document: prop::sample::Index,
    place: prop::sample::Index,
    becomes: Option<Value>,
}

fn mutations() -> impl Strategy<Value = Vec<Mutation>> {
    let one = (
        any::<prop::sample::Index>(),
        any::<prop::sample::Index>(),
        prop_oneof![1 => Just(None), 3 => any_json().prop_map(Some)],
    );
    vec(
        one.prop_map(|(document, place, becomes)| Mutation {
            document,
            place,
            becomes,
        }),
        1..12,
    )
}

fn places(value: &Value, at: String, found: &mut Vec<String>) {
    let mut step = |name: &str, inner: &Value| {
        let place = format!("{at}/{}", name.replace('~', "~0").replace('/', "~1"));
        found.push(place.clone());
        places(inner, place, found);
    };
    match value {
        Value::Object(map) => map.iter().for_each(|(name, inner)| step(name, inner)),
        Value::Array(items) => items
            .iter()
            .enumerate()
            .for_each(|(index, inner)| step(&index.to_string(), inner)),
        _ => {}
    }
}

fn mutate(documents: &mut Documents, mutations: &[Mutation]) {
    for mutation in mutations {
        let paths: Vec<String> = documents.keys().cloned().collect();
        let body = documents.get_mut(mutation.document.get(&paths)).unwrap();
        let mut found = vec![String::new()];
        places(body, String::new(), &mut found);
        let place = mutation.place.get(&found);
        match &mutation.becomes {
            Some(value) => *body.pointer_mut(place).unwrap() = value.clone(),
            None => {
                let (parent, name) = place.rsplit_once('/').unwrap_or_default();
                match body.pointer_mut(parent) {
                    Some(Value::Object(map)) => {
                        drop(map.remove(&name.replace("~1", "/").replace("~0", "~")))
                    }
                    Some(Value::Array(items)) => items.clear(),
                    _ => {}
                }
            }
        }
    }
}

fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap()
        .block_on(future)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_service_with_broken_documents_is_read_as_far_as_it_goes(mutations in mutations(), expand in any::<bool>()) {
        let mut documents = machine();
        mutate(&mut documents, &mutations);
        let tree = Tree::new(documents, expand);
        block_on(async {
            let service = Service::over(Arc::clone(&tree) as Arc<dyn Access>).await.expect("the root is there, whatever is in it");
            for system in service.systems().await.unwrap_or_default() {
                service.inventory(&system).await.expect("a broken document fails a section, not the pass");
                for kind in [ResetKind::On, ResetKind::ForceOff, ResetKind::GracefulShutdown, ResetKind::PowerCycle] {
                    power::prepare(&service, &system, kind).await.ok();
                }
                boot::prepare(&service, &system, &BootOverride::Disabled).await.ok();
                media::list(&service, &system).await.ok();
            }
        });
        prop_assert!(tree.requests() < 400, "{} requests", tree.requests());
    }

    #[test]
    fn no_json_makes_a_reader_panic(body in any_json()) {
        let document = Document::new("/redfish/v1/x", None, body);
        let parts = (Processor::read(&document), MemoryModule::read(&document), Drive::read(&document, None), Volume::read(&document, "1"));
        let more = (NetworkInterface::read(&document), NetworkAdapter::read(&document), PcieDevice::read(&document), Firmware::read(&document));
        let states = (SystemFacts::read(&document), BootState::read(&document), TaskProgress::read(&document), bios::rules(&document));
        let text = format!("{parts:?} {more:?} {states:?}");
        prop_assert!(!text.is_empty());
        ManagerFacts::read(&document).add_interface(&document);
        let bios = Bios::new(document.clone());
        bios.set(&bios.attributes(), None).ok();
        EventService::new(document.clone()).subscribe(&crate::operations::events::Wanted::default()).ok();
        Updater::new(document.clone()).pull(&crate::operations::firmware::Pull::default()).ok();
        led::plan(&document, &crate::inventory::LedState::Lit).ok();
        let slot = MediaSlot::new(document.clone());
        media::insert(&slot, Some(&document), &Product::of_root(&document), "http://x/y.iso").ok();
        media::eject(&slot).ok();
        let system = System::new(document.clone());
        let wanted = BootOverride::Enabled { target: BootTarget::UefiHttp, duration: BootDuration::Once, mode: None };
        boot::plan(&system, &document, &Product::default(), &wanted).ok();
        power::plan(&system, Some(&document), ResetKind::On).ok();
        let (outer, inner) = document.split();
        prop_assert!(outer.anomalies().len() <= 16 && inner.len() < 100);
    }

    #[test]
    fn a_link_that_is_accepted_leads_where_it_says(text in prop_oneof!["\\PC{0,40}", "[/.%2eE\\\\a#?:@h]{0,24}", "https?://[a-z@:./\\\\]{0,20}", "/redfish/v1/[ -~]{0,30}"]) {
        if let Ok(link) = Link::parse(&text) {
            let path = link.path();
            prop_assert!(path.starts_with('/') || path.to_ascii_lowercase().starts_with("http"));
            prop_assert!(!path.starts_with("//") && !path.contains('\\') && !path.chars().any(char::is_control));
            prop_assert!(path.split('?').next().unwrap().split('/').all(|segment| segment != ".." && segment != "."));
            let again = Link::parse(path).unwrap();
            prop_assert_eq!(again.key(), link.key());
        }
    }
}
