//! The full-screen view of a watch: its state, and keys that end it or freeze the view.

use std::collections::VecDeque;
use std::io;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::{Duration, Instant};

use loadgen::Control;
use loadgen::observer::watch::{WatchEvent, WatchStatus};
use loadgen::plan::watch::WatchPlan;

use super::draw::{self, View};
use super::{Feed, News};
use crate::terminal::style;
use crate::terminal::tui::{self, Palette, Request, Screen};

/// Time between two frames.
const FRAME: Duration = Duration::from_millis(200);
/// Maximum of events that are kept: more than a screen has lines.
const MAX_EVENTS: usize = 200;

/// Shows a watch on the terminal of stderr until the feed is dropped. Keys end it through `control`.
///
/// # Errors
/// One line for the user: why the terminal can't be used.
pub(crate) fn start(plan: &WatchPlan, control: &Control) -> Result<Feed, String> {
    let screen = Screen::open()
        .map_err(|error| format!("cannot use the terminal for --tui (run without): {error}"))?;
    let app = App {
        plan: plan.clone(),
        control: control.clone(),
        status: WatchStatus::default(),
        events: VecDeque::new(),
        frozen: None,
        palette: if style::wants_color() {
            Palette::colored()
        } else {
            Palette::plain()
        },
    };
    Feed::start("loadgen-screen", move |news| {
        // A failed terminal does not end the watch.
        let _ = app.show(news, screen);
    })
    .map_err(|error| format!("cannot start a thread for --tui: {error}"))
}

/// The displayed watch, and the state set by keys.
struct App {
    plan: WatchPlan,
    control: Control,
    status: WatchStatus,
    events: VecDeque<WatchEvent>,
    /// The frozen state to display instead.
    frozen: Option<(WatchStatus, VecDeque<WatchEvent>)>,
    palette: Palette,
}

impl App {
    fn show(mut self, news: &Receiver<News>, mut screen: Screen) -> io::Result<()> {
        let mut due = Instant::now();
        loop {
            loop {
                match news.try_recv() {
                    Ok(news) => self.take(news),
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Disconnected) => return Ok(()),
                }
            }
            let now = Instant::now();
            if now >= due {
                screen.draw(|frame| draw::draw(frame, &self.view()))?;
                due = now + FRAME;
            }
            if tui::handle_keys(|request| self.apply(request))? {
                due = now;
            }
        }
    }

    fn take(&mut self, news: News) {
        match news {
            News::Status(status) => self.status = status,
            News::Event(event) => {
                if self.events.len() == MAX_EVENTS {
                    self.events.pop_front();
                }
                self.events.push_back(event);
            }
        }
    }

    fn view(&self) -> View<'_> {
        let (status, events) = match &self.frozen {
            Some((status, events)) => (status, events),
            None => (&self.status, &self.events),
        };
        View {
            plan: &self.plan,
            status,
            events,
            is_ending: self.control.is_stopped(),
            is_frozen: self.frozen.is_some(),
            palette: &self.palette,
        }
    }

    fn apply(&mut self, request: Request) -> io::Result<()> {
        match request {
            Request::End => {
                self.control.stop();
            }
            Request::Interrupt => tui::interrupt()?,
            // A watch has no rate to change.
            Request::Scale(_) => {}
            Request::Freeze => {
                self.frozen = match self.frozen {
                    Some(_) => None,
                    None => Some((self.status.clone(), self.events.clone())),
                };
            }
        }
        Ok(())
    }
}
