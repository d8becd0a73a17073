//! Simulated runs with `stop.difference`: how often they claim what isn't there, and how soon they end.

use super::{
    comparison::{Difference, SIGNIFICANCE, Tested, compare_all, test_all},
    decision::Known,
    estimate::{Bootstrap, ascending, median},
    looks::Looks,
    rank_sum::RankSum,
    synthetic::Noise,
};
use crate::scenario::Whole;

/// The scenario's `stop.difference`.
const DIFFERENCE: f64 = 0.1;
/// How much trials scatter.
const DEVIATION: f64 = 0.05;

/// How a cell's trials scatter: by [`DEVIATION`] at least.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Law {
    Normal,
    LogNormal,
    /// One in ten is five times as far off.
    Heavy,
    /// The machine changes from trial to trial, by 2 % in a random direction that the next one continues from, and from block to block by 10 %.
    Drift,
}

impl Law {
    fn words(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::LogNormal => "log-normal",
            Self::Heavy => "one trial in ten five times as far off",
            Self::Drift => "the machine drifts, too",
        }
    }
}

/// A run's cells. All have the same law; the first one's values are smaller by a share.
#[derive(Debug, Clone, Copy)]
struct Truth {
    cells: usize,
    law: Law,
    share: f64,
}

/// How a simulated run ended.
struct Ended {
    repetitions: usize,
    /// By cell.
    values: Vec<Vec<f64>>,
    /// Whether a pair of equal cells was claimed to differ, or the first cell to be worse than another.
    is_wrong: bool,
    /// Whether the first cell was shown to differ from all others.
    finds_first: bool,
}

impl Truth {
    /// Trials in blocks of all cells, in random order.
    fn blocks(self, noise: &mut Noise, count: usize) -> Vec<Vec<f64>> {
        let mut values = vec![Vec::new(); self.cells];
        let mut machine = 1.0_f64;
        for _ in 0..count {
            let block = if self.law == Law::Drift { noise.sample(1, 1.0, 0.1, false)[0] } else { 1.0 };
            for cell in noise.order(self.cells) {
                if self.law == Law::Drift {
                    machine *= noise.sample(1, 1.0, 0.02, false)[0];
                }
                let level = block * machine * if cell == 0 { 1.0 - self.share } else { 1.0 };
                values[cell].push(match self.law {
                    Law::Normal => level * (1.0 + DEVIATION * noise.normal()),
                    law => noise.sample(1, level, DEVIATION, law == Law::Heavy)[0],
                });
            }
        }
        values
    }

    fn run(self, looks: &Looks, noise: &mut Noise, tests: &mut RankSum) -> Ended {
        let all = self.blocks(noise, looks.after()[looks.count() - 1]);
        let pairs: Vec<(usize, usize)> =
            (0..self.cells).flat_map(|a| (a + 1..self.cells).map(move |b| (a, b))).collect();
        for &repetitions in looks.after() {
            let samples: Vec<&[f64]> = all.iter().map(|values| &values[..repetitions]).collect();
            let tested = test_all(&samples, &pairs, looks.count(), tests);
            let middle = |cell: usize| median(&ascending(samples[cell])).unwrap();
            let best = (0..self.cells).min_by(|a, b| middle(*a).total_cmp(&middle(*b))).unwrap();
            let is_open =
                pairs.iter().zip(&tested).filter(|((a, b), _)| *a == best || *b == best).any(|((a, b), of)| {
                    let mut ratio = || tests.showable_ratio(samples[*a], samples[*b], of.level?);
                    !of.verdict.is_shown() && Known::of(of.verdict, ratio(), DIFFERENCE) == Known::Open
                });
            if is_open && Some(&repetitions) != looks.after().last() {
                continue;
            }
            let is_true = |a: usize| a == 0 && self.share > 0.0;
            let wrong = |((a, _), of): (&(usize, usize), &Tested)| match of.verdict {
                Difference::AHigher => true,
                Difference::BHigher => !is_true(*a),
                _ => false,
            };
            let of_first = pairs.iter().zip(&tested).filter(|((a, _), _)| *a == 0);
            return Ended {
                repetitions,
                is_wrong: pairs.iter().zip(&tested).any(wrong),
                finds_first: of_first.clone().all(|(_, of)| of.verdict == Difference::BHigher),
                values: samples.into_iter().map(<[f64]>::to_vec).collect(),
            };
        }
        unreachable!("the last look ends a run")
    }
}

/// Of many runs.
struct Shares {
    wrong: f64,
    finds_first: f64,
    repetitions: f64,
}

fn simulate(truth: Truth, looks: &Looks, runs: usize) -> Shares {
    let (mut noise, mut tests) = (Noise::new(31), RankSum::new(1));
    let ended: Vec<Ended> = (0..runs).map(|_| truth.run(looks, &mut noise, &mut tests)).collect();
    let share = |of: fn(&Ended) -> bool| ended.iter().filter(|one| of(one)).count() as f64 / runs as f64;
    Shares {
        wrong: share(|one| one.is_wrong),
        finds_first: share(|one| one.finds_first),
        repetitions: ended.iter().map(|one| one.repetitions as f64).sum::<f64>() / runs as f64,
    }
}

