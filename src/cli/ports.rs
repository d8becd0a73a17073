//! Options of `listenbench ports`.

use std::net::SocketAddr;

use clap::Args;

/// `listenbench ports`
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  listenbench ports                          how full the range is, and who uses it\n  \
                        listenbench ports --to 192.0.2.7:443       counting only connections to one destination\n  \
                        listenbench ports 8080                     what port 8080 is for, and who listens on it\n  \
                        sudo ip netns exec blue listenbench ports  in another network namespace\n\nExit codes: 0 nothing is wrong, 3 a warning or worse"
)]
pub struct Ports {
    /// Explain this port: its class, whether clients may take it, who listens on it
    #[arg(value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub port: Option<u16>,
    /// Count only connections to this destination
    #[arg(long, value_name = "ADDR:PORT", conflicts_with = "port")]
    pub to: Option<SocketAddr>,
    /// Print JSON instead of text
    #[arg(long)]
    pub json: bool,
}
