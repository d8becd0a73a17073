//! What was read of a trace, and what could not be.

use std::fmt::{self, Display};

/// Malformed lines that are shown.
const SHOWN: usize = 5;

/// What a reader found in a trace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Findings {
    /// Lines, of captures packets. Empty lines and a table's header are not counted.
    pub lines: u64,
    /// Those of them that could not be read.
    pub malformed: u64,
    /// Whether the last of them is one because the file ends within it, as it may if it was copied while it was written.
    pub is_cut_off: bool,
    /// The first of those.
    pub shown: Vec<Malformed>,
    /// Those that are well-formed and start no connection: of captures, packets that are no SYN, or a SYN again.
    pub others: u64,
    /// Requests, if the trace has them.
    pub requests: Option<u64>,
    /// Whether requests of one connection were told from those of others.
    pub has_connections: bool,
    /// Whether it says of any connection how long that was held.
    pub has_holds: bool,
    /// Lines whose time had whole seconds. Their starts are spread at random within the second.
    pub spread: u64,
}

/// A line that could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Malformed {
    /// Its number, from 1; of a capture, the packet's.
    pub line: u64,
    /// What is wrong with it, as the rest of a sentence about the line.
    pub problem: String,
}

impl Findings {
    /// Counts a malformed line.
    pub fn wrong(&mut self, line: u64, problem: impl Display) {
        self.malformed += 1;
        if self.shown.len() < SHOWN {
            self.shown.push(Malformed { line, problem: problem.to_string() });
        }
    }

    /// The malformed share of all lines. One that the file's end has cut off says nothing about the format.
    pub fn malformed_share(&self) -> f64 {
        let malformed = self.malformed - u64::from(self.is_cut_off);
        if self.lines == 0 { 0.0 } else { malformed as f64 / self.lines as f64 }
    }
}

impl Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.line, self.problem)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn malformed_lines_are_counted_and_the_first_are_kept() {
        let mut findings = Findings { lines: 40, ..Findings::default() };
        (1..=10).for_each(|line| findings.wrong(line, "has no time"));
        assert_eq!((findings.malformed, findings.shown.len()), (10, SHOWN));
        assert_eq!(findings.shown[1].to_string(), "2: has no time");
        assert!((findings.malformed_share() - 0.25).abs() < 1e-12);
        findings.is_cut_off = true;
        assert!((findings.malformed_share() - 0.225).abs() < 1e-12);
        assert!(Findings::default().malformed_share().abs() < 1e-12);
    }
}
