//! The note of a machine's drives from before its claim, by which one that is missing after it is known.

use std::collections::BTreeMap;

use crate::names;

/// What the annotations say. What cannot be read is no record.
pub fn of(annotations: &BTreeMap<String, String>) -> Option<Vec<String>> {
    serde_json::from_str(annotations.get(names::DRIVES)?).ok()
}

/// The value of the annotation.
pub fn noted(drives: &[String]) -> String {
    serde_json::Value::from(drives.to_vec()).to_string()
}

/// All that either record has; none where neither is one.
pub fn either(one: Option<Vec<String>>, other: Option<Vec<String>>) -> Option<Vec<String>> {
    let (Some(mut all), Some(more)) = (one.clone(), other.clone()) else {
        return one.or(other);
    };
    all.extend(more);
    all.sort_unstable();
    all.dedup();
    Some(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn annotations(value: &str) -> BTreeMap<String, String> {
        BTreeMap::from([(names::DRIVES.to_owned(), value.to_owned())])
    }

    #[test]
    fn drives_are_read_as_they_were_noted_and_what_cannot_be_read_is_no_record() {
        for drives in [vec![], vec!["S 1".to_owned(), "S,\"2".to_owned()]] {
            assert_eq!(of(&annotations(&noted(&drives))), Some(drives));
        }
        for value in ["", "S1,S2", "null", "[1]"] {
            assert_eq!(of(&annotations(value)), None, "{value}");
        }
        assert_eq!(of(&BTreeMap::new()), None);
    }

    #[test]
    fn no_drive_of_either_record_is_lost() {
        let some = |drives: &[&str]| Some(drives.iter().map(ToString::to_string).collect());
        assert_eq!(
            either(some(&["B", "A"]), some(&["B", "C"])),
            some(&["A", "B", "C"])
        );
        assert_eq!(either(None, some(&["B"])), some(&["B"]));
        assert_eq!(either(some(&[]), None), some(&[]));
        assert_eq!(either(None, None), None);
    }
}
