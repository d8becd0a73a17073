//! The screen of a run: taken over when the trials begin, and given back when they end, however that happens.

use std::{
    io,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
};

use super::{
    canvas::Canvas,
    draw::{self, Palette},
    flaw, flaw_line,
    keys::{self, Key},
    log::Mark,
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
    palette: Palette,
    model: Model,
    /// Printed once the screen is gone.
    kept: Vec<String>,
    interrupted: &'a AtomicBool,
    /// Whether the log has what trials took.
    verbose: bool,
}

impl<'a> Screen<'a> {
    pub(super) fn start(interrupted: &'a AtomicBool, verbose: bool) -> io::Result<Self> {
        let canvas = Canvas::take()?;
        let palette = Palette::from_environment();
        Ok(Self { canvas, palette, model: Model::new(), kept: Vec::new(), interrupted, verbose })
    }

    pub(super) fn begin(&mut self, job: Job<'_>) {
        self.model.begin(job);
    }

    pub(super) fn tick(&mut self, job: Job<'_>, view: &View<'_>, pace: &Pace) {
        // Here and below: a terminal that is gone must not end a run.
        if keys::typed().is_ok_and(|typed| typed.contains(&Key::Quit)) {
            self.model.quitting = true;
            self.interrupted.store(true, Relaxed);
        }
        self.model.tick(job, view, pace);
        let _ = self.canvas.draw(|frame| draw::draw(frame, &self.model, self.palette));
    }

    pub(super) fn end(&mut self, job: Job<'_>, record: &TrialRecord, how: &str) {
        self.model.end(job, record);
        if self.verbose {
            self.model.log.add(Mark::Note, format!("trial {}", record.trial), how.to_owned());
        }
        if let Some(why) = flaw(record) {
            self.kept.push(flaw_line(job, &why));
            // A process that panics overwrites the screen.
            self.canvas.redraw();
        }
    }
}

impl Drop for Screen<'_> {
    fn drop(&mut self) {
        self.canvas.give_back();
        self.kept.iter().for_each(print);
    }
}
