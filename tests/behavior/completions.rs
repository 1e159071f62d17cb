//! `echod --completions`: each shell reads its script and completes with it.

use std::fs;
use std::process::Command;

use crate::support::directory::Directory;
use crate::support::echod::PROGRAM;
use crate::support::shells::Shell;
use crate::support::tools::require;

#[test]
fn bash_completes_echod() {
    require!("script", "bash");
    completes(Shell::Bash);
}

#[test]
fn zsh_completes_echod() {
    require!("script", "zsh");
    completes(Shell::Zsh);
}

#[test]
fn fish_completes_echod() {
    require!("fish");
    completes(Shell::Fish);
}

#[track_caller]
fn completes(shell: Shell) {
    let directory = Directory::new();
    let script = directory.join(shell.name());
    let output = Command::new(PROGRAM)
        .args(["--completions", shell.name()])
        .output()
        .expect("echod runs");
    assert_eq!(output.status.code(), Some(0));
    fs::write(&script, output.stdout).expect("a file for the script");
    // A flag, then one with a value.
    let called = shell.complete("echod", &script, "--check-c\t--max-connections-\t5");
    let called = called.replace('=', " ");
    assert_eq!(called, "--check-config --max-connections-per-ip 5");
}
