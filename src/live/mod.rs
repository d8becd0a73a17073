//! What whoever started a run sees of it: nothing, a line a trial, or a screen that moves.
//!
//! Everything comes from memory that the trial shares anyway, ten times a second at most and in the calling process. No
//! thread is started, so trials can be forked while the screen is up, and a forked child draws nothing.

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

/// How a run shows itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Not at all.
    Quiet,
    /// A line when a trial begins, and lines for what went wrong.
    Plain,
    /// A screen of its own.
    Screen,
}

impl Kind {
    /// What the options and the terminal allow: the screen wants standard error to draw on and standard input for keys, in the
    /// foreground.
    pub fn choose(quiet: bool, plain: bool) -> Self {
        let terminals = stderr().is_terminal() && stdin().is_terminal() && terminal::in_foreground();
        let dumb = env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb");
        match (quiet, plain) {
            (true, _) => Self::Quiet,
            (false, false) if terminals && !dumb => Self::Screen,
            _ => Self::Plain,
        }
    }

    /// Prints a line to standard error, unless nothing is to be shown. Not while a [`Progress`] is there, which has
    /// [`Progress::say`].
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
    /// Prints the outline, and takes the terminal if that is the kind: until [`Self::finish`], or until this is dropped, also by
    /// a panic. `interrupted` is set when somebody at the screen quits.
    pub fn start(kind: Kind, outline: &str, expected: Expected, interrupted: &'a AtomicBool) -> Self {
        kind.note(outline);
        let form = match kind {
            Kind::Quiet => Form::Quiet,
            Kind::Plain => Form::Plain(Plain),
            Kind::Screen => match Screen::start(interrupted) {
                Ok(screen) => Form::Screen(Box::new(screen)),
                Err(error) => {
                    print(format_args!("no screen can be had, a line a trial follows: {error}"));
                    Form::Plain(Plain)
                }
            },
        };
        Self { pace: Pace::start(expected), form }
    }

    /// A trial begins.
    pub fn begin(&mut self, job: Job<'_>) {
        self.pace.begin();
        match &mut self.form {
            Form::Quiet => {}
            Form::Plain(plain) => plain.begin(job, &self.pace),
            Form::Screen(screen) => screen.begin(job),
        }
    }

    /// It runs.
    pub fn tick(&mut self, view: &View<'_>) {
        if let Form::Screen(screen) = &mut self.form {
            screen.tick(view, &self.pace);
        }
    }

    /// It has ended.
    pub fn end(&mut self, job: Job<'_>, record: &TrialRecord) {
        self.pace.end();
        match &mut self.form {
            Form::Quiet => {}
            Form::Plain(plain) => plain.end(job, record),
            Form::Screen(screen) => screen.end(job, record),
        }
    }

    /// The run has found something out: a line for whoever watches, which also remains when the screen has gone.
    pub fn say(&mut self, line: &str) {
        match &mut self.form {
            Form::Quiet => {}
            Form::Plain(plain) => plain.say(line),
            Form::Screen(screen) => screen.say(line),
        }
    }

    /// Gives the terminal back.
    pub fn finish(self) {}
}

/// A terminal that has gone must not end a run.
fn print(line: impl Display) {
    let _ = writeln!(stderr(), "{line}");
}

/// What made a trial invalid or failed, if it is: its error, or its invalidating verdicts.
fn flaw(record: &TrialRecord) -> Option<String> {
    let verdicts = record.verdicts.iter().filter(|verdict| verdict.invalidates);
    let verdicts: Vec<String> = verdicts.map(Verdict::to_string).collect();
    record.error.clone().or_else(|| (!verdicts.is_empty()).then(|| verdicts.join("; ")))
}

/// The line for it.
fn flaw_line(job: Job<'_>, why: &str) -> String {
    format!("trial {} ({}): {why}", job.trial.number, job.cell().label())
}
