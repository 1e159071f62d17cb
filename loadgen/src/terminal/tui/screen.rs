//! The alternate screen of the terminal, and the way back.

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

/// Whether this program is on the alternate screen. There is one terminal, so there is one flag. It
/// changes, and frames are written, only under the lock of stderr: no frame follows after the
/// screen was left.
static IS_OURS: AtomicBool = AtomicBool::new(false);
static HOOK: Once = Once::new();

/// The screen, on stderr, so that results can go to stdout. Dropping it leaves the screen.
pub(crate) struct Screen {
    terminal: Terminal<CrosstermBackend<FrameWriter>>,
}

impl Screen {
    /// Enters the screen. A panic in any thread leaves it first, so that the message is readable.
    ///
    /// # Errors
    /// The error of the kernel if there is no terminal, or if it can't be switched.
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
        // From here on, dropping it restores the terminal.
        let screen = Self { terminal };
        execute!(stderr, EnterAlternateScreen, Hide)?;
        Ok(screen)
    }

    /// Draws a frame, unless the screen was left.
    ///
    /// # Errors
    /// The error of writing to the terminal.
    pub(crate) fn draw(&mut self, render: impl FnOnce(&mut Frame<'_>)) -> io::Result<()> {
        self.terminal.draw(render).map(|_| ())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        restore();
    }
}

/// Leaves the screen and restores the terminal, if it was entered.
pub(crate) fn restore() {
    let mut stderr = io::stderr().lock();
    if IS_OURS.swap(false, Ordering::Relaxed) {
        // A lost terminal can't be restored.
        let _ = disable_raw_mode();
        let _ = execute!(stderr, Show, LeaveAlternateScreen);
    }
}

/// Collects a frame and writes it in one piece, while on the screen.
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