fn looks(cells: usize) -> Looks {
    // Fifteen cells have 105 pairs, for which complete separation of eight values is not enough.
    let fewest = if cells > 10 { 9 } else { 7 };
    let text = format!("stop = {{ difference = {DIFFERENCE}, min_repetitions = {fewest}, max_repetitions = 30 }}");
    Looks::of(&Whole::parse("made-up.toml", &text).unwrap())
}

/// A row of the table in results/README.md: how runs end whose first cell is better by nothing, 5 %, 10 % and 30 %.
struct Documented {
    law: Law,
    cells: usize,
    /// Mean numbers of repetitions.
    repetitions: [f64; 4],
}

const SHARES: [f64; 4] = [0.0, 0.05, 0.1, 0.3];

/// From a thousand runs each, of fifteen cells two hundred.
const DOCUMENTED: [Documented; 12] = [
    Documented { law: Law::Normal, cells: 2, repetitions: [9.5, 9.3, 7.9, 7.0] },
    Documented { law: Law::Normal, cells: 4, repetitions: [15.6, 15.1, 11.0, 7.0] },
    Documented { law: Law::Normal, cells: 15, repetitions: [26.2, 25.6, 19.6, 9.0] },
    Documented { law: Law::LogNormal, cells: 2, repetitions: [9.5, 9.3, 7.8, 7.0] },
    Documented { law: Law::LogNormal, cells: 4, repetitions: [15.4, 14.9, 10.9, 7.0] },
    Documented { law: Law::LogNormal, cells: 15, repetitions: [25.9, 25.6, 19.2, 9.0] },
    Documented { law: Law::Heavy, cells: 2, repetitions: [13.0, 12.3, 9.6, 7.3] },
    Documented { law: Law::Heavy, cells: 4, repetitions: [21.9, 21.2, 15.3, 7.8] },
    Documented { law: Law::Heavy, cells: 15, repetitions: [29.9, 29.9, 27.8, 13.3] },
    Documented { law: Law::Drift, cells: 2, repetitions: [28.4, 28.2, 21.7, 7.0] },
    Documented { law: Law::Drift, cells: 4, repetitions: [30.0, 30.0, 29.1, 7.8] },
    Documented { law: Law::Drift, cells: 15, repetitions: [30.0, 30.0, 30.0, 15.8] },
];

impl Documented {
    fn row(&self) -> String {
        let means = self.repetitions.map(|mean| format!("{mean:.0}"));
        format!("| {} | {} | {} |", self.law.words(), self.cells, means.join(" | "))
    }
}

#[test]
fn no_more_than_one_run_in_twenty_claims_what_is_not_there() {
    let readme = include_str!("../../results/README.md");
    for documented in DOCUMENTED {
        let Documented { law, cells, repetitions } = documented;
        assert!(readme.contains(&documented.row()), "results/README.md lacks {}", documented.row());
        let looks = looks(cells);
        for (share, mean) in SHARES.into_iter().zip(repetitions) {
            // Whether equal cells are told apart takes many runs to see, and the mean only a few.
            let runs = if share == 0.0 { 600 / cells } else { (60 / cells).max(12) };
            let found = simulate(Truth { cells, law, share }, &looks, runs);
            let context = format!("{law:?}, {cells} cells, {share}: {} wrong, {}", found.wrong, found.repetitions);
            assert!(share > 0.0 || found.wrong <= SIGNIFICANCE, "{context}");
            assert!((found.repetitions - mean).abs() <= 0.25 * mean, "{context} rather than {mean}");
            if share == 0.3 && law != Law::Drift {
                assert!(found.finds_first > 0.95, "{context}");
            }
        }
    }
}

/// The look that ends a run is not chosen by where the median lies, so that its interval is as good as any.
#[test]
fn intervals_of_runs_that_end_by_themselves_cover_the_truth() {
    const RUNS: usize = 400;
    let (mut bootstrap, mut tests) = (Bootstrap::new(3), RankSum::new(1));
    for law in [Law::Normal, Law::Heavy] {
        for share in [0.0, 0.1] {
            let mut noise = Noise::new(77);
            let mut covered = [0, 0];
            for _ in 0..RUNS {
                let ended = Truth { cells: 2, law, share }.run(&looks(2), &mut noise, &mut tests);
                let truth = 1.0 - share;
                let median = bootstrap.estimate(ended.values[0].clone()).unwrap();
                covered[0] += usize::from(median.low <= truth && truth <= median.high);
                let samples: Vec<&[f64]> = ended.values.iter().map(Vec::as_slice).collect();
                let compared = compare_all(&samples, &[(0, 1)], 1, &mut bootstrap, &mut tests).remove(0);
                let ends = compared.low.unwrap()..=compared.high.unwrap();
                covered[1] += usize::from(ends.contains(&(1.0 / truth)));
            }
            // Four hundred runs scatter by one percent.
            assert!(covered.iter().all(|count| *count as f64 / RUNS as f64 >= 0.925), "{law:?} {share}: {covered:?}");
        }
    }
}
