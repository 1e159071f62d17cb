//! A result as one self-contained HTML page: no network access, light and dark, printable. It is
//! readable without its script, which only improves the tooltips.

use super::document::{Block, Document, Fact, Judgement, Medium, Report};
use super::format::capitalized;
use crate::result::Status;

mod markup;
mod plot;

use markup::Html;

const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("script.js");

/// The start of every page.
const DOCTYPE: &str = "<!DOCTYPE html>";
/// What stands around the result in a page. Browsers neither show nor run such an element.
const RESULT_BEGIN: &str = "<script type=\"application/json\" id=\"result\">";
const RESULT_END: &str = "</script>";
/// A page should be small enough to be attached to an issue.
const MAX_RESULT_LEN: usize = 512 << 10;
const WITH_RESULT: &str = "<p class=\"note\">This page contains the result itself: <code>loadgen \
    report</code> and <code>loadgen compare</code> read it from here.</p>\n";
const WITHOUT_RESULT: &str = "<p class=\"note\">The result itself is too long for this page: keep the \
    file that --json wrote.</p>\n";

/// Renders a result. The page contains the result itself, see [`stored_result`].
pub fn render(report: &dyn Report) -> String {
    let document = report.document(Medium::Page);
    let mut out = Html::default();
    head(&document, &mut out);
    for section in &document.sections {
        out.fill("<section id=\"{}\">", &[&section.id]);
        if !section.title.is_empty() {
            out.fill("<h2>{}</h2>", &[&section.title]);
        }
        out.put("\n");
        write_blocks(&section.blocks, &mut out);
        out.put("</section>\n");
    }
    let json = report.to_json().ok();
    let json = json.filter(|json| json.len() <= MAX_RESULT_LEN);
    out.put(if json.is_some() {
        WITH_RESULT
    } else {
        WITHOUT_RESULT
    });
    out.put("</main>\n<div id=\"tip\" role=\"status\" hidden></div>\n");
    if let Some(json) = json {
        out.put(RESULT_BEGIN);
        out.json(&json);
        out.put(RESULT_END);
    }
    out.put("\n<script>\n");
    out.put(SCRIPT);
    out.put("</script>\n</body>\n</html>\n");
    out.into_string()
}

/// The result in a page, as JSON. `None` if there is none.
pub fn stored_result(page: &[u8]) -> Option<&[u8]> {
    let page = std::str::from_utf8(page).ok()?;
    let page = page.strip_prefix(DOCTYPE)?;
    let (_, rest) = page.split_once(RESULT_BEGIN)?;
    let (json, _) = rest.split_once(RESULT_END)?;
    Some(json.as_bytes())
}

/// Starts the page. Its Content-Security-Policy forbids everything that is not in the file.
fn head(document: &Document, out: &mut Html) {
    out.put(DOCTYPE);
    out.fill(
        "\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src \
         'unsafe-inline'; script-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action \
         'none'\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <meta name=\"referrer\" content=\"no-referrer\">\n\
         <link rel=\"icon\" href=\"data:,\">\n\
         <title>{}: {}</title>\n<style>\n",
        &[&document.badge, &document.heading],
    );
    out.put(STYLE);
    out.fill(
        "</style>\n</head>\n<body>\n<main>\n<header>\n<p class=\"kind\">loadgen {} · {}",
        &[&document.kind, &document.started_at],
    );
    if document.is_interrupted {
        out.put(" · <b>interrupted</b>");
    }
    out.fill(
        "</p>\n<h1>{}</h1>\n<p class=\"load\">{}</p>\n</header>\n",
        &[&document.heading, &document.load],
    );
}

fn write_blocks(blocks: &[Block], out: &mut Html) {
    let is_counts = |block: &Block| matches!(block, Block::Counts { .. });
    for group in blocks.chunk_by(|one, next| is_counts(one) && is_counts(next)) {
        // Reference tables stand side by side.
        if group.iter().any(is_counts) {
            out.put("<div class=\"columns\">\n");
            group.iter().for_each(|block| write_block(block, out));
            out.put("</div>\n");
        } else {
            group.iter().for_each(|block| write_block(block, out));
        }
    }
}

fn write_block(block: &Block, out: &mut Html) {
    match block {
        Block::Verdict(judgement) => verdict(judgement, out),
        Block::Facts { facts, .. } => tiles(facts, out),
        Block::Counts { title, counts, .. } => {
            let rows = counts.iter().map(|count| [&count.name, &count.value]);
            out.table(&[*title, ""], rows);
        }
        Block::Table(table) => out.table(&table.head, &table.rows),
        Block::Line { text, .. } => out.fill("<p>{}</p>\n", &[&capitalized(text)]),
        Block::Note(text) => {
            out.put("<p class=\"note\">");
            out.emphasized(text);
            out.put("</p>\n");
        }
        Block::List(items) => {
            out.put("<ul class=\"reading\">\n");
            for item in items {
                out.put("<li>");
                out.emphasized(item);
                out.put("</li>\n");
            }
            out.put("</ul>\n");
        }
        Block::Details { summary, blocks } => {
            out.fill("<details><summary>{}</summary>\n", &[summary]);
            write_blocks(blocks, out);
            out.put("</details>\n");
        }
        Block::Chart(chart) => chart.draw(out),
        Block::Forest(table, forest) => plot::forest(table, forest, out),
        Block::Shares(shares) => plot::shares(shares, out),
    }
}

fn verdict(judgement: &Judgement, out: &mut Html) {
    out.fill(
        "<div class=\"verdict {}\"><h2>",
        &[&status_class(judgement.status)],
    );
    if !judgement.badge.is_empty() {
        out.fill("<span class=\"badge\">{}</span> ", &[&judgement.badge]);
    }
    out.fill("{}</h2>\n", &[&judgement.headline]);
    if !judgement.text.is_empty() {
        out.fill(
            "<p>{}.</p>\n",
            &[&capitalized(judgement.text.trim_end_matches('.'))],
        );
    }
    if !judgement.reasons.is_empty() {
        out.put("<ul>\n");
        for reason in &judgement.reasons {
            out.fill(
                "<li class=\"{}\"><code>{}</code> {}</li>\n",
                &[&status_class(reason.status), &reason.code, &reason.text],
            );
        }
        out.put("</ul>\n");
    }
    out.put("</div>\n");
}

/// The style of a status.
fn status_class(status: Status) -> &'static str {
    match status {
        Status::Valid => "valid",
        Status::Suspect => "suspect",
        Status::Invalid => "invalid",
    }
}

/// Figures with their names above and notes below.
fn tiles(facts: &[Fact], out: &mut Html) {
    out.put("<dl class=\"tiles\">\n");
    for fact in facts {
        out.fill(
            "<div><dt>{}</dt><dd><span class=\"figure\">{}</span><span class=\"about\">{}</span></dd></div>\n",
            &[&fact.name, &fact.value, &fact.note],
        );
    }
    out.put("</dl>\n");
}
