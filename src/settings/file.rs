//! The configuration file: TOML without tables, keys named as the flags.

use std::ops::Range;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::key::{Key, Kind};
use super::keys;
use super::nearest::nearest;
use super::source::{Given, Origin, SettingsError};

/// The settings in the text of a file, in the order of its lines.
///
/// # Errors
/// The first mistake, with its line.
pub(super) fn parse(path: &Path, text: &str) -> Result<Vec<Given>, SettingsError> {
    let file = File { path, text };
    let table = DeTable::parse(text).map_err(|error| file.not_toml(&error))?;
    let mut entries: Vec<_> = table.get_ref().iter().collect();
    entries.sort_by_key(|(name, _)| name.span().start);
    entries
        .into_iter()
        .map(|(name, value)| file.given(name.get_ref(), name.span(), value))
        .collect()
}

struct File<'a> {
    path: &'a Path,
    text: &'a str,
}

impl File<'_> {
    fn not_toml(&self, error: &toml::de::Error) -> SettingsError {
        /// A mistake may span a whole line; its start is enough to find it.
        const MAX_CHARS: usize = 40;
        let span = error.span().unwrap_or(0..0);
        let what = self.text.get(span.clone()).unwrap_or_default();
        let what: String = what
            .chars()
            .take_while(|c| *c != '\n')
            .take(MAX_CHARS)
            .collect();
        let near = match what.trim() {
            "" => String::new(),
            what => format!(" at `{what}`"),
        };
        SettingsError {
            origin: Some(self.origin(span)),
            problem: format!("not valid TOML: {}{near}", error.message()),
        }
    }

    fn given(
        &self,
        name: &str,
        span: Range<usize>,
        value: &Spanned<DeValue<'_>>,
    ) -> Result<Given, SettingsError> {
        let origin = self.origin(span);
        let fail = |problem| SettingsError {
            origin: Some(origin.clone()),
            problem,
        };
        if value.get_ref().is_table() {
            return Err(fail(format!(
                "`{name}` is a table; all keys stand at the top, without one"
            )));
        }
        let Some(key) = keys::named(name) else {
            let suggestion = nearest(name)
                .map(|near| format!("; did you mean `{near}`?"))
                .unwrap_or_default();
            return Err(fail(format!("unknown key `{name}`{suggestion}")));
        };
        let values = match (key.kind, value.get_ref()) {
            (Kind::List, DeValue::Array(elements)) => elements
                .iter()
                .map(|element| self.value(key, element))
                .collect::<Result<_, _>>()?,
            _ => vec![self.value(key, value)?],
        };
        Ok(Given {
            key,
            origin,
            values,
        })
    }

    fn value(
        &self,
        key: &Key,
        value: &Spanned<DeValue<'_>>,
    ) -> Result<(String, Origin), SettingsError> {
        let text = match (key.kind, value.get_ref()) {
            (Kind::Flag, DeValue::Boolean(value)) => value.to_string(),
            (Kind::Value | Kind::List, DeValue::String(text)) => text.to_string(),
            // The number keeps its 0x, 0o or 0b, so that a key accepts it only if it knows the
            // prefix.
            (Kind::Value, DeValue::Integer(number)) => number.to_string(),
            (Kind::Value, DeValue::Float(number)) => number.to_string(),
            (kind, other) => {
                let wanted = match kind {
                    Kind::Value => "a string or a number",
                    Kind::List => "a string or an array of strings",
                    Kind::Flag => "true or false",
                };
                let problem = format!("must be {wanted}, but this is of type {}", other.type_str());
                let origin = self.origin(value.span());
                return Err(SettingsError::of(&origin, key.name, problem));
            }
        };
        Ok((text, self.origin(value.span())))
    }

    fn origin(&self, span: Range<usize>) -> Origin {
        let before = self.text.as_bytes().get(..span.start);
        let before = before.unwrap_or(self.text.as_bytes());
        Origin::File {
            path: self.path.to_owned(),
            line: 1 + before.iter().filter(|byte| **byte == b'\n').count(),
        }
    }
}
