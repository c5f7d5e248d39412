//! Which part of an artefact a request is for: ranges and conditions (RFC 9110, sections 13 and 14).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::HeaderMap;
use http::header::{
    IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE, RANGE,
};

/// What is to be answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// 200: everything.
    Whole,
    /// 206: `length` bytes (at least one) from `start`.
    Range {
        /// First byte.
        start: u64,
        /// How many.
        length: u64,
    },
    /// 304.
    NotModified,
    /// 412.
    PreconditionFailed,
    /// 416.
    Unsatisfiable,
}

/// What the request's headers ask of an artefact with this length, validator (without quotes) and time.
#[must_use]
pub fn part(headers: &HeaderMap, length: u64, etag: &str, modified: Option<SystemTime>) -> Part {
    let text = |name| {
        headers
            .get(name)
            .map(|value: &http::HeaderValue| value.to_str().unwrap_or_default())
    };
    if let Some(wanted) = text(IF_MATCH) {
        if !lists(wanted, etag, false) {
            return Part::PreconditionFailed;
        }
    } else if let (Some(since), Some(modified)) =
        (text(IF_UNMODIFIED_SINCE).and_then(date), modified)
        && seconds(modified) > seconds(since)
    {
        return Part::PreconditionFailed;
    }
    if let Some(known) = text(IF_NONE_MATCH) {
        if lists(known, etag, true) {
            return Part::NotModified;
        }
    } else if let (Some(since), Some(modified)) = (text(IF_MODIFIED_SINCE).and_then(date), modified)
        && seconds(modified) <= seconds(since)
    {
        return Part::NotModified;
    }
    let Some(range) = text(RANGE) else {
        return Part::Whole;
    };
    // If-Range wants a strong comparison; a date is one only if it is the very same.
    let same = text(IF_RANGE).is_none_or(|validator| match date(validator) {
        Some(date) => modified.is_some_and(|modified| seconds(modified) == seconds(date)),
        None => lists(validator, etag, false) && validator.trim() != "*",
    });
    if same {
        range_of(range, length)
    } else {
        Part::Whole
    }
}

/// A `Range` header. What is no single byte range is skipped, as a server may: everything is sent.
#[must_use]
pub fn range_of(range: &str, length: u64) -> Part {
    let Some((unit, set)) = range.split_once('=') else {
        return Part::Whole;
    };
    if !unit.trim().eq_ignore_ascii_case("bytes") || set.contains(',') {
        return Part::Whole;
    }
    let Some((first, last)) = set.trim().split_once('-') else {
        return Part::Whole;
    };
    match (number(first), number(last)) {
        (Some(Some(first)), Some(last)) => {
            let last = last.unwrap_or(u64::MAX);
            if last < first {
                return Part::Whole;
            }
            if first >= length {
                return Part::Unsatisfiable;
            }
            Part::Range {
                start: first,
                length: last.min(length - 1) - first + 1,
            }
        }
        (Some(None), Some(Some(suffix))) => {
            if suffix == 0 || length == 0 {
                return Part::Unsatisfiable;
            }
            let suffix = suffix.min(length);
            Part::Range {
                start: length - suffix,
                length: suffix,
            }
        }
        _ => Part::Whole,
    }
}

/// `Some(None)` for nothing, `None` for what is no number. A number beyond all sizes is the largest.
fn number(text: &str) -> Option<Option<u64>> {
    let text = text.trim();
    if text.is_empty() {
        return Some(None);
    }
    text.bytes()
        .all(|digit| digit.is_ascii_digit())
        .then(|| Some(text.parse().unwrap_or(u64::MAX)))
}

/// Whether a list of entity tags has this one.
fn lists(list: &str, etag: &str, weak: bool) -> bool {
    list.split(',').map(str::trim).any(|entry| {
        let entry = if weak {
            entry.strip_prefix("W/").unwrap_or(entry)
        } else {
            entry
        };
        entry == "*"
            || entry
                .strip_prefix('"')
                .and_then(|entry| entry.strip_suffix('"'))
                == Some(etag)
    })
}

