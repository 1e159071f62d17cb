//! The JSON Schemas in docs/, generated from the types of this folder.
//!
//! `UPDATE_SCHEMAS=1 cargo test -p loadgen --lib schemas_in_docs` writes them anew. Without the variable
//! the test fails if they are not what the types say.

use std::borrow::Cow;
use std::fs;
use std::path::PathBuf;

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Map, Value, json};

use super::comparison::Comparison;
use super::latency::{Latency, QUANTILES};
use super::objective::Objective;
use super::run::RunResult;
use super::search::{CONFIDENCE, SearchResult};
use super::verdict::Code;
use super::watch::WatchResult;
use crate::admin::AdminUrl;
use crate::plan::sizes::Sizes;
use crate::profile::Profile;

const COMMON: &str = "Keys may be added within schema 1; none is renamed or removed. Units are in the \
    names: _s seconds, _ns nanoseconds, _us microseconds, _bits_per_s bits per second; a _ratio is a \
    share of 1. What is not known is null, never a guess.";

/// Properties that may be negative. All other numbers are at least 0.
const SIGNED: [&str; 17] = [
    "ClientScheduling.nice",
    "Rate.target",
    "RateChange.at_s",
    "RampInterval.start_s",
    "RampInterval.end_s",
    "Trend.from",
    "Trend.to",
    "Gauge.min",
    "Gauge.median",
    "Gauge.max",
    "Spread.median",
    "Spread.min",
    "Spread.max",
    "Spread.mean",
    "Spread.coefficient_of_variation",
    // Student's t knows no lower bound.
    "Spread.low",
    "Spread.high",
];

/// Codes that only a comparison has; it has no others.
const OF_COMPARISONS: [Code; 5] = [
    Code::RoundFailed,
    Code::InvalidRuns,
    Code::SuspectRuns,
    Code::HostsDiffer,
    Code::Interrupted,
];

/// The names of `compare::Metric`.
const METRICS: [&str; 9] = [
    "achieved_rate",
    "throughput",
    "response_p50",
    "response_p90",
    "response_p99",
    "service_p50",
    "service_p99",
    "failures",
    "server_cpu_per_message",
];

/// What the types do not say of a property; `*` stands for every type.
fn constraints() -> Vec<(&'static str, Value)> {
    let above_0 = || json!({"exclusiveMinimum": 0});
    let between_0_and_1 = || json!({"exclusiveMinimum": 0, "exclusiveMaximum": 1});
    let mut constraints = vec![
        ("*.schema", json!({"const": 1})),
        ("*.started_at", json!({"format": "date-time"})),
        ("Host.cpus", json!({"minimum": 1})),
        (
            "Plan.targets",
            json!({"minItems": 1, "items": {"type": "string", "pattern": "^(tcp://|tls://|udp://|unix:)"}}),
        ),
        ("Client.threads", json!({"minItems": 1})),
        ("Client.steal_ratio", json!({"maximum": 1})),
        ("Repeats.runs", json!({"minItems": 2})),
        // Rounding may bring it above 1.
        ("FairnessResult.jain_index", json!({"maximum": 1.000_001})),
        ("FairnessResult.slowest", json!({"maxItems": 10})),
        ("FairnessResult.fastest", json!({"maxItems": 10})),
        ("Samples", json!({"contentEncoding": "base64"})),
        ("Spread.n", json!({"minimum": 1})),
        ("QuantileEstimate.quantile", between_0_and_1()),
        ("Reason.status", json!({"enum": ["suspect", "invalid"]})),
        ("Limits.max_trials", json!({"minimum": 1})),
        ("SearchResult.confidence", json!({"const": CONFIDENCE})),
        ("SearchResult.goals", json!({"minItems": 1})),
        ("GoalResult.objectives", json!({"minItems": 1})),
        ("Terms.exceed_ratio", json!({"exclusiveMaximum": 1})),
        ("Terms.precision", between_0_and_1()),
        ("Finding.precision", json!({"exclusiveMaximum": 1})),
        ("Finding.dependence", json!({"minimum": 1})),
        ("Judgement.failed", json!({"maximum": 1})),
        ("TrialFigures.lost_ratio", json!({"maximum": 1})),
        ("TrialFigures.corrupt_ratio", json!({"maximum": 1})),
        (
            "TrialFigures.missing_connections_ratio",
            json!({"maximum": 1}),
        ),
        ("CurvePoint.trials", json!({"minimum": 1})),
        ("TargetResult.availability", json!({"maximum": 1})),
        ("TargetResult.outages", json!({"maxItems": 2000})),
        ("WatchClient.absences", json!({"maxItems": 1000})),
        ("Timeline.bins", json!({"maxItems": 600})),
        ("WatchPlan.targets", json!({"minItems": 1})),
        ("Comparison.confidence", between_0_and_1()),
        ("RatioInterval.confidence", between_0_and_1()),
        ("MetricComparison.rounds_needed", json!({"minimum": 1})),
        ("MetricComparison.min_rounds", json!({"minimum": 2})),
        ("MetricComparison.name", json!({"enum": METRICS})),
    ];
    let positive = [
        "Plan.duration_s",
        "Plan.timeout_s",
        "Plan.interval_s",
        "Limits.start",
        "Limits.lowest",
        "Limits.highest",
        "Limits.max_time_s",
        "SearchResult.client_limit",
        "Terms.initial_trial_s",
        "Terms.final_trial_s",
        "Terms.duration_sum_s",
        "Finding.lower",
        "Finding.upper",
        "Finding.limit",
        "CapacityInterval.lower",
        "CapacityInterval.upper",
        "TrialResult.load",
        "TrialResult.planned_s",
        "CurvePoint.load",
        "WatchPlan.interval_s",
        "WatchPlan.timeout_s",
        "WatchPlan.late_s",
        "WatchPlan.duration_s",
        "Timeline.bin_s",
    ];
    constraints.extend(positive.map(|property| (property, above_0())));
    constraints
}

