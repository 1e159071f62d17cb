//! What README and docs/ show of the program is what it prints: each block of text behind a comment
//! `<!-- sample: FILE -->` is the report of docs/samples/FILE. A line `...` in it stands for lines that are
//! left out. docs/samples/record makes the files.

use std::fs;
use std::path::{Path, PathBuf};

use loadgen::report::{self, text};
use loadgen::result::Stored;

const MARK: &str = "<!-- sample: ";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn documents() -> Vec<PathBuf> {
    let docs = fs::read_dir(root().join("docs")).unwrap();
    let docs = docs.map(|entry| entry.unwrap().path());
    let docs = docs.filter(|path| path.extension().is_some_and(|extension| extension == "md"));
    std::iter::once(root().join("README.md"))
        .chain(docs)
        .collect()
}

#[test]
fn samples_in_documents_are_what_the_program_prints() {
    let mut samples = 0;
    for document in documents() {
        let content = fs::read_to_string(&document).unwrap();
        for part in content.split(MARK).skip(1) {
            let (name, rest) = part
                .split_once(" -->\n")
                .expect("a comment that ends its line");
            let block = rest
                .strip_prefix("```text\n")
                .expect("a block of text behind the comment");
            let (shown, _) = block.split_once("\n```").expect("the end of the block");
            // The command line above it.
            let shown = match shown.split_once('\n') {
                Some((command, shown)) if command.starts_with("$ ") => shown,
                _ => shown,
            };
            let json = fs::read(root().join("docs/samples").join(name)).unwrap();
            let printed = text::render(report::of(&Stored::read(&json).unwrap()));
            if let Err(missing) = is_excerpt(shown, &printed) {
                panic!(
                    "{}: {name} is printed as\n{printed}\nwithout\n{missing}",
                    document.display()
                );
            }
            samples += 1;
        }
    }
    assert!(samples >= 3, "{samples} samples");
}

/// Whether `shown` is `printed`, but for the lines that `...` stands for. If not, the part that is missing.
fn is_excerpt<'a>(shown: &'a str, printed: &str) -> Result<(), &'a str> {
    let end = shown.strip_suffix("\n...");
    let parts: Vec<&str> = end.unwrap_or(shown).split("\n...\n").collect();
    let mut rest = printed.trim_end();
    for (index, part) in parts.iter().enumerate() {
        let at = rest.find(part).ok_or(*part)?;
        if index == 0 && at > 0 {
            return Err(part);
        }
        rest = &rest[at + part.len()..];
    }
    if rest.is_empty() || end.is_some() {
        Ok(())
    } else {
        Err("its end")
    }
}

#[test]
fn an_excerpt_leaves_out_what_it_says_and_changes_nothing() {
    let printed = "a\nb\nc\nd\n";
    for good in ["a\nb\nc\nd", "a\n...\nd", "a\nb\n...\nd"] {
        assert_eq!(is_excerpt(good, printed), Ok(()), "{good}");
    }
    for bad in ["a\nb", "b\nc\nd", "a\n...\nx\nd", "a\nc\nd", "d\n...\na"] {
        assert!(is_excerpt(bad, printed).is_err(), "{bad}");
    }
}
