//! Whether two label selectors can select the same object. Only what is proved apart counts as apart.

use std::collections::BTreeSet;

/// What a selector demands of one label.
#[derive(Debug)]
enum Demand<'a> {
    In(&'a str, BTreeSet<&'a str>),
    NotIn(&'a str, BTreeSet<&'a str>),
    Exists(&'a str),
    Absent(&'a str),
}

/// True when no object can have labels that both selectors accept.
pub fn are_disjoint(one: &str, other: &str) -> bool {
    let (one, other) = (demands(one), demands(other));
    one.iter()
        .any(|a| other.iter().any(|b| exclude(a, b) || exclude(b, a)))
}

fn exclude(a: &Demand<'_>, b: &Demand<'_>) -> bool {
    match (a, b) {
        (Demand::In(key, these), Demand::In(same, those)) => {
            key == same && these.is_disjoint(those)
        }
        (Demand::In(key, these), Demand::NotIn(same, those)) => {
            key == same && these.is_subset(those)
        }
        (Demand::In(key, _) | Demand::Exists(key), Demand::Absent(same)) => key == same,
        _ => false,
    }
}

fn demands(selector: &str) -> Vec<Demand<'_>> {
    let mut depth = 0_u32;
    selector
        .split(move |c| {
            match c {
                '(' => depth += 1,
                ')' => depth = depth.saturating_sub(1),
                _ => {}
            }
            c == ',' && depth == 0
        })
        .filter_map(|demand| read(demand.trim()))
        .collect()
}

/// One demand; none for what is not understood, which then proves nothing.
fn read(demand: &str) -> Option<Demand<'_>> {
    if let Some((head, values)) = demand.split_once('(') {
        let values = values
            .strip_suffix(')')?
            .split(',')
            .map(str::trim)
            .collect();
        let mut words = head.split_whitespace();
        let (key, word) = (words.next()?, words.next()?);
        return match word {
            "in" => Some(Demand::In(key, values)),
            "notin" => Some(Demand::NotIn(key, values)),
            _ => None,
        };
    }
    if let Some((key, value)) = demand.split_once("!=") {
        return Some(Demand::NotIn(key.trim(), BTreeSet::from([value.trim()])));
    }
    if let Some((key, value)) = demand.split_once("==").or_else(|| demand.split_once('=')) {
        return Some(Demand::In(key.trim(), BTreeSet::from([value.trim()])));
    }
    if demand.is_empty() || demand.contains(char::is_whitespace) {
        return None;
    }
    Some(match demand.strip_prefix('!') {
        Some(key) => Demand::Absent(key.trim()),
        None => Demand::Exists(demand),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_are_apart_only_when_a_label_proves_it() {
        for (one, other) in [
            ("agent=a", "agent=b"),
            ("agent==a,x=y", "agent in (b, c)"),
            ("agent=a", "agent!=a"),
            ("agent in (a,b)", "agent notin (a,b,c)"),
            ("agent", "!agent"),
            ("agent=a", "!agent"),
        ] {
            assert!(are_disjoint(one, other), "{one} and {other}");
            assert!(are_disjoint(other, one), "{other} and {one}");
        }
        for (one, other) in [
            ("", ""),
            ("", "agent=a"),
            ("agent=a", "agent=a"),
            ("agent=a", "rack=b"),
            ("agent in (a,b)", "agent in (b,c)"),
            ("agent!=a", "agent!=b"),
            ("agent in (a,b)", "agent!=a"),
            ("agent notin (a)", "!agent"),
            ("agent in (a", "agent in (b"),
        ] {
            assert!(!are_disjoint(one, other), "{one} and {other}");
            assert!(!are_disjoint(other, one), "{other} and {one}");
        }
    }
}
