//! Readings of JSON scalars: what the schema says, else what firmware must have meant.

use super::Fault;
use serde_json::Value;

/// A reading, and whether it needed goodwill.
pub(super) type Read<T> = Result<(T, Option<Fault>), Fault>;

/// Longest string kept, in bytes. Registries and certificates are read as documents, not as one property.
const LONGEST: usize = 16 * 1024;

pub(super) fn text(value: &Value) -> Read<String> {
    match value {
        Value::String(s) if s.len() <= LONGEST => Ok((s.trim().to_owned(), None)),
        Value::String(_) => Err(Fault::Malformed),
        Value::Number(n) => Ok((n.to_string(), Some(Fault::Coerced))),
        Value::Bool(b) => Ok((b.to_string(), Some(Fault::Coerced))),
        Value::Array(items) => match items.as_slice() {
            // Intel's ContainedBy and some OEM parts give a list of one.
            [one @ Value::String(_)] => text(one).map(|(s, _)| (s, Some(Fault::Coerced))),
            _ => Err(Fault::Mistyped),
        },
        _ => Err(Fault::Mistyped),
    }
}

pub(super) fn number(value: &Value) -> Read<f64> {
    match value {
        Value::Number(n) => n
            .as_f64()
            .filter(|f| f.is_finite())
            .map(|f| (f, None))
            .ok_or(Fault::Malformed),
        Value::String(s) => {
            let digits = s.trim().split_ascii_whitespace().next().unwrap_or_default();
            let parsed = digits
                .parse::<f64>()
                .ok()
                .filter(|f| f.is_finite())
                .ok_or(Fault::Mistyped)?;
            Ok((parsed, Some(Fault::Coerced)))
        }
        _ => Err(Fault::Mistyped),
    }
}

/// A count or size. Fractions and negative numbers are malformed: no schema has them where this is used.
pub(super) fn whole(value: &Value) -> Read<u64> {
    if let Value::Number(n) = value
        && let Some(exact) = n.as_u64()
    {
        return Ok((exact, None));
    }
    let (float, fault) = number(value)?;
    let rounded = float.round();
    if !(0.0..=9_007_199_254_740_992.0).contains(&rounded) || (float - rounded).abs() > 1e-6 {
        return Err(Fault::Malformed);
    }
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // checked just above
    let exact = rounded as u64;
    Ok((exact, fault))
}

pub(super) fn flag(value: &Value) -> Read<bool> {
    match value {
        Value::Bool(b) => Ok((*b, None)),
        Value::String(s) => match s.trim().to_ascii_lowercase().as_str() {
            "true" | "yes" | "enabled" | "on" => Ok((true, Some(Fault::Coerced))),
            "false" | "no" | "disabled" | "off" => Ok((false, Some(Fault::Coerced))),
            _ => Err(Fault::Mistyped),
        },
        Value::Number(n) => match n.as_u64() {
            Some(0) => Ok((false, Some(Fault::Coerced))),
            Some(1) => Ok((true, Some(Fault::Coerced))),
            _ => Err(Fault::Mistyped),
        },
        _ => Err(Fault::Mistyped),
    }
}
