//! Decides when connections start. A pacer yields the intended starts; the loader's lateness is measured separately.

use std::{cmp::Reverse, collections::BinaryHeap};

use super::{kept::Kept, schedule::Schedule, session::Hold};
use crate::{
    ipc::control::Window,
    scenario::{Bound, CloseBy, Load, Mode, Transport},
    sys::clock,
};

/// One loader's part of a population.
#[derive(Debug, Clone, Copy)]
pub struct Part {
    /// This loader's number among those of its population, from 0.
    pub loader: usize,
    /// The number of its population's loaders.
    pub loaders: usize,
}

impl Part {
    /// This loader's share of `total`; the shares of all loaders add up to it.
    pub fn of(self, total: u64) -> u64 {
        let (loaders, loader) = (self.loaders as u64, self.loader as u64);
        total / loaders + u64::from(loader < total % loaders)
    }

    /// Whether the start with this number is this loader's: loaders take turns.
    pub fn owns(self, number: u64) -> bool {
        number % self.loaders as u64 == self.loader as u64
    }
}

/// Spreads a scenario's share of flows evenly over a loader's starts.
#[derive(Debug)]
pub struct Transports {
    udp_share: f64,
    /// Fraction of a flow that is owed by the share: the next start is a flow once this reaches one.
    flows_owed: f64,
}

impl Transports {
    pub fn of(load: &Load) -> Self {
        Self { udp_share: load.udp_share, flows_owed: 0.0 }
    }

    /// That of the next start.
    pub fn next(&mut self) -> Transport {
        self.flows_owed += self.udp_share;
        if self.flows_owed >= 1.0 {
            self.flows_owed -= 1.0;
            return Transport::Udp;
        }
        Transport::Tcp
    }
}

/// A start that is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Planned {
    /// When, in nanoseconds of CLOCK_MONOTONIC.
    pub at_ns: u64,
    /// The requests that a trace has the connection make; `None` for as many as others.
    requests: Option<u32>,
    /// How long a trace has it held, in nanoseconds; `None` for as long as others.
    hold_ns: Option<u64>,
}

impl Planned {
    /// How many requests the connection makes and how long it is held, where others make so many. Where nothing is asked, a trace changes
    /// nothing about that; and nothing is held where the server closes.
    pub fn task(self, (requests, close_by): (u32, CloseBy)) -> (u32, Hold) {
        let own = self.requests.filter(|_| requests > 0).unwrap_or(requests);
        (own, self.hold_ns.filter(|_| close_by == CloseBy::Client).map_or(Hold::OfPolicy, Hold::Own))
    }
}

/// The intended starts of one loader, in nanoseconds of CLOCK_MONOTONIC.
#[derive(Debug)]
pub struct Pacer {
    starts: Starts,
    window: Window,
    due: Due,
}

/// When the connections of a population are due, in nanoseconds of CLOCK_MONOTONIC.
#[derive(Debug, Clone, Copy)]
pub struct Due {
    pub from_ns: u64,
    pub until_ns: u64,
}

impl Due {
    fn of(load: &Load, window: Window) -> Self {
        let at_ns = |after| window.start_ns.saturating_add(clock::nanoseconds(after));
        let until_ns = load.end.map_or(u64::MAX, at_ns).min(window.measure_to_ns);
        Self { from_ns: at_ns(load.start), until_ns }
    }
}

#[derive(Debug)]
enum Starts {
    /// The instants at which slots became free and, if the number of starts is bounded, how many measured starts are left.
    Closed {
        free: BinaryHeap<Reverse<u64>>,
        remaining: Option<u64>,
    },
    Open(Box<Schedule>),
    Kept(Box<Kept>),
}

