//! Documents are true where that can be checked: docs/reliability.md names a test for each promise, and each of
//! them exists. Links lead to files that are there, and the site has every document.

use std::fs;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The documents of a folder.
fn documents(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    paths
        .filter(|path| path.extension().is_some_and(|extension| extension == "md"))
        .collect()
}

#[test]
fn links_between_documents_lead_somewhere() {
    let mut checked = 0;
    let mut broken = Vec::new();
    for folder in [root().to_owned(), root().join("docs")] {
        for document in documents(&folder) {
            // The links of the site's contents are those of the site.
            if document.ends_with("docs/SUMMARY.md") {
                continue;
            }
            let text = fs::read_to_string(&document).unwrap();
            for link in text.split("](").skip(1) {
                let (link, _) = link.split_once(')').unwrap();
                let path = link.split('#').next().unwrap();
                if link.contains("://") || path.is_empty() {
                    continue;
                }
                checked += 1;
                if !folder.join(path).exists() {
                    broken.push(format!("{}: {link}", document.display()));
                }
            }
        }
    }
    assert!(checked > 50, "{checked} links");
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn the_site_has_every_document() {
    let contents = fs::read_to_string(root().join("docs/SUMMARY.md")).unwrap();
    for folder in [root().to_owned(), root().join("docs")] {
        for document in documents(&folder) {
            let name = document.file_name().unwrap().to_string_lossy().into_owned();
            if name != "SUMMARY.md" {
                let entry = format!("]({name})");
                assert_eq!(contents.matches(&entry).count(), 1, "{name}");
            }
        }
    }
}

#[test]
fn the_tests_behind_the_promises_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let document = fs::read_to_string(root.join("docs/reliability.md")).unwrap();
    let (_, table) = document.split_once("\n## echod\n").unwrap();
    let (echod, loadgen) = table.split_once("\n## loadgen\n").unwrap();
    let (loadgen, _) = loadgen.split_once("\n## Campaigns\n").unwrap();
    let mut missing = Vec::new();
    for (folder, text) in [
        ("tests/behavior", echod),
        ("loadgen/tests/behavior", loadgen),
    ] {
        let named = text.split('`').skip(1).step_by(2);
        let tests = named.filter_map(|name| name.split_once("::"));
        let mut count = 0;
        for (module, test) in tests {
            count += 1;
            let file = root.join(folder).join(module).with_extension("rs");
            let source = fs::read_to_string(&file).unwrap_or_default();
            if !source.contains(&format!("\nfn {test}()")) {
                missing.push(format!("{module}::{test}"));
            }
        }
        assert!(count > 10, "{folder}: {count} tests named");
    }
    assert!(missing.is_empty(), "no such tests: {missing:#?}");
}
