//! The rules of imports in ARCHITECTURE.md, checked on the `use` lines and paths of both crates:
//! there are no import circles, and no part imports from a part above it. Beside them, what the
//! libraries depend on.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The parts of echod, from the top down. A part may import from itself and from parts below it.
const SERVER: &[&str] = &[
    "internal",
    "process",
    "admin",
    "settings",
    "server",
    "reactor",
    "listen",
    "udp",
    "conn",
    "admission",
    "timeouts",
    "timer",
    "spin",
    "memory",
    "proxy_protocol",
    "metrics",
    "config",
    "error",
    "faults",
    "service",
    "tls",
    "net",
    "net::sys",
];

/// The parts of loadgen's library and of its program, also from the top down.
const LOADGEN: &[&str] = &[
    "internal",
    "trials",
    "watch",
    "run",
    "embedded",
    "import",
    "report",
    "merge",
    "compare",
    "search",
    "analysis",
    "observer",
    "error",
    "engine",
    "engine::sys",
    "host",
    "result",
    "plan",
    "admin",
    "profile",
    "text",
];
const LOADGEN_PROGRAM: &[&str] = &["commands", "cli", "terminal", "exit"];

#[test]
fn the_server_imports_downwards() {
    check(&Source::read("src", "lib.rs"), SERVER);
}

#[test]
fn the_load_generator_imports_downwards() {
    check(&Source::read("loadgen/src", "lib.rs"), LOADGEN);
    check(&Source::read("loadgen/src", "main.rs"), LOADGEN_PROGRAM);
}

/// Who uses a library compiles nothing that only its program needs.
#[test]
fn the_libraries_do_without_the_programs_dependencies() {
    const PROGRAMS: &[&str] = &[
        "clap",
        "clap_complete",
        "clap_mangen",
        "landlock",
        "ratatui",
        "sd-notify",
        "seccompiler",
        "signal-hook",
        "toml",
        "tracing-subscriber",
    ];
    let whole = ["echomark", "loadgen"].map(|package| dependencies(package, &[]));
    for &name in PROGRAMS {
        let is_used = whole.iter().any(|of| of.contains(name));
        assert!(is_used, "neither program depends on {name}");
    }
    for (package, others) in [("echomark", &["serde", "httparse"][..]), ("loadgen", &[])] {
        let library = dependencies(package, &["--no-default-features"]);
        for &name in PROGRAMS.iter().chain(others) {
            assert!(!library.contains(name), "{package} depends on {name}");
        }
    }
}

/// The names of all packages that are compiled into a package.
#[track_caller]
fn dependencies(package: &str, options: &[&str]) -> BTreeSet<String> {
    let tree = Command::new(env!("CARGO"))
        .args(["tree", "--locked", "--offline", "--package", package])
        .args(["--edges", "normal", "--prefix", "none"])
        .args(options)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs");
    let problem = String::from_utf8_lossy(&tree.stderr);
    assert!(tree.status.success(), "{problem}");
    let tree = String::from_utf8(tree.stdout).expect("UTF-8");
    let names = tree.lines().filter_map(|line| line.split(' ').next());
    names.map(str::to_owned).collect()
}

#[track_caller]
fn check(source: &Source, parts: &[&str]) {
    let circles = source.circles();
    assert!(circles.is_empty(), "import circles: {circles:#?}");
    let upwards = source.upwards(parts);
    assert!(
        upwards.is_empty(),
        "imports against the directions: {upwards:#?}"
    );
}

/// The modules of a crate, each with the modules that it imports from. Modules are named by their paths,
/// without `crate::`.
struct Source {
    imports: BTreeMap<String, BTreeSet<String>>,
}

