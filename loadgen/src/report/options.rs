//! All options, and the environment, as names and values.

use serde::Serialize;
use serde_json::Value;

use crate::report::document::{Fact, Section};
use crate::report::format::UNKNOWN;
use crate::result::{Host, Tool};

/// Adds tables of options with their titles, and below them the names of those that have no value.
pub(super) fn tables<const N: usize>(
    section: &mut Section,
    tables: [(&'static str, Vec<Fact>); N],
) {
    let mut unset: Vec<String> = Vec::new();
    for (title, facts) in tables {
        let (set, without): (Vec<_>, Vec<_>) =
            facts.into_iter().partition(|fact| fact.value != UNKNOWN);
        section.counts("", title, set);
        for fact in without {
            if !unset.contains(&fact.name) {
                unset.push(fact.name);
            }
        }
    }
    let without = if unset.is_empty() {
        String::new()
    } else {
        format!(" Not set, or not known: {}.", unset.join(", "))
    };
    section.note(format!(
        "Every option as it was resolved, named as in the result file.{without}"
    ));
}

/// Host, tool and time of a result.
pub(super) fn host(host: &Host, tool: &Tool, started_at: &str) -> Vec<Fact> {
    let mut facts = flat(host);
    facts.push(Fact::new("tool", format!("{} {}", tool.name, tool.version)));
    facts.push(Fact::new("started_at", started_at));
    facts
}

/// All figures and texts of a part of a result, by the paths of their keys.
pub(super) fn flat(part: &impl Serialize) -> Vec<Fact> {
    let mut facts = Vec::new();
    // A value read from JSON can be written as JSON.
    if let Ok(value) = serde_json::to_value(part) {
        flatten(String::new(), &value, &mut facts);
    }
    facts
}

fn flatten(path: String, value: &Value, facts: &mut Vec<Fact>) {
    let text = match value {
        Value::Object(fields) => {
            for (key, field) in fields {
                let path = if path.is_empty() {
                    key.clone()
                } else {
                    format!("{path}.{key}")
                };
                flatten(path, field, facts);
            }
            return;
        }
        Value::Null => UNKNOWN.to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) if items.is_empty() => UNKNOWN.to_owned(),
        Value::Array(items) => items
            .iter()
            .map(|item| {
                item.as_str()
                    .map_or_else(|| item.to_string(), str::to_owned)
            })
            .collect::<Vec<_>>()
            .join(", "),
        figure => figure.to_string(),
    };
    facts.push(Fact::new(path, text));
}
