//! The full-screen view of a run: its state, and keys that control it.
//!
//! A separate thread draws the coordinator's updates and reads the keyboard. It leaves the screen
//! when the run ends, in any way; reports are printed after that.

use std::io;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::{Duration, Instant};

use loadgen::plan::Direction;
use loadgen::report::words;
use loadgen::{Control, Plan};
use ratatui::crossterm::event::{self, Event};
use signal_hook::consts::SIGINT;
use signal_hook::low_level;

mod charts;
mod draw;
mod keys;
mod palette;
mod screen;
mod view;

pub(crate) use keys::Request;
pub(crate) use palette::Palette;
pub(crate) use screen::{Screen, restore};

use crate::terminal::live_state::LiveState;
use crate::terminal::style;
use crate::terminal::updates::{Update, Updates};
use view::View;

/// How often the thread checks for updates. Keys are handled at once.
const TICK: Duration = Duration::from_millis(50);
/// Time between two frames.
const FRAME: Duration = Duration::from_millis(200);
/// Maximum of keys handled before the next frame, so that a held key does not block updates.
const MAX_KEYS: usize = 32;

/// Number of presses of ctrl-C. They are counted because the handler of signals takes two signals in
/// quick succession for one request, while two presses are two requests.
static PRESSED_INTERRUPTS: AtomicU32 = AtomicU32::new(0);

/// Number of presses of ctrl-C on the screen.
pub(crate) fn pressed_interrupts() -> u32 {
    PRESSED_INTERRUPTS.load(Ordering::Relaxed)
}

/// Shows a run of `plan` on the terminal of stderr until the updates are dropped. Keys control it
/// through `control`.
///
/// # Errors
/// One line for the user: why the terminal can't be used.
pub(crate) fn start(plan: &Plan, control: &Control) -> Result<Updates, String> {
    let screen = Screen::open()
        .map_err(|error| format!("cannot use the terminal for --tui (run without): {error}"))?;
    let app = App {
        state: LiveState::new(plan, Instant::now()),
        frozen: None,
        control: control.clone(),
        asked: plan.target_rate(),
        plan: plan.clone(),
        target: words::target(plan),
        load: words::load(plan),
        is_stream: plan.direction().is_some(),
        is_one_way: matches!(plan.direction(), Some(Direction::Up | Direction::Down)),
        palette: if style::wants_color() {
            Palette::colored()
        } else {
            Palette::plain()
        },
    };
    Updates::start("loadgen-screen", move |updates| {
        // A failed terminal does not end the run.
        let _ = app.show(updates, screen);
    })
    .map_err(|error| format!("cannot start a thread for --tui: {error}"))
}

/// Waits briefly for a key and performs its action. Returns whether the display changes.
///
/// # Errors
/// The error of the terminal, or of the action.
pub(crate) fn handle_keys(mut apply: impl FnMut(Request) -> io::Result<()>) -> io::Result<bool> {
    let mut wait = TICK;
    let mut is_visible = false;
    for _ in 0..MAX_KEYS {
        if !event::poll(wait)? {
            break;
        }
        wait = Duration::ZERO;
        match event::read()? {
            Event::Key(key) => {
                if let Some(request) = keys::request(key) {
                    apply(request)?;
                    is_visible = true;
                }
            }
            Event::Resize(..) => is_visible = true,
            _ => {}
        }
    }
    Ok(is_visible)
}

/// Acts as ctrl-C: in raw mode, the terminal sends no signal for it.
///
/// # Errors
/// The error of kill(2).
pub(crate) fn interrupt() -> io::Result<()> {
    PRESSED_INTERRUPTS.fetch_add(1, Ordering::Relaxed);
    low_level::raise(SIGINT)
}

/// The displayed run, and the state set by updates and keys.
struct App {
    state: LiveState,
    /// The frozen state to display instead, and its time.
    frozen: Option<(LiveState, Instant)>,
    control: Control,
    /// The plan's rate, in an open loop.
    asked: Option<f64>,
    plan: Plan,
    target: String,
    load: String,
    is_stream: bool,
    is_one_way: bool,
    palette: Palette,
}

impl App {
    fn show(mut self, updates: &Receiver<Update>, mut screen: Screen) -> io::Result<()> {
        let mut due = Instant::now();
        loop {
            loop {
                match updates.try_recv() {
                    Ok(update) => self.state.take(update),
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Disconnected) => return Ok(()),
                }
            }
            let now = Instant::now();
            if now >= due {
                screen.draw(|frame| draw::draw(frame, &self.view(now)))?;
                due = now + FRAME;
            }
            if handle_keys(|request| self.apply(request))? {
                due = now;
            }
        }
    }

    fn view(&self, now: Instant) -> View<'_> {
        let (state, now) = match &self.frozen {
            Some((state, since)) => (state, *since),
            None => (&self.state, now),
        };
        View {
            state,
            now,
            plan: &self.plan,
            target: &self.target,
            load: &self.load,
            asked: self.rate(),
            is_stream: self.is_stream,
            is_one_way: self.is_one_way,
            is_ending: self.control.is_stopped(),
            is_frozen: self.frozen.is_some(),
            palette: &self.palette,
        }
    }

    /// The present target rate, in an open loop.
    fn rate(&self) -> Option<f64> {
        self.asked.map(|rate| self.control.rate().unwrap_or(rate))
    }

    fn apply(&mut self, request: Request) -> io::Result<()> {
        match request {
            Request::End => {
                self.control.stop();
            }
            Request::Interrupt => interrupt()?,
            Request::Scale(factor) => {
                if let Some(rate) = self.rate() {
                    self.control.set_rate(keys::scaled(rate, factor));
                }
            }
            Request::Freeze => {
                self.frozen = match self.frozen {
                    Some(_) => None,
                    None => Some((self.state.clone(), Instant::now())),
                };
            }
        }
        Ok(())
    }
}
