//! How workers obtain connections: queues × steering × wake-up.
//!
//! Each axis is an enum in its own file, together with everything that follows from it; what follows from a combination
//! is here. A named combination is one file and one line in `presets`.

#![cfg_attr(not(test), allow(dead_code, reason = "some of it serves the documentation, which tests compare"))]

mod balance;
mod presets;
mod queues;
mod steering;
mod wake;

pub use balance::Balance;
pub use presets::{DEFAULT, PRESETS, Preset};
pub use queues::{Queues, sharers};
pub use steering::{IncomingPlaces, Steering};
pub use wake::{Dispatch, Trigger, Wake, WakeName};

use super::{
    keys::{self, AnyKey},
    model::{Protocol, Transport},
    settings::Settings,
};
use crate::record::Draws;

/// A way for workers to obtain connections.
#[derive(Debug, Clone, PartialEq)]
pub struct Strategy {
    /// The name of its preset.
    pub name: &'static str,
    /// How many queues there are.
    pub queues: Queues,
    /// Which queue a connection goes to.
    pub steering: Steering,
    /// How a worker learns of a connection.
    pub wake: Wake,
    /// Whether workers hand connections over to each other.
    pub balance: Balance,
}

/// How connections can wait for one worker and no other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waiting {
    /// Not at all: other workers accept from the same queue.
    Never,
    /// In the queue of the worker's listener.
    InQueue,
    /// Handed over by a dispatcher but not yet taken by the worker.
    HandedOver,
    /// Where only the worker could count them.
    Unseen,
}

/// A combination that makes no sense, and the keys that cause it.
struct Refused {
    key: &'static dyn AnyKey,
    others: &'static [&'static dyn AnyKey],
    problem: String,
}

/// What our own server does on a Unix socket by default: listeners cannot share one.
const OF_UNIX: &str = "shared-epoll";

impl Strategy {
    pub(super) fn read(settings: &Settings<'_>, protocol: Protocol, workers: usize) -> Self {
        // Where addresses are compared, a default that differs between them would be compared as well.
        let is_unix = settings.is_unix() && !settings.is_swept(keys::ADDRESS);
        let shared = || PRESETS.iter().find(|preset| preset.name == OF_UNIX).copied();
        let default = Some(keys::SERVER_STRATEGY.default());
        let default = if is_unix { shared() } else { default }.expect("there is a strategy of that name");
        let mut strategy = settings.get_or(keys::SERVER_STRATEGY, default).read(settings);
        if protocol.has(Transport::Tcp) && strategy.wake.traits().each_accepts {
            strategy.balance = settings.get(keys::SERVER_BALANCE);
        }
        if protocol.has(Transport::Udp) && !strategy.takes_datagrams() {
            if settings.is_set(keys::SERVER_WAKE) && strategy.steering.traits().datagrams {
                let problem = "does not work for datagrams (`protocol`): nothing accepts them; choose one of level, edge, exclusive";
                settings.conflict(keys::SERVER_WAKE, &[keys::PROTOCOL, keys::SERVER_STRATEGY], problem);
                return strategy;
            }
            let able = PRESETS.iter().map(|preset| preset.with_defaults()).filter(Self::takes_datagrams);
            let able = able.map(|strategy| strategy.name).collect::<Vec<_>>().join(", ");
            let problem = format!("\"{}\" cannot receive datagrams (`protocol`); choose one of {able}", strategy.name);
            settings.conflict(keys::SERVER_STRATEGY, &[keys::PROTOCOL], problem);
        }
        if protocol.has(Transport::Tcp) && !strategy.takes_connections() {
            let problem = format!(
                "\"{}\" goes by an id in each datagram, and connections (`protocol`) have none: set protocol = \"udp\", or choose \
                 another strategy",
                strategy.name
            );
            settings.conflict(keys::SERVER_STRATEGY, &[keys::PROTOCOL], problem);
        }
        if protocol.is_multipath() && !strategy.takes_multipath() && strategy.takes_connections() {
            let able = PRESETS.iter().map(|preset| preset.with_defaults());
            let able = able.filter(|other| other.takes_connections() && other.takes_multipath());
            let able = able.map(|strategy| strategy.name).collect::<Vec<_>>().join(", ");
            let problem = format!(
                "in \"{}\" a program chooses the listener, and the kernel takes none for listeners of MPTCP (`protocol`): choose one of \
                 {able}, or set protocol = \"tcp\"",
                strategy.name
            );
            settings.conflict(keys::SERVER_STRATEGY, &[keys::PROTOCOL], problem);
        }
        if let Err(Refused { key, others, problem }) = strategy.check(workers) {
            settings.conflict(key, others, problem);
        }
        strategy
    }

