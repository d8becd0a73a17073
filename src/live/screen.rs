//! The screen: taken when the trials begin, given back when they end, however they end.

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
        terminal::{EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode},
    },
    layout::Rect,
};

use super::{
    draw::{self, Palette},
    flaw, flaw_line, keys,
    log::Mark,
    model::Model,
    pace::Pace,
    print,
};
use crate::{
    record::TrialRecord,
    sys::terminal,
    trial::{Job, View},
};

/// A screen on standard error.
pub(super) struct Screen<'a> {
    terminal: Terminal<CrosstermBackend<BufWriter<Stderr>>>,
    area: Rect,
    palette: Palette,
    model: Model,
    /// Printed once the screen has gone.
    kept: Vec<String>,
    interrupted: &'a AtomicBool,
}

impl<'a> Screen<'a> {
    pub(super) fn start(interrupted: &'a AtomicBool) -> io::Result<Self> {
        let area = area()?;
        // Without a buffer every attribute would be a system call of its own.
        let backend = CrosstermBackend::new(BufWriter::with_capacity(1 << 16, stderr()));
        let terminal = Terminal::with_options(backend, TerminalOptions { viewport: Viewport::Fixed(area) })?;
        take()?;
        let palette = Palette::from_environment();
        let mut screen = Self { terminal, area, palette, model: Model::new(), kept: Vec::new(), interrupted };
        screen.terminal.clear()?;
        Ok(screen)
    }

    pub(super) fn begin(&mut self, job: Job<'_>) {
        self.model.begin(job);
    }

    pub(super) fn tick(&mut self, view: &View<'_>, pace: &Pace) {
        // A terminal that has gone must not end a run, here and below.
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
            // A process that panics writes over the screen.
            let _ = self.terminal.clear();
        }
    }

    pub(super) fn say(&mut self, line: &str) {
        self.model.log.add(Mark::Note, "", line);
        self.kept.push(line.to_owned());
    }

    fn draw(&mut self) -> io::Result<()> {
        let area = area()?;
        if area != self.area {
            self.area = area;
            self.terminal.resize(area)?;
        }
        self.terminal.draw(|frame| draw::draw(frame, &self.model, self.palette))?;
        Ok(())
    }
}

impl Drop for Screen<'_> {
    fn drop(&mut self) {
        give_back();
        self.kept.iter().for_each(print);
    }
}

fn area() -> io::Result<Rect> {
    let (columns, rows) = terminal::size()?;
    Ok(Rect::new(0, 0, columns, rows))
}

/// The process that has the screen; 0 when nobody has. Forked children inherit the number, and are not it.
static OWNER: AtomicI32 = AtomicI32::new(0);

fn take() -> io::Result<()> {
    static HOOK: std::sync::Once = std::sync::Once::new();
    // A panic's message belongs on the terminal as it was.
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

/// Restores the terminal, once, and only in the process that took it.
fn give_back() {
    if OWNER.compare_exchange(getpid().as_raw(), 0, SeqCst, SeqCst).is_ok() {
        let _ = execute!(stderr(), LeaveAlternateScreen, Show);
        let _ = disable_raw_mode();
    }
}
