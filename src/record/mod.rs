//! What a run leaves on disk: the schema, with one writer and one reader.

mod calibration;
mod connections;
mod datagrams;
mod distribution;
mod errors;
mod events;
mod exit;
pub mod histograms;
mod host;
mod latency;
mod machine;
mod members;
mod memory;
mod ports;
mod ramp;
mod rates;
pub mod reader;
mod series;
mod subject;
mod trial;
mod values;
mod verdict;
mod words;
mod writer;

pub use calibration::{
    BareProcesses, Calibration, Contestant, CostVerdict, Costs, Lag, Lags, Machine, Ratio, Round, Run,
};
pub use connections::{Connections, Measured};
pub use datagrams::{DatagramSocketRow, Datagrams};
pub use distribution::Distribution;
pub use errors::{Cause, ErrorCount, Outcomes, Step};
pub use events::{EventDatagrams, EventRow};
pub use exit::Exit;
pub use host::Host;
pub use latency::{BatchSummary, Latencies, LatencySummary};
pub use machine::{CpuShares, ObserverRow, Sockets, Softnet};
pub use members::{HelperRow, LoaderRow, MemberRow, QueueRow, WorkerCounts};
pub use memory::Memory;
pub use ports::{Ports, PortsStep};
pub use ramp::{Ramp, RampStep, TENTHS};
pub use rates::Rates;
pub use reader::{RawRecord, ReadError};
pub use series::Series;
pub use subject::Subject;
pub use trial::{SCHEMA, Searched, TrialRecord};
pub use values::{IntervalKind, Values};
pub use verdict::{
    Change, FaultOutcome, Grounds, Imbalance, Lateness, Nothing, Unfinished, Verdict, VerdictName, limits,
};
pub use words::{CountedBy, Draws, EventKind, Latency, Outcome, Stage, SubjectKind, WaitEnd, WaitMethod};
pub use writer::{RecordExists, Writer, write_derived};
