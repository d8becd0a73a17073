//! What has happened, newest last.

use std::collections::VecDeque;

/// More lines than any screen has are forgotten.
const LINES: usize = 500;

/// How a line is marked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mark {
    /// A trial that ended well.
    Ended,
    /// A condition of its figures.
    Advice,
    /// A trial that is invalid or failed.
    Bad,
    /// Something else.
    Note,
}

/// A line, and what of it stands out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    pub mark: Mark,
    pub head: String,
    pub text: String,
    /// Whether one row must do, because the like of it has been said in full.
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
