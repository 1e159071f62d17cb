//! Actions of keys. Pure.

use loadgen::profile::MAX_RATE;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

/// The minimum rate: a factor can't increase a rate of zero.
const MIN_RATE: f64 = 0.1;
/// The factor of one `+`; `-` is its inverse.
const STEP: f64 = 1.1;

/// An action.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Request {
    /// Ends the run, with a result.
    End,
    /// As SIGINT: the first one ends the run early, the second one ends the program.
    Interrupt,
    /// Multiplies the rate.
    Scale(f64),
    /// Freezes or resumes the display.
    Freeze,
}

/// The action of a key.
pub(crate) fn request(key: KeyEvent) -> Option<Request> {
    if key.kind == KeyEventKind::Release {
        return None;
    }
    if key.modifiers.contains(KeyModifiers::CONTROL) {
        return (key.code == KeyCode::Char('c')).then_some(Request::Interrupt);
    }
    match key.code {
        KeyCode::Char('q') | KeyCode::Esc => Some(Request::End),
        // On many keyboards, plus is a shifted equals sign.
        KeyCode::Char('+' | '=') => Some(Request::Scale(STEP)),
        KeyCode::Char('-') => Some(Request::Scale(1.0 / STEP)),
        KeyCode::Char('*') => Some(Request::Scale(2.0)),
        KeyCode::Char('/') => Some(Request::Scale(0.5)),
        KeyCode::Char('p') => Some(Request::Freeze),
        _ => None,
    }
}

/// A rate times a factor, within the allowed range.
pub(crate) fn scaled(rate: f64, factor: f64) -> f64 {
    (rate * factor).clamp(MIN_RATE, MAX_RATE)
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
            (KeyCode::Char('q'), Some(Request::End)),
            (KeyCode::Esc, Some(Request::End)),
            (KeyCode::Char('*'), Some(Request::Scale(2.0))),
            (KeyCode::Char('/'), Some(Request::Scale(0.5))),
            (KeyCode::Char('p'), Some(Request::Freeze)),
            (KeyCode::Char('c'), None),
        ] {
            assert_eq!(request(press(code)), wanted, "{code:?}");
        }
        let interrupt = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        assert_eq!(request(interrupt), Some(Request::Interrupt));
        let mut release = press(KeyCode::Char('q'));
        release.kind = KeyEventKind::Release;
        assert_eq!(request(release), None);
    }

    #[test]
    fn a_minus_undoes_a_plus_and_the_rate_stays_within_bounds() {
        let [Some(Request::Scale(up)), Some(Request::Scale(down))] =
            ['+', '-'].map(|key| request(press(KeyCode::Char(key))))
        else {
            panic!("both scale the rate");
        };
        assert!((scaled(scaled(5_000.0, up), down) - 5_000.0).abs() < 1e-6);
        assert_eq!(scaled(MAX_RATE, 2.0), MAX_RATE);
        assert_eq!(scaled(MIN_RATE, 0.5), MIN_RATE);
    }
}
