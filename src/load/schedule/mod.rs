//! An open loop's schedule: when the connections of a population start.
//!
//! A file for each process that yields starts: `constant`, `poisson` and `burst`, with rates that change, `ramp`, `mmpp` and `rates`, and `trace`.

mod burst;
mod constant;
mod mmpp;
mod poisson;
mod ramp;
mod rates;
mod trace;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use self::{
    burst::BurstStarts, constant::ConstantStarts, mmpp::MmppStarts, poisson::PoissonStarts, ramp::RampStarts,
    rates::RatesStarts, trace::TraceStarts,
};
use super::pacer::{Due, Part};
use crate::{
    ipc::control::Window,
    scenario::Arrivals,
    trace::{Playback, Start},
};

/// An open loop's schedule. Every loader walks through all of it and keeps its own starts, so the number of loaders changes
/// neither its length nor its shape.
#[derive(Debug)]
pub(super) struct Schedule {
    process: Process,
    window: Window,
    due: Due,
    part: Part,
    rng: ChaCha8Rng,
    /// Number of the start computed last, and its time since the first could be due.
    number: u64,
    offset_ns: f64,
    /// How many measured starts of all loaders are left, if their number is bounded.
    remaining: Option<u64>,
    digest: u64,
    /// This loader's next start.
    next_ns: Option<u64>,
}

/// What yields the starts of all loaders, one after the other.
#[derive(Debug)]
enum Process {
    Constant(ConstantStarts),
    Poisson(PoissonStarts),
    Burst(BurstStarts),
    Ramp(RampStarts),
    Mmpp(MmppStarts),
    Rates(RatesStarts),
    Trace(TraceStarts),
}

impl Process {
    fn of(arrivals: &Arrivals, trace: Option<Playback>) -> Self {
        match arrivals {
            Arrivals::Constant { rate } => Self::Constant(ConstantStarts::new(*rate)),
            Arrivals::Poisson { rate } => Self::Poisson(PoissonStarts::new(*rate)),
            Arrivals::Burst { size, every } => Self::Burst(BurstStarts::new(*size, *every)),
            Arrivals::Ramp(ramp) => Self::Ramp(RampStarts::new(*ramp)),
            Arrivals::Mmpp(mmpp) => Self::Mmpp(MmppStarts::new(*mmpp)),
            Arrivals::Rates(rates) => Self::Rates(RatesStarts::new(rates.clone())),
            Arrivals::Trace(_) => Self::Trace(TraceStarts::new(trace)),
        }
    }

    /// The next start, in nanoseconds since the first could be due, and not before the previous one; infinite after the last, and at
    /// will for one later than `until_ns`.
    fn next(&mut self, rng: &mut ChaCha8Rng, until_ns: f64) -> f64 {
        match self {
            Self::Constant(starts) => starts.next(),
            Self::Poisson(starts) => starts.next(rng),
            Self::Burst(starts) => starts.next(),
            Self::Ramp(starts) => starts.next(rng),
            Self::Mmpp(starts) => starts.next(rng, until_ns),
            Self::Rates(starts) => starts.next(rng),
            Self::Trace(starts) => starts.next(),
        }
    }
}

