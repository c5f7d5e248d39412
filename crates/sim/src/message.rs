//! Messages of the Base registry, and the errors made of them.

use http::StatusCode;
use serde_json::{Map, Value, json};

pub(crate) const BASE_VERSION: &str = "1.18.1";

/// Key, text, number of arguments, severity, resolution.
const MESSAGES: &[(&str, &str, usize, &str, &str)] = &[
    (
        "Success",
        "The request completed successfully.",
        0,
        "OK",
        "None.",
    ),
    (
        "Created",
        "The resource was created successfully.",
        0,
        "OK",
        "None.",
    ),
    (
        "GeneralError",
        "A general error has occurred. See Resolution for information on how to resolve the error.",
        0,
        "Critical",
        "None.",
    ),
    (
        "MalformedJSON",
        "The request body submitted was malformed JSON and could not be parsed by the receiving service.",
        0,
        "Critical",
        "Ensure that the request body is valid JSON and resubmit the request.",
    ),
    (
        "UnrecognizedRequestBody",
        "The service detected a malformed request body that it was unable to interpret.",
        0,
        "Warning",
        "Correct the request body and resubmit the request if it failed.",
    ),
    (
        "EmptyJSON",
        "The request body submitted contained an empty JSON object and the service is unable to process it.",
        0,
        "Warning",
        "Add properties in the JSON object and resubmit the request.",
    ),
    (
        "NoOperation",
        "The request body submitted contain no data to act upon and no changes to the resource took place.",
        0,
        "Warning",
        "Add properties in the JSON object and resubmit the request.",
    ),
    (
        "PropertyUnknown",
        "The property %1 is not in the list of valid properties for the resource.",
        1,
        "Warning",
        "Remove the unknown property from the request body and resubmit the request if the operation failed.",
    ),
    (
        "PropertyNotWritable",
        "The property %1 is a read-only property and cannot be assigned a value.",
        1,
        "Warning",
        "Remove the property from the request body and resubmit the request if the operation failed.",
    ),
    (
        "PropertyMissing",
        "The property %1 is a required property and must be included in the request.",
        1,
        "Warning",
        "Ensure that the property is in the request body and has a valid value and resubmit the request if the operation failed.",
    ),
    (
        "PropertyValueTypeError",
        "The value '%1' for the property %2 is not a type that the property can accept.",
        2,
        "Warning",
        "Correct the value for the property in the request body and resubmit the request if the operation failed.",
    ),
    (
        "PropertyValueNotInList",
        "The value '%1' for the property %2 is not in the list of acceptable values.",
        2,
        "Warning",
        "Choose a value from the enumeration list that the implementation can support and resubmit the request if the operation failed.",
    ),
    (
        "PropertyValueOutOfRange",
        "The value '%1' for the property %2 is not in the supported range of acceptable values.",
        2,
        "Warning",
        "Correct the value for the property in the request body and resubmit the request if the operation failed.",
    ),
    (
        "PropertyValueFormatError",
        "The value '%1' for the property %2 is not a format that the property can accept.",
        2,
        "Warning",
        "Correct the value for the property in the request body and resubmit the request if the operation failed.",
    ),
    (
        "PropertyValueConflict",
        "The property '%1' could not be written because its value would conflict with the value of the '%2' property.",
        2,
        "Warning",
        "No resolution is required.",
    ),
    (
        "ActionParameterMissing",
        "The action %1 requires the parameter %2 to be present in the request body.",
        2,
        "Critical",
        "Supply the action with the required parameter in the request body when the request is resubmitted.",
    ),
    (
        "ActionParameterUnknown",
        "The action %1 was submitted with the invalid parameter %2.",
        2,
        "Warning",
        "Correct the invalid parameter and resubmit the request if the operation failed.",
    ),
    (
        "ActionParameterValueNotInList",
        "The value '%1' for the parameter %2 in the action %3 is not in the list of acceptable values.",
        3,
        "Warning",
        "Choose a value from the enumeration list that the implementation can support and resubmit the request if the operation failed.",
    ),
    (
        "ActionParameterValueTypeError",
        "The value '%1' for the parameter %2 in the action %3 is of a different type than the parameter can accept.",
        3,
        "Warning",
        "Correct the value for the parameter in the request body and resubmit the request if the operation failed.",
    ),
    (
        "ActionNotSupported",
        "The action %1 is not supported by the resource.",
        1,
        "Critical",
        "The action supplied cannot be resubmitted to the implementation. Perhaps the action was invalid, the wrong resource was the target or the implementation documentation may be of assistance.",
    ),
    (
        "ResourceMissingAtURI",
        "The resource at the URI '%1' was not found.",
        1,
        "Critical",
        "Place a valid resource at the URI or correct the URI and resubmit the request.",
    ),
    (
        "ResourceNotFound",
        "The requested resource of type %1 named '%2' was not found.",
        2,
        "Critical",
        "Provide a valid resource identifier and resubmit the request.",
    ),
    (
        "ResourceInUse",
        "The change to the requested resource failed because the resource is in use or in transition.",
        0,
        "Warning",
        "Remove the condition and resubmit the request if the operation failed.",
    ),
    (
        "ResourceAlreadyExists",
        "The requested resource of type %1 with the property %2 with the value '%3' already exists.",
        3,
        "Critical",
        "Do not repeat the create operation as the resource has already been created.",
    ),
    (
        "ResourceCannotBeDeleted",
        "The delete request failed because the resource requested cannot be deleted.",
        0,
        "Critical",
        "Do not attempt to delete a non-deletable resource.",
    ),
    (
        "OperationNotAllowed",
        "The HTTP method is not allowed on this resource.",
        0,
        "Critical",
        "None.",
    ),
    (
        "PreconditionFailed",
        "The ETag supplied did not match the current ETag of the resource.",
        0,
        "Critical",
        "Try the operation again using the appropriate ETag.",
    ),
    (
        "PreconditionRequired",
        "A precondition header or annotation is required to change this resource.",
        0,
        "Critical",
        "Try the operation again using an `If-Match` or `If-None-Match` header and appropriate ETag.",
    ),
    (
        "NoValidSession",
        "There is no valid session established with the implementation.",
        0,
        "Critical",
        "Establish a session before attempting any operations.",
    ),
    (
        "ResourceAtUriUnauthorized",
        "While accessing the resource at '%1', the service received an authorization error '%2'.",
        2,
        "Critical",
        "Ensure that the appropriate access is provided for the service in order for it to access the URI.",
    ),
    (
        "InsufficientPrivilege",
        "There are insufficient privileges for the account or credentials associated with the current session to perform the requested operation.",
        0,
        "Critical",
        "Either abandon the operation or change the associated access rights and resubmit the request if the operation failed.",
    ),
    (
        "SessionLimitExceeded",
        "The session establishment failed due to the number of simultaneous sessions exceeding the limit of the implementation.",
        0,
        "Critical",
        "Reduce the number of other sessions before trying to establish the session or increase the limit of simultaneous sessions, if supported.",
    ),
    (
        "QueryNotSupported",
        "Querying is not supported by the implementation.",
        0,
        "Warning",
        "Remove the query parameters and resubmit the request if the operation failed.",
    ),
    (
        "QueryNotSupportedOnResource",
        "Querying is not supported on the requested resource.",
        0,
        "Warning",
        "Remove the query parameters and resubmit the request if the operation failed.",
    ),
    (
        "QueryParameterValueTypeError",
        "The value '%1' for the query parameter %2 is not a type that the parameter can accept.",
        2,
        "Warning",
        "Correct the value for the query parameter in the request and resubmit the request if the operation failed.",
    ),
    (
        "QueryParameterOutOfRange",
        "The value '%1' for the query parameter %2 is out of range %3.",
        3,
        "Warning",
        "Reduce the value for the query parameter to a value that is within range, such as a start or count value that is within bounds of the number of resources in a collection or a page that is within the range of valid pages.",
    ),
    (
        "InternalError",
        "The request failed due to an internal service error. The service is still operational.",
        0,
        "Critical",
        "Resubmit the request. If the problem persists, consider resetting the service.",
    ),
    (
        "ServiceTemporarilyUnavailable",
        "The service is temporarily unavailable. Retry in %1 seconds.",
        1,
        "Critical",
        "Wait for the indicated retry duration and retry the operation.",
    ),
    (
        "CreateLimitReachedForResource",
        "The create operation failed because the resource has reached the limit of possible resources.",
        0,
        "Critical",
        "Either delete resources and resubmit the request if the operation failed or do not resubmit the request.",
    ),
    (
        "PasswordChangeRequired",
        "The password provided for this account must be changed before access is granted.",
        0,
        "Critical",
        "Change the password for this account.",
    ),
];

