//! Options of `listenbench serve`.

use clap::{Args, ValueHint};

use super::Overrides;

/// `listenbench serve`
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  listenbench serve quick -s server.strategy=reuseport -s server.app=http\n  \
                        curl -i http://127.0.0.1:7000/")]
pub struct Serve {
    /// Scenario file (`-` is standard input), or the name of a built-in scenario
    #[arg(value_hint = ValueHint::FilePath)]
    pub scenario: String,
    /// Expect each connection to begin with a PROXY protocol header, of either version, and close those that do not; as if all loads of
    /// the scenario set load.proxy_protocol
    #[arg(long)]
    pub proxy_protocol: bool,
    /// Values that override the scenario's.
    #[command(flatten)]
    pub overrides: Overrides,
}
