//! A predecessor's list of sockets reads as it was written, and never promises more sockets than a
//! process can have.
#![no_main]

use echomark::internal::Inventory;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|json: &[u8]| {
    let Ok(inventory) = Inventory::parse(json) else {
        return;
    };
    assert!(inventory.sockets() <= 1 << 20);
    let written = inventory.to_json();
    let again = Inventory::parse(written.as_bytes()).expect("what was written reads");
    assert_eq!(again, inventory, "{written}");
});
