//! How workers obtain connections: queues × steering × wake-up.
//!
//! Each axis is an enum in its own file, together with everything that follows from it; what follows from a combination
//! is here. A named combination is one file and one line in `presets`.

#![cfg_attr(not(test), allow(dead_code, reason = "some of it serves the documentation, which tests compare"))]

mod presets;
mod queues;
mod steering;
mod wake;

pub use presets::{DEFAULT, PRESETS, Preset};
pub use queues::Queues;
pub use steering::{IncomingPlaces, Steering};
pub use wake::{Dispatch, Trigger, Wake};

use super::{
    keys,
    model::{Protocol, Transport},
    settings::Settings,
};
use crate::record::WaitEnd;

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

impl Strategy {
    pub(super) fn read(settings: &Settings<'_>, protocol: Protocol, workers: usize) -> Self {
        let strategy = settings.get(keys::SERVER_STRATEGY).read(settings);
        if protocol.has(Transport::Udp) && !strategy.takes_datagrams() {
            let able = PRESETS.iter().map(|preset| preset.with_defaults()).filter(Self::takes_datagrams);
            let able = able.map(|strategy| strategy.name).collect::<Vec<_>>().join(", ");
            let problem = format!("\"{}\" cannot receive datagrams (`protocol`); choose one of {able}", strategy.name);
            settings.conflict(keys::SERVER_STRATEGY, &[keys::PROTOCOL], problem);
        }
        if let Err(problem) = strategy.check(workers) {
            settings.conflict(keys::SERVER_STRATEGY, &[keys::SERVER_WORKERS], problem);
        }
        strategy
    }

    /// Rejects combinations that make no sense.
    fn check(&self, workers: usize) -> Result<(), String> {
        let (name, queues) = (self.name, self.queues.count(workers));
        let steering = self.steering.traits();
        if queues == 0 || queues > workers {
            return Err(format!(
                "{queues} queues for {workers} workers: every queue needs a worker that accepts from it"
            ));
        }
        if !self.queues.form_group() && self.steering != Steering::Hash {
            return Err(format!("\"{name}\" has a single queue, so there is nothing to steer"));
        }
        if steering.by_worker && queues < workers {
            return Err(format!(
                "\"{name}\" steers by what each worker has to do, so every worker needs its own queue"
            ));
        }
        if self.wake.traits().helper && queues > 1 {
            return Err(format!("\"{name}\" has one process that accepts, and it accepts from one queue only"));
        }
        match steering.most_workers {
            Some(most) if workers > most => {
                Err(format!("\"{name}\" takes at most {most} workers, not {workers}: lower `server.workers`"))
            }
            _ => Ok(()),
        }
    }

    /// Whether it makes sense for datagrams, which no accept precedes.
    pub fn takes_datagrams(&self) -> bool {
        self.steering.traits().datagrams && self.wake.traits().datagrams
    }

    /// Whether workers call accept4(2); io_uring does without.
    pub(super) fn calls_accept(&self) -> bool {
        self.wake.traits().calls_accept
    }

    /// What ends the accept wait of a connection.
    pub fn wait_end(&self) -> WaitEnd {
        self.wake.traits().wait_end
    }

    /// How connections can wait for this worker and no other.
    pub fn waiting(&self, worker: usize, workers: usize) -> Waiting {
        let shared = self.queues.sharers(worker, workers) > 1;
        self.wake.traits().waiting.unwrap_or(if shared { Waiting::Never } else { Waiting::InQueue })
    }

    /// Its limitations and requirements, for the documentation.
    pub fn limits(&self) -> String {
        let steering = self.steering.traits();
        let limits: Vec<String> = [
            steering.root.then(|| "requires root".to_owned()),
            (!self.takes_datagrams()).then(|| "connections only".to_owned()),
            steering.most_workers.map(|most| format!("at most {most} workers")),
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

    const LEVEL: Wake = Wake::Epoll(Trigger::Level);

    /// The documentation's table matches the list. Missing rows are printed for pasting.
    #[test]
    fn the_readme_documents_every_strategy_once() {
        let readme = include_str!("../../../bench-configs/README.md");
        let (_, section) = readme.split_once("\n## The strategies\n").unwrap();
        let section = section.split_once("\n## ").map_or(section, |(section, _)| section);
        let documented = section.lines().filter(|line| line.starts_with("| `"));
        let mut wanted = String::new();
        for preset in PRESETS {
            writeln!(wanted, "| `{}` | {} | {} |", preset.name, preset.meaning, preset.with_defaults().limits())
                .unwrap();
        }
        assert!(documented.eq(wanted.lines()), "bench-configs/README.md should have exactly these rows:\n{wanted}");
    }

    #[test]
    fn every_preset_makes_sense_and_has_its_own_name() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/scenario/strategy/presets");
        let files = std::fs::read_dir(folder).unwrap().count();
        assert_eq!(files, PRESETS.len() + 1, "a file in {folder} has no line in its mod.rs");
        for (number, preset) in PRESETS.iter().enumerate() {
            let strategy = preset.with_defaults();
            assert_eq!((strategy.name, strategy.check(2)), (preset.name, Ok(())));
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
        let dispatcher = || Wake::Dispatcher { dispatch: Dispatch::RoundRobin };
        for (queues, steering, wake, workers, reason) in [
            (Queues::Shared(3), Steering::Hash, LEVEL, 2, "every queue needs a worker"),
            (Queues::Shared(0), Steering::Hash, LEVEL, 2, "every queue needs a worker"),
            (Queues::Shared(1), Steering::Random, LEVEL, 2, "nothing to steer"),
            (Queues::Shared(2), Steering::Least, LEVEL, 4, "its own queue"),
            (Queues::PerWorker, Steering::Hash, dispatcher(), 2, "one queue only"),
            (Queues::PerWorker, hermes(), LEVEL, 65, "at most 64 workers"),
        ] {
            let strategy = Strategy { name: "made-up", queues, steering, wake };
            assert!(strategy.check(workers).unwrap_err().contains(reason), "{strategy:?}");
        }
        for (queues, steering, wake) in [
            (Queues::Shared(2), Steering::RoundRobin, Wake::Thread),
            (Queues::Shared(2), Steering::ReceivingCpu, Wake::Epoll(Trigger::Exclusive)),
            (Queues::PerWorker, hermes(), Wake::Uring),
        ] {
            assert_eq!(Strategy { name: "made-up", queues, steering, wake }.check(4), Ok(()));
        }
    }

    #[test]
    fn connections_wait_for_one_worker_where_it_shares_its_queue_with_nobody() {
        let waiting = |queues, wake, worker| {
            Strategy { name: "made-up", queues, steering: Steering::Hash, wake }.waiting(worker, 3)
        };
        assert_eq!(waiting(Queues::Shared(1), LEVEL, 0), Waiting::Never);
        assert_eq!(waiting(Queues::PerWorker, LEVEL, 0), Waiting::InQueue);
        // Workers 0 and 2 share the first of two queues.
        assert_eq!(
            [0, 1, 2].map(|worker| waiting(Queues::Shared(2), LEVEL, worker)),
            [Waiting::Never, Waiting::InQueue, Waiting::Never]
        );
        assert_eq!(waiting(Queues::PerWorker, Wake::Uring, 0), Waiting::Unseen);
    }
}
