//! When connections start. A pacer yields intended starts; what the loader makes of them is its own lateness.

use std::{cmp::Reverse, collections::BinaryHeap};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::{
    ipc::control::Window,
    scenario::{Arrivals, Bound, Mode, Scenario},
    sys::clock,
};

/// The part of a load that one loader bears.
#[derive(Debug, Clone, Copy)]
pub struct Part {
    /// Number of this loader, from 0.
    pub loader: usize,
    /// All loaders.
    pub loaders: usize,
}

impl Part {
    /// This loader's part of a number of things; the parts of all loaders add up to it.
    fn of(self, total: u64) -> u64 {
        let (loaders, loader) = (self.loaders as u64, self.loader as u64);
        total / loaders + u64::from(loader < total % loaders)
    }
}

/// The intended starts of one loader, in nanoseconds of CLOCK_MONOTONIC.
#[derive(Debug)]
pub struct Pacer {
    starts: Starts,
    window: Window,
    /// Measured starts still to make, where their number is the bound.
    remaining: Option<u64>,
    measured: u64,
    digest: u64,
}

#[derive(Debug)]
enum Starts {
    /// The instants at which slots became free.
    Closed(BinaryHeap<Reverse<u64>>),
    Open(Box<Schedule>),
}

impl Pacer {
    /// The pacer of one loader. The same seed and repetition give the same schedule, whatever the strategy.
    pub fn new(scenario: &Scenario, window: Window, part: Part, seed: u64, repetition: usize) -> Self {
        let load = &scenario.load;
        let starts = match load.mode {
            Mode::Closed { concurrency } => {
                let slots = part.of(concurrency as u64) as usize;
                let mut free = BinaryHeap::with_capacity(slots);
                free.extend(std::iter::repeat_n(Reverse(window.start_ns), slots));
                Starts::Closed(free)
            }
            Mode::Open(arrivals) => Starts::Open(Box::new(Schedule::new(arrivals, part, seed, repetition))),
        };
        let remaining = match load.bound {
            Bound::Connections(count) => Some(part.of(count)),
            Bound::Duration(_) => None,
        };
        // The offset basis of 64-bit FNV-1a.
        Self { starts, window, remaining, measured: 0, digest: 0xcbf2_9ce4_8422_2325 }
    }

    /// The next intended start; `None` when the bound is reached, or when every slot of a closed loop is busy. With no
    /// connection open, `None` therefore means the end.
    pub fn next(&self) -> Option<u64> {
        if self.remaining == Some(0) {
            return None;
        }
        let next = match &self.starts {
            Starts::Closed(free) => free.peek().map(|slot| slot.0)?,
            Starts::Open(schedule) => self.window.start_ns.saturating_add(schedule.next_ns()?),
        };
        (next < self.window.measure_to_ns).then_some(next)
    }

    /// Takes the next intended start.
    pub fn take(&mut self) -> Option<u64> {
        let intended_ns = self.next()?;
        match &mut self.starts {
            Starts::Closed(free) => drop(free.pop()),
            Starts::Open(schedule) => {
                schedule.advance();
                // FNV-1a over 64-bit words: order and times of all starts in one number.
                self.digest = (self.digest ^ (intended_ns - self.window.start_ns)).wrapping_mul(0x0000_0100_0000_01b3);
            }
        }
        if self.window.measures(intended_ns) {
            self.measured += 1;
            if let Some(remaining) = &mut self.remaining {
                *remaining -= 1;
            }
        }
        Some(intended_ns)
    }

    /// A connection has ended: a closed loop may start the next at `at_ns`.
    pub fn freed(&mut self, at_ns: u64) {
        if let Starts::Closed(free) = &mut self.starts {
            free.push(Reverse(at_ns));
        }
    }

    /// Measured starts taken so far.
    pub fn measured(&self) -> u64 {
        self.measured
    }

    /// A number that two runs share if they took the same schedule; `None` in a closed loop, which has none.
    pub fn digest(&self) -> Option<u64> {
        matches!(self.starts, Starts::Open(_)).then_some(self.digest)
    }
}

/// An open loop's starts, in nanoseconds since the barrier.
#[derive(Debug)]
struct Schedule {
    arrivals: Arrivals,
    part: Part,
    rng: ChaCha8Rng,
    taken: u64,
    next_ns: f64,
}

impl Schedule {
    fn new(arrivals: Arrivals, part: Part, seed: u64, repetition: usize) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        // Streams of workers have the top bit set.
        rng.set_stream((repetition as u64) << 16 | part.loader as u64);
        let mut schedule = Self { arrivals, part, rng, taken: 0, next_ns: 0.0 };
        schedule.compute();
        schedule
    }

    fn next_ns(&self) -> Option<u64> {
        // f64 holds whole nanoseconds exactly for 104 days.
        self.next_ns.is_finite().then_some(self.next_ns as u64)
    }

    fn advance(&mut self) {
        self.taken += 1;
        self.compute();
    }

    fn compute(&mut self) {
        self.next_ns = match self.arrivals {
            // Loaders take turns, so that all together keep equal distances.
            Arrivals::Constant { rate } => {
                (self.taken * self.part.loaders as u64 + self.part.loader as u64) as f64 * 1e9 / rate
            }
            // Independent Poisson processes add up to one (superposition), so each takes its part of the rate.
            // Gap by inverse transform: −ln(1−u)/λ.
            Arrivals::Poisson { rate } => {
                let gap_s = -(1.0 - self.rng.random::<f64>()).ln() * self.part.loaders as f64 / rate;
                self.next_ns + gap_s * 1e9
            }
            Arrivals::Burst { size, every } => match self.part.of(size) {
                0 => f64::INFINITY,
                size => (self.taken / size) as f64 * clock::nanoseconds(every) as f64,
            },
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::{Plan, Source};

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
            let mut pacer = Pacer::new(&scenario, window, Part { loader, loaders }, seed, 0);
            all.extend(std::iter::from_fn(|| pacer.take()));
            digests.push(pacer.digest());
        }
        all.sort_unstable();
        (all, digests)
    }

    #[test]
    fn constant_arrivals_keep_their_distance_over_all_loaders() {
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
    }

    #[test]
    fn the_seed_fixes_the_schedule() {
        let run = |seed| starts("mode='open'\nrate=500", window(8 * S), 2, seed);
        assert_eq!(run(1), run(1));
        assert_ne!(run(1).1, run(2).1);
    }

    #[test]
    fn a_number_of_connections_counts_the_measured_ones() {
        let load = "mode='open'\narrivals='constant'\nrate=10\nconnections=25";
        let (all, _) = starts(load, window(u64::MAX), 2, 1);
        assert_eq!(all.iter().filter(|start| **start >= 6 * S).count(), 25);
        assert_eq!(all.len(), 35);
    }

    #[test]
    fn a_closed_loop_starts_when_one_ends() {
        let scenario = scenario("concurrency=2\nconnections=3");
        let mut pacer = Pacer::new(
            &scenario,
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
