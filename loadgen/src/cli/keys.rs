//! The options of `run` as keys of a file, with the same names, ranges and messages.

use clap::error::{ContextKind, ContextValue};
use clap::{ArgAction, Command, CommandFactory};
use loadgen::Plan;

use super::{Cli, RunArgs, one_line};

/// The key of the targets, which are positional on the command line.
const TARGET: &str = "target";

/// The kind of a key's value.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    /// `true` or `false`.
    Flag,
    /// One value.
    Value,
    /// One or several.
    List,
}

/// The valid keys of a run.
pub(crate) struct Keys {
    command: Command,
}

/// The reason why there is no plan, and the key that caused it, if there is one.
#[derive(Debug)]
pub(crate) struct Mistake {
    pub(crate) key: Option<String>,
    pub(crate) problem: String,
}

impl Keys {
    pub(crate) fn new() -> Self {
        Self {
            command: Cli::command(),
        }
    }

    /// The kind of `key`; `None` if there is no such key.
    pub(crate) fn kind(&self, key: &str) -> Option<Kind> {
        if key == TARGET {
            return Some(Kind::List);
        }
        let run = self.command.find_subcommand("run")?;
        let option = run.get_arguments().find(|arg| arg.get_long() == Some(key));
        match option?.get_action() {
            ArgAction::SetTrue => Some(Kind::Flag),
            ArgAction::Set => Some(Kind::Value),
            ArgAction::Append => Some(Kind::List),
            _ => None,
        }
    }

    /// The run described by `entries`: keys, and the text of each value. Flags have no value.
    ///
    /// # Errors
    /// [`Mistake`], in the words of the command line.
    pub(crate) fn resolve(
        &self,
        entries: &[(&str, Option<&str>)],
    ) -> Result<(RunArgs, Plan), Mistake> {
        let mut arguments = vec!["loadgen".to_owned(), "run".to_owned()];
        let mut targets = vec!["--".to_owned()];
        for &(key, value) in entries {
            match value {
                Some(value) if key == TARGET => targets.push(value.to_owned()),
                Some(value) => arguments.push(format!("--{key}={value}")),
                None => arguments.push(format!("--{key}")),
            }
        }
        arguments.append(&mut targets);
        let matches = self
            .command
            .clone()
            .try_get_matches_from(arguments)
            .map_err(|error| Mistake {
                key: key_of(&error),
                problem: one_line(&error),
            })?;
        let run = matches.subcommand_matches("run").unwrap_or(&matches);
        RunArgs::resolve(run).map_err(|problem| Mistake { key: None, problem })
    }
}

/// The key of the option that an error is about.
fn key_of(error: &clap::Error) -> Option<String> {
    let option = match error.get(ContextKind::InvalidArg)? {
        ContextValue::String(option) => option,
        ContextValue::Strings(options) => options.first()?,
        _ => return None,
    };
    match option.strip_prefix("--") {
        Some(option) => {
            let name = option.split([' ', '=']).next()?;
            Some(name.to_owned())
        }
        None => Some(TARGET.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_the_long_options_of_run() {
        let keys = Keys::new();
        for (key, kind) in [
            ("target", Some(Kind::List)),
            ("connections", Some(Kind::Value)),
            ("rate", Some(Kind::Value)),
            ("source", Some(Kind::List)),
            ("background-target", Some(Kind::List)),
            ("no-verify", Some(Kind::Flag)),
            ("quiet", Some(Kind::Flag)),
            ("targets", None),
            ("c", None),
            ("no_verify", None),
            ("help", None),
            ("", None),
        ] {
            assert_eq!(keys.kind(key), kind, "{key}");
        }
    }

    #[test]
    fn every_option_is_a_key() {
        let keys = Keys::new();
        let run = keys.command.find_subcommand("run").unwrap();
        let count = run
            .get_arguments()
            .filter_map(clap::Arg::get_long)
            .inspect(|&long| assert!(keys.kind(long).is_some(), "{long}"))
            .count();
        assert!(count > 20);
    }

    #[test]
    fn a_mistake_names_its_key() {
        let keys = Keys::new();
        for (entries, key) in [
            (&[("rate", Some("x"))][..], Some("rate")),
            (&[("connections", Some("0"))], Some("connections")),
            (&[("target", Some("localhost"))], Some("target")),
            (&[("tui", None), ("quiet", None)], Some("tui")),
            (&[("threads", Some("3")), ("connections", Some("2"))], None),
        ] {
            let mistake = keys.resolve(entries).unwrap_err();
            assert_eq!(mistake.key.as_deref(), key, "{}", mistake.problem);
        }
    }
}
