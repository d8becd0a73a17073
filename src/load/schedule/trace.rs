//! Starts at the times of a trace.

use crate::trace::{Playback, Start};

#[derive(Debug)]
pub(super) struct TraceStarts {
    /// What is left of the trace; `None` if there is none.
    playback: Option<Playback>,
    last: Option<Start>,
}

impl TraceStarts {
    pub fn new(playback: Option<Playback>) -> Self {
        Self { playback, last: None }
    }

    /// Infinite after the trace's end.
    pub fn next(&mut self) -> f64 {
        self.last = self.playback.as_mut().and_then(Iterator::next);
        self.last.map_or(f64::INFINITY, |start| start.at_ns as f64)
    }

    /// What the trace says about the start yielded last.
    pub fn last(&self) -> Option<Start> {
        self.last
    }
}
