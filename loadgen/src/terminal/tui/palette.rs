//! The looks of what is drawn.

use ratatui::style::{Color, Style};

/// Styles by what they say. Without colours, nothing is lost but convenience.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Palette {
    /// Names beside figures, and frames.
    pub(crate) label: Style,
    /// What the eye is to find first.
    pub(crate) strong: Style,
    /// Amounts.
    pub(crate) amount: Style,
    /// Usual latencies, rarer ones, and the worst.
    pub(crate) usual: Style,
    /// See above.
    pub(crate) rare: Style,
    /// See above.
    pub(crate) worst: Style,
    /// What went wrong.
    pub(crate) trouble: Style,
}

impl Palette {
    /// With the terminal's own colours, which its user chose to be readable.
    pub(crate) fn colored() -> Self {
        Self {
            amount: Style::new().fg(Color::Cyan),
            usual: Style::new().fg(Color::Green),
            rare: Style::new().fg(Color::Yellow),
            worst: Style::new().fg(Color::Red),
            trouble: Style::new().fg(Color::Red).bold(),
            ..Self::plain()
        }
    }

    /// Without colours.
    pub(crate) fn plain() -> Self {
        Self {
            label: Style::new().dim(),
            strong: Style::new().bold(),
            amount: Style::new(),
            usual: Style::new(),
            rare: Style::new(),
            worst: Style::new(),
            trouble: Style::new().bold(),
        }
    }
}
