//! The manual pages and the shell completions, made from the same definitions as `--help`.

use std::io;

use clap::{Command, ValueEnum};
use clap_complete::Shell;
use clap_mangen::Man;
use clap_mangen::roff::{Inline, Roff, bold, italic, roman};
use echomark::internal::{Change, KEYS, Key, Kind};

/// A page of the manual.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum Page {
    /// echod(8), the program.
    #[value(name = "echod")]
    Program,
    /// echod.toml(5), its configuration file.
    #[value(name = "echod.toml")]
    File,
}

impl Page {
    /// The page as roff, the language of man(1).
    pub(crate) fn to_roff(self, command: Command) -> String {
        let rendered = match self {
            Self::Program => program(command),
            Self::File => Ok(file()),
        };
        // Writing to memory does not fail.
        rendered.unwrap_or_default()
    }
}

/// The completions of a shell, as a script for it.
pub(crate) fn completions(shell: Shell, mut command: Command) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, "echod", &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

fn program(command: Command) -> io::Result<String> {
    let man = Man::new(command).section("8").manual("Echomark");
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    let mut roff = Roff::new();
    section(&mut roff, "SYNOPSIS");
    roff.text([
        bold("echod"),
        roman(" ["),
        bold("--echo"),
        roman("|"),
        bold("--discard"),
        roman("|"),
        bold("--chargen"),
        roman("|"),
        bold("--whoami"),
        roman(" "),
        italic("ENDPOINT"),
        roman("]... ["),
        italic("OPTION"),
        roman("]..."),
    ]);
    section(&mut roff, "DESCRIPTION");
    roff.text(plain(
        "echod serves echo (RFC 862), discard (RFC 863) and chargen (RFC 864) over TCP, UDP and Unix sockets, and whoami, which says who answers, \
         with one epoll event loop per core.",
    ));
    roff.control("PP", []);
    roff.text(plain(
        "It prints one line for each endpoint on stdout, with the address as it was bound, and then the line \
         ready. Nothing else goes to stdout. The log goes to stderr.",
    ));
    roff.control("PP", []);
    roff.text(plain(
        "Flags override the environment, the environment overrides the file, and the file overrides the \
         defaults. A list of a stronger source replaces the whole list of a weaker one.",
    ));
    roff.to_writer(&mut page)?;
    man.render_options_section(&mut page)?;
    let mut roff = Roff::new();
    section(&mut roff, "SIGNALS");
    for (signal, effect) in SIGNALS {
        entry(&mut roff, [bold(*signal)], effect);
    }
    section(&mut roff, "ENVIRONMENT");
    entry(
        &mut roff,
        [bold("ECHOD_"), italic("NAME")],
        "The setting of this name: ECHOD_IDLE_TIMEOUT for --idle-timeout. Lists are separated by commas.",
    );
    entry(
        &mut roff,
        [bold("ECHOD_CONFIG")],
        "The configuration file, as --config.",
    );
    section(&mut roff, "EXIT STATUS");
    for (code, meaning) in EXIT_CODES {
        entry(&mut roff, [bold(*code)], meaning);
    }
    section(&mut roff, "EXAMPLES");
    for (purpose, example) in EXAMPLES {
        entry(&mut roff, [roman(*purpose)], example);
    }
    section(&mut roff, "SEE ALSO");
    roff.text([
        bold("echod.toml"),
        roman("(5), "),
        bold("loadgen"),
        roman("(1)"),
    ]);
    roff.to_writer(&mut page)?;
    Ok(String::from_utf8_lossy(&page).into_owned())
}

const SIGNALS: &[(&str, &str)] = &[
    (
        "SIGTERM, SIGINT",
        "Drain: accept no more connections, let the open ones finish until --drain-timeout, and exit. A second \
         signal stops at once.",
    ),
    (
        "SIGHUP",
        "Read the limits and the access lists again. A file with a mistake is refused whole, and the old \
         settings stay.",
    ),
];

const EXIT_CODES: &[(&str, &str)] = &[
    ("0", "A graceful stop."),
    (
        "1",
        "A failure at run time, such as an address that is in use.",
    ),
    (
        "2",
        "A mistake on the command line or in the configuration.",
    ),
];

const EXAMPLES: &[(&str, &str)] = &[
    (
        "An echo service on two addresses:",
        "echod --echo tcp://0.0.0.0:7777 --echo 'tcp://[::1]:7777'",
    ),
    (
        "All three services, with metrics:",
        "echod --echo udp://0.0.0.0:7 --discard tcp://0.0.0.0:9 --chargen tcp://0.0.0.0:19 --admin 127.0.0.1:9777",
    ),
    (
        "A check of a configuration file:",
        "echod --config /etc/echod.toml --check-config",
    ),
];

fn file() -> String {
    let mut roff = Roff::new();
    roff.control(
        "TH",
        [
            "echod.toml",
            "5",
            "",
            concat!("echod ", env!("CARGO_PKG_VERSION")),
            "Echomark",
        ],
    );
    section(&mut roff, "NAME");
    roff.text(plain("echod.toml - configuration of echod"));
    section(&mut roff, "DESCRIPTION");
    roff.text(plain(
        "A TOML file that echod reads when it is given with --config. Every key is optional, and has the name and \
         the meaning of the flag. A flag, or a variable of the environment, overrides the file.",
    ));
    let mut groups = Vec::new();
    for key in KEYS {
        if !groups.contains(&key.group) {
            groups.push(key.group);
        }
    }
    for group in groups {
        section(&mut roff, &group.heading().to_uppercase());
        for key in KEYS.iter().filter(|key| key.group == group) {
            let value = match key.kind {
                Kind::Value => key.value.to_owned(),
                Kind::List => format!("[{}, ...]", key.value),
                Kind::Flag => "true|false".to_owned(),
            };
            entry(
                &mut roff,
                [bold(key.name), roman(" = "), italic(value)],
                &described(key),
            );
        }
    }
    section(&mut roff, "SEE ALSO");
    roff.text([bold("echod"), roman("(8)")]);
    roff.to_roff()
}

fn described(key: &Key) -> String {
    let change = match key.change {
        Change::Reload => "SIGHUP applies a new value.",
        Change::Restart => "A new value needs a restart.",
    };
    format!("{} Default: {}. {change}", key.help, key.default)
}

fn section(roff: &mut Roff, title: &str) {
    roff.control("SH", [title]);
}

fn entry<const N: usize>(roff: &mut Roff, header: [Inline; N], body: &str) {
    roff.control("TP", []);
    roff.text(header);
    roff.text(plain(body));
}

fn plain(text: &str) -> [Inline; 1] {
    [roman(text)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_pages_have_every_setting() {
        let program = Page::Program.to_roff(super::super::command());
        let file = Page::File.to_roff(super::super::command());
        for key in KEYS {
            // roff writes a minus as `\-`.
            let name = key.name.replace('-', "\\-");
            assert!(program.contains(&format!("\\-\\-{name}")), "{}", key.name);
            assert!(file.contains(&format!("{name}\\fR = ")), "{}", key.name);
        }
    }

    #[test]
    fn every_shell_has_completions_for_every_setting() {
        for shell in Shell::value_variants() {
            let script = completions(*shell, super::super::command());
            for key in KEYS {
                assert!(script.contains(key.name), "{shell}: {}", key.name);
            }
        }
    }
}