impl Pacer {
    /// Builds one loader's pacer. The same seed and repetition give the same schedule, whatever the strategy.
    pub fn new((load, bound): (&Load, Bound), window: Window, part: Part, seed: u64, repetition: usize) -> Self {
        let bound = match bound {
            Bound::Connections(count) => Some(count),
            Bound::Duration(_) => None,
        };
        let due = Due::of(load, window);
        let rng = (load.seed(seed), repetition);
        let starts = match &load.mode {
            Mode::Kept { connections, asking, lifetime, .. } => {
                Starts::Kept(Box::new(Kept::new((*connections, *asking, *lifetime), due, part, rng)))
            }
            Mode::Closed { concurrency } => {
                let slots = part.of(*concurrency as u64) as usize;
                let mut free = BinaryHeap::with_capacity(slots);
                free.extend(std::iter::repeat_n(Reverse(due.from_ns), slots));
                Starts::Closed { free, remaining: bound.map(|count| part.of(count)) }
            }
            Mode::Open { arrivals, .. } => {
                let trace = load.replay.as_ref().map(|replay| replay.schedule().playback());
                Starts::Open(Box::new(Schedule::new((arrivals, trace), (window, due), bound, part, rng)))
            }
        };
        Self { starts, window, due }
    }

    /// The next intended start. `None` when the bound is reached, or while every slot of a closed loop is busy; with no
    /// connection open, `None` therefore means the end.
    pub fn next(&self) -> Option<u64> {
        match &self.starts {
            Starts::Closed { remaining: Some(0), .. } => None,
            Starts::Closed { free, .. } => {
                free.peek().map(|slot| slot.0).filter(|next_ns| *next_ns < self.due.until_ns)
            }
            Starts::Open(schedule) => schedule.next_ns(),
            Starts::Kept(kept) => kept.next_ns(),
        }
    }

    /// Takes the next intended start, with what a trace says about it.
    pub fn take_planned(&mut self) -> Option<Planned> {
        let traced = match &self.starts {
            Starts::Open(schedule) => schedule.traced(),
            Starts::Closed { .. } | Starts::Kept(_) => None,
        };
        let at_ns = self.take()?;
        let (requests, hold_ns) = traced.map_or((None, None), |traced| (traced.requests, traced.hold_ns));
        Some(Planned { at_ns, requests, hold_ns })
    }

    /// Takes the next intended start.
    pub fn take(&mut self) -> Option<u64> {
        let intended_ns = self.next()?;
        let measured = self.window.measures(intended_ns);
        match &mut self.starts {
            Starts::Closed { free, remaining } => {
                free.pop();
                if let (Some(remaining), true) = (remaining, measured) {
                    *remaining -= 1;
                }
            }
            Starts::Open(schedule) => schedule.advance(),
            Starts::Kept(_) => unreachable!("kept connections have slots"),
        }
        Some(intended_ns)
    }

    /// Called when a connection has ended: a closed loop may start the next at `at_ns`.
    pub fn freed(&mut self, at_ns: u64) {
        if let Starts::Closed { free, .. } = &mut self.starts {
            free.push(Reverse(at_ns));
        }
    }

    /// Whether connections are kept, and requests are due on them.
    pub fn is_kept(&self) -> bool {
        matches!(self.starts, Starts::Kept(_))
    }

    /// The kept connections.
    pub fn kept(&mut self) -> &mut Kept {
        match &mut self.starts {
            Starts::Kept(kept) => kept,
            Starts::Closed { .. } | Starts::Open(_) => unreachable!("only a mode of that name keeps connections"),
        }
    }

    /// Whether starts are due at certain instants.
    pub fn has_schedule(&self) -> bool {
        matches!(self.starts, Starts::Open(_))
    }

