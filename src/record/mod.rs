//! What a run leaves on disk: the schema, one writer, one reader.

mod calibration;
mod errors;
mod exit;
pub mod histograms;
mod host;
mod machine;
pub mod reader;
mod schema;
mod values;
mod verdict;
mod words;
mod writer;

pub use calibration::{
    BareProcesses, Calibration, Contestant, CostVerdict, Costs, Lag, Lags, Machine, Ratio, Round, Run,
};
pub use errors::{Cause, ErrorCount, Outcomes, Step};
pub use exit::Exit;
pub use host::Host;
pub use machine::{CpuShares, ObserverRow, Sockets, Softnet};
pub use reader::{RawRecord, ReadError};
pub use schema::{
    BatchSummary, Connections, DatagramSocketRow, Datagrams, Distribution, FaultDatagrams, FaultRow, HelperRow,
    Latencies, LatencySummary, LoaderRow, Measured, Memory, Ports, PortsStep, QueueRow, Ramp, RampStep, SCHEMA,
    Searched, Series, TENTHS, TrialRecord, WorkerCounts, WorkerRow,
};
pub use values::{IntervalKind, Values};
pub use verdict::{
    Change, FaultOutcome, Grounds, Imbalance, Lateness, Nothing, Unfinished, Verdict, VerdictName, limits,
};
#[allow(unused_imports, reason = "words that no field of the record has yet")]
pub use words::{CountedBy, Draws, SubjectKind};
pub use words::{EventKind, Latency, Outcome, Stage, WaitEnd, WaitMethod};
pub use writer::{RecordExists, Writer, write_derived};
