//! Options of `listenbench calibrate`.

use std::path::PathBuf;

use clap::{Args, ValueHint};

use super::Overrides;

/// `listenbench calibrate`
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  sudo listenbench calibrate --out here.json    as root, to include exact stamps\n  \
                        sudo listenbench run --calibration here.json  add it to host.json and the reports\n  \
                        listenbench calibrate --rounds 20 --seconds 2  on a machine shared with others\n  \
                        listenbench calibrate --set server.workers=4 --json | jq .ratios"
)]
pub struct Calibrate {
    /// Scenario file (`-` is standard input) or built-in scenario with a single cell [default: `quick` with strategy reuseport]
    #[arg(value_hint = ValueHint::FilePath)]
    pub scenario: Option<String>,
    /// Number of rounds; each runs every contestant once
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub rounds: u32,
    /// Length of each run's measured window, in seconds
    #[arg(long, value_name = "S", default_value_t = 1.0)]
    pub seconds: f64,
    /// Write the result to this new file, for `run --calibration`
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub out: Option<PathBuf>,
    /// Print JSON instead of tables
    #[arg(long)]
    pub json: bool,
    /// Values that override the scenario's.
    #[command(flatten)]
    pub overrides: Overrides,
}
