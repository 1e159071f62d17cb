//! The command line of `echod`, and its settings from flags, environment and file. Only this part
//! knows clap; its output is typed [`Settings`].

use std::env;
use std::ffi::OsString;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::builder::NonEmptyStringValueParser;
use clap::error::ErrorKind;
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use clap_complete::Shell;
use echomark::internal::{FILE_VARIABLE, KEYS, Key, Kind, PREFIX, Resolved, Settings};

mod manual;

use crate::healthcheck::{self, Probe};
use manual::Page;

/// A larger file is not a configuration.
const MAX_FILE_LEN: u64 = 1 << 20;

/// The parsed command line, the values still as text.
#[derive(Debug)]
pub(crate) struct Cli {
    flags: Vec<(&'static str, String)>,
    file: Option<PathBuf>,
    pub(crate) task: Task,
}

/// What to do with the settings.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Task {
    Serve,
    CheckConfig,
    PrintConfig,
    /// Asks a server with these settings how it is.
    CheckHealth(Probe),
}

/// What the command line asks for.
#[derive(Debug)]
pub(crate) enum Request {
    /// A server, or a look at its settings.
    Settings(Cli),
    /// A page of the manual or the completions of a shell, for stdout.
    Document(String),
}

/// Parses the command line.
///
/// # Errors
/// A mistake on the command line, or a request for help; both are for [`refuse`].
pub(crate) fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Request, clap::Error> {
    let matches = command().try_get_matches_from(args)?;
    if let Some(page) = matches.get_one::<Page>("man") {
        return Ok(Request::Document(page.to_roff(command())));
    }
    if let Some(shell) = matches.get_one::<Shell>("completions") {
        let script = manual::completions(*shell, command());
        return Ok(Request::Document(script));
    }
    Ok(Request::Settings(Cli::from(matches)))
}

impl Cli {
    /// The settings by flags, environment and file.
    ///
    /// # Errors
    /// [`Mistake`] names the origin of the first mistake.
    pub(crate) fn resolve(&self) -> Result<Resolved, Mistake> {
        let resolved = self.resolve_with(read)?;
        if self.task == Task::CheckConfig {
            let known = resolved.refuse_misspelt_variables();
            known.map_err(|error| Mistake {
                problem: error.to_string(),
                way_out: "",
            })?;
        }
        Ok(resolved)
    }

    /// The current settings, for a reload. The file must be a regular one: a pipe would block the
    /// reader, or read as empty.
    ///
    /// # Errors
    /// As [`Cli::resolve`].
    pub(crate) fn resolve_again(&self) -> Result<Resolved, Mistake> {
        self.resolve_with(read_again)
    }

    fn resolve_with(
        &self,
        read: fn(&Path) -> Result<String, Mistake>,
    ) -> Result<Resolved, Mistake> {
        let file = self.file.clone().or_else(|| {
            let path = env::var_os(FILE_VARIABLE).filter(|path| !path.is_empty())?;
            Some(PathBuf::from(path))
        });
        let text = file.as_deref().map(read).transpose()?;
        let environment = environment()?;
        Settings::resolve(
            &self.flags,
            environment,
            file.as_deref().zip(text.as_deref()),
        )
        .map_err(|error| Mistake {
            way_out: if error.is_in_flags() { HELP } else { "" },
            problem: error.to_string(),
        })
    }
}

/// The variables with our prefix.
fn environment() -> Result<Vec<(String, String)>, Mistake> {
    let mut ours = Vec::new();
    for (name, value) in env::vars_os() {
        let Some(name) = name.to_str().filter(|name| name.starts_with(PREFIX)) else {
            continue;
        };
        match value.into_string() {
            Ok(value) => ours.push((name.to_owned(), value)),
            // Of an unknown variable only the name is used.
            Err(_) if KEYS.iter().all(|key| key.variable() != name) => {
                ours.push((name.to_owned(), String::new()));
            }
            Err(value) => {
                return Err(Mistake {
                    problem: format!("{name}: {value:?} is not UTF-8"),
                    way_out: "",
                });
            }
        }
    }
    Ok(ours)
}

/// A mistake in the configuration, as one line.
#[derive(Debug)]
pub(crate) struct Mistake {
    problem: String,
    way_out: &'static str,
}

const HELP: &str = "; see echod --help";

impl From<String> for Mistake {
    fn from(problem: String) -> Self {
        Self {
            problem,
            way_out: "",
        }
    }
}

