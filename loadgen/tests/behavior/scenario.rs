//! Scenarios: several runs from a file, their results, and the worst of their exit codes.

use std::fs;
use std::path::Path;
use std::process::Output;

use rustix::process::Signal;
use serde_json::Value;

use crate::program::{assert_one_line, kill, loadgen};
use crate::schema;
use crate::support::{Directory, PlainServer, wait_until};

/// Short runs against the embedded server, at a rate that it achieves with ease.
const DEFAULTS: &str = "
[defaults]
duration = '200ms'
warmup = '0'
connections = 2
rate = 500
allow-invalid = true
";

fn scenario(directory: &Directory, text: &str, arguments: &[&str]) -> Output {
    let file = directory.path("scenario.toml");
    fs::write(&file, text).unwrap();
    loadgen(&["scenario", "-o"])
        .arg(directory.path("results"))
        .args(arguments)
        .arg(file)
        .output()
        .unwrap()
}

#[track_caller]
fn assert_code(output: &Output, code: i32) -> String {
    let stderr = String::from_utf8_lossy(&output.stderr);
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(code), "{stderr}{stdout}");
    stdout
}

fn result(path: &Path) -> Value {
    let json = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    schema::check_json(&json);
    json
}

#[test]
fn each_run_has_its_result_its_table_and_its_line() {
    let directory = Directory::new("scenario");
    let csv = directory.path("few.csv");
    let text = format!(
        "{DEFAULTS}\n[[run]]\nname = 'many'\nconnections = 7\n\
         [[run]]\nname = 'few'\nno-verify = true\ncsv = '{}'\n",
        csv.display()
    );
    let output = scenario(&directory, &text, &[]);
    let stdout = assert_code(&output, 0);
    for name in ["many", "few"] {
        assert_eq!(
            stdout.lines().filter(|line| line.starts_with(name)).count(),
            1
        );
    }
    assert_eq!(stdout.matches("verdict   ").count(), 2, "{stdout}");
    assert!(stdout.find("run       many (1 of 2)") < stdout.find("run       few (2 of 2)"));
    assert!(output.stderr.is_empty());
    let many = result(&directory.path("results/many.json"));
    assert_eq!(many["plan"]["connections"], 7);
    assert_eq!(many["messages"]["verified"], 100);
    let few = result(&directory.path("results/few.json"));
    assert_eq!(few["plan"]["connections"], 2);
    assert_eq!(few["plan"]["verify"], false);
    assert!(csv.exists());
}

#[test]
fn only_the_runs_that_are_named_are_made() {
    let directory = Directory::new("only");
    let text =
        format!("{DEFAULTS}\n[[run]]\nname = 'a'\n[[run]]\nname = 'b'\n[[run]]\nname = 'c'\n");
    let output = scenario(&directory, &text, &["--only", "c", "--only", "a"]);
    assert_code(&output, 0);
    let results = directory.path("results");
    assert!(results.join("a.json").exists() && results.join("c.json").exists());
    assert!(!results.join("b.json").exists());
    let output = scenario(&directory, &text, &["--only", "d"]);
    assert_one_line(&output, 2, &["scenario.toml", "`d`", "--only"]);
}

#[test]
fn a_mistake_anywhere_is_known_before_the_first_run() {
    let directory = Directory::new("mistake");
    let text = format!("{DEFAULTS}\n[[run]]\nname = 'a'\n[[run]]\nname = 'b'\nsize = '65MiB'\n");
    for arguments in [&[][..], &["--check"], &["--only", "a"]] {
        let output = scenario(&directory, &text, arguments);
        assert_one_line(
            &output,
            2,
            &["scenario.toml:13:", "run `b`", "`size`", "at most 64MiB"],
        );
    }
    assert!(!directory.path("results").exists());
    let missing = loadgen(&["scenario", "/nonexistent.toml"])
        .output()
        .unwrap();
    assert_one_line(&missing, 2, &["/nonexistent.toml"]);
    assert_one_line(
        &loadgen(&["scenario"]).output().unwrap(),
        2,
        &["FILE", "scenario --help"],
    );
}

#[test]
fn check_makes_no_run() {
    let directory = Directory::new("check");
    let text = format!("{DEFAULTS}\n[[run]]\nname = 'a'\n[[run]]\nname = 'b'\n");
    let stdout = assert_code(&scenario(&directory, &text, &["--check"]), 0);
    assert!(stdout.contains("2 runs"), "{stdout}");
    assert!(!directory.path("results").exists());
}

#[test]
fn the_exit_code_is_that_of_the_worst_run_and_all_are_made() {
    let silent = PlainServer::start(|_, _| true);
    let closes = PlainServer::start_if(|_| false, |_, _| true);
    let invalid = format!(
        "[[run]]\nname = 'invalid'\nallow-invalid = false\ntimeout = '100ms'\ntarget = '{}'\n",
        silent.endpoint()
    );
    let failed = format!(
        "[[run]]\nname = 'failed'\ntarget = '{}'\n",
        closes.endpoint()
    );
    let good = "[[run]]\nname = 'good'\n";
    let directory = Directory::new("worst");
    let text = format!("{DEFAULTS}{invalid}{good}");
    let stdout = assert_code(&scenario(&directory, &text, &[]), 97);
    assert!(
        stdout
            .lines()
            .any(|line| line.starts_with("invalid ") && line.ends_with(" invalid"))
    );
    let text = format!("{DEFAULTS}{failed}{invalid}{good}");
    let output = scenario(&directory, &text, &[]);
    let stdout = assert_code(&output, 1);
    assert!(
        stdout
            .lines()
            .any(|line| line.starts_with("failed ") && line.ends_with(" failed"))
    );
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        stderr.contains("loadgen: failed: ") && stderr.contains("closes them"),
        "{stderr}"
    );
    let results = directory.path("results");
    assert!(!results.join("failed.json").exists());
    assert_eq!(
        result(&results.join("invalid.json"))["verdict"]["status"],
        "invalid"
    );
    assert_eq!(
        result(&results.join("good.json"))["messages"]["received"],
        100
    );
}

#[test]
fn an_interrupt_ends_the_run_and_those_to_come() {
    let target = PlainServer::echo();
    let directory = Directory::new("scenario-interrupt");
    let file = directory.path("scenario.toml");
    let text = format!(
        "[defaults]\ntarget = '{}'\nwarmup = '0'\nduration = '1h'\n\
         [[run]]\nname = 'a'\n[[run]]\nname = 'b'\n",
        target.endpoint()
    );
    fs::write(&file, text).unwrap();
    let child = loadgen(&["scenario", "-o"])
        .arg(directory.path("results"))
        .arg(file)
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    wait_until("messages flow", || target.bytes() > 64_000);
    kill(&child, Signal::INT);
    let stdout = assert_code(&child.wait_with_output().unwrap(), 130);
    assert!(
        stdout
            .lines()
            .any(|line| line.starts_with("a ") && line.contains("interrupted"))
    );
    assert!(
        stdout
            .lines()
            .any(|line| line.starts_with("b ") && line.ends_with("not made"))
    );
    assert_eq!(
        result(&directory.path("results/a.json"))["interrupted"],
        true
    );
    assert!(!directory.path("results/b.json").exists());
}
