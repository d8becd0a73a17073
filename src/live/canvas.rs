//! The terminal on standard error as something to draw on, and its restoration.

use std::{
    io::{self, BufWriter, Stderr, stderr},
    panic,
    sync::atomic::{AtomicI32, Ordering::SeqCst},
};

use nix::unistd::getpid;
use ratatui::{
    Frame, Terminal, TerminalOptions, Viewport,
    backend::CrosstermBackend,
    buffer::Buffer,
    crossterm::{
        cursor::Show,
        execute,
        terminal::{Clear, ClearType, EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode},
    },
    layout::Rect,
};
use terminal_size::{Height, Width, terminal_size_of};

use crate::format::is_harmful;

/// The most columns and rows that are drawn on: a terminal may claim to have more cells than there is memory for.
const MOST: (u16, u16) = (1_000, 500);

/// The whole screen of a terminal. Dropped, even by a panic, it gives the terminal back.
pub(super) struct Canvas {
    terminal: Terminal<CrosstermBackend<BufWriter<Stderr>>>,
    area: Rect,
}

impl Canvas {
    /// Takes the screen.
    pub(super) fn take() -> io::Result<Self> {
        let area = area()?;
        take()?;
        // From here on, any failure restores the terminal.
        let terminal = terminal(area).inspect_err(|_| give_back())?;
        Ok(Self { terminal, area })
    }

    /// Draws a frame in the terminal's present size.
    pub(super) fn draw(&mut self, draw: impl FnOnce(&mut Frame<'_>)) -> io::Result<()> {
        let area = area()?;
        if area != self.area {
            self.terminal = terminal(area)?;
            self.area = area;
        }
        self.terminal.draw(|frame| {
            draw(frame);
            make_harmless(frame.buffer_mut());
        })?;
        Ok(())
    }

    /// Makes the next frame draw everything, whatever the screen shows.
    pub(super) fn redraw(&mut self) {
        self.area = Rect::ZERO;
    }

    /// Gives the screen back before this is dropped.
    pub(super) fn give_back(&mut self) {
        give_back();
    }
}

/// Names of processes and what servers print may hold anything.
fn make_harmless(buffer: &mut Buffer) {
    for cell in &mut buffer.content {
        if cell.symbol().contains(is_harmful) {
            cell.set_char(char::REPLACEMENT_CHARACTER);
        }
    }
}

impl Drop for Canvas {
    fn drop(&mut self) {
        give_back();
    }
}

/// An empty screen. Each size gets a new one, because ratatui's own clearing and resizing ask the terminal for its cursor and wait
/// for the answer.
fn terminal(area: Rect) -> io::Result<Terminal<CrosstermBackend<BufWriter<Stderr>>>> {
    execute!(stderr(), Clear(ClearType::All))?;
    // Without a buffer, each attribute would be a system call.
    let backend = CrosstermBackend::new(BufWriter::with_capacity(1 << 16, stderr()));
    Terminal::with_options(backend, TerminalOptions { viewport: Viewport::Fixed(area) })
}

fn area() -> io::Result<Rect> {
    let size = terminal_size_of(stderr()).ok_or_else(|| io::Error::other("the terminal does not report its size"))?;
    let (Width(columns), Height(rows)) = size;
    Ok(Rect::new(0, 0, columns.min(MOST.0), rows.min(MOST.1)))
}

/// The process that owns the screen, or 0. Forked children inherit the number but are not that process.
static OWNER: AtomicI32 = AtomicI32::new(0);

fn take() -> io::Result<()> {
    static HOOK: std::sync::Once = std::sync::Once::new();
    // A panic's message belongs on the restored terminal.
    HOOK.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            give_back();
            before(info);
        }));
    });
    enable_raw_mode()?;
    OWNER.store(getpid().as_raw(), SeqCst);
    execute!(stderr(), EnterAlternateScreen).inspect_err(|_| give_back())
}

/// Restores the terminal once, and only in the process that took it.
fn give_back() {
    if OWNER.compare_exchange(getpid().as_raw(), 0, SeqCst, SeqCst).is_ok() {
        let _ = execute!(stderr(), LeaveAlternateScreen, Show);
        let _ = disable_raw_mode();
    }
}

#[cfg(test)]
mod tests {
    use ratatui::{text::Line, widgets::Widget};

    use super::*;

    #[test]
    fn nothing_on_a_screen_misleads() {
        let mut buffer = Buffer::empty(Rect::new(0, 0, 30, 1));
        Line::from("a\u{1b}[31mb\u{202e}c\u{9b}d\u{200b}e é").render(buffer.area, &mut buffer);
        make_harmless(&mut buffer);
        let shown: String = buffer.content.iter().map(|cell| cell.symbol()).collect();
        assert!(!shown.contains(is_harmful), "{shown:?}");
        assert!(shown.contains("[31m") && shown.contains('é'), "{shown:?}");
    }
}