    /// Rejects combinations that make no sense.
    fn check(&self, workers: usize) -> Result<(), Refused> {
        let (name, queues) = (self.name, self.queues.count(workers));
        if queues > workers {
            return Err(Refused {
                key: keys::SERVER_LISTENERS,
                others: &[keys::SERVER_WORKERS],
                problem: format!(
                    "must be at most {workers}, the number of workers, since each listener needs one that accepts from it, not {queues}: \
                     lower it, or raise `server.workers`"
                ),
            });
        }
        let most = self.steering.traits().most_queues;
        if let Some(most) = most.filter(|most| queues > *most) {
            return Err(Refused {
                key: keys::SERVER_STRATEGY,
                others: &[keys::SERVER_LISTENERS, keys::SERVER_WORKERS],
                problem: format!(
                    "\"{name}\" takes at most {most} listeners, not {queues}: lower `server.workers` or set `server.listeners`"
                ),
            });
        }
        Ok(())
    }

    /// Whether it makes sense for connections.
    pub fn takes_connections(&self) -> bool {
        self.steering.traits().connections
    }

    /// Whether it makes sense for datagrams, which no accept precedes.
    pub fn takes_datagrams(&self) -> bool {
        self.steering.traits().datagrams && self.wake.traits().datagrams
    }

    /// Whether its listeners can be MPTCP's.
    pub fn takes_multipath(&self) -> bool {
        !self.steering.traits().program
    }

    /// Whether workers call accept4(2); io_uring does without.
    pub fn calls_accept(&self) -> bool {
        self.wake.traits().calls_accept
    }

    /// Whether another worker can accept what one leaves in its queue for a while. Threads and rings do not leave it there, and those
    /// that hand over need not.
    pub fn leaves_others_time(&self, workers: usize) -> bool {
        let shared = (0..workers).any(|worker| self.queues.sharers(worker, workers) > 1);
        shared && self.balance == Balance::Off && matches!(self.wake, Wake::Epoll(_) | Wake::Lock { .. })
    }

    /// Whether its workers are threads of one process.
    pub fn is_pool(&self) -> bool {
        self.wake == Wake::Pool
    }

    /// Whether workers can join, leave and be replaced during a trial.
    pub fn takes_generations(&self) -> bool {
        self.wake.traits().generations && self.balance == Balance::Off
    }

    /// Whether the kernel's hash alone decides, among however many listeners there are.
    pub(super) fn spreads_by_hash(&self) -> bool {
        self.steering == Steering::Hash
    }

    /// How connections can wait for this worker and no other.
    pub fn waiting(&self, worker: usize, workers: usize) -> Waiting {
        if self.balance != Balance::Off {
            return Waiting::Unseen;
        }
        let shared = self.queues.sharers(worker, workers) > 1;
        self.wake.traits().waiting.unwrap_or(if shared { Waiting::Never } else { Waiting::InQueue })
    }

