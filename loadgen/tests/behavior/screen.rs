//! The program on a terminal: progress, the full screen, its keys, and that the terminal is left as
//! it was found. The terminal is a pseudo-terminal of script(1).

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::support::tools::require;
use crate::support::{Directory, PlainServer, wait_until};

/// Escape sequences that enter and leave the alternate screen (xterm, DECSET and DECRST 1049).
const ENTER: &str = "\x1b[?1049h";
const LEAVE: &str = "\x1b[?1049l";
const CONTROL_C: &str = "\x03";

/// The program on a terminal of 80 by 24 characters.
struct Session {
    script: Child,
    output: Arc<Mutex<Vec<u8>>>,
    reader: Option<thread::JoinHandle<()>>,
}

impl Session {
    /// Runs `loadgen run` with `arguments`, in the words of a shell.
    fn start(arguments: &str) -> Self {
        let program = env!("CARGO_BIN_EXE_loadgen");
        Self::run(&format!("exec {program} run {arguments}"))
    }

    /// Runs a command of a shell.
    fn run(command: &str) -> Self {
        let command = format!("stty rows 24 cols 80; echo pid=$$.; {command}");
        let mut script = Command::new("script")
            .args(["--quiet", "--return", "--command", &command, "/dev/null"])
            .env("SHELL", "/bin/sh")
            .env("TERM", "xterm")
            .env_remove("NO_COLOR")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("script(1) is there");
        let mut stdout = script.stdout.take().unwrap();
        let output = Arc::new(Mutex::new(Vec::new()));
        let written = Arc::clone(&output);
        let reader = thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = stdout.read(&mut buffer) {
                written.lock().unwrap().extend_from_slice(&buffer[..count]);
            }
        });
        Self {
            script,
            output,
            reader: Some(reader),
        }
    }

    fn output(&self) -> String {
        String::from_utf8_lossy(&self.output.lock().unwrap()).into_owned()
    }

    #[track_caller]
    fn wait_for(&self, text: &str) {
        wait_until(text, || self.output().contains(text));
    }

    fn press(&mut self, keys: &str) {
        let stdin = self.script.stdin.as_mut().unwrap();
        stdin.write_all(keys.as_bytes()).unwrap();
        stdin.flush().unwrap();
    }

    /// Sends SIGINT to the program itself.
    fn interrupt(&self) {
        let output = self.output();
        let (_, rest) = output.split_once("pid=").unwrap();
        let (pid, _) = rest.split_once('.').unwrap();
        let pid = Pid::from_raw(pid.parse().unwrap()).unwrap();
        kill_process(pid, Signal::INT).unwrap();
    }

    /// Waits for the end; returns the exit code and the terminal's output.
    fn finish(mut self) -> (Option<i32>, String) {
        let status = self.script.wait().unwrap();
        self.reader.take().unwrap().join().unwrap();
        (status.code(), self.output())
    }
}

impl Drop for Session {
    /// Ends a program left behind by a failed test: script(1) hangs up the terminal, which ends the
    /// program.
    /// the program ends.
    fn drop(&mut self) {
        let _ = self.script.kill();
        let _ = self.script.wait();
    }
}

/// Checks that the screen was entered and left once, and returns the output after that.
#[track_caller]
fn after_screen(output: &str) -> &str {
    assert_eq!(output.matches(ENTER).count(), 1, "{output:?}");
    let (before, after) = output.rsplit_once(LEAVE).expect("the screen was left");
    assert!(before.contains(ENTER));
    let plain = without_colors(after);
    assert!(!plain.contains('\x1b'), "{after:?}");
    after
}

/// The text without its colours (SGR).
fn without_colors(text: &str) -> String {
    let mut parts = text.split("\x1b[");
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let end = part.find(|c: char| !c.is_ascii_digit() && c != ';');
        match end.map(|end| part.split_at(end)) {
            Some((_, rest)) if rest.starts_with('m') => plain.push_str(&rest[1..]),
            _ => {
                plain.push_str("\x1b[");
                plain.push_str(part);
            }
        }
    }
    plain
}

/// The lines that a command leaves on the terminal: without colours, and without the progress that was
/// erased.
fn lines(output: &str) -> Vec<String> {
    let lines = without_colors(output);
    let shown = |line: &str| {
        let line = line.rsplit("\r\x1b[K").next().unwrap_or_default();
        line.trim_end_matches('\r').to_owned()
    };
    lines.lines().map(shown).collect()
}

struct TemporaryFile(PathBuf);

