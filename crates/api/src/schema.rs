//! Schemas of foreign types, and of fields whose rules are more than their type.

use schemars::{Schema, SchemaGenerator, json_schema};

/// Longest text that can be an IP address with a zone.
const IP_LENGTH: u32 = 64;
/// Longest text that can be a MAC address: six octets with separators.
const MAC_LENGTH: u32 = 17;

/// An object of any shape, kept as it is.
pub(crate) fn anything(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true })
}

/// A time in RFC 3339.
pub(crate) fn time(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "format": "date-time" })
}

/// Conditions: a list-map by type, so that entries of other writers live beside ours.
pub(crate) fn conditions(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
        "items": {
            "type": "object",
            "required": ["lastTransitionTime", "message", "reason", "status", "type"],
            "properties": {
                "lastTransitionTime": {
                    "type": "string",
                    "format": "date-time",
                    "description": "When the status of the condition last changed.",
                },
                "message": { "type": "string", "maxLength": 32768, "description": "For people: cause and remedy." },
                "observedGeneration": {
                    "type": "integer",
                    "format": "int64",
                    "minimum": 0,
                    "description": "metadata.generation that the condition was judged by.",
                },
                "reason": {
                    "type": "string",
                    "minLength": 1,
                    "maxLength": 1024,
                    "pattern": "^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$",
                    "description": "For programs: why the status is what it is, in CamelCase.",
                },
                "status": { "type": "string", "enum": ["True", "False", "Unknown"], "description": "True, False or Unknown." },
                "type": {
                    "type": "string",
                    "maxLength": 316,
                    "pattern": "^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])$",
                    "description": "What the condition is about, in CamelCase.",
                },
            },
        },
    })
}

/// A label selector of `meta/v1`.
pub(crate) fn label_selector(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "x-kubernetes-map-type": "atomic",
        "properties": {
            "matchLabels": {
                "type": "object",
                "additionalProperties": { "type": "string" },
                "description": "Labels that must be there, with these values.",
            },
            "matchExpressions": {
                "type": "array",
                "x-kubernetes-list-type": "atomic",
                "description": "Requirements, all of which must hold.",
                "items": {
                    "type": "object",
                    "required": ["key", "operator"],
                    "properties": {
                        "key": { "type": "string", "description": "Label key." },
                        "operator": { "type": "string", "description": "In, NotIn, Exists or DoesNotExist." },
                        "values": {
                            "type": "array",
                            "x-kubernetes-list-type": "atomic",
                            "items": { "type": "string" },
                            "description": "Values for In and NotIn; empty for the others.",
                        },
                    },
                },
            },
        },
    })
}

/// A map of text to base64.
pub(crate) fn bytes_by_key(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "object", "additionalProperties": { "type": "string", "format": "byte" } })
}

/// An IP address of either family, with or without a zone; or nothing.
pub(crate) fn ip(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "string",
        "maxLength": IP_LENGTH,
        "x-kubernetes-validations": [{
            // isIP knows neither zones nor IPv4 mapped into IPv6, which other readers of this field accept.
            "rule": "self == '' || isIP(self.split('%')[0]) || self.matches('^::[fF]{4}:[0-9A-Fa-f:.]+$')",
            "message": "must be an IPv4 or IPv6 address, such as 10.0.0.17 or fd00::17",
        }],
    })
}

/// A MAC address of six octets with colons, hyphens, dots or nothing between them; or nothing.
pub(crate) fn mac(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "string",
        "maxLength": MAC_LENGTH,
        "x-kubernetes-validations": [{
            "rule": "self.matches('^$|^[0-9A-Fa-f]{2}([:-]?[0-9A-Fa-f]{2}){5}$|^([0-9A-Fa-f]{4}[.]){2}[0-9A-Fa-f]{4}$')",
            "message": "must be a MAC address of six octets, such as 23:11:8a:33:cf:ea",
        }],
    })
}

/// Refers to the claim that holds a server. Neither part may change while the reference stands: a server goes from one claim
/// to another only through its release.
pub(crate) fn claim_reference(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "required": ["name", "namespace"],
        "properties": {
            "name": {
                "type": "string",
                "maxLength": 253,
                "description": "Name of the claim.",
                "x-kubernetes-validations": [{ "rule": "self == oldSelf", "message": "serverClaimRef.name cannot change while it is set" }],
            },
            "namespace": {
                "type": "string",
                "maxLength": 63,
                "description": "Namespace of the claim.",
                "x-kubernetes-validations": [{ "rule": "self == oldSelf", "message": "serverClaimRef.namespace cannot change while it is set" }],
            },
        },
    })
}
