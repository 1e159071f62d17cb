//! `loadgen completions`: each shell reads its script and completes commands, options and values with it.

use std::fs;

use crate::program::run;
use crate::support::Directory;
use crate::support::shells::Shell;
use crate::support::tools::require;

#[test]
fn bash_completes_loadgen() {
    require!("script", "bash");
    completes(Shell::Bash);
}

#[test]
fn zsh_completes_loadgen() {
    require!("script", "zsh");
    completes(Shell::Zsh);
}

#[test]
fn fish_completes_loadgen() {
    require!("fish");
    completes(Shell::Fish);
}

#[track_caller]
fn completes(shell: Shell) {
    let directory = Directory::new(&format!("completions-{}", shell.name()));
    let script = directory.path(shell.name());
    let output = run(&["completions", shell.name()]);
    assert_eq!(output.status.code(), Some(0));
    fs::write(&script, output.stdout).unwrap();
    for (typed, wanted) in [
        ("sea\t--prec\t5%", "search --precision 5%"),
        ("run --arri\tpoi\t", "run --arrivals poisson"),
    ] {
        // Some write a value behind an equals sign.
        let called = shell.complete("loadgen", &script, typed).replace('=', " ");
        assert_eq!(called.trim_end(), wanted, "{shell:?}");
    }
}