impl Source {
    /// Reads the crate whose root is `root`, with all modules that its files declare.
    fn read(folder: &str, root: &str) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
        let mut modules = BTreeMap::new();
        read_module(String::new(), folder.join(root), &mut modules);
        let exports: BTreeMap<&str, BTreeMap<String, String>> = modules
            .iter()
            .map(|(name, text)| (name.as_str(), exports(name, text, &modules)))
            .collect();
        let imports = modules
            .iter()
            .map(|(name, text)| {
                let found = paths(name, text, &modules)
                    .into_iter()
                    .filter(|path| !path.is_export)
                    .filter_map(|path| resolve(&path.segments, &modules, &exports))
                    .filter(|module| module != name)
                    .collect();
                (name.clone(), found)
            })
            .collect();
        Self { imports }
    }

    /// Import circles, each as its chain of modules.
    fn circles(&self) -> Vec<Vec<&str>> {
        let mut circles = Vec::new();
        for start in self.imports.keys() {
            if let Some(way) = self.way_back(start) {
                circles.push(way);
            }
        }
        circles
    }

    /// The shortest circle through a module, by breadth-first search.
    fn way_back<'a>(&'a self, start: &'a str) -> Option<Vec<&'a str>> {
        let mut came_from: BTreeMap<&str, &str> = BTreeMap::new();
        let mut next = vec![start];
        while !next.is_empty() {
            let mut found = Vec::new();
            for module in next {
                for import in &self.imports[module] {
                    if import == start {
                        let mut way = vec![start, module];
                        while let Some(&before) = came_from.get(way[way.len() - 1]) {
                            way.push(before);
                        }
                        way.reverse();
                        return Some(way);
                    }
                    if !came_from.contains_key(import.as_str()) {
                        came_from.insert(import, module);
                        found.push(import.as_str());
                    }
                }
            }
            next = found;
        }
        None
    }

    /// Imports from a part above, and modules outside every part.
    fn upwards(&self, parts: &[&str]) -> Vec<String> {
        let rank = |module: &str| {
            let is_in = |part: &str| {
                module == part
                    || module
                        .strip_prefix(part)
                        .is_some_and(|rest| rest.starts_with("::"))
            };
            // A part may lie within the folder of another: the longest name counts.
            let matches = parts.iter().enumerate().filter(|(_, part)| is_in(part));
            matches
                .max_by_key(|(_, part)| part.len())
                .map(|(rank, _)| rank)
        };
        let mut wrong = Vec::new();
        for (module, imports) in self.imports.iter().filter(|(module, _)| !module.is_empty()) {
            let Some(own) = rank(module) else {
                wrong.push(format!("{module} is in no part"));
                continue;
            };
            for import in imports {
                if rank(import).is_some_and(|other| other < own) || import.is_empty() {
                    wrong.push(format!("{module} imports from {import}"));
                }
            }
        }
        wrong
    }
}

