//! The log of a run, newest line last.

use std::collections::VecDeque;

/// Lines kept: more than any screen shows.
const LINES: usize = 500;

/// How a line is marked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mark {
    /// A valid trial.
    Ended,
    /// An advisory verdict, or a warning.
    Advice,
    /// An invalid or failed trial.
    Bad,
    /// Anything else.
    Note,
}

/// A line with its highlighted head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    pub mark: Mark,
    pub head: String,
    pub text: String,
    /// Whether it gets a single row, because a line like it was shown in full.
    pub brief: bool,
}

#[derive(Debug, Default)]
pub(super) struct Log(VecDeque<Line>);

impl Log {
    pub(super) fn add(&mut self, mark: Mark, head: impl Into<String>, text: impl Into<String>) {
        self.push(Line { mark, head: head.into(), text: text.into(), brief: false });
    }

    pub(super) fn add_again(&mut self, mark: Mark, head: impl Into<String>, text: impl Into<String>) {
        self.push(Line { mark, head: head.into(), text: text.into(), brief: true });
    }

    fn push(&mut self, line: Line) {
        if self.0.len() == LINES {
            self.0.pop_front();
        }
        self.0.push_back(line);
    }

    /// Newest first.
    pub(super) fn newest(&self) -> impl Iterator<Item = &Line> {
        self.0.iter().rev()
    }
}
