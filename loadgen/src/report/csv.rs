//! A result as CSV (RFC 4180): a header, and a line for each interval of a run, trial of a search
//! or figure of a comparison. Nulls of the result are empty fields.

use super::document::Report;

/// Renders a result.
pub fn render(report: &dyn Report) -> String {
    let records = report.records();
    let mut out = records.head.join(",");
    out.push('\n');
    for row in &records.rows {
        let fields: Vec<String> = row.iter().map(|text| field(text)).collect();
        out.push_str(&fields.join(","));
        out.push('\n');
    }
    out
}

/// Quotes text that contains a separator.
fn field(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_stays_in_its_field() {
        assert_eq!(field("0.1 % met"), "0.1 % met");
        assert_eq!(field("0.1 % met, \"no\"\n"), "\"0.1 % met, \"\"no\"\"\n\"");
    }
}