    /// What falls on a random worker each time; `None` if that depends on anything else than chance. Where workers share a queue, it
    /// depends on which of them is faster, and where they hand over, on what they have.
    pub fn draws(&self, workers: usize) -> Option<Draws> {
        let chance =
            self.balance == Balance::Off && (0..workers).all(|worker| self.queues.sharers(worker, workers) == 1);
        if chance { self.steering.traits().draws } else { None }
    }

    /// Whether only root can run it.
    pub fn requires_root(&self) -> bool {
        self.steering.traits().root
    }

    /// Its limitations and requirements, for the documentation.
    pub fn limits(&self) -> String {
        let steering = self.steering.traits();
        let limits: Vec<String> = [
            self.is_pool().then(|| "one process".to_owned()),
            steering.root.then(|| "requires root".to_owned()),
            (!self.takes_datagrams()).then(|| "connections only".to_owned()),
            (!self.takes_connections()).then(|| "datagrams only".to_owned()),
            (self.takes_connections() && !self.takes_multipath()).then(|| "not over MPTCP".to_owned()),
            (!self.takes_generations()).then(|| "workers cannot change".to_owned()),
            steering.most_queues.map(|most| format!("at most {most} listeners")),
        ]
        .into_iter()
        .flatten()
        .collect();
        if limits.is_empty() { "none".to_owned() } else { limits.join(", ") }
    }
}

#[cfg(test)]
mod tests {
    use std::{fmt::Write, time::Duration};

    use super::*;
    use crate::scenario::keys::documentation;

    const LEVEL: Wake = Wake::Epoll(Trigger::Level);

    /// The documentation's table matches the list. Missing rows are printed for pasting.
    #[test]
    fn the_readme_documents_every_strategy_once() {
        let readme = include_str!("../../../bench-configs/README.md");
        let (_, section) = readme.split_once("\n## The strategies\n").unwrap();
        let section = section.split_once("\n## ").map_or(section, |(section, _)| section);
        let documented = section.lines().filter(|line| line.starts_with("| `"));
        let (mut wanted, mut long) = (String::new(), String::new());
        for preset in PRESETS {
            let meaning = documentation::cell(preset.name, preset.meaning);
            writeln!(wanted, "| `{}` | {meaning} | {} |", preset.name, preset.with_defaults().limits()).unwrap();
            long += &documentation::heading(preset.name, preset.meaning).unwrap_or_default();
        }
        assert!(documented.eq(wanted.lines()), "bench-configs/README.md should have exactly these rows:\n{wanted}");
        assert!(section.contains(&long), "bench-configs/README.md should have below its strategies:\n{long}");
    }

