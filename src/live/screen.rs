//! The screen: taken over when the trials begin, and restored when they end, however that happens.

use std::{
    io::{self, BufWriter, Stderr, stderr},
    panic,
    sync::atomic::{
        AtomicBool, AtomicI32,
        Ordering::{Relaxed, SeqCst},
    },
};

use nix::unistd::getpid;
use ratatui::{
    Terminal, TerminalOptions, Viewport,
    backend::CrosstermBackend,
    crossterm::{
        cursor::Show,
        execute,
        terminal::{Clear, ClearType, EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode},
    },
    layout::Rect,
};
use terminal_size::{Height, Width, terminal_size_of};

use super::{
    draw::{self, Palette},
    flaw, flaw_line, keys,
    model::Model,
    pace::Pace,
    print,
};
use crate::{
    record::TrialRecord,
    trial::{Job, View},
};

/// A screen on standard error.
pub(super) struct Screen<'a> {
    canvas: Canvas,
    area: Rect,
    palette: Palette,
    model: Model,
    /// Printed once the screen is gone.
    kept: Vec<String>,
    interrupted: &'a AtomicBool,
}

impl<'a> Screen<'a> {
    pub(super) fn start(interrupted: &'a AtomicBool) -> io::Result<Self> {
        let area = area()?;
        take()?;
        let model = Model::new();
        // From here on, any failure restores the terminal.
        let canvas = canvas(area).inspect_err(|_| give_back())?;
        Ok(Self { canvas, area, palette: Palette::from_environment(), model, kept: Vec::new(), interrupted })
    }

    pub(super) fn begin(&mut self, job: Job<'_>) {
        self.model.begin(job);
    }

    pub(super) fn tick(&mut self, view: &View<'_>, pace: &Pace) {
        // Here and below: a terminal that is gone must not end a run.
        if keys::quit_typed().unwrap_or(false) {
            self.model.quitting = true;
            self.interrupted.store(true, Relaxed);
        }
        self.model.tick(view, pace);
        let _ = self.draw();
    }

    pub(super) fn end(&mut self, job: Job<'_>, record: &TrialRecord) {
        self.model.end(job, record);
        if let Some(why) = flaw(record) {
            self.kept.push(flaw_line(job, &why));
            // A process that panics overwrites the screen.
            self.area = Rect::ZERO;
        }
    }

    fn draw(&mut self) -> io::Result<()> {
        let area = area()?;
        if area != self.area {
            self.canvas = canvas(area)?;
            self.area = area;
        }
        self.canvas.draw(|frame| draw::draw(frame, &self.model, self.palette))?;
        Ok(())
    }
}

impl Drop for Screen<'_> {
    fn drop(&mut self) {
        give_back();
        self.kept.iter().for_each(print);
    }
}

type Canvas = Terminal<CrosstermBackend<BufWriter<Stderr>>>;

/// An empty canvas. Each size gets a new one, because ratatui's own clearing and resizing ask the terminal for its cursor and wait
/// for the answer.
fn canvas(area: Rect) -> io::Result<Canvas> {
    execute!(stderr(), Clear(ClearType::All))?;
    // Without a buffer, each attribute would be a system call.
    let backend = CrosstermBackend::new(BufWriter::with_capacity(1 << 16, stderr()));
    Terminal::with_options(backend, TerminalOptions { viewport: Viewport::Fixed(area) })
}

fn area() -> io::Result<Rect> {
    let size = terminal_size_of(stderr()).ok_or_else(|| io::Error::other("the terminal does not report its size"))?;
    let (Width(columns), Height(rows)) = size;
    Ok(Rect::new(0, 0, columns, rows))
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
