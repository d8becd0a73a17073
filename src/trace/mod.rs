//! Traces of connections that a server once had: access logs, tables of times, and captures of SYNs.
//!
//! A `Source` opens a trace, recognises its format and streams its connections, whatever their number, through a sorter on disk. What comes
//! out of it, in order of time, is what [`survey()`] describes and what a [`Schedule`] replays.
//!
//! | file | what |
//! |---|---|
//! | `source`, `format` | opening a trace, its digest, and which format it has |
//! | `access_log`, `log_format`, `json_log`, `times` | lines of access logs, and the times in them |
//! | `keep_alive` | which requests of an access log came over one connection |
//! | `table` | CSV |
//! | `pcap`, `pcapng`, `syn` | captures, and the SYNs in their packets |
//! | `lines`, `findings` | lines of bounded length; what was read, and what could not be |
//! | `sorter`, `schedule` | putting starts in order, and the file that loaders read them from |
//! | `survey` | what a trace is like: rate, burstiness, gaps |

mod access_log;
mod findings;
mod format;
mod json_log;
mod keep_alive;
mod lines;
mod log_format;
mod pcap;
mod pcapng;
mod schedule;
mod sorter;
mod source;
mod survey;
mod syn;
mod table;
mod times;

use std::time::Duration;

use self::findings::Findings;
#[cfg(any(test, fuzzing))]
pub use self::source::Source;
pub use self::{
    format::{FormatAsked, WORDS as FORMAT_WORDS},
    schedule::{Figures, Playback, Schedule, Start},
    survey::{Survey, survey},
};

/// Nanoseconds in a second.
const SECOND_NS: i64 = 1_000_000_000;

/// Which trace is to be replayed, and how.
#[derive(Debug, Clone, PartialEq)]
pub struct Asked {
    /// Path of the file.
    pub path: String,
    /// The format that the user names.
    pub format: FormatAsked,
    /// How much faster than in the trace connections start; 2 halves the time between them.
    pub speed: f64,
    /// Where the replayed part begins, from the trace's first start.
    pub from: Duration,
    /// Where it ends; `None` for the trace's end.
    pub to: Option<Duration>,
    /// How often it is replayed.
    pub repeat: u64,
    /// The share of malformed lines above which the trace is refused.
    pub max_malformed: f64,
}

/// A connection of a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival {
    /// When it started, in nanoseconds of the trace's clock: since 1970, or since any instant.
    pub at_ns: i64,
    /// Its requests; `None` if the trace doesn't say.
    pub requests: Option<u32>,
    /// How long it stayed open after its last reply; `None` if the trace doesn't say.
    pub hold_ns: Option<u64>,
}
