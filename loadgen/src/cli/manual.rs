//! The pages of the manual and the shell completions, made from the same definitions as `--help`.

use std::io;

use clap::{Args, Command};
use clap_complete::Shell;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

use crate::exit::{DONE, FAILED, INTERRUPTED, INVALID, OBJECTIVE_NOT_MET, REGRESSION, USAGE};

#[derive(Args, Debug)]
pub(crate) struct ManArgs {
    /// The page of this subcommand, such as run; none: the page of loadgen
    #[arg(value_name = "COMMAND")]
    subcommand: Option<String>,
}

#[derive(Args, Debug)]
pub(crate) struct CompletionsArgs {
    /// The shell that reads the script
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

impl ManArgs {
    /// The page as roff, the language of man(1).
    ///
    /// # Errors
    /// One line for the user: there is no such subcommand.
    pub(crate) fn page(&self) -> Result<String, String> {
        let mut command = super::command().disable_help_subcommand(true);
        // Gives the subcommands their names on the command line.
        command.build();
        let Some(name) = self.subcommand.as_deref() else {
            return Ok(render(command));
        };
        match command.find_subcommand(name) {
            Some(subcommand) => Ok(render(subcommand.clone())),
            None => Err(format!("there is no command {name}; see loadgen --help")),
        }
    }
}

impl CompletionsArgs {
    /// The script for the shell.
    pub(crate) fn script(&self) -> String {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut super::command(), "loadgen", &mut script);
        String::from_utf8_lossy(&script).into_owned()
    }
}

fn render(command: Command) -> String {
    let mut page = Vec::new();
    // Writing to memory does not fail.
    let _ = write(command, &mut page);
    String::from_utf8_lossy(&page).into_owned()
}

fn write(mut command: Command, page: &mut Vec<u8>) -> io::Result<()> {
    let has_subcommands = command.has_subcommands();
    // The short usage of `--help`, in place of a list of all options.
    let usage = command.render_usage().to_string();
    let usage = usage.trim_start_matches("Usage: ").to_owned();
    let man = Man::new(command.override_usage(usage))
        .section("1")
        .manual("Echomark");
    man.render_title(page)?;
    man.render_name_section(page)?;
    man.render_synopsis_section(page)?;
    man.render_description_section(page)?;
    man.render_options_section(page)?;
    if has_subcommands {
        man.render_subcommands_section(page)?;
    }
    let mut roff = Roff::new();
    roff.control("SH", ["EXIT STATUS"]);
    for (code, meaning) in EXIT_CODES {
        roff.control("TP", []);
        roff.text([bold(code.to_string())]);
        roff.text([roman(*meaning)]);
    }
    roff.control("SH", ["SEE ALSO"]);
    let others = if has_subcommands { "" } else { "loadgen(1), " };
    roff.text([roman(others), roman("echod(8)")]);
    roff.to_writer(page)
}

const EXIT_CODES: &[(u8, &str)] = &[
    (DONE, "Done."),
    (
        FAILED,
        "A failure at run time, such as a target that accepts no connection.",
    ),
    (
        USAGE,
        "A mistake on the command line, or in a file that it names.",
    ),
    (
        INVALID,
        "The result is invalid, and --allow-invalid was not given.",
    ),
    (REGRESSION, "A comparison found a regression."),
    (
        OBJECTIVE_NOT_MET,
        "A search found that the objective is not met, or a watch an outage that is too long.",
    ),
    (
        INTERRUPTED,
        "Ended early by a signal; the result of the time before was written.",
    ),
];

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::*;

    #[test]
    fn every_command_has_a_page_with_its_options() {
        let command = crate::cli::command();
        for subcommand in command.get_subcommands() {
            let args = ManArgs {
                subcommand: Some(subcommand.get_name().to_owned()),
            };
            let page = args.page().unwrap();
            for argument in subcommand.get_arguments().filter(|a| !a.is_hide_set()) {
                let Some(name) = argument.get_long() else {
                    continue;
                };
                let name = name.replace('-', "\\-");
                assert!(page.contains(&name), "{}: {name}", subcommand.get_name());
            }
        }
        let unknown = ManArgs {
            subcommand: Some("frobnicate".to_owned()),
        };
        assert!(unknown.page().unwrap_err().contains("frobnicate"));
    }

    #[test]
    fn every_shell_has_completions_for_every_command() {
        for shell in Shell::value_variants() {
            let script = CompletionsArgs { shell: *shell }.script();
            for subcommand in crate::cli::command().get_subcommands() {
                assert!(script.contains(subcommand.get_name()), "{shell}");
            }
        }
    }
}
