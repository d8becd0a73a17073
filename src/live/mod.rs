//! A run's progress for its user: none, a line per trial, or a live screen.
//!
//! Everything is read at most ten times a second, in the calling process, from memory the trial shares anyway. No
//! thread is started, so trials can be forked while the screen is shown; a forked child draws nothing.

mod draw;
mod keys;
mod log;
mod model;
mod pace;
mod plain;
mod results;
mod screen;
mod seen;

use std::{
    env,
    fmt::Display,
    io::{IsTerminal, Write, stderr, stdin},
    sync::atomic::AtomicBool,
};

pub use pace::{Expected, Trials};

use self::{pace::Pace, plain::Plain, screen::Screen};
use crate::{
    record::{TrialRecord, Verdict},
    sys::terminal,
    trial::{Job, View},
};

/// How a run shows its progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// No progress.
    Quiet,
    /// A line when a trial begins, and lines for what goes wrong.
    Plain,
    /// A live screen.
    Screen,
}

impl Kind {
    /// What the options and the terminal allow. The screen needs terminals as standard error, to draw on, and as standard input,
    /// for keys, and the foreground.
    pub fn choose(quiet: bool, plain: bool) -> Self {
        let terminals = stderr().is_terminal() && stdin().is_terminal() && terminal::in_foreground();
        let dumb = env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb");
        match (quiet, plain) {
            (true, _) => Self::Quiet,
            (false, false) if terminals && !dumb => Self::Screen,
            _ => Self::Plain,
        }
    }

    /// Prints a line to standard error, unless progress is off. Not while there is a [`Progress`], which draws over it.
    pub fn note(self, line: impl Display) {
        if self != Self::Quiet {
            print(line);
        }
    }
}

/// The progress of one scenario's trials.
pub struct Progress<'a> {
    pace: Pace,
    form: Form<'a>,
}

enum Form<'a> {
    Quiet,
    Plain(Plain),
    Screen(Box<Screen<'a>>),
}

impl<'a> Progress<'a> {
    /// Prints the outline. A screen takes the terminal until [`Self::finish`], or until this is dropped, even by a panic.
    /// `interrupted` is set when the user quits at the screen.
    pub fn start(kind: Kind, outline: &str, expected: Expected, interrupted: &'a AtomicBool) -> Self {
        kind.note(outline);
        let form = match kind {
            Kind::Quiet => Form::Quiet,
            Kind::Plain => Form::Plain(Plain),
            Kind::Screen => match Screen::start(interrupted) {
                Ok(screen) => Form::Screen(Box::new(screen)),
                Err(error) => {
                    print(format_args!("no live screen, falling back to a line per trial: {error}"));
                    Form::Plain(Plain)
                }
            },
        };
        Self { pace: Pace::start(expected), form }
    }

    /// Called when a trial begins.
    pub fn begin(&mut self, job: Job<'_>) {
        self.pace.begin();
        match &mut self.form {
            Form::Quiet => {}
            Form::Plain(plain) => plain.begin(job, &self.pace),
            Form::Screen(screen) => screen.begin(job),
        }
    }

    /// Called repeatedly while the trial runs.
    pub fn tick(&mut self, view: &View<'_>) {
        if let Form::Screen(screen) = &mut self.form {
            screen.tick(view, &self.pace);
        }
    }

    /// Called when a trial has ended.
    pub fn end(&mut self, job: Job<'_>, record: &TrialRecord) {
        self.pace.end();
        match &mut self.form {
            Form::Quiet => {}
            Form::Plain(plain) => plain.end(job, record),
            Form::Screen(screen) => screen.end(job, record),
        }
    }

    /// Restores the terminal.
    pub fn finish(self) {}
}

/// Ignores errors: a terminal that is gone must not end a run.
fn print(line: impl Display) {
    let _ = writeln!(stderr(), "{line}");
}

/// Why a trial is invalid or failed, if it is: its error, or its invalidating verdicts.
fn flaw(record: &TrialRecord) -> Option<String> {
    let verdicts = record.verdicts.iter().filter(|verdict| verdict.invalidates);
    let verdicts: Vec<String> = verdicts.map(Verdict::to_string).collect();
    record.error.clone().or_else(|| (!verdicts.is_empty()).then(|| verdicts.join("; ")))
}

/// The line about an invalid or failed trial.
fn flaw_line(job: Job<'_>, why: &str) -> String {
    format!("trial {} ({}): {why}", job.trial.number, job.cell().label())
}
