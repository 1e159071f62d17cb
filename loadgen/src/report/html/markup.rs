//! Construction of HTML. Text from a result can't become markup: templates are literals of this
//! program, and inserted values are escaped.

use std::fmt::{Display, Write as _};

/// A piece of a page.
#[derive(Clone, Debug, Default)]
pub(super) struct Html(String);

impl Html {
    /// Adds markup unchanged.
    pub(super) fn put(&mut self, markup: &'static str) {
        self.0.push_str(markup);
    }

    /// Adds a template with a value for each `{}`. A placeholder may stand in place of text or
    /// within a quoted attribute, and nowhere else.
    pub(super) fn fill(&mut self, template: &'static str, holes: &[&dyn Display]) {
        let mut pieces = template.split("{}");
        self.0.push_str(pieces.next().unwrap_or_default());
        let mut filled = 0;
        for (piece, hole) in pieces.zip(holes) {
            self.text(hole);
            self.0.push_str(piece);
            filled += 1;
        }
        debug_assert_eq!(
            (filled, template.matches("{}").count()),
            (holes.len(), holes.len()),
            "as many holes as values: {template}"
        );
    }

    /// Adds JSON for scripts.
    pub(super) fn json(&mut self, json: &str) {
        // `<` occurs within strings only, where its number means the same.
        self.0.push_str(&json.replace('<', "\\u003c"));
    }

    /// Adds text.
    pub(super) fn text(&mut self, text: impl Display) {
        // Writing to a String can't fail.
        let _ = write!(Escaped(&mut self.0), "{text}");
    }

    /// Adds text in which words between two pairs of asterisks are emphasized.
    pub(super) fn emphasized(&mut self, text: &str) {
        for (index, part) in text.split("**").enumerate() {
            if index % 2 == 1 {
                self.fill("<b>{}</b>", &[&part]);
            } else {
                self.text(part);
            }
        }
    }

    /// Adds a table whose first column names its rows. Wide tables scroll horizontally.
    pub(super) fn table<R, C>(&mut self, head: &[impl Display], rows: impl IntoIterator<Item = R>)
    where
        R: IntoIterator<Item = C>,
        C: Display,
    {
        self.put("<div class=\"scroll\" tabindex=\"0\"><table>\n<thead><tr>");
        for name in head {
            self.fill("<th scope=\"col\">{}</th>", &[name]);
        }
        self.put("</tr></thead>\n<tbody>\n");
        for row in rows {
            self.put("<tr>");
            for (index, cell) in row.into_iter().enumerate() {
                if index == 0 {
                    self.fill("<th scope=\"row\">{}</th>", &[&cell]);
                } else {
                    self.fill("<td>{}</td>", &[&cell]);
                }
            }
            self.put("</tr>\n");
        }
        self.put("</tbody></table></div>\n");
    }

    /// The whole as text.
    pub(super) fn into_string(self) -> String {
        self.0
    }
}

/// Writes escaped text, for an element or a quoted attribute.
struct Escaped<'a>(&'a mut String);

impl std::fmt::Write for Escaped<'_> {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        for character in text.chars() {
            match character {
                '&' => self.0.push_str("&amp;"),
                '<' => self.0.push_str("&lt;"),
                '>' => self.0.push_str("&gt;"),
                '"' => self.0.push_str("&quot;"),
                '\'' => self.0.push_str("&#39;"),
                '\n' => self.0.push('\n'),
                // Control characters must not stand in a page. Changes of text direction could make
                // the text appear different from what it is.
                c if c.is_control() || is_direction(c) => self.0.push('\u{fffd}'),
                c => self.0.push(c),
            }
        }
        Ok(())
    }
}

fn is_direction(character: char) -> bool {
    matches!(character, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn text_stays_text(text in "[\\x00-\\x7f]*|\\PC*|[<>&\"'/a-z! -]*") {
            let mut html = Html::default();
            html.fill("{}", &[&text]);
            let html = html.into_string();
            prop_assert!(!html.contains(['<', '>', '"', '\'']));
            let read_back = html
                .replace("&lt;", "<")
                .replace("&gt;", ">")
                .replace("&quot;", "\"")
                .replace("&#39;", "'")
                .replace("&amp;", "&");
            let wanted: String = text
                .chars()
                .map(|c| if c != '\n' && (c.is_control() || is_direction(c)) { '\u{fffd}' } else { c })
                .collect();
            prop_assert_eq!(read_back, wanted);
        }
    }

    #[test]
    fn holes_are_filled_in_their_order() {
        let mut html = Html::default();
        html.fill("<p class=\"{}\">{}</p>", &[&1, &"a<b {}"]);
        assert_eq!(html.into_string(), "<p class=\"1\">a&lt;b {}</p>");
    }
}