    #[test]
    fn every_preset_makes_sense_and_has_its_own_name() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/scenario/strategy/presets");
        let files = std::fs::read_dir(folder).unwrap().count();
        assert_eq!(files, PRESETS.len() + 1, "a file in {folder} has no line in its mod.rs");
        for (number, preset) in PRESETS.iter().enumerate() {
            let strategy = preset.with_defaults();
            assert_eq!((strategy.name, strategy.check(2).is_ok()), (preset.name, true));
            assert!(PRESETS[..number].iter().all(|other| other.name != preset.name), "{} is listed twice", preset.name);
        }
    }

    #[test]
    fn smoke_runs_every_strategy_that_needs_no_root() {
        let smoke: toml::Table = include_str!("../../../bench-configs/smoke.toml").parse().unwrap();
        let listed = smoke["matrix"]["server"]["strategy"].as_array().unwrap();
        let plain = PRESETS.iter().map(|preset| preset.with_defaults()).filter(|plain| !plain.steering.traits().root);
        let plain: Vec<&str> = plain.map(|strategy| strategy.name).collect();
        assert!(
            listed.iter().filter_map(toml::Value::as_str).eq(plain.iter().copied()),
            "smoke.toml should list {plain:?}"
        );
    }

    #[test]
    fn combinations_that_make_no_sense_are_refused_with_the_reason() {
        let hermes = || Steering::Hermes { hang: Duration::from_millis(100), theta: 0.5 };
        for (queues, steering, workers, reason) in [
            (Queues::Group(3), Steering::Hash, 2, Some("must be at most 2, the number of workers")),
            (Queues::Group(3), Steering::Hash, 3, None),
            (Queues::PerWorker, hermes(), 65, Some("at most 64 listeners")),
            (Queues::PerWorker, hermes(), 64, None),
            (Queues::Group(65), hermes(), 128, Some("at most 64 listeners")),
            (Queues::Group(64), hermes(), 128, None),
        ] {
            let strategy = Strategy { name: "made-up", queues, steering, wake: LEVEL, balance: Balance::Off };
            let problem = strategy.check(workers).err().map(|refused| refused.problem);
            assert_eq!(problem.is_some(), reason.is_some(), "{strategy:?}");
            assert!(problem.iter().all(|problem| problem.contains(reason.unwrap())), "{problem:?}");
        }
    }

    #[test]
    fn chance_decides_where_every_worker_has_a_queue_and_no_rule_chooses() {
        let names = |draws| {
            let presets = PRESETS.iter().filter(|preset| preset.with_defaults().draws(2) == draws);
            presets.map(|preset| preset.name).collect::<Vec<_>>()
        };
        assert_eq!(names(Some(Draws::Tuples)), ["reuseport", "reuseport-uring", "reuseport-cid"]);
        assert_eq!(names(Some(Draws::Connections)), ["reuseport-random"]);
        let draws = |queues, steering| {
            Strategy { name: "made-up", queues, steering, wake: LEVEL, balance: Balance::Off }.draws(4)
        };
        assert_eq!(draws(Queues::Group(4), Steering::Hash), Some(Draws::Tuples));
        // Two workers take from each queue.
        assert_eq!(draws(Queues::Group(2), Steering::Hash), None);
    }

    #[test]
    fn who_hands_connections_over_keeps_its_workers() {
        let fixed = PRESETS.iter().filter(|preset| !preset.with_defaults().takes_generations());
        assert_eq!(fixed.map(|preset| preset.name).collect::<Vec<_>>(), ["shared-threads", "dispatcher"]);
    }

    #[test]
    fn others_get_time_where_connections_stay_in_a_shared_queue() {
        let patient = PRESETS.iter().filter(|preset| preset.with_defaults().leaves_others_time(2));
        let names = ["shared-epoll", "shared-epoll-edge", "shared-epoll-exclusive", "shared-accept-mutex"];
        assert_eq!(patient.map(|preset| preset.name).collect::<Vec<_>>(), names);
        let of = |queues, balance, workers| {
            let strategy = Strategy { name: "made-up", queues, steering: Steering::Hash, wake: LEVEL, balance };
            strategy.leaves_others_time(workers)
        };
        assert!(of(Queues::Group(2), Balance::Off, 3) && !of(Queues::Group(3), Balance::Off, 3));
        assert!(!of(Queues::Group(2), Balance::Least, 3) && !of(Queues::One, Balance::Off, 1));
    }

    #[test]
    fn connections_wait_for_one_worker_where_it_shares_its_queue_with_nobody() {
        let waiting = |queues, wake, worker| {
            Strategy { name: "made-up", queues, steering: Steering::Hash, wake, balance: Balance::Off }
                .waiting(worker, 3)
        };
        assert_eq!(waiting(Queues::One, LEVEL, 0), Waiting::Never);
        assert_eq!(waiting(Queues::PerWorker, LEVEL, 0), Waiting::InQueue);
        // Workers 0 and 2 share the first of two queues.
        assert_eq!(
            [0, 1, 2].map(|worker| waiting(Queues::Group(2), LEVEL, worker)),
            [Waiting::Never, Waiting::InQueue, Waiting::Never]
        );
        assert_eq!(waiting(Queues::PerWorker, Wake::Uring, 0), Waiting::Unseen);
    }
}