impl Schedule {
    pub fn new(
        (arrivals, trace): (&Arrivals, Option<Playback>),
        (window, due): (Window, Due),
        remaining: Option<u64>,
        part: Part,
        (seed, repetition): (u64, usize),
    ) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        // Streams of workers have the top bit set.
        rng.set_stream(repetition as u64);
        // The offset basis of 64-bit FNV-1a.
        let digest = 0xcbf2_9ce4_8422_2325;
        let process = Process::of(arrivals, trace);
        let mut schedule =
            Self { process, window, due, part, rng, number: 0, offset_ns: 0.0, remaining, digest, next_ns: None };
        schedule.compute();
        schedule.walk();
        schedule
    }

    /// This loader's next start; `None` after the last.
    pub fn next_ns(&self) -> Option<u64> {
        self.next_ns
    }

    /// What a trace says about the start computed last, which is this loader's next one, if there is any.
    pub fn traced(&self) -> Option<Start> {
        match &self.process {
            Process::Trace(starts) => starts.last(),
            _ => None,
        }
    }

    /// A number that two runs share if they followed the same schedule as far.
    pub fn digest(&self) -> u64 {
        self.digest
    }

    pub fn advance(&mut self) {
        self.step();
        self.walk();
    }

    /// Advances to this loader's next start, or to the end.
    fn walk(&mut self) {
        loop {
            // f64 holds whole nanoseconds exactly for 104 days.
            let start_ns = self.due.from_ns.saturating_add(self.offset_ns as u64);
            if self.remaining == Some(0) || start_ns >= self.due.until_ns {
                self.next_ns = None;
                return;
            }
            if self.window.measures(start_ns)
                && let Some(remaining) = &mut self.remaining
            {
                *remaining -= 1;
            }
            // FNV-1a over 64-bit words covers the order and times of all starts.
            self.digest = (self.digest ^ self.offset_ns as u64).wrapping_mul(0x0000_0100_0000_01b3);
            if self.part.owns(self.number) {
                self.next_ns = Some(start_ns);
                return;
            }
            self.step();
        }
    }

    /// Goes on to the next start of any loader.
    fn step(&mut self) {
        self.number += 1;
        self.compute();
    }

    fn compute(&mut self) {
        let until_ns = self.due.until_ns.saturating_sub(self.due.from_ns) as f64;
        self.offset_ns = self.process.next(&mut self.rng, until_ns);
    }
}

/// An exponentially distributed number with mean 1, by inverse transform: −ln(1−u) with u uniform in [0, 1).
fn exponential(rng: &mut ChaCha8Rng) -> f64 {
    -(1.0 - rng.random::<f64>()).ln()
}

/// For the tests of processes.
#[cfg(test)]
mod samples {
    use super::*;
    use crate::load::pacer::Due;

    pub const S: u64 = 1_000_000_000;

    /// The starts of one loader of several in the first `seconds`, in seconds.
    pub fn part_of(arrivals: &Arrivals, seconds: u64, seed: u64, (loader, loaders): (usize, usize)) -> Vec<f64> {
        let until_ns = seconds * S;
        let window = Window { start_ns: 0, measure_from_ns: 0, measure_to_ns: until_ns, deadline_ns: u64::MAX };
        let part = Part { loader, loaders };
        let mut schedule =
            Schedule::new((arrivals, None), (window, Due { from_ns: 0, until_ns }), None, part, (seed, 0));
        let mut starts = Vec::new();
        while let Some(next_ns) = schedule.next_ns() {
            starts.push(next_ns as f64 / S as f64);
            schedule.advance();
        }
        starts
    }

    /// Those of all loaders. Checks that they are the same however many loaders there are, and follow from the seed.
    pub fn starts(arrivals: &Arrivals, seconds: u64, seed: u64) -> Vec<f64> {
        let alone = part_of(arrivals, seconds, seed, (0, 1));
        let mut shared: Vec<f64> = (0..3).flat_map(|loader| part_of(arrivals, seconds, seed, (loader, 3))).collect();
        shared.sort_by(f64::total_cmp);
        assert_eq!(alone, shared);
        assert_ne!(alone, part_of(arrivals, seconds, seed + 1, (0, 1)));
        assert!(alone.is_sorted());
        alone
    }

    /// How many starts there are from one time until another.
    pub fn within(starts: &[f64], from_s: f64, until_s: f64) -> f64 {
        let before = |at_s: f64| starts.partition_point(|start| *start < at_s);
        (before(until_s) - before(from_s)) as f64
    }

    /// Asserts that the gaps between starts, in the time that makes one start a second expected, are exponentially distributed with
    /// mean 1, by the test of Kolmogorov and Smirnov at a level of 0.1 %: √n·D < 1.95.
    pub fn assert_poisson(starts: &[f64], expected_by: impl Fn(f64) -> f64) {
        let mut gaps: Vec<f64> = starts.windows(2).map(|pair| expected_by(pair[1]) - expected_by(pair[0])).collect();
        gaps.sort_by(f64::total_cmp);
        let count = gaps.len() as f64;
        let distance = gaps.iter().enumerate().map(|(rank, gap)| {
            let share = 1.0 - (-gap).exp();
            (share - rank as f64 / count).abs().max((share - (rank + 1) as f64 / count).abs())
        });
        let distance = distance.fold(0.0, f64::max);
        assert!(count > 1_000.0 && count.sqrt() * distance < 1.95, "{distance} of {count}");
    }
}
