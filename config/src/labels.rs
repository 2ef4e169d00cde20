//! Selecting by labels.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

/// Whether labels satisfy a selector; an empty one is satisfied by all.
///
/// Source: `LabelSelector.matchLabels`, `LabelSelector.matchExpressions`.
pub fn matches(selector: &LabelSelector, labels: &BTreeMap<String, String>) -> bool {
    let equal =
        selector.match_labels.iter().flatten().all(|(key, value)| labels.get(key) == Some(value));
    equal
        && selector.match_expressions.iter().flatten().all(|expression| {
            let value = labels.get(&expression.key);
            let is_listed =
                || expression.values.iter().flatten().any(|allowed| Some(allowed) == value);
            match expression.operator.as_str() {
                "In" => is_listed(),
                "NotIn" => !is_listed(),
                "Exists" => value.is_some(),
                "DoesNotExist" => value.is_none(),
                _ => false,
            }
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selects(selector: &str, labels: &str) -> bool {
        let selector = serde_json::from_str(selector).unwrap();
        matches(&selector, &serde_json::from_str(labels).unwrap())
    }

    #[test]
    fn every_requirement_counts() {
        let labels = r#"{"app": "web", "tier": "front"}"#;
        for (selector, is_selected) in [
            ("{}", true),
            (r#"{"matchLabels": {"app": "web"}}"#, true),
            (r#"{"matchLabels": {"app": "web", "tier": "back"}}"#, false),
            (
                r#"{"matchExpressions": [{"key": "tier", "operator": "In", "values": ["front", "x"]}]}"#,
                true,
            ),
            (
                r#"{"matchExpressions": [{"key": "tier", "operator": "NotIn", "values": ["front"]}]}"#,
                false,
            ),
            (
                r#"{"matchExpressions": [{"key": "none", "operator": "NotIn", "values": ["front"]}]}"#,
                true,
            ),
            (r#"{"matchExpressions": [{"key": "none", "operator": "Exists"}]}"#, false),
            (r#"{"matchExpressions": [{"key": "none", "operator": "DoesNotExist"}]}"#, true),
            (
                r#"{"matchLabels": {"app": "web"}, "matchExpressions": [{"key": "tier", "operator": "DoesNotExist"}]}"#,
                false,
            ),
        ] {
            assert_eq!(selects(selector, labels), is_selected, "{selector}");
        }
    }
}
