//! Values that override a scenario's.

use clap::Args;

/// Values that override the scenario's.
#[derive(Debug, Clone, Args)]
pub struct Overrides {
    /// Override a value of the scenario, e.g. server.workers=4; an empty one restores the default
    #[arg(short, long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Override the scenario's seed; short for --set seed=SEED
    #[arg(long)]
    pub seed: Option<u64>,
}

impl Overrides {
    /// All overrides as `key=value`.
    pub fn all(&self) -> Vec<String> {
        self.set.iter().cloned().chain(self.seed.map(|seed| format!("seed={seed}"))).collect()
    }
}
