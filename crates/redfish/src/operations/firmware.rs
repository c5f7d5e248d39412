//! Firmware updates: what the UpdateService offers, and the calls for it.

use super::{Call, OperationError, action, read};
use crate::document::{Document, Link};
use crate::model::Service;
use crate::{GatewayError, Priority};
use serde_json::{Map, Value, json};

/// The `UpdateService`.
#[derive(Clone, Debug)]
pub struct Updater {
    document: Document,
}

/// An image to be pulled by the BMC.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pull {
    /// Where from: a URL, or a path where `protocol` says how.
    pub image: String,
    /// `HTTP`, `HTTPS`…; taken from the URL if `None`.
    pub protocol: Option<String>,
    /// Paths of firmware inventory entries to update; empty lets the image decide.
    pub targets: Vec<String>,
    /// `Immediate`, `OnReset`…, where the BMC lets that be said.
    pub apply_time: Option<String>,
}

/// An image to be pushed to the BMC: two parts, `UpdateParameters` and `UpdateFile` (DSP2046 `MultipartHttpPushUri`).
#[derive(Clone, Debug, PartialEq)]
pub struct Push {
    /// Where to POST the multipart form.
    pub link: Link,
    /// The part `UpdateParameters`.
    pub parameters: Value,
}

// === impl Updater ===

impl Updater {
    /// Reads the service: one request, or `None` where there is none.
    ///
    /// # Errors
    /// Whatever the gateway says.
    pub async fn read(service: &Service) -> Result<Option<Self>, GatewayError> {
        match service.root().root().link("UpdateService") {
            Some(link) => Ok(Some(Self {
                document: read(service, &link, Priority::Inventory).await?,
            })),
            None => Ok(None),
        }
    }

    /// From a document.
    #[must_use]
    pub fn new(document: Document) -> Self {
        Self { document }
    }

    /// Protocols that the BMC pulls by; empty if it does not say.
    #[must_use]
    pub fn protocols(&self) -> Vec<String> {
        action::inline_values(self.document.root(), SIMPLE_UPDATE, "TransferProtocol")
    }

    /// Whether the BMC pulls images. OpenBMC and NVIDIA's GB do not.
    #[must_use]
    pub fn pulls(&self) -> bool {
        action::target(self.document.root(), SIMPLE_UPDATE).is_some()
    }

    /// Plans `SimpleUpdate`.
    ///
    /// # Errors
    /// [`OperationError::NotOffered`] if the BMC does not pull, or not by that protocol.
    pub fn pull(&self, pull: &Pull) -> Result<Call, OperationError> {
        let root = self.document.root();
        let target = action::target(root, SIMPLE_UPDATE)
            .ok_or_else(|| OperationError::not_offered("SimpleUpdate", Vec::new()))?;
        let protocol = pull
            .protocol
            .clone()
            .or_else(|| Some(pull.image.split_once("://")?.0.to_ascii_uppercase()));
        let offered = self.protocols();
        if let Some(protocol) = &protocol
            && !offered.is_empty()
            && !offered
                .iter()
                .any(|known| known.eq_ignore_ascii_case(protocol))
        {
            return Err(OperationError::not_offered(
                format!("updates by {protocol}"),
                offered,
            ));
        }
        let mut body = Map::new();
        body.insert("ImageURI".into(), json!(pull.image));
        if let Some(protocol) = protocol {
            body.insert("TransferProtocol".into(), json!(protocol));
        }
        if !pull.targets.is_empty() {
            body.insert("Targets".into(), json!(pull.targets));
        }
        let times = root
            .object("Actions")
            .object(SIMPLE_UPDATE)
            .object("@Redfish.OperationApplyTimeSupport")
            .texts("SupportedValues");
        if let Some(time) = pull.apply_time.as_ref().filter(|time| times.contains(time)) {
            body.insert("@Redfish.OperationApplyTime".into(), json!(time));
        }
        Ok(Call::post(target, Value::Object(body)))
    }

    /// Plans a push by multipart form; the gateway streams the file.
    #[must_use]
    pub fn push(&self, targets: &[String], apply_time: Option<&str>) -> Option<Push> {
        let link = self.document.root().uri("MultipartHttpPushUri")?;
        let mut parameters = Map::from_iter([("Targets".to_owned(), json!(targets))]);
        if let Some(time) = apply_time {
            parameters.insert("@Redfish.OperationApplyTime".into(), json!(time));
        }
        Some(Push {
            link,
            parameters: Value::Object(parameters),
        })
    }

    /// Where an image is POSTed as it is (HPE; deprecated elsewhere).
    #[must_use]
    pub fn http_push_uri(&self) -> Option<Link> {
        self.document.root().uri("HttpPushUri")
    }
}

const SIMPLE_UPDATE: &str = "#UpdateService.SimpleUpdate";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_pulled_by_a_protocol_that_the_bmc_has() {
        let updater = Updater::new(Document::new(
            "/u",
            None,
            json!({"HttpPushUri": "/cgi-bin/uploadFile", "Actions": {SIMPLE_UPDATE: {
            "target": "/u/Actions/UpdateService.SimpleUpdate", "TransferProtocol@Redfish.AllowableValues": ["HTTP", "HTTPS"]}}}),
        ));
        let call = updater
            .pull(&Pull {
                image: "https://10.0.0.1/bios.bin".into(),
                ..Pull::default()
            })
            .unwrap();
        assert_eq!(
            call.body,
            json!({"ImageURI": "https://10.0.0.1/bios.bin", "TransferProtocol": "HTTPS"})
        );
        assert!(
            updater
                .pull(&Pull {
                    image: "tftp://10.0.0.1/bios.bin".into(),
                    ..Pull::default()
                })
                .is_err()
        );
        assert!(updater.http_push_uri().is_some() && updater.push(&[], None).is_none());
    }
}
