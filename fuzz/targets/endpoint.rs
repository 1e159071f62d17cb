//! An endpoint prints as what it was read from, or as another way to write the same.
#![no_main]

use echomark::net::endpoint::Endpoint;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    match text.parse::<Endpoint>() {
        Ok(endpoint) => {
            let printed = endpoint.to_string();
            assert_eq!(printed.parse().as_ref(), Ok(&endpoint), "{printed:?}");
        }
        Err(error) => assert!(error.to_string().contains(text), "{error}"),
    }
});
