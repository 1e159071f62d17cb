//! The sources of settings: flags, then environment, then file, then defaults. Mistakes are
//! reported before anything is bound.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{self, Command};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::support::echod::{Echod, Exit, OF_ROOT, PROGRAM, Signal};

#[test]
fn a_file_sets_the_endpoints() {
    let file = ConfigFile::new("echo = 'tcp://127.0.0.1:0'\nworkers = 1\nlog-level = 'warn'\n");
    let echod = Echod::start_command(program().arg("--config").arg(&file.path));
    echod.connect().echo(b"as the file says");
    echod.signal(Signal::TERM);
    let exit = echod.wait_for_exit();
    assert_eq!(exit.code, Some(0));
    let is_of_root = |line: &String| line.contains(OF_ROOT);
    assert!(
        exit.stderr.iter().all(is_of_root),
        "only warnings: {exit:#?}"
    );
}

#[test]
fn the_environment_sets_the_endpoints_and_the_file() {
    let file = ConfigFile::new("max-connections = 1\n");
    let mut command = program();
    command
        .env("ECHOD_CONFIG", &file.path)
        .env("ECHOD_ECHO", "tcp://127.0.0.1:0,tcp://127.0.0.1:0")
        .env("ECHOD_WORKERS", "1");
    let echod = Echod::start_command(&mut command);
    let mut served = echod.connect();
    served.echo(b"the only one");
    echod.connect().expect_end();
    served.echo(b"not disturbed");
    drop(served);
    echod.signal(Signal::TERM);
    let stdout = echod.wait_for_exit().stdout;
    assert_eq!(stdout.len(), 3, "two endpoints, then ready: {stdout:#?}");
}

#[test]
fn flags_override_the_environment_which_overrides_the_file() {
    let file = ConfigFile::new("backlog = 3\nlifetime = '3h'\nidle-timeout = '3m'\n");
    let mut command = program();
    command
        .args(["--print-config", "--backlog=1"])
        .arg("--config")
        .arg(&file.path)
        .env("ECHOD_BACKLOG", "2")
        .env("ECHOD_LIFETIME", "2h")
        .env("ECHOD_CONFIG", "/no/such/file/is/read");
    let exit = Echod::run_to_end(&mut command);
    assert_eq!(exit.code, Some(0), "{exit:#?}");
    for line in [
        "backlog = 1 # --backlog".to_owned(),
        "lifetime = \"2h\" # ECHOD_LIFETIME".to_owned(),
        format!("idle-timeout = \"3m\" # {}:3", file.path.display()),
        "drain-timeout = \"10s\" # default".to_owned(),
    ] {
        assert!(exit.stdout.contains(&line), "no `{line}` in {exit:#?}");
    }
}

#[test]
fn a_valid_configuration_is_called_so_without_binding_or_resolving() {
    // RFC 6761 reserves .invalid: no resolver may answer it.
    let file = ConfigFile::new("echo = 'tcp://no-such-host.invalid:7'\n");
    let exit = check(&file.path);
    assert_eq!(exit.code, Some(0), "{exit:#?}");
    assert_eq!(exit.stdout, ["the configuration is valid"]);
    assert!(exit.stderr.is_empty(), "{exit:#?}");
}

#[test]
fn a_mistake_in_the_file_is_named_with_its_line() {
    for (text, said) in [
        (
            "# A comment.\nmax-conections = 3\n",
            ":2: unknown key `max-conections`; did you mean `max-connections`?",
        ),
        ("\n\nidle-timeout = '10'\n", ":3: idle-timeout: `10` is not"),
        ("pin = true\npin = true\n", ":2: not valid TOML: duplicate"),
        ("pin = \n", ":1: not valid TOML: "),
        ("[limits]\n", ":1: `limits` is a table"),
    ] {
        let file = ConfigFile::new(text);
        let said = format!("echod: {}{said}", file.path.display());
        // The error is the same for a check and for a start.
        let serve = Echod::run_to_end(program().arg("--config").arg(&file.path));
        for exit in [check(&file.path), serve] {
            assert_eq!(exit.code, Some(2), "{exit:#?}");
            assert!(exit.stdout.is_empty(), "{exit:#?}");
            assert_eq!(exit.stderr.len(), 1, "one line: {exit:#?}");
            assert!(exit.stderr[0].starts_with(&said), "{said}: {exit:#?}");
        }
    }
}