impl TemporaryFile {
    fn new(name: &str) -> Self {
        let name = format!("loadgen-{name}-{}", std::process::id());
        Self(std::env::temp_dir().join(name))
    }

    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TemporaryFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[test]
fn a_terminal_without_a_cursor_is_refused() {
    require!("script");
    let command = format!("exec {} run -d 1h --tui", env!("CARGO_BIN_EXE_loadgen"));
    let output = Command::new("script")
        .args(["--quiet", "--return", "--command", &command, "/dev/null"])
        .env("SHELL", "/bin/sh")
        .env("TERM", "dumb")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let shown = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(2), "{shown}");
    assert!(
        shown.contains("TERM=dumb") && !shown.contains('\x1b'),
        "{shown}"
    );
}

#[test]
fn progress_is_one_line_on_the_terminal_and_gone_before_the_table() {
    require!("script", "sh", "stty");
    let session = Session::start("-c 2 -d 1500ms -w 0 --allow-invalid");
    let (code, output) = session.finish();
    assert_eq!(code, Some(0), "{output}");
    let (progress, table) = output.rsplit_once("\r\x1b[K").expect("the line is erased");
    assert!(progress.contains("measuring") && progress.contains(" left"));
    assert!(progress.contains("p50 ") && progress.contains("/s"));
    assert_eq!(progress.matches('\n').count(), 1, "only that of the pid");
    assert!(table.starts_with("target ") && table.contains("verdict"));
}

#[test]
fn progress_is_not_on_stdout_and_not_there_if_it_is_not_wanted() {
    require!("script", "sh", "stty");
    let file = TemporaryFile::new("progress");
    let path = file.path().display();
    let session = Session::start(&format!("-n 100 --allow-invalid --json - >{path}"));
    assert_eq!(session.finish().0, Some(0));
    let json: Value = serde_json::from_slice(&std::fs::read(file.path()).unwrap()).unwrap();
    assert_eq!(json["messages"]["received"], 100);
    let (code, output) = Session::start("-n 100 --allow-invalid --quiet").finish();
    assert_eq!(code, Some(0));
    assert_eq!(output.lines().count(), 1, "{output:?}");
    assert!(output.starts_with("pid="));
}

#[test]
fn every_line_of_every_command_fits_into_80_columns() {
    require!("script", "sh", "stty");
    let directory = Directory::new("columns");
    let path = |name: &str| directory.path(name).display().to_string();
    let (one, two) = (
        path("a result with a rather long name, of the base.json"),
        path("2.json"),
    );
    let program = env!("CARGO_BIN_EXE_loadgen");
    let servers = [PlainServer::echo(), PlainServer::echo()];
    let [first, second] = [0, 1].map(|index| servers[index].endpoint().to_string());
    let short = "-d 300ms -w 0 --allow-invalid";
    let mut widest = 0;
    let poisson = "-c 4 -R 2k --arrivals poisson";
    // Each command, and what it shows if it did what it is for.
    for (command, shown) in [
        (
            format!("run {short} {poisson} --seed 1 --json '{one}'"),
            "Poisson",
        ),
        (
            format!("run {short} {poisson} --seed 2 --json {two}"),
            "seed 2",
        ),
        (format!("run {short} {poisson} --repeat 2"), "mean, 95 % CI"),
        (
            format!("run {short} -c 4 -t 2 -R 1k..20k {first} {second}"),
            "thread 1",
        ),
        (format!("run {short} -c 3 --workload churn"), "1st byte"),
        (format!("run {short} -c 2 --workload stream"), "blocks"),
        (format!("run {short} -c 20 --workload idle"), "held 20"),
        (
            format!("run {short} -c 2 -p 8 -s uniform:64-1500 --background 1"),
            "streams",
        ),
        (
            "run -n 10 -c 1 --allow-invalid -w 0".to_owned(),
            "few_samples: ",
        ),
        (
            "run tcp://127.0.0.1:1 --quiet".to_owned(),
            "is a server listening",
        ),
        ("run localhost:7777".to_owned(), "tcp://localhost:7777"),
        ("help foo".to_owned(), "is no command"),
        (String::new(), "Usage:"),
        (
            format!(
                "search {first} -c 2 --trial 100ms --initial-trial 100ms --duration-sum 200ms --start 1k \
                 --max 8k --max-trials 6 --goal 'web: p50<1s, errors<0.1%' \
                 --goal 'batch: p99<5s, errors<50%'"
            ),
            "goals, trials that met",
        ),
        (
            format!("compare {first} {second} -c 2 -d 100ms -w 0 --rounds 2 --allow-invalid"),
            "95 % CI",
        ),
        (
            format!("compare '{one}' '{one}' --allow-invalid"),
            "95 % CI",
        ),
        (format!("report '{one}'"), "verdict "),
        (
            format!("watch {first} {second} tcp://127.0.0.1:1 -d 500ms --late 1us"),
            "how it began",
        ),
        (
            format!("merge '{one}' {two} --allow-invalid"),
            "connections",
        ),
    ] {
        let (_, output) = Session::run(&format!("exec {program} {command}")).finish();
        let lines = lines(&output);
        assert!(
            lines.len() > 1 && output.contains(shown),
            "{command}: {output}"
        );
        for line in &lines {
            let columns = line.chars().count();
            assert!(columns <= 80, "{command}: {columns} columns: {line}");
            widest = widest.max(columns);
        }
    }
    assert!(widest > 70, "the lines are those of 80 columns: {widest}");
}

