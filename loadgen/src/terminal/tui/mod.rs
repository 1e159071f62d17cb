//! A run on the whole terminal: what it does, and keys that steer it.
//!
//! A thread of its own draws what the coordinator sends and reads the keyboard. It leaves the screen
//! when the run is over, whatever way it ends; reports are printed after that.

use std::io;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::{Duration, Instant};

use loadgen::plan::Direction;
use loadgen::report::text;
use loadgen::{Control, Plan};
use ratatui::crossterm::event::{self, Event};
use signal_hook::consts::SIGINT;
use signal_hook::low_level;

mod charts;
mod draw;
mod keys;
mod palette;
mod terminal;

pub(crate) use terminal::restore;

use crate::terminal::feed::{Feed, News};
use crate::terminal::model::Model;
use crate::terminal::words;
use draw::View;
use keys::Wish;
use palette::Palette;
use terminal::Screen;

/// How often the thread looks whether there is news. Keys are answered at once.
const TICK: Duration = Duration::from_millis(50);
/// Time between two frames: as fast as figures can be read.
const FRAME: Duration = Duration::from_millis(200);
/// Keys that are taken before the next frame, so that one that is held down does not hide them.
const MOST_KEYS: usize = 32;

/// Shows a run of `plan` on the terminal of stderr until the feed is dropped; keys steer it through
/// `control`.
///
/// # Errors
/// One line for the user: why the terminal can't be used.
pub(crate) fn start(plan: &Plan, control: &Control) -> Result<Feed, String> {
    let screen = Screen::open()
        .map_err(|error| format!("cannot use the terminal for --tui (run without): {error}"))?;
    let desk = Desk {
        model: Model::new(plan, Instant::now()),
        frozen: None,
        control: control.clone(),
        asked: plan.target_rate(),
        plan: plan.clone(),
        target: text::target(plan),
        load: text::load(plan),
        is_stream: plan.direction().is_some(),
        is_one_way: matches!(plan.direction(), Some(Direction::Up | Direction::Down)),
        palette: if words::wants_color() {
            Palette::colored()
        } else {
            Palette::plain()
        },
    };
    Feed::start("loadgen-screen", move |news| {
        // A terminal that fails is no reason to end the run.
        let _ = desk.show(news, screen);
    })
    .map_err(|error| format!("cannot start a thread for --tui: {error}"))
}

/// Where news and keys come together.
struct Desk {
    model: Model,
    /// What is shown instead, and the time at which it stands still.
    frozen: Option<(Model, Instant)>,
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

impl Desk {
    fn show(mut self, news: &Receiver<News>, mut screen: Screen) -> io::Result<()> {
        let mut due = Instant::now();
        loop {
            loop {
                match news.try_recv() {
                    Ok(news) => self.model.take(news),
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Disconnected) => return Ok(()),
                }
            }
            let now = Instant::now();
            if now >= due {
                screen.draw(|frame| draw::draw(frame, &self.view(now)))?;
                due = now + FRAME;
            }
            if self.obey_keys()? {
                due = now;
            }
        }
    }

    fn view(&self, now: Instant) -> View<'_> {
        let (model, now) = match &self.frozen {
            Some((model, since)) => (model, *since),
            None => (&self.model, now),
        };
        View {
            model,
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

    /// The rate that is asked for now, in an open loop.
    fn rate(&self) -> Option<f64> {
        self.asked.map(|rate| self.control.rate().unwrap_or(rate))
    }

    /// Waits a little for a key, does what the user wants, and says whether that shows.
    fn obey_keys(&mut self) -> io::Result<bool> {
        let mut wait = TICK;
        let mut is_visible = false;
        for _ in 0..MOST_KEYS {
            if !event::poll(wait)? {
                break;
            }
            wait = Duration::ZERO;
            match event::read()? {
                Event::Key(key) => {
                    if let Some(wish) = keys::wish(key) {
                        self.grant(wish)?;
                        is_visible = true;
                    }
                }
                Event::Resize(..) => is_visible = true,
                _ => {}
            }
        }
        Ok(is_visible)
    }

    fn grant(&mut self, wish: Wish) -> io::Result<()> {
        match wish {
            Wish::End => {
                self.control.stop();
            }
            // The terminal sends no signal while it hands over every key.
            Wish::Interrupt => low_level::raise(SIGINT)?,
            Wish::Scale(factor) => {
                if let Some(rate) = self.rate() {
                    self.control.set_rate(keys::scaled(rate, factor));
                }
            }
            Wish::Freeze => {
                self.frozen = match self.frozen {
                    Some(_) => None,
                    None => Some((self.model.clone(), Instant::now())),
                };
            }
        }
        Ok(())
    }
}