    /// A number that two runs share if they followed the same schedule to its end, with any number of loaders. `None` in a
    /// closed loop, and of clients that think, which have no schedule.
    pub fn digest(&self) -> Option<u64> {
        match &self.starts {
            Starts::Closed { .. } => None,
            Starts::Open(schedule) => Some(schedule.digest()),
            Starts::Kept(kept) => kept.digest(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::{Plan, Scenario, Source};

    const S: u64 = 1_000_000_000;

    fn scenario(load: &str) -> Scenario {
        Plan::read(&Source { name: "t", text: &format!("[load]\n{load}") }, &[]).unwrap().cells[0].scenario.clone()
    }

    fn window(measure_to_ns: u64) -> Window {
        Window { start_ns: 5 * S, measure_from_ns: 6 * S, measure_to_ns, deadline_ns: u64::MAX }
    }

    fn starts(load: &str, window: Window, loaders: usize, seed: u64) -> (Vec<u64>, Vec<Option<u64>>) {
        let scenario = scenario(load);
        let mut all = Vec::new();
        let mut digests = Vec::new();
        for loader in 0..loaders {
            let mut pacer =
                Pacer::new((&scenario.loads[0], scenario.span.bound), window, Part { loader, loaders }, seed, 0);
            all.extend(std::iter::from_fn(|| pacer.take()));
            digests.push(pacer.digest());
        }
        all.sort_unstable();
        (all, digests)
    }

    #[test]
    fn constant_arrivals_are_evenly_spaced_over_all_loaders() {
        let (all, _) = starts("mode='open'\narrivals='constant'\nrate=1000", window(7 * S), 3, 1);
        assert_eq!(all.len(), 2_000);
        assert!(all.windows(2).all(|pair| (999_998..=1_000_002).contains(&(pair[1] - pair[0]))));
    }

    #[test]
    fn poisson_arrivals_have_the_rate_and_the_spread() {
        let (all, _) = starts("mode='open'\narrivals='poisson'\nrate=1000", window(25 * S), 4, 1);
        // A Poisson count of mean 20,000 has sd 141.
        assert!((all.len() as f64 - 20_000.0).abs() < 5.0 * 141.0, "{}", all.len());
        // Of exponential gaps, e⁻¹ = 36.8 % are longer than the mean: binomial sd 68.
        let long = all.windows(2).filter(|pair| pair[1] - pair[0] > 1_000_000).count() as f64;
        assert!((long - 0.3679 * all.len() as f64).abs() < 5.0 * 68.0, "{long}");
    }

    #[test]
    fn bursts_start_together() {
        let (all, _) = starts("mode='open'\narrivals='burst'\nburst_size=10\nburst_every='500ms'", window(7 * S), 3, 1);
        let expected: Vec<u64> = (0..4).flat_map(|burst| [5 * S + burst * S / 2; 10]).collect();
        assert_eq!(all, expected);
        // Fewer in a burst than loaders, and a bound that ends within one.
        let load = "mode='open'\narrivals='burst'\nburst_size=2\nburst_every='250ms'\nconnections=5";
        let (all, _) = starts(load, window(u64::MAX), 3, 1);
        let from = [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6].map(|burst| 5 * S + burst * S / 4);
        assert_eq!(all, from);
    }

    /// Written down and replayed, a schedule has its starts again: so its gaps have the distribution that they had.
    #[test]
    fn a_poisson_schedule_that_is_replayed_has_its_gaps_again() {
        let (planned, _) = starts("mode='open'\nrate=300", window(15 * S), 1, 3);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("trace.csv");
        let rows: String = planned.iter().map(|at_ns| format!("{}.{:09},2\n", at_ns / S, at_ns % S)).collect();
        std::fs::write(&path, rows).unwrap();
        let text = format!("[load]\nmode='open'\narrivals='trace'\ntrace='{}'", path.display());
        let mut plan = Plan::read(&Source { name: "t", text: &text }, &[]).unwrap();
        plan.read_traces().unwrap();
        let scenario = &plan.cells[0].scenario;
        let window = Window { measure_from_ns: 5 * S, ..window(5 * S + scenario.span.measured().as_nanos() as u64) };
        for loaders in [1, 3] {
            let mut all = Vec::new();
            for loader in 0..loaders {
                let part = Part { loader, loaders };
                let mut pacer = Pacer::new((&scenario.loads[0], scenario.span.bound), window, part, 1, 0);
                all.extend(std::iter::from_fn(|| pacer.take_planned()));
            }
            all.sort_by_key(|one| one.at_ns);
            let expected: Vec<u64> = planned.iter().map(|at_ns| 5 * S + at_ns - planned[0]).collect();
            assert_eq!(all.iter().map(|one| one.at_ns).collect::<Vec<_>>(), expected);
            assert!(all.iter().all(|one| one.task((7, CloseBy::Client)) == (2, Hold::OfPolicy)));
        }
    }

    #[test]
    fn the_seed_fixes_the_schedule() {
        for load in ["mode='open'\nrate=500", "mode='open'\nrate=500\nconnections=700"] {
            let window = if load.contains("connections") { window(u64::MAX) } else { window(8 * S) };
            let run = |loaders, seed| starts(load, window, loaders, seed);
            assert_eq!(run(2, 1), run(2, 1));
            assert_ne!(run(2, 1).1, run(2, 2).1);
            // The number of loaders changes nothing.
            assert_eq!(run(2, 1).0, run(7, 1).0);
            assert!(run(7, 1).1.iter().all(|digest| *digest == run(2, 1).1[0]));
        }
    }

    #[test]
    fn a_population_keeps_its_schedule_beside_others() {
        let storm = "[[load]]\nname='storm'\nmode='open'\nrate=500\nstart='250ms'\nend='1250ms'\nduration='2s'\n";
        let other = "[[load]]\nname='other'\nmode='open'\nrate=500\n";
        let of = |text: &str, name: &str| {
            let scenario = Plan::read(&Source { name: "t", text }, &[]).unwrap().cells[0].scenario.clone();
            let load = scenario.loads.iter().find(|load| load.name == name).unwrap();
            let part = Part { loader: 0, loaders: 1 };
            let mut pacer = Pacer::new((load, scenario.span.bound), window(7 * S), part, 1, 0);
            (std::iter::from_fn(|| pacer.take()).collect::<Vec<_>>(), pacer.digest())
        };
        let (alone, digest) = of(storm, "storm");
        assert!(alone.iter().all(|start| (5 * S + S / 4..6 * S + S / 4).contains(start)));
        for text in [format!("{storm}{other}"), format!("{other}{storm}")] {
            assert_eq!(of(&text, "storm"), (alone.clone(), digest));
            assert_ne!(of(&text, "other").1, digest);
        }
        let constant = storm.replace("rate=500", "arrivals='constant'\nrate=500");
        assert_eq!(of(&constant, "storm").0, (0..500).map(|k| 5 * S + S / 4 + k * S / 500).collect::<Vec<_>>());
    }

    #[test]
    fn a_closed_population_starts_and_ends_when_it_is_to() {
        let scenario = scenario("concurrency=1\nstart='1s'\nend='2s'\nduration='3s'");
        let load = (&scenario.loads[0], scenario.span.bound);
        let mut pacer = Pacer::new(load, window(8 * S), Part { loader: 0, loaders: 1 }, 1, 0);
        assert_eq!((pacer.take(), pacer.take()), (Some(6 * S), None));
        pacer.freed(7 * S - 1);
        assert_eq!(pacer.take(), Some(7 * S - 1));
        pacer.freed(7 * S);
        assert_eq!(pacer.take(), None);
    }

    #[test]
    fn a_number_of_connections_counts_the_measured_ones() {
        let load = "mode='open'\narrivals='constant'\nrate=10\nconnections=25";
        let (all, _) = starts(load, window(u64::MAX), 2, 1);
        assert_eq!(all.iter().filter(|start| **start >= 6 * S).count(), 25);
        assert_eq!(all.len(), 35);
        let (all, _) = starts("mode='open'\nrate=200\nconnections=200", window(u64::MAX), 16, 1);
        assert_eq!(all.iter().filter(|start| **start >= 6 * S).count(), 200);
    }

    #[test]
    fn a_closed_loop_starts_when_one_ends() {
        let scenario = scenario("concurrency=2\nconnections=3");
        let mut pacer = Pacer::new(
            (&scenario.loads[0], scenario.span.bound),
            Window { measure_from_ns: 5 * S, ..window(u64::MAX) },
            Part { loader: 0, loaders: 1 },
            1,
            0,
        );
        assert_eq!((pacer.take(), pacer.take(), pacer.take()), (Some(5 * S), Some(5 * S), None));
        pacer.freed(9 * S);
        assert_eq!(pacer.take(), Some(9 * S));
        pacer.freed(10 * S);
        assert_eq!(pacer.take(), None);
    }
}
