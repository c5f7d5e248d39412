//! Query parameters.

use http::StatusCode;
use serde_json::{Map, Value};

use crate::message::Failure;
use crate::render::Expansion;
use crate::shapes::Spec;

/// The query of a GET.
#[derive(Debug, PartialEq)]
pub(crate) struct Query {
    pub expansion: Expansion,
    select: Option<Vec<String>>,
    top: Option<usize>,
    skip: usize,
    only: bool,
}

impl Query {
    pub fn parse(query: Option<&str>, spec: &Spec) -> Result<Self, Failure> {
        let mut parsed = Self {
            expansion: Expansion::NONE,
            select: None,
            top: None,
            skip: 0,
            only: false,
        };
        let Some(query) = query.filter(|query| !query.is_empty()) else {
            return Ok(parsed);
        };
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            match name.as_ref() {
                "$expand" => parsed.expansion = expand(&value, spec)?,
                "$select" if spec.select => {
                    parsed.select = Some(
                        value
                            .split(',')
                            .map(|name| name.trim().to_owned())
                            .collect(),
                    );
                }
                "$top" => parsed.top = Some(number(&name, &value)?),
                "$skip" => parsed.skip = number(&name, &value)?,
                "only" if value.is_empty() => parsed.only = true,
                "only" => {
                    return Err(Failure::bad(
                        "QueryParameterValueTypeError",
                        &[&value, "only"],
                    ));
                }
                // Unknown parameters with a dollar must be refused (Redfish specification, 7.3).
                name if name.starts_with('$') => {
                    return Err(Failure::new(
                        StatusCode::NOT_IMPLEMENTED,
                        "QueryNotSupported",
                        &[],
                    ));
                }
                _ => {}
            }
        }
        Ok(parsed)
    }

    /// Whether the document stays as it is, so that its ETag holds.
    pub fn is_plain(&self) -> bool {
        *self
            == Self {
                expansion: Expansion::NONE,
                select: None,
                top: None,
                skip: 0,
                only: false,
            }
    }

    fn shapes(&self) -> bool {
        self.select.is_some() || self.top.is_some() || self.skip > 0 || self.only
    }

    /// Applies all but the expansion, which has been done.
    pub fn apply(
        &self,
        document: Vec<u8>,
        resource: impl Fn(&str) -> Option<Vec<u8>>,
    ) -> Result<Vec<u8>, Failure> {
        if !self.shapes() {
            return Ok(document);
        }
        let parse = |bytes: &[u8]| serde_json::from_slice::<Map<String, Value>>(bytes);
        let mut body = parse(&document)
            .map_err(|_| Failure::new(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", &[]))?;
        if self.top.is_some() || self.skip > 0 {
            let Some(Value::Array(members)) = body.get_mut("Members") else {
                return Err(Failure::bad("QueryNotSupportedOnResource", &[]));
            };
            let rest = members.split_off(self.skip.min(members.len()));
            *members = rest
                .into_iter()
                .take(self.top.unwrap_or(usize::MAX))
                .collect();
        }
        if self.only {
            let Some(Value::Array(members)) = body.get("Members") else {
                return Err(Failure::bad("QueryNotSupportedOnResource", &[]));
            };
            if let [member] = members.as_slice()
                && let Some(path) = member.get("@odata.id").and_then(Value::as_str)
                && let Some(document) = resource(path)
            {
                return Ok(document);
            }
        }
        if let Some(names) = &self.select {
            body.retain(|key, _| {
                key.starts_with("@odata.") || names.iter().any(|name| selects(name, key))
            });
        }
        Ok(Value::Object(body).to_string().into_bytes())
    }
}

/// Whether `$select=name` keeps the top-level property `key` and its annotations.
fn selects(name: &str, key: &str) -> bool {
    let top = name.split('/').next().unwrap_or(name);
    top == "*"
        || key == top
        || key
            .split_once('@')
            .is_some_and(|(property, _)| property == top)
}

fn number(name: &str, value: &str) -> Result<usize, Failure> {
    let number: i64 = value
        .parse()
        .map_err(|_| Failure::bad("QueryParameterValueTypeError", &[value, name]))?;
    usize::try_from(number)
        .map_err(|_| Failure::bad("QueryParameterOutOfRange", &[value, name, "0 or more"]))
}

fn expand(value: &str, spec: &Spec) -> Result<Expansion, Failure> {
    let Some(able) = spec.expand else {
        return Err(Failure::new(
            StatusCode::NOT_IMPLEMENTED,
            "QueryNotSupported",
            &[],
        ));
    };
    let wrong = || Failure::bad("QueryParameterValueTypeError", &[value, "$expand"]);
    let (kind, rest) = value.split_at_checked(1).ok_or_else(wrong)?;
    let levels = match rest {
        "" => 1,
        rest => rest
            .strip_prefix("($levels=")
            .and_then(|rest| rest.strip_suffix(')'))
            .and_then(|levels| levels.parse::<u8>().ok())
            .filter(|levels| *levels > 0)
            .ok_or_else(wrong)?,
    };
    let (below, related, offered) = match kind {
        "*" => (true, true, able.all),
        "." => (true, false, able.no_links),
        "~" => (false, true, able.links),
        _ => return Err(wrong()),
    };
    if !offered {
        return Err(Failure::new(
            StatusCode::NOT_IMPLEMENTED,
            "QueryNotSupported",
            &[],
        ));
    }
    if levels > able.levels {
        return Err(Failure::bad(
            "QueryParameterOutOfRange",
            &[
                &levels.to_string(),
                "$expand",
                &format!("1 to {}", able.levels),
            ],
        ));
    }
    Ok(Expansion {
        levels,
        below,
        related,
    })
}