/// The verdict, the rate and the percentiles are on the first screen of 24 lines, whatever the reasons.
#[test]
fn the_first_lines_say_what_matters() {
    require!("script", "sh", "stty");
    let (_, output) = Session::start("-n 20 -c 1 -w 0 --allow-invalid").finish();
    let lines = lines(&output);
    let at = |start: &str| {
        let found = lines.iter().position(|line| line.starts_with(start));
        found.unwrap_or_else(|| panic!("no {start}: {lines:#?}"))
    };
    let order = [
        "target ",
        "load ",
        "verdict ",
        "rate ",
        "latency ",
        "response ",
        "reasons ",
    ]
    .map(at);
    assert!(order.is_sorted(), "{order:?}: {lines:#?}");
    assert!(order[5] <= 12, "{lines:#?}");
    let head: Vec<&str> = lines[order[4]].split_whitespace().collect();
    assert!(head.contains(&"p50") && head.contains(&"p99"), "{head:?}");
    // The codes of the reasons stand in the verdict, and each is explained below.
    let codes = lines[order[2]].split_once(": ").expect("reasons").1;
    assert!(codes.contains("few_samples"), "{codes}");
    for code in codes.split(", ") {
        let explained = format!("{code}: ");
        assert!(
            lines[order[6]..]
                .iter()
                .any(|line| line.contains(&explained)),
            "{lines:#?}"
        );
    }
}

#[test]
fn the_verdict_has_a_colour_on_a_terminal_only_and_not_if_none_is_wanted() {
    require!("script", "sh", "stty");
    let program = env!("CARGO_BIN_EXE_loadgen");
    let directory = Directory::new("colors");
    let path = directory.path("result.json");
    let path = path.display();
    let make = format!("-n 20 -c 1 -w 0 --quiet --allow-invalid --json {path}");
    assert_eq!(Session::start(&make).finish().0, Some(0));
    let mut result: Value =
        serde_json::from_slice(&std::fs::read(path.to_string()).unwrap()).unwrap();
    for (status, badge) in [
        ("valid", "\x1b[1;32mVALID\x1b[0m"),
        ("suspect", "\x1b[1;33mSUSPECT\x1b[0m"),
        ("invalid", "\x1b[1;31mINVALID\x1b[0m"),
    ] {
        result["verdict"]["status"] = status.into();
        std::fs::write(path.to_string(), result.to_string()).unwrap();
        let report = format!("{program} report {path}");
        let (_, colored) = Session::run(&report).finish();
        assert!(
            colored.contains(&format!("verdict   {badge}")),
            "{colored:?}"
        );
        assert_eq!(colored.matches('\x1b').count(), 2, "{colored:?}");
        for plain in [
            format!("NO_COLOR=1 {report}"),
            format!("TERM=dumb {report}"),
            format!("{report} | cat"),
            format!("{report} -o {path}.txt; cat {path}.txt"),
        ] {
            let (_, output) = Session::run(&plain).finish();
            assert!(!output.contains('\x1b'), "{plain}: {output:?}");
            assert_eq!(lines(&output)[1..], lines(&colored)[1..], "{plain}");
        }
    }
}

#[test]
fn the_screen_ends_with_the_run_and_the_result_comes_after_it() {
    require!("script", "sh", "stty");
    let file = TemporaryFile::new("screen");
    let path = file.path().display();
    let session = Session::start(&format!(
        "-c 2 -d 500ms -w 0 --tui --allow-invalid --json - >{path}"
    ));
    let (code, output) = session.finish();
    assert_eq!(code, Some(0), "{output}");
    assert_eq!(after_screen(&output), "");
    let json: Value = serde_json::from_slice(&std::fs::read(file.path()).unwrap()).unwrap();
    assert_eq!(json["interrupted"], false);
}

