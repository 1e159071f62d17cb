//! The result file.

use std::io::{self, Write};

use serde::Serialize;
use serde::ser::Error;
use serde_json::Serializer;
use serde_json::ser::{CompactFormatter, Formatter, PrettyFormatter};

use super::Report;

/// Writes the result of a run, a search or a comparison as JSON of schema 1, with a newline at the
/// end.
///
/// # Errors
/// The error of writing to `out`.
pub fn write(result: &dyn Report, mut out: impl Write) -> io::Result<()> {
    result.write_json(&mut out)?;
    writeln!(out)?;
    out.flush()
}

/// Writes a value with a line for each of its parts.
pub(super) fn pretty(value: &impl Serialize, out: &mut dyn Write) -> serde_json::Result<()> {
    serialize(value, out, Layout::Pretty(PrettyFormatter::new()))
}

/// A value in one line.
pub(super) fn compact(value: &impl Serialize) -> serde_json::Result<String> {
    let mut line = Vec::new();
    serialize(value, &mut line, Layout::Compact(CompactFormatter))?;
    String::from_utf8(line).map_err(serde_json::Error::custom)
}

/// The code that this makes for a result is large. So there is one for all writers and layouts.
fn serialize(
    value: &impl Serialize,
    out: &mut dyn Write,
    layout: Layout<'_>,
) -> serde_json::Result<()> {
    value.serialize(&mut Serializer::with_formatter(out, layout))
}

/// Where white space stands.
enum Layout<'a> {
    Compact(CompactFormatter),
    Pretty(PrettyFormatter<'a>),
}

/// Passes these calls on.
macro_rules! by_layout {
    ($($call:ident($($argument:ident: $type:ty)?);)*) => {
        $(fn $call<W: ?Sized + Write>(&mut self, writer: &mut W $(, $argument: $type)?) -> io::Result<()> {
            match self {
                Self::Compact(layout) => layout.$call(writer $(, $argument)?),
                Self::Pretty(layout) => layout.$call(writer $(, $argument)?),
            }
        })*
    };
}

impl Formatter for Layout<'_> {
    by_layout! {
        begin_array();
        end_array();
        begin_array_value(first: bool);
        end_array_value();
        begin_object();
        end_object();
        begin_object_key(first: bool);
        begin_object_value();
        end_object_value();
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn white_space_stands_where_serde_json_puts_it() {
        for value in [
            json!({}),
            json!([]),
            json!({"a": [], "b": {}, "c": [1, {"d": null}, "e\"\n"], "f": {"g": 1.5}}),
            json!([[[]], [{}, {"h": [true]}]]),
        ] {
            let mut written = Vec::new();
            pretty(&value, &mut written).expect("room");
            assert_eq!(written, serde_json::to_vec_pretty(&value).expect("room"));
            let line = compact(&value).expect("room");
            assert_eq!(line, value.to_string());
        }
    }
}