/// One message with its arguments.
pub(crate) fn message(key: &str, arguments: &[&str]) -> Value {
    message_about(key, arguments, None)
}

/// A message that names the property it is about.
pub(crate) fn message_about(key: &str, arguments: &[&str], pointer: Option<&str>) -> Value {
    let (text, severity, resolution) = MESSAGES
        .iter()
        .find(|row| row.0 == key)
        .map_or((key, "Critical", "None."), |row| (row.1, row.3, row.4));
    let mut filled = text.to_owned();
    for (i, argument) in arguments.iter().enumerate() {
        filled = filled.replace(&format!("%{}", i + 1), argument);
    }
    let (major, minor) = BASE_VERSION.rsplit_once('.').unwrap_or((BASE_VERSION, ""));
    let _ = minor;
    let mut map = Map::new();
    map.insert("@odata.type".into(), "#Message.v1_1_2.Message".into());
    map.insert("MessageId".into(), format!("Base.{major}.{key}").into());
    map.insert("Message".into(), filled.into());
    map.insert("MessageArgs".into(), json!(arguments));
    map.insert("MessageSeverity".into(), severity.into());
    map.insert("Severity".into(), severity.into());
    map.insert("Resolution".into(), resolution.into());
    if let Some(pointer) = pointer {
        map.insert("RelatedProperties".into(), json!([pointer]));
    }
    Value::Object(map)
}

