//! Lines of the form `--name=value` are flags, those of the form `ECHOD_NAME=value` variables, and
//! all others are the file. What comes of them prints as a file that says the same, and a mistake is
//! told in one line.
#![no_main]

use std::path::Path;

use echomark::internal::{PREFIX, Resolved, Settings};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let mut flags = Vec::new();
    let mut environment = Vec::new();
    let mut file = String::new();
    for line in text.split_inclusive('\n') {
        let assignment = line.trim_end_matches('\n').split_once('=');
        match assignment {
            Some((name, value)) if name.starts_with("--") => flags.push((&name[2..], value)),
            Some((name, value)) if name.starts_with(PREFIX) => {
                environment.push((name.to_owned(), value.to_owned()));
            }
            _ => file.push_str(line),
        }
    }
    match Settings::resolve(&flags, environment, Some((Path::new("a file"), &file))) {
        Ok(resolved) => {
            let printed = resolved.to_toml();
            let again = from_file(&printed);
            assert_eq!(again.settings, resolved.settings, "{printed}");
            assert_eq!(again.settings.needing_restart(&resolved.settings), [""; 0]);
            assert_eq!(from_file(&again.to_toml()).to_toml(), again.to_toml());
        }
        Err(mistake) => {
            let told = mistake.to_string();
            assert!(!told.is_empty() && !told.contains('\n'), "{told:?}");
        }
    }
});

fn from_file(text: &str) -> Resolved {
    const NO_FLAGS: &[(&str, &str)] = &[];
    match Settings::resolve(NO_FLAGS, [], Some((Path::new("printed"), text))) {
        Ok(resolved) => resolved,
        Err(mistake) => panic!("what was printed is refused: {mistake}\n{text}"),
    }
}
