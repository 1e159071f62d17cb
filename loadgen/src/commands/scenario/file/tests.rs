use std::path::PathBuf;
use std::time::Duration;

use loadgen::plan::Target;

use super::*;

const FILE: &str = r#"
[defaults]
target = ["tcp://127.0.0.1:7", "tcp://127.0.0.1:8"]
connections = 50
duration = "2s"
no-verify = true

[[run]]
name = "low"
rate = "1k"
no-verify = false

[[run]]
name = "high.2"
target = "unix:/tmp/echo"
connections = 1_000
rate = 2.5
csv = "high.csv"
"#;

fn parse(text: &str) -> Result<Vec<Run>, String> {
    super::parse("file.toml", text, Path::new("results"))
}

#[test]
fn a_run_has_the_defaults_that_it_does_not_override() {
    let runs = parse(FILE).unwrap();
    assert_eq!(runs.len(), 2);
    let (low, high) = (&runs[0], &runs[1]);
    assert_eq!((low.name.as_str(), high.name.as_str()), ("low", "high.2"));
    assert_eq!(low.plan.connections.get(), 50);
    assert_eq!(high.plan.connections.get(), 1000);
    assert_eq!(low.plan.target_rate(), Some(1000.0));
    assert_eq!(high.plan.target_rate(), Some(2.5));
    assert!(low.plan.verify && !high.plan.verify);
    assert_eq!(low.plan.duration, Some(Duration::from_secs(2)));
    let targets = |run: &Run| match &run.plan.target {
        Target::Servers { targets } => targets.len(),
        Target::Embedded { .. } => 0,
    };
    assert_eq!((targets(low), targets(high)), (2, 1));
    let json = |run: &Run| run.output.json.clone();
    assert_eq!(json(low), Some(PathBuf::from("results/low.json")));
    assert_eq!(json(high), Some(PathBuf::from("results/high.2.json")));
    assert_eq!(high.output.csv, Some(PathBuf::from("high.csv")));
}

#[test]
fn a_mistake_is_told_with_its_line_run_and_key() {
    for (text, parts) in [
        ("[[run]\n", &["file.toml:1:", "not valid TOML"][..]),
        ("", &["0 runs", "[[run]]"]),
        (
            "\nrate = 1\n",
            &["file.toml:2:", "unknown key `rate`", "[defaults]"],
        ),
        ("[run]\nname = 'a'\n", &["file.toml:1:", "[[run]]"]),
        ("run = [1]\n", &["file.toml:1:", "[[run]]", "integer"]),
        ("defaults = 1\n", &["file.toml:1:", "[defaults]"]),
        ("[defaults]\nname = 'a'\n", &["file.toml:2:", "of its own"]),
        (
            "[[run]]\nname = 'a'\n\nrtae = 1\n",
            &["file.toml:4:", "unknown key `rtae`"],
        ),
        (
            "[defaults]\n\nhelp = true\n",
            &["file.toml:3:", "defaults", "unknown key `help`"],
        ),
        ("[[run]]\nrate = 1\n", &["file.toml:2:", "no `name`"]),
        ("[[run]]\nname = '../a'\n", &["file.toml:2:", "../a"]),
        ("[[run]]\nname = '.a'\n", &["file.toml:2:", ".a"]),
        ("[[run]]\nname = ''\n", &["file.toml:2:", "`name`"]),
        (
            "[[run]]\nname = 'a'\n[[run]]\nname = 'a'\n",
            &["file.toml:4:", "`a` already"],
        ),
        (
            "[[run]]\nname = 'a'\nconnections = 0\n",
            &["file.toml:3:", "run `a`", "`connections`", "at least 1"],
        ),
        (
            "[defaults]\nrate = 'x'\n[[run]]\nname = 'a'\n",
            &["file.toml:2:", "run `a`", "`rate`"],
        ),
        (
            "[[run]]\nname = 'a'\ntarget = ['tcp://a:7', 'b']\n",
            &["file.toml:3:", "run `a`", "`target`", "tcp://"],
        ),
        (
            "[[run]]\nname = 'a'\nthreads = 3\nconnections = 2\n",
            &["file.toml:2:", "run `a`", "3 threads"],
        ),
        (
            "[[run]]\nname = 'a'\nno-verify = 1\n",
            &["file.toml:3:", "`no-verify`", "true or false"],
        ),
        (
            "[[run]]\nname = 'a'\nconnections = [1]\n",
            &["file.toml:3:", "`connections`", "array"],
        ),
        (
            "[[run]]\nname = 'a'\nsource = [['10.0.0.1']]\n",
            &["file.toml:3:", "`source`", "array"],
        ),
        (
            "[[run]]\nname = 'a'\njson = 'b'\n",
            &["file.toml:3:", "`json`", "-o"],
        ),
        (
            "[[run]]\nname = 'a'\nndjson = '-'\n",
            &["file.toml:3:", "`ndjson`", "stdout"],
        ),
        (
            "[defaults]\ncsv = 'x'\n[[run]]\nname = 'a'\n[[run]]\nname = 'b'\n",
            &["file.toml:6:", "run `b`", "`csv`", "`a`"],
        ),
    ] {
        let problem = parse(text).unwrap_err();
        assert_eq!(problem.lines().count(), 1, "{problem}");
        for part in parts {
            assert!(problem.contains(part), "{part:?} is not in {problem}");
        }
    }
}

proptest::proptest! {
    #[test]
    fn no_text_is_a_panic(text in "(\\[\\[run\\]\\]|\\[defaults\\]|name|rate|target|=|\\n|'a'|1|\\[|\\]|,|true| ){0,40}") {
        let _ = parse(&text);
    }
}