#[test]
fn schemas_in_docs_are_those_of_the_types() {
    let is_update = std::env::var_os("UPDATE_SCHEMAS").is_some();
    let mut used = Vec::new();
    for (file, schema) in [
        (
            "result",
            generate::<RunResult>("Result of loadgen run", "loadgen run --json", &mut used),
        ),
        (
            "search",
            generate::<SearchResult>(
                "Result of loadgen search",
                "loadgen search --json",
                &mut used,
            ),
        ),
        (
            "comparison",
            generate::<Comparison>(
                "Result of loadgen compare",
                "loadgen compare --json",
                &mut used,
            ),
        ),
        (
            "watch",
            generate::<WatchResult>("Result of loadgen watch", "loadgen watch --json", &mut used),
        ),
    ] {
        let mut schema = schema;
        schema["$id"] = format!("urn:echomark:loadgen:{file}:1").into();
        let path =
            PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("../docs/{file}.schema.json"));
        if is_update {
            fs::write(&path, format!("{schema:#}\n")).unwrap();
        }
        let committed: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        assert!(
            committed == schema,
            "docs/{file}.schema.json is not what the types say; write it with \
             UPDATE_SCHEMAS=1 cargo test -p loadgen --lib schemas_in_docs"
        );
    }
    for (property, _) in constraints() {
        assert!(used.contains(&property), "{property} is no property");
    }
}

/// The schema of a file. Notes in `used` which constraints there was a property for.
fn generate<T: JsonSchema>(title: &str, command: &str, used: &mut Vec<&'static str>) -> Value {
    let settings = SchemaSettings::draft2020_12().for_serialize();
    let mut schema = settings
        .into_generator()
        .into_root_schema_for::<T>()
        .to_value();
    let Value::Object(mut definitions) = schema["$defs"].take() else {
        panic!("every result has parts");
    };
    finish(&T::schema_name(), &mut schema, used);
    for (name, definition) in &mut definitions {
        finish(name, definition, used);
    }
    divide_codes(
        &mut definitions,
        T::schema_name() == Comparison::schema_name(),
    );
    schema["$defs"] = definitions.into();
    schema["title"] = format!("{title}, schema 1").into();
    schema["description"] = format!("What {command} writes. {COMMON}").into();
    schema
}