impl From<clap::Error> for Mistake {
    fn from(error: clap::Error) -> Self {
        let text = error.render().to_string();
        let problem: Vec<_> = text
            .lines()
            .map(|line| line.trim().trim_start_matches("error: "))
            .take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more"))
            .filter(|line| !line.is_empty())
            .collect();
        Self {
            problem: problem.join("; "),
            way_out: HELP,
        }
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A path may hold line ends.
        write!(f, "{}{}", self.problem.replace('\n', "\\n"), self.way_out)
    }
}

/// Help and version go to stdout; a mistake becomes one line on stderr and exit code 2.
pub(crate) fn refuse(error: clap::Error) -> ExitCode {
    if matches!(
        error.kind(),
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion
    ) {
        return show(&error.to_string());
    }
    refuse_mistake(&error.into())
}

/// Prints a text and ends the program.
pub(crate) fn show(text: &str) -> ExitCode {
    match print(text) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => fail(problem),
    }
}

/// Asks the admin port of these settings; the answer goes to stdout, what is wrong to stderr.
pub(crate) fn check_health(settings: &Settings, probe: Probe) -> ExitCode {
    let Some(admin) = &settings.admin else {
        return refuse_mistake(&Mistake {
            problem: "--healthcheck asks the admin port, and --admin is not set".to_owned(),
            way_out: HELP,
        });
    };
    match healthcheck::ask(admin, probe) {
        Ok(answer) => show(&format!("{answer}\n")),
        Err(problem) => fail(problem),
    }
}

/// One line on stderr and exit code 2.
pub(crate) fn refuse_mistake(mistake: &Mistake) -> ExitCode {
    say(mistake);
    ExitCode::from(2)
}

