//! The context that the processes of one trial share: built before the first fork, and copied into each.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use crate::{
    ipc::{control::Control, ledger::Ledger, places::Places},
    observe::{completions::Completions, stamps::Stamps},
    record::WaitMethod,
    scenario::Scenario,
    tls,
};

/// Shared by workers, loaders and a strategy's helper. Clones refer to the same memory.
#[derive(Debug, Clone)]
pub struct TrialContext {
    /// The cell's scenario.
    pub scenario: Arc<Scenario>,
    /// The address that loaders connect to.
    pub target: SocketAddr,
    pub control: Arc<Control>,
    /// Which part of the trial this host has.
    pub side: Side,
    /// Where the trial's clients are.
    pub clients: Arc<Places>,
    /// The port ledger, if both server and load are listenbench's. Server and loaders share it if they are on one host.
    pub ledger: Option<Arc<Ledger>>,
    /// The kernel's stamps of ESTABLISHED, if they are taken.
    pub stamps: Option<Arc<Stamps>>,
    /// When the workers' rings completed accepts, if they have rings and exact waits are recorded.
    pub completions: Option<Arc<Completions>>,
    /// What our own server presents to its clients, with app `https`.
    pub tls: Option<tls::Server>,
    pub waits: Waits,
    /// Seed of schedules and service times.
    pub seed: u64,
    /// Repetition, from 0. Each has its own schedule, which all strategies share.
    pub repetition: usize,
}

/// Which part of a trial a host has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Side {
    /// All of it.
    #[default]
    Whole,
    /// The server, whose clients are on other hosts.
    Server,
    /// The load, or a share of it: its server is on another host, and so is its server's clock.
    Load,
}

/// What a host is in a trial; by default, the only one.
#[derive(Debug, Clone, Copy, Default)]
pub struct Role<'a> {
    pub side: Side,
    /// The addresses of the job's hosts. By being part of the job, each of them has agreed to the load.
    pub job: &'a [IpAddr],
    /// The addresses of the clients: on the server's side those of all loaders, in an order that all trials of a cell share; on the
    /// load's side, this host's own. Empty for the only host, whose scenario says.
    pub clients: &'a [IpAddr],
}

impl Role<'_> {
    /// Whether the host at this address is part of the job.
    pub fn agreed(&self, address: IpAddr) -> bool {
        self.job.iter().any(|known| known.to_canonical() == address.to_canonical())
    }

    /// Where the clients of this host's part of a trial are, given the source addresses of its scenario.
    pub fn places(&self, sources: &[IpAddr]) -> Places {
        match self.side {
            Side::Whole => Places::of_sources(sources),
            Side::Server | Side::Load => Places::of_job(self.clients),
        }
    }
}

/// Which accept waits a trial records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waits {
    /// Whether workers record exact waits, from the kernel's stamp of ESTABLISHED.
    pub exact: bool,
    /// Whether loaders record upper bounds, from the client's connect call.
    pub bound: bool,
}

impl Waits {
    /// How the trial's accept waits are measured.
    pub fn method(self) -> WaitMethod {
        if self.exact { WaitMethod::SockOps } else { WaitMethod::ConnectCall }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_only_host_has_the_scenarios_clients_and_a_server_host_those_of_its_job() {
        let address = |host: u8| IpAddr::from([10, 0, 0, host]);
        let (job, sources) = ([address(1), address(2)], [address(8), address(9)]);
        let of = |side| Role { side, job: &job, clients: &job[1..] };
        let places = |role: Role<'_>| [2, 9, 7].map(|host| role.places(&sources).place(address(host)));
        assert_eq!(places(Role::default()), [Some(0), Some(1), Some(0)]);
        assert_eq!(places(of(Side::Server)), [Some(0), None, None]);
        assert_eq!(places(of(Side::Load)), [Some(0), None, None]);
    }

    #[test]
    fn hosts_agree_by_being_part_of_the_job() {
        let job = ["10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap()];
        let role = Role { side: Side::Load, job: &job, clients: &[] };
        let agreed = ["10.0.0.1", "fd00::1", "::ffff:10.0.0.1", "10.0.0.2", "fd00::2"];
        assert_eq!(agreed.map(|address| role.agreed(address.parse().unwrap())), [true, true, true, false, false]);
        assert!(!Role::default().agreed(job[0]));
    }
}
