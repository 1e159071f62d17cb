//! Shells with completions: keys are typed on a terminal of script(1), and the command that the shell made of
//! them is looked at.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

/// A shell that completes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Shell {
    Bash,
    Zsh,
    Fish,
}

impl Shell {
    /// Its program, and its name for the completions.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Bash => "bash",
            Self::Zsh => "zsh",
            Self::Fish => "fish",
        }
    }

    /// What the shell makes of `typed`, in which a tab asks for completion: the arguments with which it then
    /// calls `program`. `script` has the completions.
    #[track_caller]
    pub(crate) fn complete(self, program: &str, script: &Path, typed: &str) -> String {
        match self {
            Self::Bash => self.on_terminal("bash --norc --noprofile -i", program, script, typed),
            Self::Zsh => self.on_terminal("zsh -f -i", program, script, typed),
            Self::Fish => fish(program, script, typed),
        }
    }

    /// A function of the program's name says with what it was called.
    #[track_caller]
    fn on_terminal(self, command: &str, program: &str, script: &Path, typed: &str) -> String {
        let start = match self {
            Self::Zsh => "autoload -U compinit; compinit -u -D\n",
            Self::Bash | Self::Fish => "",
        };
        let keys = format!(
            "{start}source {}\n{program}() {{ printf 'called:%s.\\n' \"$*\"; }}\n{program} {typed}\nexit\n",
            script.display()
        );
        let mut terminal = Command::new("script")
            .args(["--quiet", "--command", command, "/dev/null"])
            .env("TERM", "xterm")
            .env("SHELL", "/bin/sh")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("script(1) is there");
        let mut stdin = terminal.stdin.take().expect("piped");
        stdin.write_all(keys.as_bytes()).expect("keys are typed");
        drop(stdin);
        let output = terminal.wait_with_output().expect("the shell ends");
        let output = String::from_utf8_lossy(&output.stdout);
        // Its source is echoed too, where a quote and not a name follows.
        let calls = output.split("called:").skip(1);
        let mut calls = calls.filter(|call| !call.starts_with('%'));
        let call = calls.next().and_then(|call| call.split_once('.'));
        call.unwrap_or_else(|| panic!("{self:?} did not call {program}: {output}"))
            .0
            .to_owned()
    }
}

/// Fish tells what it would complete to; it is asked for each tab.
#[track_caller]
fn fish(program: &str, script: &Path, typed: &str) -> String {
    let mut line = String::new();
    for piece in typed.split_inclusive('\t') {
        line.push_str(piece.trim_end_matches('\t'));
        if !piece.ends_with('\t') {
            continue;
        }
        let query = format!(
            "source {}; complete -C '{program} {line}'",
            script.display()
        );
        let output = Command::new("fish")
            .args(["--no-config", "-c", &query])
            .output()
            .expect("fish is there");
        let output = String::from_utf8_lossy(&output.stdout);
        let candidates: Vec<&str> = output.lines().collect();
        let [only] = candidates[..] else {
            panic!("{line:?} is not completed to one: {candidates:?}");
        };
        let word = only.split('\t').next().unwrap_or_default();
        let kept = line.rfind(' ').map_or(0, |at| at + 1);
        line.replace_range(kept.., word);
        line.push(' ');
    }
    line.trim_end().to_owned()
}
