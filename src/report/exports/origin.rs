//! Where a record's figures come from, for files that are read without the record.

use serde_json::Value as Json;

use crate::{format::harmless, record::HostFacts, stats::Record};

/// What identifies a run among others.
#[derive(Debug)]
pub struct Origin {
    /// When its first trial started (RFC 3339); empty without trials.
    pub run: String,
    /// Of the tool.
    pub revision: String,
    pub kernel: String,
    /// Of several hosts, the names of all, rank 0 first.
    pub host: String,
}

impl Origin {
    pub fn of(record: &Record) -> Self {
        let line = |text: &str| harmless(text).replace(['\n', '\t'], " ");
        let host = |key: &str| line(record.host.get(key).and_then(Json::as_str).unwrap_or_default());
        let started = record.trials.iter().map(|trial| &trial.started_at[..]).min();
        Self {
            run: line(started.unwrap_or_default()),
            revision: host("revision"),
            kernel: host("kernel"),
            host: line(&HostFacts::names(&record.host)),
        }
    }

    /// Each with its name.
    pub fn named(&self) -> [(&'static str, &str); 4] {
        [("run", &self.run), ("revision", &self.revision), ("kernel", &self.kernel), ("host", &self.host)]
    }

    /// All on one line.
    pub fn in_words(&self) -> String {
        self.named().map(|(name, value)| format!("{name} {value}")).join(", ")
    }
}