/// An error body of one message.
pub(crate) fn error(key: &str, arguments: &[&str]) -> Value {
    error_of(vec![message(key, arguments)])
}

/// An error body of several messages.
pub(crate) fn error_of(messages: Vec<Value>) -> Value {
    let first = match (messages.len(), messages.first()) {
        (1, Some(first)) => first.clone(),
        _ => message("GeneralError", &[]),
    };
    json!({"error": {
        "code": first.get("MessageId"),
        "message": first.get("Message"),
        "@Message.ExtendedInfo": messages,
    }})
}

/// A failed request: the status and the error body.
#[derive(Debug)]
pub(crate) struct Failure {
    pub status: StatusCode,
    pub body: Value,
    /// `Allow`, `Retry-After` or `WWW-Authenticate`.
    pub header: Option<(http::HeaderName, String)>,
}

impl Failure {
    pub fn new(status: StatusCode, key: &str, arguments: &[&str]) -> Self {
        Self {
            status,
            body: error(key, arguments),
            header: None,
        }
    }

    pub fn bad(key: &str, arguments: &[&str]) -> Self {
        Self::new(StatusCode::BAD_REQUEST, key, arguments)
    }

    pub fn of(messages: Vec<Value>) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            body: error_of(messages),
            header: None,
        }
    }

    pub fn missing(path: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "ResourceMissingAtURI", &[path])
    }

    pub fn with(mut self, name: http::HeaderName, value: impl Into<String>) -> Self {
        self.header = Some((name, value.into()));
        self
    }
}

/// The part of the Base registry that these machines speak.
pub(crate) fn base_registry() -> Value {
    let messages: Map<String, Value> = MESSAGES
        .iter()
        .map(|(key, text, arguments, severity, resolution)| {
            let mut row = json!({
                "Description": text, "Message": text, "MessageSeverity": severity, "Severity": severity, "NumberOfArgs": arguments, "Resolution": resolution,
            });
            if *arguments > 0 && let Some(row) = row.as_object_mut() {
                row.insert("ParamTypes".into(), vec![Value::from("string"); *arguments].into());
            }
            ((*key).to_owned(), row)
        })
        .collect();
    json!({
        "Id": format!("Base.{BASE_VERSION}"), "Name": "Base Message Registry", "Language": "en", "Description": "The messages of the Base registry that this service sends.",
        "RegistryPrefix": "Base", "RegistryVersion": BASE_VERSION, "OwningEntity": "DMTF", "Messages": messages,
    })
}