/// The codes that a file may have. In a comparison the reasons are its own, and its rounds have the codes
/// of runs.
fn divide_codes(definitions: &mut Map<String, Value>, is_comparison: bool) {
    let own: Vec<String> = OF_COMPARISONS.iter().map(Code::to_string).collect();
    let is_own = |code: &Value| own.iter().any(|name| code["const"] == **name);
    let Some(code) = definitions.get_mut("Code") else {
        // A watch has no verdict of codes.
        return;
    };
    let Some(Value::Array(codes)) = code.get_mut("oneOf") else {
        panic!("a code is one of several");
    };
    let mut all = std::mem::take(codes);
    // Its own kind of file.
    let imported = Code::Imported.to_string();
    all.retain(|code| code["const"] != *imported);
    let (of_comparison, of_run): (Vec<Value>, Vec<Value>) = all.into_iter().partition(is_own);
    *codes = of_run;
    if is_comparison {
        definitions["Reason"]["properties"]["code"] =
            json!({"description": "For programs.", "oneOf": of_comparison});
    }
}

/// Makes a definition as strict as the files are: no key beyond those described, none left out that is
/// always written.
fn finish(name: &str, schema: &mut Value, used: &mut Vec<&'static str>) {
    for (property, constraint) in constraints() {
        if property == name {
            merge(schema, constraint);
            used.push(property);
        }
    }
    close(schema);
    visit(name, schema, used);
}

/// Allows no further keys: of an object, or of each that it may be one of.
fn close(schema: &mut Value) {
    let Some(object) = schema.as_object_mut() else {
        return;
    };
    let is_composed = ["allOf", "anyOf", "oneOf"]
        .iter()
        .any(|key| object.contains_key(*key));
    if object.contains_key("properties") {
        // Keys of flattened enums stand in the parts.
        let keyword = if is_composed {
            "unevaluatedProperties"
        } else {
            "additionalProperties"
        };
        object.insert(keyword.to_owned(), false.into());
    } else if let Some(Value::Array(variants)) = object.get_mut("oneOf") {
        variants.iter_mut().for_each(close);
    }
}

/// Goes through all that a definition consists of.
fn visit(name: &str, schema: &mut Value, used: &mut Vec<&'static str>) {
    match schema {
        Value::Array(parts) => parts.iter_mut().for_each(|part| visit(name, part, used)),
        Value::Object(object) => {
            // Of numbers: how wide they are in memory.
            if object
                .get("format")
                .is_some_and(|format| format != "date-time")
            {
                object.remove("format");
            }
            if let Some(Value::String(text)) = object.get_mut("description") {
                *text = plain(text);
            }
            // Of an untagged enum; exactly one applies.
            if (object.contains_key("properties") || name == "Code")
                && let Some(parts) = object.remove("anyOf")
            {
                object.insert("oneOf".to_owned(), parts);
            }
            if name == "Code"
                && let Some(Value::Array(variants)) = object.get_mut("oneOf")
            {
                variants.retain(|variant| variant.get("const").is_some());
            }
            require(object);
            if let Some(Value::Object(properties)) = object.get_mut("properties") {
                for (property, schema) in properties {
                    constrain(name, property, schema, used);
                }
            }
            object
                .values_mut()
                .for_each(|part| visit_below(name, part, used));
        }
        _ => {}
    }
}

fn visit_below(name: &str, part: &mut Value, used: &mut Vec<&'static str>) {
    if part.is_object() || part.is_array() {
        visit(name, part, used);
    }
}

/// Keys are required unless files of earlier versions lack them, which `#[serde(default)]` says. Those
/// that are left out rather than written as null are never null.
fn require(object: &mut Map<String, Value>) {
    let required: Vec<Value> = match object.get("required") {
        Some(Value::Array(required)) => required.clone(),
        _ => Vec::new(),
    };
    let Some(Value::Object(properties)) = object.get_mut("properties") else {
        return;
    };
    let mut still_required = required.clone();
    for (property, schema) in properties {
        let is_required = required.iter().any(|name| name == property);
        let has_default = schema
            .as_object_mut()
            .is_some_and(|schema| schema.remove("default").is_some());
        if has_default && is_required {
            still_required.retain(|name| name != property);
        } else if !is_required {
            remove_null(schema);
        }
    }
    if !required.is_empty() {
        object.insert("required".to_owned(), still_required.into());
    }
}

fn remove_null(schema: &mut Value) {
    let Some(object) = schema.as_object_mut() else {
        return;
    };
    if let Some(Value::Array(types)) = object.get("type")
        && let [one, null] = &types[..]
        && null == "null"
    {
        let one = one.clone();
        object.insert("type".to_owned(), one);
    }
    if let Some(Value::Array(parts)) = object.get("anyOf")
        && let [part, _] = &parts[..]
    {
        let part = part.clone();
        object.remove("anyOf");
        merge(schema, part);
    }
}

