//! A stored result as one HTML page for people: everything in the file, no network, light and dark, on
//! paper too. It is readable without its script, which only makes the values under the pointer nicer.

use echomark::net::units::format_duration_ns;

use crate::result::comparison::Comparison;
use crate::result::{RunResult, SearchResult};

mod columns;
mod comparison;
mod details;
mod latency;
mod markup;
mod plot;
mod run;
mod runs;
mod scale;
mod search;
mod series;
mod server;
mod tcp;

use markup::Html;

const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("script.js");

/// Renders the result of a run.
pub fn render(result: &RunResult) -> String {
    let mut body = Html::default();
    run::write(result, &mut body);
    page(&run::title(result), &body)
}

/// Renders the result of a search.
pub fn render_search(result: &SearchResult) -> String {
    let mut body = Html::default();
    search::write(result, &mut body);
    page(&search::title(result), &body)
}

/// Renders a comparison.
pub fn render_comparison(comparison: &Comparison) -> String {
    let mut body = Html::default();
    comparison::write(comparison, &mut body);
    page(&comparison::title(comparison), &body)
}

/// A whole page. Its policy forbids whatever is not in the file.
fn page(title: &str, body: &Html) -> String {
    let mut out = Html::default();
    out.fill(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src \
         'unsafe-inline'; script-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action \
         'none'\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <meta name=\"referrer\" content=\"no-referrer\">\n\
         <link rel=\"icon\" href=\"data:,\">\n\
         <title>{}</title>\n<style>\n",
        &[&title],
    );
    out.put(STYLE);
    out.put("</style>\n</head>\n<body>\n<main>\n");
    out.add(body);
    out.put("</main>\n<div id=\"tip\" role=\"status\" hidden></div>\n<script>\n");
    out.put(SCRIPT);
    out.put("</script>\n</body>\n</html>\n");
    out.into_string()
}

/// A figure, or the sign for one that is not known.
fn known(figure: Option<String>) -> String {
    figure.unwrap_or_else(|| "–".to_owned())
}

fn duration(nanoseconds: Option<u64>) -> String {
    known(nanoseconds.map(|value| format_duration_ns(value as f64)))
}

/// Seconds to a thousandth, without zeros at the end.
fn seconds(seconds: f64) -> String {
    let rounded = (seconds * 1000.0).round() / 1000.0;
    format!("{rounded}")
}