fn date(text: &str) -> Option<SystemTime> {
    httpdate::parse_http_date(text.trim()).ok()
}

/// HTTP's dates have whole seconds.
fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH)
        .unwrap_or(Duration::ZERO)
        .as_secs()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn headers(pairs: &[(http::HeaderName, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (name.clone(), value.parse().unwrap()))
            .collect()
    }

    #[test]
    fn single_ranges_are_served_and_others_are_skipped() {
        for (range, expected) in [
            (
                "bytes=0-0",
                Part::Range {
                    start: 0,
                    length: 1,
                },
            ),
            (
                "bytes=10-",
                Part::Range {
                    start: 10,
                    length: 90,
                },
            ),
            (
                "bytes=90-1000",
                Part::Range {
                    start: 90,
                    length: 10,
                },
            ),
            (
                "bytes=-5",
                Part::Range {
                    start: 95,
                    length: 5,
                },
            ),
            (
                "bytes=-500",
                Part::Range {
                    start: 0,
                    length: 100,
                },
            ),
            ("bytes=100-", Part::Unsatisfiable),
            ("bytes=-0", Part::Unsatisfiable),
            ("bytes=5-1", Part::Whole),
            ("bytes=0-1,5-6", Part::Whole),
            ("bytes=+1-2", Part::Whole),
            ("lines=0-1", Part::Whole),
            ("bytes=-", Part::Whole),
            ("bytes=99999999999999999999999-", Part::Unsatisfiable),
            (
                "bytes=0-99999999999999999999999",
                Part::Range {
                    start: 0,
                    length: 100,
                },
            ),
        ] {
            assert_eq!(range_of(range, 100), expected, "{range}");
        }
    }

    #[test]
    fn a_transfer_goes_on_only_with_the_same_bytes() {
        let ask = |validator: &str| {
            part(
                &headers(&[(RANGE, "bytes=5-"), (IF_RANGE, validator)]),
                10,
                "abc",
                Some(UNIX_EPOCH + Duration::from_secs(86400)),
            )
        };
        assert_eq!(
            ask("\"abc\""),
            Part::Range {
                start: 5,
                length: 5
            }
        );
        assert_eq!(ask("\"other\""), Part::Whole);
        assert_eq!(ask("W/\"abc\""), Part::Whole);
        assert_eq!(
            ask("Fri, 02 Jan 1970 00:00:00 GMT"),
            Part::Range {
                start: 5,
                length: 5
            }
        );
        assert_eq!(ask("Sat, 03 Jan 1970 00:00:00 GMT"), Part::Whole);
    }

    #[test]
    fn what_the_client_has_is_not_sent_again() {
        let time = Some(UNIX_EPOCH + Duration::from_secs(86400));
        assert_eq!(
            part(
                &headers(&[(IF_NONE_MATCH, "\"x\", W/\"abc\"")]),
                10,
                "abc",
                time
            ),
            Part::NotModified
        );
        assert_eq!(
            part(&headers(&[(IF_NONE_MATCH, "\"x\"")]), 10, "abc", time),
            Part::Whole
        );
        assert_eq!(
            part(
                &headers(&[(IF_MODIFIED_SINCE, "Fri, 02 Jan 1970 00:00:00 GMT")]),
                10,
                "abc",
                time
            ),
            Part::NotModified
        );
        assert_eq!(
            part(
                &headers(&[(IF_MODIFIED_SINCE, "Thu, 01 Jan 1970 00:00:00 GMT")]),
                10,
                "abc",
                time
            ),
            Part::Whole
        );
        assert_eq!(
            part(&headers(&[(IF_MATCH, "\"x\"")]), 10, "abc", time),
            Part::PreconditionFailed
        );
    }

    proptest! {
        #[test]
        fn no_header_panics_and_no_range_leaves_the_artefact(range in "(bytes=)?[0-9a-z,\\- +=]{0,40}|.{0,40}", length in any::<u64>()) {
            if let Part::Range { start, length: part } = range_of(&range, length) {
                prop_assert!(part > 0 && start < length && part <= length - start);
            }
        }
    }
}