#[test]
fn q_and_control_c_and_sigint_end_the_run_and_leave_the_screen() {
    require!("script", "sh", "stty");
    let target = PlainServer::echo();
    let arguments = format!("{} -d 1h -w 0 --tui", target.endpoint());
    let ways: [fn(&mut Session); 4] = [
        |session| session.press("q"),
        |session| session.press("\x1b"),
        |session| session.press(CONTROL_C),
        |session| session.interrupt(),
    ];
    for (number, end) in ways.into_iter().enumerate() {
        let before = target.bytes();
        let mut session = Session::start(&arguments);
        session.wait_for(ENTER);
        wait_until("messages flow", || target.bytes() > before + 64_000);
        end(&mut session);
        let (code, output) = session.finish();
        assert_eq!(code, Some(130), "way {number}: {output}");
        let table = after_screen(&output);
        assert!(table.contains("(interrupted)"), "{table}");
        assert!(table.contains("verdict"), "{table}");
    }
}

#[test]
fn a_second_control_c_ends_all_at_once_and_leaves_the_screen_too() {
    require!("script", "sh", "stty");
    let silent = PlainServer::start(|_, _| true);
    let mut session = Session::start(&format!(
        "{} -d 1h -w 0 --timeout 1h --tui",
        silent.endpoint()
    ));
    wait_until("messages flow", || silent.bytes() > 0);
    session.press(CONTROL_C);
    session.wait_for("ending");
    session.press(CONTROL_C);
    let (code, output) = session.finish();
    assert_eq!(code, Some(130), "{output}");
    assert_eq!(after_screen(&output), "");
}

#[test]
fn a_run_that_fails_leaves_the_screen_and_says_why() {
    require!("script", "sh", "stty");
    let free_port = {
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        format!("tcp://{}", free.local_addr().unwrap())
    };
    let (code, output) = Session::start(&format!("{free_port} --tui")).finish();
    assert_eq!(code, Some(1), "{output}");
    // One sentence, in lines of the terminal's width.
    let lines = lines(after_screen(&output));
    assert!(
        lines[0].starts_with("loadgen: cannot connect to "),
        "{lines:?}"
    );
    assert!(
        lines[1..].iter().all(|line| line.starts_with("         ")),
        "{lines:?}"
    );
    assert!(
        lines.iter().all(|line| line.chars().count() <= 80),
        "{lines:?}"
    );
    let words: Vec<&str> = lines
        .iter()
        .flat_map(|line| line.split_whitespace())
        .collect();
    assert_eq!(
        words.join(" "),
        format!(
            "loadgen: cannot connect to {free_port}: Connection refused (os error 111); is a server \
             listening there?"
        )
    );
}

#[test]
fn keys_change_the_rate_of_an_open_loop() {
    require!("script", "sh", "stty");
    let file = TemporaryFile::new("keys");
    let path = file.path().display();
    let target = PlainServer::echo();
    let mut session = Session::start(&format!(
        "{} -R 1234 -d 1h -w 0 --tui --json - >{path}",
        target.endpoint()
    ));
    wait_until("messages flow", || target.bytes() > 6_400);
    // Only differences from the previous frame are written: of 2 468, all but the space.
    session.press("*");
    session.wait_for("468");
    session.press("/-");
    session.wait_for("122");
    session.press("q");
    let (code, output) = session.finish();
    assert_eq!(code, Some(130), "{output}");
    let json: Value = serde_json::from_slice(&std::fs::read(file.path()).unwrap()).unwrap();
    // The coordinator polls the rate, and may miss brief changes.
    let changes = json["rate"]["changes"].as_array().unwrap();
    let last = changes.last().expect("a change is noted");
    assert_eq!(last["rate"].as_f64().unwrap().round(), 1122.0);
}

#[test]
fn a_watch_is_shown_on_one_line_or_on_the_whole_screen() {
    require!("script", "sh", "stty");
    let target = PlainServer::echo();
    let program = env!("CARGO_BIN_EXE_loadgen");
    let watch = format!("exec {program} watch {} --interval 10ms", target.endpoint());
    let (code, output) = Session::run(&format!("{watch} -d 700ms")).finish();
    assert_eq!(code, Some(0), "{output}");
    let (live, table) = output.rsplit_once("\r\x1b[K").expect("the line is erased");
    assert!(
        live.contains("watching") && live.contains("no outage"),
        "{live:?}"
    );
    assert!(
        table.starts_with("target ") && table.contains("NO OUTAGE"),
        "{table}"
    );

    let before = target.bytes();
    let mut session = Session::run(&format!("{watch} --tui"));
    session.wait_for(ENTER);
    wait_until("probes flow", || target.bytes() > before + 640);
    session.wait_for("answers");
    session.press("q");
    let (code, output) = session.finish();
    assert_eq!(code, Some(0), "nothing else ends it: {output}");
    assert!(after_screen(&output).contains("NO OUTAGE"), "{output}");
}
