//! The styles of the screen.

use ratatui::style::{Color, Style};

/// Styles by meaning. Without colours, no information is lost.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Palette {
    /// Names beside figures, and frames.
    pub(crate) label: Style,
    /// Highlights.
    pub(crate) strong: Style,
    /// Amounts.
    pub(crate) amount: Style,
    /// Usual latencies, rare ones, and the worst.
    pub(crate) usual: Style,
    /// Rare latencies.
    pub(crate) rare: Style,
    /// The worst latencies.
    pub(crate) worst: Style,
    /// Failures.
    pub(crate) trouble: Style,
}

impl Palette {
    /// With the terminal's own colours, which the user chose to be readable.
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