#[test]
fn a_file_that_is_no_configuration_is_named() {
    let latin1 = ConfigFile::new(b"# fine\n# caf\xe9\n");
    let huge = ConfigFile::new("#\n".repeat(1 << 20));
    for (path, said) in [
        (latin1.path.as_path(), ":2: "),
        (&huge.path, "larger"),
        (Path::new("/"), "cannot read /: "),
    ] {
        let exit = check(path);
        assert_eq!(exit.code, Some(2), "{exit:#?}");
        assert_eq!(exit.stderr.len(), 1, "one line: {exit:#?}");
        assert!(exit.stderr[0].contains(said), "{exit:#?}");
    }
}

#[test]
fn a_mistake_in_the_environment_names_the_variable() {
    let exit = Echod::run_to_end(program().env("ECHOD_WORKERS", "many"));
    assert_eq!(exit.code, Some(2), "{exit:#?}");
    assert_eq!(exit.stderr.len(), 1, "one line: {exit:#?}");
    assert!(
        exit.stderr[0].starts_with("echod: ECHOD_WORKERS: "),
        "{exit:#?}"
    );
}

#[test]
fn a_misspelt_variable_is_an_error_of_the_check() {
    let mut command = program();
    command.env("ECHOD_MAX_CONECTIONS", "10");
    let exit = Echod::run_to_end(command.arg("--check-config"));
    assert_eq!(exit.code, Some(2), "{exit:#?}");
    assert!(exit.stdout.is_empty(), "{exit:#?}");
    assert_eq!(
        exit.stderr,
        ["echod: ECHOD_MAX_CONECTIONS: sets nothing; did you mean ECHOD_MAX_CONNECTIONS?"]
    );
}

/// Kubernetes sets such variables for a service named echod.
#[test]
fn unknown_variables_are_reported_and_do_no_harm() {
    let mut command = program();
    command
        .arg("--check-config")
        .env("ECHOD_PORT", "tcp://10.0.0.1:7777")
        .env("ECHOD_SERVICE_HOST", "10.0.0.1");
    let exit = Echod::run_to_end(&mut command);
    assert_eq!(exit.code, Some(0), "{exit:#?}");
    assert_eq!(exit.stderr.len(), 1, "{exit:#?}");
    for name in ["ECHOD_PORT", "ECHOD_SERVICE_HOST"] {
        assert!(exit.stderr[0].contains(name), "{exit:#?}");
    }
}

#[test]
fn the_printed_settings_are_an_equivalent_configuration() {
    let mut first = program();
    first.args([
        "--print-config",
        "--echo=tcp://[::]:7777",
        "--discard=unix:/run/a \"quoted\" name",
        "--deny=10.0.0.0/8",
        "--deny=2001:db8::/32",
        "--accept-rate=1.5k",
        "--spin=always",
        "--pin",
        "--unix-mode=0660",
        "--admin=localhost:9777",
    ]);
    let first = Echod::run_to_end(&mut first);
    let file = ConfigFile::new(first.stdout.join("\n"));
    assert_eq!(check(&file.path).code, Some(0));
    let again = Echod::run_to_end(
        program()
            .arg("--print-config")
            .arg("--config")
            .arg(&file.path),
    );
    assert_eq!(without_origins(&again), without_origins(&first));
    assert_eq!(again.code, Some(0));
}

fn without_origins(exit: &Exit) -> Vec<&str> {
    let lines = exit.stdout.iter();
    lines
        .map(|line| {
            line.rsplit_once(" # ")
                .map_or(line.as_str(), |(left, _)| left)
        })
        .collect()
}

#[test]
fn the_example_is_valid() {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/echod.toml");
    assert_eq!(check(&example).code, Some(0));
}

/// The program in an environment without any of its variables.
fn program() -> Command {
    let mut command = Command::new(PROGRAM);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("ECHOD_") {
            command.env_remove(name);
        }
    }
    command
}

#[track_caller]
fn check(path: &Path) -> Exit {
    Echod::run_to_end(program().arg("--check-config").arg("--config").arg(path))
}

/// A file for one test, removed at its end.
struct ConfigFile {
    path: PathBuf,
}

impl ConfigFile {
    #[track_caller]
    fn new(text: impl AsRef<[u8]>) -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("echod-behavior-{}-{count}.toml", process::id());
        let path = std::env::temp_dir().join(name);
        fs::write(&path, text).expect("a temporary file");
        Self { path }
    }
}

impl Drop for ConfigFile {
    fn drop(&mut self) {
        // A leftover in the directory for temporary files is harmless.
        let _ = fs::remove_file(&self.path);
    }
}
