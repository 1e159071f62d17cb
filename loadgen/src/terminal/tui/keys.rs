//! What keys mean. Pure.

use loadgen::profile::MAX_RATE;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

/// The rate that can't be gone below: from no messages at all, no factor leads back.
const MIN_RATE: f64 = 0.1;
/// What `+` does once; `-` undoes it.
const STEP: f64 = 1.1;

/// What the user wants.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Request {
    /// The run is to end, with a result.
    End,
    /// As SIGINT: the first time the run ends early, the second time at once.
    Interrupt,
    /// The rate times this.
    Scale(f64),
    /// The display is to stand still, or to go on.
    Freeze,
}

/// What a key asks for.
pub(crate) fn request(key: KeyEvent) -> Option<Request> {
    if key.kind == KeyEventKind::Release {
        return None;
    }
    if key.modifiers.contains(KeyModifiers::CONTROL) {
        return (key.code == KeyCode::Char('c')).then_some(Request::Interrupt);
    }
    match key.code {
        KeyCode::Char('q') | KeyCode::Esc => Some(Request::End),
        // On many keyboards a plus is a shifted equals sign.
        KeyCode::Char('+' | '=') => Some(Request::Scale(STEP)),
        KeyCode::Char('-') => Some(Request::Scale(1.0 / STEP)),
        KeyCode::Char('*') => Some(Request::Scale(2.0)),
        KeyCode::Char('/') => Some(Request::Scale(0.5)),
        KeyCode::Char('p') => Some(Request::Freeze),
        _ => None,
    }
}

/// A rate times a factor, within what can be asked for.
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
