//! A run's progress for its user: none, a line per trial, or a live screen.
//!
//! Everything is read at most ten times a second, in the calling process, from memory the trial shares anyway. No
//! thread is started, so trials can be forked while the screen is shown; a forked child draws nothing.

mod canvas;
mod draw;
mod forecast;
mod keys;
mod log;
mod model;
mod observed;
mod pace;
mod plain;
mod results;
mod screen;
mod seen;
mod waiting;

use std::{
    env,
    fmt::Display,
    io::{IsTerminal, Write, stderr, stdin},
    sync::atomic::AtomicBool,
    time::Duration,
};

pub use draw::use_colours;
pub use forecast::whole as whole_trial;
pub use observed::ObservedScreen;
pub use pace::{Expected, Trials};

use self::{pace::Pace, plain::Plain, screen::Screen};
use crate::{
    format::{duration, harmless},
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
    /// `verbose` adds what trials wait for, and what they took.
    pub fn start(
        (kind, verbose): (Kind, bool),
        outline: &str,
        expected: Expected,
        interrupted: &'a AtomicBool,
    ) -> Self {
        kind.note(outline);
        let form = match kind {
            Kind::Quiet => Form::Quiet,
            Kind::Plain => Form::Plain(Plain::new(verbose)),
            Kind::Screen => match Screen::start(interrupted, verbose) {
                Ok(screen) => Form::Screen(Box::new(screen)),
                Err(error) => {
                    print(format_args!("no live screen, falling back to a line per trial: {error}"));
                    Form::Plain(Plain::new(verbose))
                }
            },
        };
        Self { pace: Pace::start(expected), form }
    }

    /// Called when a trial of one of the expected cells begins.
    pub fn begin(&mut self, job: Job<'_>, cell: usize) {
        self.pace.begin(cell);
        match &mut self.form {
            Form::Quiet => {}
            Form::Plain(plain) => plain.begin(job, &self.pace),
            Form::Screen(screen) => screen.begin(job),
        }
    }

    /// Called repeatedly while the trial runs.
    pub fn tick(&mut self, job: Job<'_>, view: &View<'_>) {
        self.pace.see(job, view);
        match &mut self.form {
            Form::Quiet => {}
            Form::Plain(plain) => plain.tick(job, view, &self.pace),
            Form::Screen(screen) => screen.tick(job, view, &self.pace),
        }
    }

    /// Called when a trial has ended.
    pub fn end(&mut self, job: Job<'_>, record: &TrialRecord) {
        let how = how(record, &self.pace);
        self.pace.end();
        match &mut self.form {
            Form::Quiet => {}
            Form::Plain(plain) => plain.end(job, record, &how),
            Form::Screen(screen) => screen.end(job, record, &how),
        }
    }

    /// Restores the terminal.
    pub fn finish(self) {}
}

/// Ignores errors: a terminal that is gone must not end a run.
fn print(line: impl Display) {
    let _ = writeln!(stderr(), "{}", harmless(&line.to_string()));
}

/// Why a trial is invalid or failed, if it is: its error, or its invalidating verdicts.
fn flaw(record: &TrialRecord) -> Option<String> {
    let verdicts = record.verdicts.iter().filter(|verdict| verdict.invalidates);
    let verdicts: Vec<String> = verdicts.map(Verdict::to_string).collect();
    record.error.clone().or_else(|| (!verdicts.is_empty()).then(|| verdicts.join("; ")))
}

/// What a trial that has ended took, and how it was measured.
fn how(record: &TrialRecord, pace: &Pace) -> String {
    let shown = |length: Duration| duration(length.as_nanos() as f64);
    let mut parts = match pace.taken() {
        (all, Some(set_up)) => vec![format!("took {}, {} of them for set-up", shown(all), shown(set_up))],
        (all, None) => vec![format!("took {}", shown(all))],
    };
    if let Some(method) = record.latency_ns.accept_wait.method {
        parts.push(format!("accept waits by {method}"));
    }
    if let Some(probe) = &record.probe {
        let missing = probe.missing.as_ref().map_or_else(String::new, |missing| format!(", without {missing}"));
        parts.push(format!("accepts seen by {}{missing}", probe.level));
    }
    parts.join("; ")
}

/// The line about an invalid or failed trial.
fn flaw_line(job: Job<'_>, why: &str) -> String {
    let label = job.label();
    // The label of a run's only cell has brackets of its own.
    let label = if label.starts_with('(') { label } else { format!("({label})") };
    format!("trial {} {label}: {why}", job.trial.number)
}
