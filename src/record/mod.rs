//! What a run leaves on disk: the schema, one writer, one reader.

mod errors;
mod exit;
pub mod histograms;
pub mod reader;
mod schema;
mod verdict;
mod words;
mod writer;

pub use errors::{Cause, ErrorCount, Outcomes, Step};
pub use exit::Exit;
pub use reader::{ReadError, Record};
pub use schema::{
    BatchSummary, Connections, DatagramSocketRow, Datagrams, Distribution, FaultDatagrams, FaultRow, HelperRow,
    Latencies, LatencySummary, LoaderRow, Measured, Memory, ObserverRow, Ports, PortsStep, QueueRow, Ramp, RampStep,
    SCHEMA, Searched, Series, TENTHS, TrialRecord, WorkerCounts, WorkerRow,
};
pub use verdict::{
    Change, FaultOutcome, Figures, Grounds, Imbalance, Lateness, Nothing, Scope, Unfinished, Verdict, VerdictName,
    limits,
};
pub use words::{CountedBy, Draws, EventKind, Latency, Outcome, Stage, SubjectKind, WaitEnd, WaitMethod};
pub use writer::{RecordExists, Writer, write_derived};
