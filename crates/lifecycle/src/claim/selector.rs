//! Label selectors in the one form that matching, grouping and the allocator's index share.
//!
//! Semantics are those of `metav1.LabelSelector`: all requirements must hold, an empty selector selects everything, and `NotIn`
//! holds where the label is absent.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

/// Reads a label of a server by its key.
pub trait Labels {
    /// The label's value, if the server has it.
    fn label(&self, key: &str) -> Option<&str>;
}

/// Requirements on labels, sorted, so that two selectors that say the same are equal.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Selector {
    requirements: Vec<Requirement>,
}

/// One requirement on one label.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Requirement {
    key: String,
    operator: Operator,
    values: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Operator {
    In,
    NotIn,
    Exists,
    DoesNotExist,
}

/// A selector that means nothing. The API server lets it through, so the claim has to be told.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSelector {
    /// The operator is none of the four.
    #[error("operator {operator:?} of label {key:?} is none of In, NotIn, Exists, DoesNotExist")]
    Operator {
        /// The label.
        key: String,
        /// What was written.
        operator: String,
    },
    /// `In` and `NotIn` need values, the others must have none.
    #[error("operator {operator} of label {key:?} has {found} values")]
    Values {
        /// The label.
        key: String,
        /// The operator.
        operator: String,
        /// How many values were given.
        found: usize,
    },
}

// === impl Selector ===

impl Selector {
    /// Reads a selector from the wire.
    pub fn parse(wire: &LabelSelector) -> Result<Self, InvalidSelector> {
        let equalities = wire.match_labels.iter().flatten().map(|(key, value)| {
            Ok(Requirement {
                key: key.clone(),
                operator: Operator::In,
                values: vec![value.clone()],
            })
        });
        let expressions = wire.match_expressions.iter().flatten().map(|expression| {
            let operator = match expression.operator.as_str() {
                "In" => Operator::In,
                "NotIn" => Operator::NotIn,
                "Exists" => Operator::Exists,
                "DoesNotExist" => Operator::DoesNotExist,
                other => {
                    return Err(InvalidSelector::Operator {
                        key: expression.key.clone(),
                        operator: other.to_owned(),
                    });
                }
            };
            let mut values = expression.values.clone().unwrap_or_default();
            if matches!(operator, Operator::In | Operator::NotIn) == values.is_empty() {
                return Err(InvalidSelector::Values {
                    key: expression.key.clone(),
                    operator: expression.operator.clone(),
                    found: values.len(),
                });
            }
            values.sort();
            values.dedup();
            Ok(Requirement {
                key: expression.key.clone(),
                operator,
                values,
            })
        });
        let mut requirements = equalities
            .chain(expressions)
            .collect::<Result<Vec<_>, _>>()?;
        requirements.sort();
        requirements.dedup();
        Ok(Self { requirements })
    }

    /// Whether all requirements hold.
    pub fn matches(&self, labels: &impl Labels) -> bool {
        self.requirements
            .iter()
            .all(|requirement| requirement.holds(labels.label(&requirement.key)))
    }

    /// The label pairs that every matching server carries: what an index can look up.
    pub fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.requirements
            .iter()
            .filter_map(|r| match (r.operator, r.values.as_slice()) {
                (Operator::In, [value]) => Some((r.key.as_str(), value.as_str())),
                _ => None,
            })
    }
}

impl Requirement {
    fn holds(&self, value: Option<&str>) -> bool {
        let listed = || value.is_some_and(|value| self.values.iter().any(|wanted| wanted == value));
        match self.operator {
            Operator::In => listed(),
            Operator::NotIn => !listed(),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelectorRequirement;

    use super::*;

    struct Of(BTreeMap<&'static str, &'static str>);

    impl Labels for Of {
        fn label(&self, key: &str) -> Option<&str> {
            self.0.get(key).copied()
        }
    }

    fn labels(pairs: &[(&'static str, &'static str)]) -> Of {
        Of(pairs.iter().copied().collect())
    }

    fn expression(key: &str, operator: &str, values: &[&str]) -> LabelSelector {
        LabelSelector {
            match_expressions: Some(vec![LabelSelectorRequirement {
                key: key.into(),
                operator: operator.into(),
                values: Some(values.iter().map(|v| (*v).into()).collect()),
            }]),
            ..LabelSelector::default()
        }
    }

    fn holds(selector: &LabelSelector, pairs: &[(&'static str, &'static str)]) -> bool {
        Selector::parse(selector).unwrap().matches(&labels(pairs))
    }

    #[test]
    fn an_empty_selector_selects_every_server() {
        assert!(holds(&LabelSelector::default(), &[]));
    }

    #[test]
    fn each_operator_means_what_kubernetes_means() {
        assert!(holds(
            &expression("zone", "In", &["a", "b"]),
            &[("zone", "b")]
        ));
        assert!(!holds(&expression("zone", "In", &["a", "b"]), &[]));
        assert!(holds(&expression("zone", "NotIn", &["a"]), &[]));
        assert!(!holds(
            &expression("zone", "NotIn", &["a"]),
            &[("zone", "a")]
        ));
        assert!(holds(&expression("gpu", "Exists", &[]), &[("gpu", "")]));
        assert!(holds(
            &expression("gpu", "DoesNotExist", &[]),
            &[("zone", "a")]
        ));
    }

    #[test]
    fn a_selector_that_means_nothing_is_refused_with_the_label_named() {
        assert!(
            Selector::parse(&expression("zone", "Near", &[]))
                .unwrap_err()
                .to_string()
                .contains("\"zone\"")
        );
        assert!(Selector::parse(&expression("zone", "In", &[])).is_err());
        assert!(Selector::parse(&expression("zone", "Exists", &["a"])).is_err());
    }

    #[test]
    fn selectors_that_say_the_same_are_equal_however_they_are_written() {
        let labels = LabelSelector {
            match_labels: Some([("zone".to_owned(), "a".to_owned())].into()),
            ..LabelSelector::default()
        };
        assert_eq!(
            Selector::parse(&labels),
            Selector::parse(&expression("zone", "In", &["a"]))
        );
    }
}
