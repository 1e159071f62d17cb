//! The file of a scenario: TOML with a table `[[run]]` for each run, whose keys are the long options
//! of `run`, and `[defaults]` for all of them.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::Path;

use loadgen::Plan;
use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use crate::cli::{Keys, Kind, OutputArgs, is_stdout};

/// More would take weeks.
const MAX_RUNS: usize = 10_000;
/// With its extension, a name of this length is valid on every file system.
const MAX_NAME_LEN: usize = 100;

/// One run of a scenario.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) name: String,
    pub(crate) plan: Plan,
    pub(crate) output: OutputArgs,
}

/// Parses and checks `text`, the contents of the file `name`. Results are written to `folder`.
///
/// # Errors
/// One line for the user: the first mistake, with its line, its run and its key.
pub(crate) fn parse(name: &str, text: &str, folder: &Path) -> Result<Vec<Run>, String> {
    let file = File {
        name,
        text,
        keys: Keys::new(),
    };
    let table = DeTable::parse(text).map_err(|error| file.not_toml(&error))?;
    let (defaults, tables) = file.parts(table.get_ref())?;
    let mut runs = Vec::new();
    let mut names = BTreeSet::new();
    let mut places = BTreeMap::new();
    for table in tables {
        let (run, span) = file.run(table, &defaults, folder)?;
        if !names.insert(run.name.clone()) {
            let problem = format!(
                "there is a run `{}` already; each needs its own name",
                run.name
            );
            return Err(file.at(&span, &problem));
        }
        for (option, place) in run.output.places() {
            if let Some(other) = places.insert(place.to_owned(), run.name.clone()) {
                let problem = format!(
                    "run `{}`: its `{option}` would overwrite an output of `{other}`, {}",
                    run.name,
                    place.display()
                );
                return Err(file.at(&span, &problem));
            }
        }
        runs.push(run);
    }
    Ok(runs)
}

/// The keys of a table.
type Entries<'a> = BTreeMap<&'a str, Entry>;

struct Entry {
    /// Each key with the text of its option's value. A flag has no value, and a false flag is left
    /// out.
    values: Vec<Option<String>>,
    span: Range<usize>,
}

struct File<'a> {
    name: &'a str,
    text: &'a str,
    keys: Keys,
}

