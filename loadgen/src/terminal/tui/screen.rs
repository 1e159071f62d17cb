//! The terminal as a whole screen, and the way back to how it was.

use std::io::{self, Write};
use std::panic;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};

use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::cursor::{Hide, Show};
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{
    EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};
use ratatui::{Frame, Terminal};

/// Whether the screen is ours. There is one terminal, so there is one of these. It changes, and
/// frames are written, under the lock of stderr only: so none comes after the screen was left.
static IS_OURS: AtomicBool = AtomicBool::new(false);
static HOOK: Once = Once::new();

/// The screen, on stderr, so that results may go elsewhere on stdout. Dropping it leaves it.
pub(crate) struct Screen {
    terminal: Terminal<CrosstermBackend<FrameWriter>>,
}

impl Screen {
    /// Takes the screen. A panic of any thread gives it back first, so that it can be read.
    ///
    /// # Errors
    /// What the kernel says when there is no terminal, or it can't be switched.
    pub(crate) fn open() -> io::Result<Self> {
        HOOK.call_once(|| {
            let print = panic::take_hook();
            panic::set_hook(Box::new(move |info| {
                restore();
                print(info);
            }));
        });
        let terminal = Terminal::new(CrosstermBackend::new(FrameWriter::default()))?;
        let mut stderr = io::stderr().lock();
        enable_raw_mode()?;
        IS_OURS.store(true, Ordering::Relaxed);
        // From here on, dropping it puts things right.
        let screen = Self { terminal };
        execute!(stderr, EnterAlternateScreen, Hide)?;
        Ok(screen)
    }

    /// Draws a frame; nothing once the screen was given back.
    ///
    /// # Errors
    /// What the terminal says when it can't be written to.
    pub(crate) fn draw(&mut self, render: impl FnOnce(&mut Frame<'_>)) -> io::Result<()> {
        self.terminal.draw(render).map(|_| ())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        restore();
    }
}

/// Leaves the screen as it was found, if it is ours.
pub(crate) fn restore() {
    let mut stderr = io::stderr().lock();
    if IS_OURS.swap(false, Ordering::Relaxed) {
        // Nothing can be done about a terminal that is gone.
        let _ = disable_raw_mode();
        let _ = execute!(stderr, Show, LeaveAlternateScreen);
    }
}

/// Gathers a frame and writes it in one piece, while the screen is ours.
#[derive(Debug, Default)]
pub(crate) struct FrameWriter {
    frame: Vec<u8>,
}

impl Write for FrameWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.frame.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let mut stderr = io::stderr().lock();
        let written = if IS_OURS.load(Ordering::Relaxed) {
            stderr.write_all(&self.frame)
        } else {
            Ok(())
        };
        self.frame.clear();
        written
    }
}
