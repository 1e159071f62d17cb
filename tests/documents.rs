//! docs/reliability.md names a test for each promise: each of them exists.

use std::fs;
use std::path::Path;

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
