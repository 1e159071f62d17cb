//! What keys mean. Pure.

use loadgen::profile::MAX_RATE;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

/// The rate that can't be gone below: from no messages at all, no factor leads back.
const LEAST_RATE: f64 = 0.1;
/// What `+` does once; `-` undoes it.
const STEP: f64 = 1.1;

/// What the user wants.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Wish {
    /// The run is to end, with a result.
    End,
    /// What SIGINT does: the first time the same, the second time at once.
    Interrupt,
    /// The rate times this.
    Scale(f64),
    /// The display is to stand still, or to go on.
    Freeze,
}

/// What a key asks for.
pub(crate) fn wish(key: KeyEvent) -> Option<Wish> {
    if key.kind == KeyEventKind::Release {
        return None;
    }
    if key.modifiers.contains(KeyModifiers::CONTROL) {
        return (key.code == KeyCode::Char('c')).then_some(Wish::Interrupt);
    }
    match key.code {
        KeyCode::Char('q') | KeyCode::Esc => Some(Wish::End),
        // On many keyboards a plus is a shifted equals sign.
        KeyCode::Char('+' | '=') => Some(Wish::Scale(STEP)),
        KeyCode::Char('-') => Some(Wish::Scale(1.0 / STEP)),
        KeyCode::Char('*') => Some(Wish::Scale(2.0)),
        KeyCode::Char('/') => Some(Wish::Scale(0.5)),
        KeyCode::Char('p') => Some(Wish::Freeze),
        _ => None,
    }
}

/// A rate times a factor, within what can be asked for.
pub(crate) fn scaled(rate: f64, factor: f64) -> f64 {
    (rate * factor).clamp(LEAST_RATE, MAX_RATE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn press(code: KeyCode) -> KeyEvent {
        KeyEvent::new(code, KeyModifiers::NONE)
    }

    #[test]
    fn keys_ask_for_what_the_screen_says() {
        for (code, wanted) in [
            (KeyCode::Char('q'), Some(Wish::End)),
            (KeyCode::Esc, Some(Wish::End)),
            (KeyCode::Char('*'), Some(Wish::Scale(2.0))),
            (KeyCode::Char('/'), Some(Wish::Scale(0.5))),
            (KeyCode::Char('p'), Some(Wish::Freeze)),
            (KeyCode::Char('c'), None),
        ] {
            assert_eq!(wish(press(code)), wanted, "{code:?}");
        }
        let interrupt = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        assert_eq!(wish(interrupt), Some(Wish::Interrupt));
        let mut release = press(KeyCode::Char('q'));
        release.kind = KeyEventKind::Release;
        assert_eq!(wish(release), None);
    }

    #[test]
    fn a_minus_undoes_a_plus_and_the_rate_stays_within_bounds() {
        let [Some(Wish::Scale(up)), Some(Wish::Scale(down))] =
            ['+', '-'].map(|key| wish(press(KeyCode::Char(key))))
        else {
            panic!("both scale the rate");
        };
        assert!((scaled(scaled(5_000.0, up), down) - 5_000.0).abs() < 1e-6);
        assert_eq!(scaled(MAX_RATE, 2.0), MAX_RATE);
        assert_eq!(scaled(LEAST_RATE, 0.5), LEAST_RATE);
    }
}
