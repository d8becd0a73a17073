//! The first words on a connection between hosts: who connects, and whether it is let in.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::record::HostFacts;

/// Version and revision of this program: hosts of a job run the same.
pub const VERSION: &str = env!("LISTENBENCH_VERSION");

/// What a host says of itself when it has connected.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Hello {
    /// Proves that the launcher started it: rank 0 gives it to the job alone.
    pub token: String,
    /// Its number in the job.
    pub rank: usize,
    pub version: String,
    /// Its [`HostFacts`], which other versions may write differently.
    pub facts: serde_json::Value,
}

/// The answer. Whoever does not have the token gets none.
#[derive(Debug, Serialize, Deserialize)]
pub enum Reply {
    Welcome,
    Refused(String),
}

/// Why a host is not let in.
#[derive(Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    #[error("it does not have the job's token")]
    Token,
    #[error("rank {0} is not expected")]
    Rank(usize),
    /// The job cannot run: this one is an error for all.
    #[error("rank {rank} runs listenbench {theirs}, and the host it came to {VERSION}: install the same on all hosts")]
    Version { rank: usize, theirs: String },
    #[error("what rank {0} says of its host cannot be read: {1}")]
    Facts(usize, String),
}

impl Hello {
    /// Lets in a host of the job that is expected, and returns its facts.
    pub fn check(self, token: &str, is_expected: impl FnOnce(usize) -> bool) -> Result<HostFacts, Refusal> {
        let Self { token: theirs, rank, version, facts } = self;
        if !same(token, &theirs) {
            return Err(Refusal::Token);
        }
        if !is_expected(rank) {
            return Err(Refusal::Rank(rank));
        }
        if version != VERSION {
            return Err(Refusal::Version { rank, theirs: version });
        }
        let facts: HostFacts =
            serde_json::from_value(facts).map_err(|error| Refusal::Facts(rank, error.to_string()))?;
        Ok(HostFacts { rank, ..facts })
    }
}

/// Compares secrets in a time that depends on their lengths alone.
fn same(ours: &str, theirs: &str) -> bool {
    let differences = ours.bytes().zip(theirs.bytes()).fold(0, |all, (a, b)| std::hint::black_box(all | (a ^ b)));
    ours.len() == theirs.len() && differences == 0
}
