//! What campaigns share with the tests.

#[path = "../../../tests/behavior/support/tools.rs"]
#[allow(
    dead_code,
    unused_imports,
    unused_macros,
    reason = "campaigns use some of the helpers"
)]
pub(crate) mod tools;