impl File<'_> {
    /// The defaults, and the tables of the runs.
    fn parts<'t>(
        &self,
        table: &'t DeTable<'_>,
    ) -> Result<(Entries<'t>, Vec<&'t DeTable<'t>>), String> {
        let mut defaults = Entries::new();
        let mut runs = Vec::new();
        for (key, value) in table {
            match (key.get_ref().as_ref(), value.get_ref()) {
                ("defaults", DeValue::Table(keys)) => {
                    defaults = self.entries("defaults", keys)?;
                    if let Some(name) = defaults.get("name") {
                        let problem = "defaults: each run needs a `name` of its own";
                        return Err(self.at(&name.span, problem));
                    }
                }
                ("run", DeValue::Array(array)) => runs = self.tables(array)?,
                ("defaults" | "run", other) => {
                    let problem = format!(
                        "the defaults are a table, [defaults], and each run is one of its own, \
                         [[run]]; this is of type {}",
                        other.type_str()
                    );
                    return Err(self.at(&key.span(), &problem));
                }
                (other, _) => {
                    let problem = format!(
                        "unknown key `{other}`; options stand under [[run]], or under [defaults] \
                         for all runs"
                    );
                    return Err(self.at(&key.span(), &problem));
                }
            }
        }
        if runs.is_empty() || runs.len() > MAX_RUNS {
            return Err(format!(
                "{}: has {} runs; each is a table [[run]], and there must be 1 to {MAX_RUNS}",
                self.name,
                runs.len()
            ));
        }
        Ok((defaults, runs))
    }

    fn tables<'t>(&self, array: &'t DeArray<'_>) -> Result<Vec<&'t DeTable<'t>>, String> {
        array
            .iter()
            .map(|element| match element.get_ref() {
                DeValue::Table(table) => Ok(table),
                other => {
                    let problem = format!(
                        "each run is a table, [[run]]; this is of type {}",
                        other.type_str()
                    );
                    Err(self.at(&element.span(), &problem))
                }
            })
            .collect()
    }

    /// The run of a table, and where its name stands.
    fn run(
        &self,
        table: &DeTable<'_>,
        defaults: &Entries<'_>,
        folder: &Path,
    ) -> Result<(Run, Range<usize>), String> {
        let own = self.entries("run", table)?;
        let (name, span) = self.name(&own, table)?;
        let mut entries: BTreeMap<&str, &Entry> = BTreeMap::new();
        for (key, entry) in defaults.iter().chain(&own) {
            entries.insert(key, entry);
        }
        entries.remove("name");
        let at = |key: Option<&str>, problem: &str| {
            let entry = key.and_then(|key| entries.get(key));
            let key = key.map_or_else(String::new, |key| format!("`{key}`: "));
            self.at(
                entry.map_or(&span, |entry| &entry.span),
                &format!("run `{name}`: {key}{problem}"),
            )
        };
        let arguments: Vec<(&str, Option<&str>)> = entries
            .iter()
            .flat_map(|(&key, entry)| entry.values.iter().map(move |v| (key, v.as_deref())))
            .collect();
        let (args, plan) = self
            .keys
            .resolve(&arguments)
            .map_err(|mistake| at(mistake.key.as_deref(), &mistake.problem))?;
        let mut output = args.output;
        if output.json.is_some() {
            return Err(at(
                Some("json"),
                "the result goes to NAME.json in the folder that -o names",
            ));
        }
        if let Some((option, _)) = output.places().iter().find(|(_, place)| is_stdout(place)) {
            return Err(at(
                Some(option),
                "must be a file; stdout is for the tables of all runs",
            ));
        }
        output.json = Some(folder.join(format!("{name}.json")));
        output.check().map_err(|problem| at(None, &problem))?;
        Ok((Run { name, plan, output }, span))
    }

    fn name(
        &self,
        entries: &Entries<'_>,
        table: &DeTable<'_>,
    ) -> Result<(String, Range<usize>), String> {
        let Some(entry) = entries.get("name") else {
            let span = table
                .keys()
                .map(Spanned::span)
                .min_by_key(|span| span.start);
            return Err(self.at(&span.unwrap_or_default(), "this run has no `name`"));
        };
        let name = entry.values.iter().flatten().next().cloned();
        let name = name.unwrap_or_default();
        let is_safe = name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
        if !is_safe || name.is_empty() || name.len() > MAX_NAME_LEN || name.starts_with(['.', '-'])
        {
            let problem = format!(
                "`name`: {name:?} is not a name for a file; use letters, digits, -, _ and ., at most \
                 {MAX_NAME_LEN}, the first a letter, a digit or _"
            );
            return Err(self.at(&entry.span, &problem));
        }
        Ok((name, entry.span.clone()))
    }

    fn entries<'t>(&self, what: &str, table: &'t DeTable<'_>) -> Result<Entries<'t>, String> {
        let mut keys: Vec<_> = table.iter().collect();
        // In the order of the file, so that the first mistake is the first in the file.
        keys.sort_by_key(|(key, _)| key.span().start);
        keys.into_iter()
            .map(|(key, value)| {
                let name: &str = key.get_ref();
                let kind = match name {
                    "name" => Some(Kind::Value),
                    _ => self.keys.kind(name),
                };
                let Some(kind) = kind else {
                    let problem = format!(
                        "{what}: unknown key `{name}`; keys are the long options of loadgen run, and \
                         target"
                    );
                    return Err(self.at(&key.span(), &problem));
                };
                let values = self.values(name, kind, value)?;
                let span = key.span();
                Ok((name, Entry { values, span }))
            })
            .collect()
    }

    fn values(
        &self,
        key: &str,
        kind: Kind,
        value: &Spanned<DeValue<'_>>,
    ) -> Result<Vec<Option<String>>, String> {
        match (kind, value.get_ref()) {
            (Kind::Flag, DeValue::Boolean(true)) => Ok(vec![None]),
            (Kind::Flag, DeValue::Boolean(false)) => Ok(Vec::new()),
            (Kind::Value | Kind::List, DeValue::String(text)) => Ok(vec![Some(text.to_string())]),
            // With its 0x, 0o or 0b, so that only an option that accepts this notation takes it.
            (Kind::Value, DeValue::Integer(number)) => Ok(vec![Some(number.to_string())]),
            (Kind::Value, DeValue::Float(number)) => Ok(vec![Some(number.to_string())]),
            (Kind::List, DeValue::Array(elements)) => {
                let mut values = Vec::new();
                for element in elements {
                    if element.get_ref().is_array() {
                        return Err(self.wrong_type(key, kind, element));
                    }
                    values.append(&mut self.values(key, kind, element)?);
                }
                Ok(values)
            }
            _ => Err(self.wrong_type(key, kind, value)),
        }
    }

    fn wrong_type(&self, key: &str, kind: Kind, value: &Spanned<DeValue<'_>>) -> String {
        let wanted = match kind {
            Kind::Flag => "true or false",
            Kind::Value => "a string or a number",
            Kind::List => "a string or an array of strings",
        };
        let found = value.get_ref().type_str();
        let problem = format!("`{key}`: must be {wanted}, but this is of type {found}");
        self.at(&value.span(), &problem)
    }

    fn not_toml(&self, error: &toml::de::Error) -> String {
        let span = error.span().unwrap_or_default();
        self.at(&span, &format!("not valid TOML: {}", error.message()))
    }

    fn at(&self, span: &Range<usize>, problem: &str) -> String {
        let before = self.text.as_bytes().get(..span.start);
        let before = before.unwrap_or(self.text.as_bytes());
        let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
        format!("{}:{line}: {problem}", self.name)
    }
}

#[cfg(test)]
mod tests;