/// Adds what the type does not say of a property.
fn constrain(name: &str, property: &str, schema: &mut Value, used: &mut Vec<&'static str>) {
    let whole = format!("{name}.{property}");
    let is_number = |schema: &Value| {
        let is = |value: &Value| value == "number" || value == "integer";
        is(&schema["type"])
            || schema["type"]
                .as_array()
                .is_some_and(|types| types.iter().any(is))
    };
    let values = &mut schema["additionalProperties"];
    if is_number(values) {
        values["minimum"] = 0.into();
    }
    if values.is_null() {
        schema
            .as_object_mut()
            .map(|object| object.remove("additionalProperties"));
    }
    if is_number(schema) && schema.get("minimum").is_none() && !SIGNED.contains(&whole.as_str()) {
        schema["minimum"] = 0.into();
    }
    for (constrained, constraint) in constraints() {
        if constrained == whole || constrained == format!("*.{property}") {
            if constraint.get("exclusiveMinimum").is_some() {
                schema
                    .as_object_mut()
                    .map(|object| object.remove("minimum"));
            }
            merge(schema, constraint);
            used.push(constrained);
        }
    }
}

fn merge(schema: &mut Value, other: Value) {
    if let (Some(object), Value::Object(other)) = (schema.as_object_mut(), other) {
        for (key, value) in other {
            object.insert(key, value);
        }
    }
}

/// A comment as text: on one line, without links.
fn plain(comment: &str) -> String {
    comment.replace(['[', ']', '`'], "").replace('\n', " ")
}

macro_rules! schema {
    ($type:ty, $name:literal, $schema:expr) => {
        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                $name.into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                $schema
            }
        }
    };
}

schema!(
    Profile,
    "Profile",
    json_schema!({
        "description": "A number if it is constant, else the text of its profile.",
        "type": ["number", "string"],
        "exclusiveMinimum": 0,
    })
);
schema!(
    Sizes,
    "Sizes",
    json_schema!({
        "description": "A number if all are alike, else the text of their distribution.",
        "type": ["integer", "string"],
        "minimum": 0,
    })
);
schema!(
    AdminUrl,
    "AdminUrl",
    json_schema!({"type": "string", "pattern": "^http://"})
);
schema!(
    Objective,
    "Objective",
    json_schema!({"type": "string", "pattern": "^(p[0-9.]+|errors|lost)<"})
);
schema!(Latency, "Latency", latency());

fn latency() -> Schema {
    let count = |description: &str, minimum: u32| json!({"description": description, "type": "integer", "minimum": minimum});
    let number =
        |description: &str| json!({"description": description, "type": "number", "minimum": 0});
    let mut properties = json!({
        "count": count("Number of samples.", 1),
        "min": count("Smallest.", 0),
        "mean": number("Arithmetic mean."),
        "stdev": number("Standard deviation of the samples."),
        "max": count("Largest, to the three digits of the histogram.", 0),
        "histogram": {
            "description": "The samples, to three digits: HdrHistogram's V2 encoding, deflated, in base64.",
            "type": "string",
            "contentEncoding": "base64",
        },
    });
    for (name, quantile) in QUANTILES {
        let description = format!(
            "{}th percentile: the value that this share of the samples does not exceed; null if fewer \
             than ten samples lie beyond it.",
            (quantile * 1e4).round() / 100.0
        );
        properties[name] =
            json!({"description": description, "type": ["integer", "null"], "minimum": 0});
    }
    let required: Vec<&String> = properties
        .as_object()
        .into_iter()
        .flat_map(Map::keys)
        .collect();
    json_schema!({
        "description": "A distribution of nanoseconds.",
        "type": "object",
        "required": required,
        "properties": properties,
    })
}

#[test]
fn the_interval_of_a_mean_may_reach_below_zero() {
    let schema = generate::<RunResult>("", "", &mut Vec::new());
    let spread = &schema["$defs"]["Spread"]["properties"];
    assert!(spread["stdev"].get("minimum").is_some());
    assert!(spread["low"].get("minimum").is_none(), "{spread}");
}
