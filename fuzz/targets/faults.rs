//! Options of an endpoint print as what they were read from, or as another way to write the same.
#![no_main]

use echomark::Faults;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    match text.parse::<Faults>() {
        Ok(faults) => {
            let printed = faults.to_string();
            assert_eq!(printed.parse().as_ref(), Ok(&faults), "{printed:?}");
        }
        Err(error) => {
            let mut options = text.split('&');
            let names_one = options.any(|option| error.to_string().contains(option));
            assert!(names_one, "{error}");
        }
    }
});
