//! What a run leaves on disk: the schema, with one writer and one reader.

mod audit;
pub mod bounds;
mod calibration;
mod connections;
mod contents;
mod counts;
mod datagrams;
mod distribution;
mod errors;
mod events;
mod exit;
mod firewall;
pub mod histograms;
mod host;
mod hosts;
mod latency;
mod lines;
mod loads;
mod machine;
mod members;
mod memory;
mod nat;
mod netfilter;
mod ports;
mod probe;
mod ramp;
mod rates;
pub mod reader;
mod receipts;
mod replays;
mod series;
mod subject;
mod tls;
mod trial;
mod upstream;
pub mod v2;
mod values;
mod verdict;
mod words;
mod writer;

pub use audit::Audit;
pub use calibration::{
    BareProcesses, Calibration, Contestant, CostVerdict, Costs, Lag, Lags, Machine, Ratio, Round, Run,
};
pub use connections::{Connections, Due, ForeignMember, Measured, Statuses, Unexpected};
pub use counts::Counts;
pub use datagrams::{DatagramSocketRow, Datagrams, Followed};
pub use distribution::{Distribution, Spread};
pub use errors::{Cause, ErrorCount, Outcomes, Step};
pub use events::{Done, EventDatagrams, EventRow, Flows, Generation, Lost, Migrated};
pub use exit::Exit;
pub use firewall::Firewall;
pub use host::{Host, MachineFacts};
#[allow(unused_imports, reason = "what measures across hosts uses HostClock")]
pub use hosts::{Gather, HostClock, HostFacts, HostLatencies, HostRow};
pub use latency::{BatchSummary, Latencies, LatencySummary};
pub use lines::read_bounded;
pub use loads::{LoadConnections, LoadRow};
pub use machine::{CpuShares, ObserverRow, Sockets, Softnet};
pub use members::{DescriptorRow, HelperRow, ListenerRow, LoaderRow, MemberRow, QueueRow, WorkerCounts};
pub use memory::{Memory, SlabGrowth};
pub use nat::Nat;
pub use netfilter::{BaseChain, Conntrack, ConntrackCounts, ConntrackTable, NetfilterFacts, NetworkRules, Rules};
pub use ports::{Ports, PortsStep};
pub use probe::{ProbeRow, ProbedMember};
pub use ramp::{Ramp, RampStep, TENTHS};
pub use rates::Rates;
pub use reader::{RawRecord, ReadError};
pub use receipts::{Receipts, WorkerShare};
pub use replays::{MalformedLine, Replayed};
pub use series::Series;
pub use subject::{Bound, Subject};
pub use tls::{ClientHandshakes, Handshakes, Tls};
pub use trial::{SCHEMA, Searched, TrialRecord};
pub use upstream::{Upstream, UpstreamPorts};
pub use values::{Attempts, IntervalKind, Values};
pub use verdict::{
    Change, EventOutcome, Grounds, Imbalance, Nothing, Scope, SoFar, Unfinished, Verdict, VerdictName, limits,
};
pub use words::{
    CountedBy, Draws, EventKind, HostRole, Latency, Outcome, ProbeLevel, ReloadHow, Stage, SubjectKind, Virtualization,
    WaitEnd, WaitMethod, Whose,
};
pub use writer::{Destination, RecordExists, Unwritten, Writer, remedy};
