//! Results as they are read back from a file.

use std::fmt;

use serde::Deserialize;
use serde_json::Value;

use super::comparison::Comparison;
use super::imported::ImportedResult;
use super::run::RunResult;
use super::search::SearchResult;
use super::side_by_side::SideBySide;
use super::watch::WatchResult;

/// The version of the layout that is read and written.
const SCHEMA: u32 = 1;
/// No number of messages or bytes is larger than what JSON's numbers hold exactly everywhere (RFC 8259,
/// section 6), so a thousand results can be added.
const MOST: u64 = 1 << 53;

/// A stored result of any kind.
#[derive(Clone, Debug)]
pub enum Stored {
    /// Of a run.
    Run(Box<RunResult>),
    /// Of a search.
    Search(Box<SearchResult>),
    /// Of a comparison.
    Comparison(Box<Comparison>),
    /// Of another tool.
    Imported(Box<ImportedResult>),
    /// Of another tool, beside another result.
    SideBySide(Box<SideBySide>),
    /// Of a watch.
    Watch(Box<WatchResult>),
}

/// Why a file can't be read as a result. Its text continues a sentence that begins with the file's
/// name.
#[derive(Debug)]
#[expect(missing_docs, reason = "the fields are what the sentence says")]
pub enum StoredError {
    /// It is not JSON, or lacks the keys of every result.
    NotAResult(serde_json::Error),
    /// A later version made it.
    Schema { schema: u32 },
    /// Its kind is not known.
    Kind { kind: String },
    /// A count is impossibly large.
    Count { field: String, count: u64 },
    /// It has the keys of a result, and is incomplete.
    Damaged(serde_json::Error),
}

impl Stored {
    /// Reads a result from its JSON.
    ///
    /// # Errors
    /// [`StoredError`]
    pub fn read(json: &[u8]) -> Result<Self, StoredError> {
        #[derive(Deserialize)]
        struct Head {
            schema: u32,
            kind: Option<String>,
        }
        let whole: Value = serde_json::from_slice(json).map_err(StoredError::NotAResult)?;
        let head = Head::deserialize(&whole).map_err(StoredError::NotAResult)?;
        if head.schema != SCHEMA {
            return Err(StoredError::Schema {
                schema: head.schema,
            });
        }
        if let Some((field, count)) = beyond_count("", &whole) {
            let field = field.to_owned();
            return Err(StoredError::Count { field, count });
        }
        match head.kind.as_deref() {
            None => serde_json::from_slice(json)
                .map(Self::Run)
                .map_err(StoredError::Damaged),
            Some("search") => serde_json::from_slice(json)
                .map(Self::Search)
                .map_err(StoredError::Damaged),
            Some("comparison") => serde_json::from_slice(json)
                .map(Self::Comparison)
                .map_err(StoredError::Damaged),
            Some("imported") => serde_json::from_slice(json)
                .map(Self::Imported)
                .map_err(StoredError::Damaged),
            Some("side_by_side") => serde_json::from_slice(json)
                .map(Self::SideBySide)
                .map_err(StoredError::Damaged),
            Some("watch") => serde_json::from_slice(json)
                .map(Self::Watch)
                .map_err(StoredError::Damaged),
            Some(kind) => Err(StoredError::Kind {
                kind: kind.to_owned(),
            }),
        }
    }
}

/// The first number in a field of this name, or within it, that is too large for a count, with its
/// field's name. Seeds and requested numbers may be as large.
fn beyond_count<'a>(field: &'a str, value: &'a Value) -> Option<(&'a str, u64)> {
    match value {
        Value::Number(number) if !["seed", "requests", "sequence"].contains(&field) => number
            .as_u64()
            .filter(|&count| count > MOST)
            .map(|count| (field, count)),
        Value::Array(values) => values.iter().find_map(|value| beyond_count(field, value)),
        Value::Object(fields) => fields
            .iter()
            .find_map(|(field, value)| beyond_count(field, value)),
        _ => None,
    }
}

impl fmt::Display for StoredError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAResult(error) => write!(
                f,
                "not a result of loadgen ({error}); give the file that --json wrote, or a page of --html"
            ),
            Self::Schema { schema } => write!(
                f,
                "a result of schema {schema}, and this loadgen reads schema {SCHEMA}; use the version \
                 that wrote it"
            ),
            Self::Kind { kind } => write!(
                f,
                "a result of the kind `{kind}`, which this loadgen does not know; use the version that \
                 wrote it"
            ),
            Self::Count { field, count } => write!(
                f,
                "the result is damaged: `{field}` is {count}, and nothing counts beyond {MOST}"
            ),
            Self::Damaged(error) => write!(f, "the result is damaged: {error}"),
        }
    }
}

impl std::error::Error for StoredError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::NotAResult(error) | Self::Damaged(error) => Some(error),
            Self::Schema { .. } | Self::Kind { .. } | Self::Count { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is no result would test the reader's first line alone.
    #[test]
    fn what_the_fuzz_targets_start_from_are_results() {
        for kind in ["result", "search", "comparison"] {
            let seeds = format!("{}/../fuzz/seeds/{kind}", env!("CARGO_MANIFEST_DIR"));
            for seed in std::fs::read_dir(seeds).unwrap() {
                let path = seed.unwrap().path();
                let stored = Stored::read(&std::fs::read(&path).unwrap());
                assert!(stored.is_ok(), "{}: {stored:?}", path.display());
            }
        }
    }

    #[test]
    fn a_trial_that_no_clock_could_time_has_a_report() {
        let seed = include_bytes!("../../../fuzz/seeds/search/unfinished");
        for planned_s in [-1.0, f64::MAX] {
            let mut search: SearchResult = serde_json::from_slice(seed).unwrap();
            search.trials[0].planned_s = planned_s;
            assert!(crate::report::text::render(&search).contains("trial"));
        }
    }

    /// Their sums would be none.
    #[test]
    fn counts_beyond_all_bounds_are_refused_and_seeds_are_not() {
        let seed = include_str!("../../../fuzz/seeds/result/open");
        let with = |field: &str, number: u64| {
            let mut value: Value = serde_json::from_str(seed).unwrap();
            let part = if field == "seed" { "plan" } else { "messages" };
            value[part][field] = number.into();
            Stored::read(value.to_string().as_bytes())
        };
        assert!(with("sent", MOST).is_ok());
        let error = with("sent", MOST + 1).unwrap_err().to_string();
        assert!(error.contains("`sent` is 9007199254740993"), "{error}");
        assert!(with("seed", u64::MAX).is_ok());
    }

    #[test]
    fn what_is_no_result_is_refused_with_the_way_out() {
        for (json, words) in [
            ("", "not a result of loadgen"),
            ("{}", "not a result of loadgen"),
            ("[1]", "not a result of loadgen"),
            (r#"{"schema": 2}"#, "schema 2"),
            (r#"{"schema": 1, "kind": "dance"}"#, "`dance`"),
            (r#"{"schema": 1}"#, "damaged: missing field"),
            (
                r#"{"schema": 1, "kind": "search"}"#,
                "damaged: missing field",
            ),
        ] {
            let error = Stored::read(json.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(words), "{json}: {error}");
        }
    }
}
