//! The hosts of a job as machines: what they have in common, said once, and where they differ.

use std::collections::{BTreeMap, HashSet};

use indexmap::IndexMap;
use serde_json::Value as Json;

use crate::{
    format::{gibibytes, plural},
    record::{HostFacts, HostRole},
    report::ranking::listed,
};

/// Hosts named in a sentence; of more, only how many they are.
const NAMED: usize = 6;

/// The hosts of the job that a run was.
pub(super) struct Job {
    hosts: Vec<HostFacts>,
    launcher: Option<String>,
}

/// A property of hosts, by what comes before it.
type Fact = (&'static str, fn(&HostFacts) -> String);

/// In this order.
const FACTS: [Fact; 8] = [
    ("kernel ", |host| {
        let build = if host.machine.kernel_version.is_empty() {
            String::new()
        } else {
            format!(" ({})", host.machine.kernel_version)
        };
        format!("{}{build}", host.machine.kernel)
    }),
    ("", |host| format!("{} ({})", plural(host.machine.cpus_allowed, "processor"), host.machine.cpu)),
    ("memory ", |host| gibibytes(host.machine.memory_bytes as f64)),
    ("clock source ", |host| host.machine.clocksource.clone()),
    ("ports ", |host| sysctl(host, "ip_local_port_range")),
    ("tcp_tw_reuse ", |host| sysctl(host, "tcp_tw_reuse")),
    ("somaxconn ", |host| sysctl(host, "somaxconn")),
    (REVISION, |host| host.machine.revision.clone()),
];

/// Where all hosts have the same, the record's own says it.
const REVISION: &str = "revision ";

fn sysctl(host: &HostFacts, name: &str) -> String {
    host.sysctls.get(name).map_or_else(|| "?".to_owned(), |value| value.replace('\t', " "))
}

impl Job {
    /// `None` where one machine did it all.
    pub fn of(host: &Json) -> Option<Self> {
        let hosts = HostFacts::all(host);
        let launcher = host.get("launcher").and_then(Json::as_str).map(str::to_owned);
        (!hosts.is_empty()).then_some(Self { hosts, launcher })
    }

    /// Who has the server, and who the load.
    pub fn finding(&self) -> String {
        let (servers, load) = (self.role(HostRole::Server), self.role(HostRole::Load));
        format!("The server ran on {}, the load on {}", self.named(&servers, "host"), self.named(&load, "host"))
    }

    /// What starts a command on as many hosts: `mpirun --bind-to none -np 3 `.
    pub fn start(&self) -> String {
        let is_slurm = self.launcher.as_ref().is_some_and(|launcher| launcher.to_lowercase().contains("slurm"));
        let launcher = if is_slurm { "srun --mpi=pmix -n" } else { "mpirun --bind-to none -np" };
        format!("{launcher} {} ", self.hosts.len())
    }

    /// Who did what, who shares a machine, and on what machines: what is the same of all, once.
    pub fn in_words(&self) -> Vec<String> {
        let (servers, load) = (self.role(HostRole::Server), self.role(HostRole::Load));
        let launcher = self.launcher.as_ref().map_or_else(String::new, |launcher| format!("; launcher: {launcher}"));
        let mut lines = vec![format!(
            "{} hosts: server on {}, load on {}{launcher}",
            self.hosts.len(),
            self.addressed(&servers),
            self.addressed(&load)
        )];
        lines.extend(self.shared());
        let revisions: HashSet<&str> = self.hosts.iter().map(|host| &host.machine.revision[..]).collect();
        let says_more = |fact: &Fact| fact.0 != REVISION || revisions.len() > 1;
        lines.extend(FACTS.into_iter().filter(says_more).map(|fact| self.fact(fact)));
        lines
    }

    fn role(&self, role: HostRole) -> Vec<&HostFacts> {
        self.hosts.iter().filter(|host| host.role == role).collect()
    }

    /// `client1`, or `client1 (rank 1)` where others have that name.
    fn name(&self, host: &HostFacts) -> String {
        let is_shared = self.hosts.iter().filter(|other| other.name == host.name).count() > 1;
        if is_shared { format!("{} (rank {})", host.name, host.rank) } else { host.name.clone() }
    }

    fn named(&self, hosts: &[&HostFacts], what: &str) -> String {
        if hosts.len() > NAMED {
            return plural(hosts.len(), what);
        }
        listed(&hosts.iter().map(|host| self.name(host)).collect::<Vec<_>>())
    }

    /// Names with the address that comes first.
    fn addressed(&self, hosts: &[&HostFacts]) -> String {
        if hosts.len() > NAMED {
            return plural(hosts.len(), "host");
        }
        // Of several servers, cells name the rank.
        let of_rank = |host: &HostFacts| match self.role(HostRole::Server).len() {
            several if several > 1 && host.role == HostRole::Server => format!("{} (server={})", host.name, host.rank),
            _ => self.name(host),
        };
        let name = |host: &&HostFacts| match host.addresses.first() {
            Some(address) => format!("{} at {address}", of_rank(host)),
            None => of_rank(host),
        };
        listed(&hosts.iter().map(name).collect::<Vec<_>>())
    }

    /// Ranks that share a machine share its processors, and no wire is between them.
    fn shared(&self) -> Vec<String> {
        let mut machines: IndexMap<&str, Vec<&HostFacts>> = IndexMap::new();
        for host in &self.hosts {
            if let Some(boot) = &host.machine.boot {
                machines.entry(boot).or_default().push(host);
            }
        }
        let shared = machines.into_values().filter(|hosts| hosts.len() > 1);
        let line = |hosts: Vec<&HostFacts>| {
            let who = if hosts.len() == self.hosts.len() {
                format!("all {} hosts are", hosts.len())
            } else if hosts.len() > NAMED {
                format!("{} hosts are", hosts.len())
            } else {
                let ranks: Vec<String> = hosts.iter().map(|host| host.rank.to_string()).collect();
                format!("ranks {} are", listed(&ranks))
            };
            format!("{who} one machine, so they share its processors, and no cable is between them")
        };
        shared.map(line).collect()
    }

    /// `kernel 6.18 (#1)`, or `kernel 6.12 (#1) on server1; 6.18 (#2) on client1 and client2`.
    fn fact(&self, (before, of): Fact) -> String {
        let mut values: BTreeMap<String, Vec<&HostFacts>> = BTreeMap::new();
        for host in &self.hosts {
            values.entry(of(host)).or_default().push(host);
        }
        if let (1, Some((value, _))) = (values.len(), values.first_key_value()) {
            return format!("{before}{value} on all hosts");
        }
        // In the order of the first host that has each.
        let mut values: Vec<(String, Vec<&HostFacts>)> = values.into_iter().collect();
        values.sort_by_key(|(_, hosts)| hosts[0].rank);
        let (shown, more) = values.split_at(values.len().min(NAMED));
        let parts: Vec<String> =
            shown.iter().map(|(value, hosts)| format!("{value} on {}", self.named(hosts, "host"))).collect();
        let more = if more.is_empty() { String::new() } else { format!("; {}", plural(more.len(), "more value")) };
        format!("{before}{}{more}", parts.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::record::MachineFacts;

    fn host(rank: usize, name: &str) -> HostFacts {
        HostFacts {
            rank,
            name: name.to_owned(),
            role: if rank == 0 { HostRole::Server } else { HostRole::Load },
            machine: MachineFacts {
                revision: "abc".to_owned(),
                kernel: "6.12".to_owned(),
                cpu: "Xeon".to_owned(),
                cpus_allowed: 8,
                memory_bytes: 8 << 30,
                clocksource: "tsc".to_owned(),
                boot: Some(format!("boot{rank}")),
                ..MachineFacts::default()
            },
            sysctls: [("tcp_tw_reuse".to_owned(), "1".to_owned())].into(),
            addresses: vec![[10, 0, 0, rank as u8].into()],
        }
    }

    fn on(rank: usize, name: &str, change: impl FnOnce(&mut MachineFacts)) -> HostFacts {
        let mut host = host(rank, name);
        change(&mut host.machine);
        host
    }

    fn job(hosts: &[HostFacts]) -> Job {
        Job::of(&json!({ "host": "server1", "launcher": "Open MPI 4.1.4", "hosts": hosts })).unwrap()
    }

    #[test]
    fn what_is_equal_is_said_once() {
        let job = job(&[host(0, "server1"), host(1, "client1"), host(2, "client2")]);
        assert_eq!(job.finding(), "The server ran on server1, the load on client1 and client2");
        assert_eq!(
            job.in_words(),
            [
                "3 hosts: server on server1 at 10.0.0.0, load on client1 at 10.0.0.1 and client2 at 10.0.0.2; launcher: Open MPI 4.1.4",
                "kernel 6.12 on all hosts",
                "8 processors (Xeon) on all hosts",
                "memory 8.0 GiB on all hosts",
                "clock source tsc on all hosts",
                "ports ? on all hosts",
                "tcp_tw_reuse 1 on all hosts",
                "somaxconn ? on all hosts",
            ]
        );
        assert_eq!(job.start(), "mpirun --bind-to none -np 3 ");
        assert!(Job::of(&json!({ "host": "alone" })).is_none());
        let second = HostFacts { role: HostRole::Server, ..host(1, "server2") };
        let several = super::tests::job(&[host(0, "server1"), second, host(2, "client")]).in_words();
        let servers =
            "server on server1 (server=0) at 10.0.0.0 and server2 (server=1) at 10.0.0.1, load on client at 10.0.0.2";
        assert!(several[0].contains(servers), "{}", several[0]);
    }

    #[test]
    fn what_differs_is_named_with_its_hosts() {
        let newer = |rank, name| {
            on(rank, name, |machine| {
                machine.kernel = "6.18".to_owned();
                machine.memory_bytes = 16 << 30;
            })
        };
        let job = job(&[host(0, "server1"), newer(1, "client1"), newer(2, "client2")]);
        let lines = job.in_words();
        assert_eq!(lines[1], "kernel 6.12 on server1; 6.18 on client1 and client2");
        assert_eq!(lines[3], "memory 8.0 GiB on server1; 16.0 GiB on client1 and client2");
    }

    #[test]
    fn ranks_of_one_machine_share_its_processors() {
        let booted = |rank, name, boot: &str| on(rank, name, |machine| machine.boot = Some(boot.to_owned()));
        let all = job(&[booted(0, "vm", "a"), booted(1, "vm", "a")]);
        assert_eq!(all.finding(), "The server ran on vm (rank 0), the load on vm (rank 1)");
        let shares = "one machine, so they share its processors, and no cable is between them";
        assert_eq!(all.in_words()[1], format!("all 2 hosts are {shares}"));
        let some = job(&[booted(0, "a", "a"), booted(1, "b", "b"), booted(2, "b", "b")]);
        assert_eq!(some.in_words()[1], format!("ranks 1 and 2 are {shares}"));
        let unknown = on(1, "b", |machine| machine.boot = None);
        assert_eq!(job(&[unknown.clone(), HostFacts { rank: 2, ..unknown }]).in_words()[1], "kernel 6.12 on all hosts");
        let many: Vec<HostFacts> = (0..1_000).map(|rank| host(rank, &format!("n{rank}"))).collect();
        assert_eq!(job(&many).finding(), "The server ran on n0, the load on 999 hosts");
    }
}
