//! A server that runs already, in this machine's network or elsewhere. It is only watched, unless an event of the scenario sends it a
//! signal.

use std::{
    collections::BTreeSet,
    io::{Error, ErrorKind},
    net::{SocketAddr, TcpStream},
};

use anyhow::{Context, Result, bail};
use nix::unistd::Pid;

use super::outside::{Ending, Origin, Outside, Watch};
use crate::{
    context::TrialContext,
    format::counted,
    observe::{accepts::Ours, processes, queues::ServerQueues},
    record::{self, Done, SubjectKind},
    scenario::{Act, Probe, Scenario},
    sys::{
        process, socket,
        unix::{PACKET_SCHEME, SCHEME},
    },
};

/// A server that was already listening, by its address and the names of its processes.
struct Found {
    name: String,
    /// What became of each event.
    done: Vec<Done>,
}

/// Where a running server is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whereabouts {
    /// Its listeners are in the calling process's network.
    Here,
    /// It answers, from behind translated addresses or another machine: its listeners and accepts cannot be seen.
    Elsewhere,
}

/// Finds out where the scenario's server is. One that is here is not connected to; otherwise a single connection shows whether anything
/// answers.
///
/// Fails if nothing does, and says what was tried.
pub fn locate(scenario: &Scenario) -> Result<Whereabouts> {
    let address = scenario.address;
    if !ServerQueues::of(scenario)?.read()?.is_empty() {
        return Ok(Whereabouts::Here);
    }
    if let Some(unix) = &scenario.unix {
        // A file may be the way to a server in another network namespace.
        match socket::reach(unix) {
            Ok(()) => return Ok(Whereabouts::Elsewhere),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Whereabouts::Elsewhere),
            Err(error) if error.raw_os_error() == Some(libc::EPROTOTYPE) => {
                let other = if unix.has_messages() { SCHEME } else { PACKET_SCHEME };
                bail!(
                    "what listens on {unix} is a socket of another kind: write `{other}` in place of what the address begins with"
                )
            }
            Err(_) => {}
        }
        bail!("nothing listens on {unix}: start the server first, or check the path or name and who may connect there");
    }
    let patience = scenario.loads.iter().map(|load| load.connect_timeout).max().unwrap_or_default();
    let tried = match TcpStream::connect_timeout(&address, patience) {
        Ok(stream) if stream.local_addr().ok() != Some(address) => {
            // A socket may connect to itself where its port is the server's and nothing listens.
            if scenario.probe != Probe::Auto && scenario.probe != Probe::Off {
                bail!(
                    "{address} answers, but not from this machine's network, so that no `probe` can see its accepts: use probe = \"auto\""
                );
            }
            return Ok(Whereabouts::Elsewhere);
        }
        Ok(_) => "the kernel gave a client the same port, which connected to itself".to_owned(),
        Err(error) => explained(&error, address, patience),
    };
    bail!(
        "nothing listens at {address}: no listener of this network has that address, and {tried}; start the server first"
    )
}

fn explained(error: &Error, address: SocketAddr, patience: std::time::Duration) -> String {
    match error.kind() {
        ErrorKind::ConnectionRefused => format!("connect() to {address} was refused (ECONNREFUSED)"),
        ErrorKind::TimedOut => {
            format!("connect() to {address} got no answer within {patience:?}: check the address and the firewall")
        }
        _ => format!("connect() to {address} failed: {error}"),
    }
}

/// Finds the server. Fails if nothing answers at the scenario's address.
pub fn find(context: &TrialContext, ours: Ours<'_>) -> Result<Outside> {
    let scenario = &context.scenario;
    let watch = match locate(scenario)? {
        Whereabouts::Here => {
            let mut watch = Watch::begin(scenario, ours)?;
            watch.find_holders(None)?;
            watch
        }
        Whereabouts::Elsewhere => Watch::blind(scenario).context("preparing to watch the server")?,
    };
    let name = named(&scenario.place(), watch.holders().map(|(_, name)| name));
    Ok(Outside::new(watch, Found { name, done: Vec::new() }))
}

/// `127.0.0.1:8080 (nginx)`. Processes may have names of their own: the first one says whose server it is.
fn named<'a>(address: &str, processes: impl Iterator<Item = &'a str>) -> String {
    let names: BTreeSet<&str> = processes.collect();
    let others = match names.len() {
        0 => return address.to_string(),
        1 => String::new(),
        several => format!(" and {}", counted(several as u64 - 1, "other", "others")),
    };
    format!("{address} ({}{others})", names.iter().next().expect("there is one"))
}

impl Origin for Found {
    fn describe(&self) -> record::Subject {
        record::Subject { kind: SubjectKind::Running, name: self.name.clone(), ..record::Subject::default() }
    }

    fn pids(&self, holders: Vec<i32>) -> Vec<i32> {
        holders
    }

    /// Whether it still listens shows at the load's end.
    fn check_running(&mut self) -> Result<()> {
        Ok(())
    }

    /// The first of its processes gets the signal: the one that started the others.
    fn act(&mut self, act: &Act, holders: &[i32]) -> Result<()> {
        let Act::Signal { signal } = act else { bail!("no {} can be done to a running server", act.kind()) };
        let oldest = holders.iter().min_by_key(|pid| (processes::started(**pid), **pid));
        let error = match oldest {
            Some(pid) => {
                let sent = process::signal_any(Pid::from_raw(*pid), *signal);
                sent.err().map(|error| format!("kill({pid}, {signal}): {error}"))
            }
            None => Some("no process was found that listens".to_owned()),
        };
        self.done.push(Done { error, ..Done::default() });
        Ok(())
    }

    /// It is left as it is.
    fn end(self: Box<Self>) -> Ending {
        Ending { done: self.done, ..Ending::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_named_by_its_address_and_processes() {
        let name = |processes: &[&str]| named("127.0.0.1:80", processes.iter().copied());
        assert_eq!(name(&[]), "127.0.0.1:80");
        assert_eq!(name(&["nginx", "nginx"]), "127.0.0.1:80 (nginx)");
        assert_eq!(name(&["lb:worker0", "lb:worker1"]), "127.0.0.1:80 (lb:worker0 and 1 other)");
        assert_eq!(name(&["c", "b", "a"]), "127.0.0.1:80 (a and 2 others)");
    }
}
