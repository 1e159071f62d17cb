//! A quantity is the same however it is written out, and an error shows what was written.
#![no_main]

use echomark::net::units::{
    UnitError, format_duration, format_size, parse_count, parse_duration, parse_rate, parse_size,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let duration = parse_duration(text);
    reads_back(text, duration, parse_duration, |&it| format_duration(it));
    reads_back(text, parse_count(text), parse_count, u64::to_string);
    reads_back(text, parse_rate(text), parse_rate, f64::to_string);
    reads_back(text, parse_size(text), parse_size, |&it| format_size(it));
});

fn reads_back<T: std::fmt::Debug + PartialEq>(
    text: &str,
    parsed: Result<T, UnitError>,
    parse: impl Fn(&str) -> Result<T, UnitError>,
    print: impl Fn(&T) -> String,
) {
    match parsed {
        Ok(value) => {
            let printed = print(&value);
            assert_eq!(parse(&printed).as_ref(), Ok(&value), "{printed:?}");
        }
        Err(error) => assert!(error.to_string().contains(text), "{error}"),
    }
}
