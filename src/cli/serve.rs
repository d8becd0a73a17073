//! Options of `listenbench serve`.

use std::net::IpAddr;

use clap::{Args, ValueHint};

use super::Overrides;

/// `listenbench serve`
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  listenbench serve quick -s server.strategy=reuseport -s server.app=http\n  \
                        curl -i http://127.0.0.1:7000/\n  listenbench serve quick -s server.strategy=shared-epoll --bind 127.0.0.1 --bind ::1")]
pub struct Serve {
    /// Scenario file (`-` is standard input), or the name of a built-in scenario
    #[arg(value_hint = ValueHint::FilePath)]
    pub scenario: String,
    /// Expect each connection to begin with a PROXY protocol header, of either version, and close those that do not; as if all loads of
    /// the scenario set load.proxy_protocol
    #[arg(long)]
    pub proxy_protocol: bool,
    /// Local address to listen on in place of the scenario's, such as 0.0.0.0 or ::; several with commas, or by repeating the option
    #[arg(long, value_name = "ADDRESS", value_delimiter = ',')]
    pub bind: Vec<IpAddr>,
    /// Whether listeners on `::` leave IPv4 alone (IPV6_V6ONLY) [default: the kernel's]
    #[arg(long, value_name = "BOOL")]
    pub v6only: Option<bool>,
    /// Network device at which packets must arrive (SO_BINDTODEVICE)
    #[arg(long, value_name = "NAME")]
    pub device: Option<String>,
    /// Values that override the scenario's.
    #[command(flatten)]
    pub overrides: Overrides,
}