/// Reads a module's file and the files of its child modules, without tests.
fn read_module(name: String, file: PathBuf, modules: &mut BTreeMap<String, String>) {
    let text = fs::read_to_string(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    let text = without_tests(&without_comments(&text));
    let children = if ["mod.rs", "lib.rs", "main.rs"]
        .iter()
        .any(|root| file.ends_with(root))
    {
        file.parent().expect("a file has a folder").to_owned()
    } else {
        file.with_extension("")
    };
    for child in declared(&text) {
        let path = if name.is_empty() {
            child.clone()
        } else {
            format!("{name}::{child}")
        };
        let flat = children.join(format!("{child}.rs"));
        let nested = children.join(&child).join("mod.rs");
        let found = if flat.exists() { flat } else { nested };
        read_module(path, found, modules);
    }
    modules.insert(name, text);
}

/// Names of the child modules with a file: `mod name;`.
fn declared(text: &str) -> Vec<String> {
    statements(text)
        .into_iter()
        .filter_map(|statement| {
            let (_, name) = statement.rsplit_once("mod ")?;
            let is_name = name.chars().all(|c| c.is_alphanumeric() || c == '_');
            let before = &statement[..statement.len() - name.len() - "mod ".len()];
            (is_name && is_visibility(before)).then(|| name.to_owned())
        })
        .collect()
}

/// Text up to each `;`, `{` or `}`, without attributes and line ends.
fn statements(text: &str) -> Vec<String> {
    text.split([';', '}'])
        .map(|statement| {
            let lines = statement
                .lines()
                .filter(|line| !line.trim_start().starts_with('#'));
            lines.collect::<Vec<_>>().join(" ").trim().to_owned()
        })
        .collect()
}

fn is_visibility(text: &str) -> bool {
    let text = text.trim();
    text.is_empty() || text == "pub" || (text.starts_with("pub(") && text.ends_with(')'))
}

fn without_comments(text: &str) -> String {
    let lines = text.lines().map(|line| match line.find("//") {
        // Not the `//` of an address in a string.
        Some(at) if !line[..at].ends_with(':') => &line[..at],
        _ => line,
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Removes test-only code: a module at a file's end, and declarations.
fn without_tests(text: &str) -> String {
    let mut kept = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("#[cfg(test)]") {
        kept.push_str(&rest[..at]);
        let item = &rest[at..];
        let (semicolon, brace) = (item.find(';'), item.find('{'));
        let length = match (semicolon, brace) {
            (Some(semicolon), brace) if brace.is_none_or(|brace| semicolon < brace) => {
                semicolon + 1
            }
            (_, Some(brace)) => brace + block_length(&item[brace..]),
            _ => item.len(),
        };
        rest = &item[length..];
    }
    kept + rest
}

/// The length of the block at the start of the text, by its braces.
fn block_length(text: &str) -> usize {
    let mut depth = 0_i32;
    for (at, character) in text.char_indices() {
        depth += match character {
            '{' => 1,
            '}' => -1,
            _ => 0,
        };
        if depth == 0 {
            return at + 1;
        }
    }
    text.len()
}

/// A path from the crate's root.
struct Import {
    segments: Vec<String>,
    /// Whether it re-exports a name of another module.
    is_export: bool,
}

/// Every path into the crate in a module's text.
fn paths(module: &str, text: &str, modules: &BTreeMap<String, String>) -> Vec<Import> {
    let mut found = Vec::new();
    for start in ["crate::", "super::", "self::"] {
        for (at, _) in text.match_indices(start) {
            let before = text[..at].chars().next_back();
            let is_visibility = text[..at].ends_with("(in ");
            if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':' || c == '$')
                || is_visibility
            {
                continue;
            }
            for path in tree(&text[at..]) {
                if let Some(segments) = absolute(module, &path) {
                    let is_export = is_export(&text[..at]);
                    found.push(Import {
                        segments,
                        is_export,
                    });
                }
            }
        }
    }
    // `pub use child::Name`, and `use child::Name`, of a module's own children.
    for (at, _) in text.match_indices("use ") {
        let before = text[..at].chars().next_back();
        if before.is_some_and(|c| !c.is_whitespace()) {
            continue;
        }
        for path in tree(&text[at + "use ".len()..]) {
            if path
                .first()
                .is_some_and(|first| is_child(module, first, modules))
            {
                let mut segments = parents(module);
                segments.extend(path);
                let is_export = is_export(&text[..at + "use ".len()]);
                found.push(Import {
                    segments,
                    is_export,
                });
            }
        }
    }
    found
}

/// Whether a module has a child of this name.
fn is_child(module: &str, name: &str, modules: &BTreeMap<String, String>) -> bool {
    let path = [&parents(module)[..], &[name.to_owned()]].concat();
    modules.contains_key(&path.join("::"))
}

/// Whether the text before a path ends with `pub use`, of any visibility.
fn is_export(before: &str) -> bool {
    let Some(rest) = before.trim_end().strip_suffix("use") else {
        return false;
    };
    let line = rest
        .rsplit(['\n', ';', '{', '}'])
        .next()
        .unwrap_or_default();
    line.trim_start().starts_with("pub")
}

fn parents(module: &str) -> Vec<String> {
    module
        .split("::")
        .filter(|part| !part.is_empty())
        .map(str::to_owned)
        .collect()
}

/// Resolves a path that begins with `crate`, `super` or `self` to a path from the crate's root.
fn absolute(module: &str, path: &[String]) -> Option<Vec<String>> {
    let mut base = parents(module);
    let mut rest = path;
    match rest.first()?.as_str() {
        "crate" => {
            base.clear();
            rest = &rest[1..];
        }
        "self" => rest = &rest[1..],
        _ => {
            while rest.first().is_some_and(|segment| segment == "super") {
                base.pop()?;
                rest = &rest[1..];
            }
        }
    }
    base.extend(rest.iter().cloned());
    Some(base)
}

/// The paths of a use tree: `a::{b, c::d}` is `a::b` and `a::c::d`. Any other character ends the
/// tree.
fn tree(text: &str) -> Vec<Vec<String>> {
    let mut prefix = Vec::new();
    let mut rest = text;
    loop {
        let length = rest
            .find(|c: char| !c.is_alphanumeric() && c != '_')
            .unwrap_or(rest.len());
        if length > 0 {
            prefix.push(rest[..length].to_owned());
            rest = &rest[length..];
        }
        let Some(after) = rest.strip_prefix("::") else {
            return vec![prefix];
        };
        if let Some(group) = after.strip_prefix('{') {
            let group = &group[..block_length(after).saturating_sub(2)];
            let branches = split_at_depth_0(group).into_iter().flat_map(tree);
            return branches
                .map(|branch| {
                    let branch = branch.into_iter().filter(|segment| segment != "self");
                    prefix.iter().cloned().chain(branch).collect()
                })
                .collect();
        }
        rest = after;
        if !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_') {
            return vec![prefix];
        }
    }
}

fn split_at_depth_0(group: &str) -> Vec<&str> {
    let mut depth = 0;
    let pieces = group.split(|c| {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        c == ',' && depth == 0
    });
    pieces
        .map(str::trim)
        .filter(|piece| !piece.is_empty())
        .collect()
}

/// The names that a module re-exports, each with the module that defines it.
fn exports(
    module: &str,
    text: &str,
    modules: &BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    let exported = paths(module, text, modules)
        .into_iter()
        .filter(|path| path.is_export);
    exported
        .filter_map(|path| {
            let of = longest_module(&path.segments, modules)?;
            let name = path.segments.last()?.clone();
            (of != module).then_some((name, of))
        })
        .collect()
}

/// The module that a path leads to. A re-exported name leads to its own module.
fn resolve(
    path: &[String],
    modules: &BTreeMap<String, String>,
    exports: &BTreeMap<&str, BTreeMap<String, String>>,
) -> Option<String> {
    let mut module = longest_module(path, modules)?;
    let name = path.get(parents(&module).len());
    // A re-export may lead to another re-export; the number of modules bounds the steps.
    for _ in 0..modules.len() {
        let next = name.and_then(|name| exports[module.as_str()].get(name));
        match next {
            Some(next) if *next != module => module.clone_from(next),
            _ => break,
        }
    }
    Some(module)
}

/// The module with the longest prefix of a path: the crate root if not even the first segment is a
/// module.
fn longest_module(path: &[String], modules: &BTreeMap<String, String>) -> Option<String> {
    (0..=path.len())
        .rev()
        .map(|length| path[..length].join("::"))
        .find(|name| modules.contains_key(name))
}

#[test]
fn a_circle_and_an_import_upwards_are_found() {
    let imports = [
        ("a", vec!["b"]),
        ("b", vec!["c::d"]),
        ("c::d", vec!["a"]),
        ("e", vec![]),
    ];
    let imports = imports.into_iter().map(|(module, imports)| {
        (
            module.to_owned(),
            imports.into_iter().map(str::to_owned).collect(),
        )
    });
    let source = Source {
        imports: imports.collect(),
    };
    assert_eq!(source.circles()[0], ["a", "b", "c::d", "a"]);
    assert_eq!(
        source.upwards(&["a", "b", "c"]),
        ["c::d imports from a", "e is in no part"]
    );
}

#[test]
fn use_trees_and_paths_are_read() {
    let module = "x::y";
    let text =
        "use crate::a::{self, b::{C, D}};\npub(crate) use super::z::E;\nfn f() { crate::g::h(); }";
    let found: Vec<_> = paths(module, text, &BTreeMap::new())
        .into_iter()
        .map(|path| (path.segments.join("::"), path.is_export))
        .collect();
    for expected in [
        ("a", false),
        ("a::b::C", false),
        ("a::b::D", false),
        ("x::z::E", true),
        ("g::h", false),
    ] {
        assert!(
            found.contains(&(expected.0.to_owned(), expected.1)),
            "{expected:?} in {found:?}"
        );
    }
    let text = "a;\n#[cfg(test)]\nmod tests;\nb;\n#[cfg(test)]\nmod more { use crate::c; }\nd";
    assert_eq!(
        without_tests(text).split_whitespace().collect::<Vec<_>>(),
        ["a;", "b;", "d"]
    );
}
