//! Event subscriptions: the BMC posts to us. Polling is the fallback.

use super::{Call, OperationError, read};
use crate::document::{Document, Link};
use crate::inventory::id_of;
use crate::model::Service;
use crate::{GatewayError, Priority};
use serde_json::{Map, Value, json};

/// The `EventService`.
#[derive(Clone, Debug)]
pub struct EventService {
    document: Document,
}

/// One `EventDestination`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// `Id`.
    pub id: String,
    /// Its path, to delete it.
    pub path: String,
    /// Where events are posted.
    pub destination: Option<String>,
    /// What the subscriber gave to know his own by.
    pub context: Option<String>,
}

/// What is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Where events are to be posted.
    pub destination: String,
    /// Sent back with each event. BMCs show it to all their users: no secret.
    pub context: String,
    /// Message registries of interest (`ResourceEvent`, `Base`…); empty for all. Left out where the BMC does not filter by them.
    pub registry_prefixes: Vec<String>,
}

// === impl EventService ===

impl EventService {
    /// Reads the service: one request, or `None` where there is none.
    ///
    /// # Errors
    /// Whatever the gateway says.
    pub async fn read(service: &Service) -> Result<Option<Self>, GatewayError> {
        match service.root().root().link("EventService") {
            Some(link) => Ok(Some(Self {
                document: read(service, &link, Priority::Control).await?,
            })),
            None => Ok(None),
        }
    }

    /// From a document.
    #[must_use]
    pub fn new(document: Document) -> Self {
        Self { document }
    }

    /// Where a stream of server-sent events is, if the BMC has one (Dell, Lenovo, NVIDIA, OpenBMC).
    #[must_use]
    pub fn sse(&self) -> Option<Link> {
        self.document.root().uri("ServerSentEventUri")
    }

    /// Subscriptions that exist.
    ///
    /// # Errors
    /// Whatever the gateway says.
    pub async fn list(&self, service: &Service) -> Result<Vec<Subscription>, GatewayError> {
        let Some(link) = self.document.root().link("Subscriptions") else {
            return Ok(Vec::new());
        };
        let members = service.reader().members(&link, 1).await?;
        Ok(members.documents.iter().map(Subscription::of).collect())
    }

    /// Plans a subscription.
    ///
    /// # Errors
    /// [`OperationError::NotOffered`] if the service takes none.
    pub fn subscribe(&self, wanted: &Wanted) -> Result<Call, OperationError> {
        let root = self.document.root();
        let link = root
            .link("Subscriptions")
            .ok_or_else(|| OperationError::not_offered("event subscriptions", Vec::new()))?;
        let mut body = Map::from_iter([
            ("Destination".to_owned(), json!(wanted.destination)),
            ("Context".to_owned(), json!(wanted.context)),
            ("Protocol".to_owned(), json!("Redfish")),
        ]);
        if root
            .texts("EventFormatTypes")
            .iter()
            .any(|format| format == "Event")
        {
            body.insert("EventFormatType".into(), json!("Event"));
        }
        let known = root.texts("RegistryPrefixes");
        let prefixes: Vec<&String> = wanted
            .registry_prefixes
            .iter()
            .filter(|prefix| known.contains(prefix))
            .collect();
        if prefixes.is_empty() {
            // Services from before Event 1.3 insist on types of events.
            let types = root.texts("EventTypesForSubscription");
            if known.is_empty() && !types.is_empty() {
                body.insert(
                    "EventTypes".into(),
                    json!(
                        types
                            .into_iter()
                            .filter(|kind| kind != "MetricReport")
                            .collect::<Vec<_>>()
                    ),
                );
            }
        } else {
            body.insert("RegistryPrefixes".into(), json!(prefixes));
        }
        Ok(Call::post(link, Value::Object(body)))
    }
}

// === impl Subscription ===

impl Subscription {
    fn of(document: &Document) -> Self {
        let root = document.root();
        Self {
            id: id_of(document),
            path: document.path().to_owned(),
            destination: root.text("Destination"),
            context: root.text("Context"),
        }
    }

    /// Plans its deletion.
    ///
    /// # Errors
    /// [`OperationError::NotOffered`] if its path cannot be used.
    pub fn delete(&self) -> Result<Call, OperationError> {
        let link = Link::parse(&self.path).map_err(|_| {
            OperationError::not_offered("a usable path of the subscription", Vec::new())
        })?;
        Ok(Call::delete(link))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subscription_says_what_the_service_understands() {
        let dell = EventService::new(Document::new(
            "/e",
            None,
            json!({
            "Subscriptions": {"@odata.id": "/e/Subscriptions"}, "ServerSentEventUri": "/redfish/v1/SSE",
            "EventFormatTypes": ["Event", "MetricReport"], "EventTypesForSubscription": ["Alert", "MetricReport", "Other"]}),
        ));
        let wanted = Wanted {
            destination: "https://10.0.0.1/events".into(),
            context: "corten".into(),
            registry_prefixes: vec!["ResourceEvent".into()],
        };
        let body = dell.subscribe(&wanted).unwrap().body;
        assert_eq!(body.get("EventFormatType"), Some(&json!("Event")));
        assert_eq!(body.get("EventTypes"), Some(&json!(["Alert", "Other"])));
        assert_eq!(body.get("RegistryPrefixes"), None);
        assert_eq!(dell.sse().unwrap().path(), "/redfish/v1/SSE");
        assert!(
            EventService::new(Document::new("/e", None, json!({})))
                .subscribe(&wanted)
                .is_err()
        );
    }
}