/// Prints `text` to stdout.
///
/// # Errors
/// The reason, in a few words.
pub(crate) fn print(text: &str) -> Result<(), String> {
    let mut stdout = io::stdout().lock();
    let printed = stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush());
    match printed {
        // A reader that closed the pipe wants no more output.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(format!("cannot write to stdout: {error}"))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// One line on stderr and exit code 1, before there is a log.
pub(crate) fn fail(problem: impl fmt::Display) -> ExitCode {
    say(problem);
    ExitCode::FAILURE
}

fn say(problem: impl fmt::Display) {
    // A closed stderr can't be reported anywhere.
    let _ = writeln!(io::stderr(), "echod: {problem}");
}

fn command() -> Command {
    Command::new("echod")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Echo, discard, chargen and whoami services with one epoll event loop per core")
        .after_help(
            "Every setting may also stand in the environment (ECHOD_IDLE_TIMEOUT for \
             --idle-timeout, lists separated by commas) or, under the name of the flag, in a TOML \
             file. Flags override the environment, and the environment the file. A list of a \
             stronger source replaces the whole list of a weaker one.",
        )
        .max_term_width(100)
        .arg(
            Arg::new("config")
                .long("config")
                .value_name("FILE")
                .help("Read settings from this TOML file as well [environment: ECHOD_CONFIG]")
                .value_parser(value_parser!(PathBuf)),
        )
        .arg(
            Arg::new("check-config")
                .long("check-config")
                .help("Check all settings and exit: 0 if they are valid, 2 if not")
                .action(ArgAction::SetTrue),
        )
        .arg(
            Arg::new("print-config")
                .long("print-config")
                .help("Print all settings as a TOML file, with the origin of each, and exit")
                .action(ArgAction::SetTrue)
                .conflicts_with("check-config"),
        )
        .arg(
            Arg::new("healthcheck")
                .long("healthcheck")
                .value_name("PROBE")
                .help(
                    "Ask the admin port of an echod that runs with these settings and exit: 0 if it is \
                     healthy, 1 if not; livez (the default) or readyz",
                )
                .hide_possible_values(true)
                .num_args(0..=1)
                .require_equals(true)
                .default_missing_value("livez")
                .value_parser(value_parser!(Probe))
                .conflicts_with_all(["check-config", "print-config"]),
        )
        .arg(
            Arg::new("man")
                .long("man")
                .value_name("PAGE")
                .help(
                    "Print a page of the manual, in roff for man(1), and exit: echod (the default) \
                     or echod.toml",
                )
                .hide_possible_values(true)
                .num_args(0..=1)
                .require_equals(true)
                .default_missing_value("echod")
                .value_parser(value_parser!(Page))
                .conflicts_with_all(["check-config", "print-config", "healthcheck"]),
        )
        .arg(
            Arg::new("completions")
                .long("completions")
                .value_name("SHELL")
                .help("Print completions for this shell and exit")
                .value_parser(value_parser!(Shell))
                .conflicts_with_all(["check-config", "print-config", "healthcheck", "man"]),
        )
        .args(KEYS.iter().map(argument))
}

fn argument(key: &'static Key) -> Arg {
    let arg = Arg::new(key.name)
        .long(key.name)
        .value_name(key.value)
        .help(format!(
            "{} [default: {}]",
            key.help.trim_end_matches('.'),
            key.default
        ))
        .help_heading(key.group.heading());
    match key.kind {
        Kind::Value => arg.value_parser(NonEmptyStringValueParser::new()),
        Kind::List => arg
            .value_parser(NonEmptyStringValueParser::new())
            .action(ArgAction::Append),
        Kind::Flag => arg
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true"),
    }
}

impl From<ArgMatches> for Cli {
    fn from(matches: ArgMatches) -> Self {
        let flags = KEYS.iter().flat_map(|key| {
            let values = matches.get_many::<String>(key.name);
            let values = values.into_iter().flatten();
            values.map(|value| (key.name, value.clone()))
        });
        Self {
            flags: flags.collect(),
            file: matches.get_one("config").cloned(),
            task: match matches.get_one("healthcheck") {
                Some(&probe) => Task::CheckHealth(probe),
                None if matches.get_flag("check-config") => Task::CheckConfig,
                None if matches.get_flag("print-config") => Task::PrintConfig,
                None => Task::Serve,
            },
        }
    }
}

fn read_again(path: &Path) -> Result<String, Mistake> {
    match fs::metadata(path) {
        Ok(found) if !found.is_file() => Err(unreadable(path, "it is not a regular file")),
        // Reading reports the error.
        Ok(_) | Err(_) => read(path),
    }
}

fn unreadable(path: &Path, problem: impl fmt::Display) -> Mistake {
    Mistake {
        problem: format!("cannot read {}: {problem}", path.display()),
        way_out: "",
    }
}

fn read(path: &Path) -> Result<String, Mistake> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_FILE_LEN + 1).read_to_end(&mut bytes))
        .map_err(|error| unreadable(path, error))?;
    if bytes.len() as u64 > MAX_FILE_LEN {
        return Err(unreadable(path, "it is larger than 1MiB"));
    }
    String::from_utf8(bytes).map_err(|error| {
        let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = 1 + valid.iter().filter(|byte| **byte == b'\n').count();
        Mistake {
            problem: format!("{}:{line}: this is not UTF-8", path.display()),
            way_out: "",
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_is_sound() {
        command().debug_assert();
    }

    #[test]
    fn flags_keep_their_text() {
        let cli = parse(&[
            "--echo=tcp://[::1]:0",
            "--echo",
            "tcp://127.0.0.1:0",
            "--pin",
            "--no-nodelay=false",
        ]);
        let flags = [
            ("echo", "tcp://[::1]:0"),
            ("echo", "tcp://127.0.0.1:0"),
            ("pin", "true"),
            ("no-nodelay", "false"),
        ];
        assert_eq!(
            cli.flags,
            flags.map(|(name, value)| (name, value.to_owned()))
        );
        assert_eq!(cli.task, Task::Serve);
        assert_eq!(cli.file, None);
    }

    #[test]
    fn tasks_exclude_each_other() {
        assert_eq!(parse(&["--check-config"]).task, Task::CheckConfig);
        assert_eq!(parse(&["--print-config"]).task, Task::PrintConfig);
        let live = Task::CheckHealth(Probe::Live);
        assert_eq!(parse(&["--healthcheck"]).task, live);
        let ready = Task::CheckHealth(Probe::Ready);
        assert_eq!(parse(&["--healthcheck=readyz"]).task, ready);
        for pair in [
            ["--check-config", "--print-config"],
            ["--check-config", "--healthcheck"],
            ["--man", "--print-config"],
            ["--man", "--completions=zsh"],
        ] {
            assert!(super::parse(args(&pair)).is_err(), "{pair:?}");
        }
    }

    #[test]
    fn help_has_every_key_under_its_heading() {
        let help = command().render_help().to_string();
        for key in KEYS {
            assert!(help.contains(&format!("--{}", key.name)), "{}", key.name);
            assert!(help.contains(&format!("{}:", key.group.heading())));
        }
    }

    #[track_caller]
    fn parse(flags: &[&str]) -> Cli {
        match super::parse(args(flags)).expect("a valid command line") {
            Request::Settings(cli) => cli,
            Request::Document(_) => panic!("settings were asked for"),
        }
    }

    fn args(flags: &[&str]) -> impl Iterator<Item = OsString> {
        ["echod"].iter().chain(flags).map(OsString::from)
    }
}
