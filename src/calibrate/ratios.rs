//! Ratios between contestants, round by round.

use crate::{
    record::{Contestant, CostVerdict, IntervalKind, Ratio, Round, Run, Values},
    stats::Bootstrap,
};

/// The most that recording, or exact stamps on top of it, may cost, as a fraction of the rate and of the processor
/// time.
pub const LIMIT: f64 = 0.03;

/// Compares each contestant with the one that does one thing less.
///
/// The runs of a round follow each other directly, so a machine that slows down slows both: the ratios within rounds
/// scatter less than the runs themselves.
pub fn ratios(rounds: &[Round], seed: u64) -> Vec<Ratio> {
    let mut bootstrap = Bootstrap::new(seed);
    let pairs = Contestant::ALL.windows(2).map(|pair| (pair[1], pair[0]));
    pairs
        .filter_map(|(contestant, against)| {
            let mut of = |figure: fn(&Run) -> f64| bootstrap.estimate(by_round(rounds, contestant, against, figure));
            let rate = of(|run| run.connections_per_s)?;
            let cpu = of(|run| run.cpu_ns_per_connection)?;
            // The bare loop is a yardstick, not a rival: it serves one connection at a time and checks nothing.
            let limit = (against != Contestant::Bare).then_some(LIMIT);
            Some(Ratio {
                contestant,
                against,
                verdict: limit.map(|limit| judge(&rate, |ratio| 1.0 - ratio, limit)),
                cpu_verdict: limit.map(|limit| judge(&cpu, |ratio| ratio - 1.0, limit)),
                limit,
                rate,
                cpu,
            })
        })
        .collect()
}

/// The ratio of a figure in each round that has both contestants.
fn by_round(rounds: &[Round], contestant: Contestant, against: Contestant, figure: fn(&Run) -> f64) -> Vec<f64> {
    let of = |round: &Round, whose| round.runs.iter().find(|run| run.contestant == whose).map(figure);
    let pairs = rounds.iter().filter_map(|round| Some((of(round, contestant)?, of(round, against)?)));
    pairs.filter(|(_, other)| *other > 0.0).map(|(one, other)| one / other).collect()
}

/// Judges a cost, a monotonic function of the ratio, against the limit.
fn judge(ratio: &Values, cost: fn(f64) -> f64, limit: f64) -> CostVerdict {
    let costs = [cost(ratio.low), cost(ratio.high)];
    match ratio.interval {
        IntervalKind::Range => CostVerdict::TooFewRounds,
        IntervalKind::Bootstrap if costs.iter().all(|cost| *cost <= limit) => CostVerdict::Shown,
        IntervalKind::Bootstrap if costs.iter().all(|cost| *cost > limit) => CostVerdict::Exceeded,
        IntervalKind::Bootstrap => CostVerdict::CannotBeTold,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rounds on a machine that slows down by a tenth each time, with rates of `on` relative to `off`.
    fn rounds(count: usize, on: &[f64]) -> Vec<Round> {
        let round = |number: usize| {
            let speed = 0.9_f64.powi(number as i32);
            let run = |contestant, rate: f64| Run {
                contestant,
                connections_per_s: rate * speed,
                connections: 1,
                active_opens: 1,
                cpu_ns_per_connection: 1e9 / (rate * speed),
                verdicts: Vec::new(),
            };
            let on = on[number % on.len()];
            Round { runs: vec![run(Contestant::RecordingOn, 1e4 * on), run(Contestant::RecordingOff, 1e4)] }
        };
        (0..count).map(round).collect()
    }

    fn verdicts(count: usize, on: &[f64]) -> (Option<CostVerdict>, Option<CostVerdict>) {
        let found = ratios(&rounds(count, on), 1);
        assert_eq!(found.len(), 1, "the others have no runs");
        (found[0].verdict, found[0].cpu_verdict)
    }

    #[test]
    fn a_drift_of_the_machine_does_not_hide_a_cost() {
        let found = ratios(&rounds(10, &[0.98]), 1).remove(0);
        assert!((found.rate.median - 0.98).abs() < 1e-9 && (found.cpu.median - 1.0 / 0.98).abs() < 1e-9, "{found:?}");
        assert_eq!(verdicts(10, &[0.98]), (Some(CostVerdict::Shown), Some(CostVerdict::Shown)));
        assert_eq!(verdicts(10, &[0.95]), (Some(CostVerdict::Exceeded), Some(CostVerdict::Exceeded)));
    }

    #[test]
    fn noise_and_too_few_rounds_say_so() {
        let noisy = Some(CostVerdict::CannotBeTold);
        assert_eq!(verdicts(10, &[0.9, 1.1]), (noisy, noisy));
        let few = Some(CostVerdict::TooFewRounds);
        assert_eq!(verdicts(4, &[0.98]), (few, few));
    }

    #[test]
    fn the_bare_loop_is_a_scale_without_a_limit() {
        let mut rounds = rounds(6, &[1.0]);
        for round in &mut rounds {
            round.runs[0].contestant = Contestant::Bare;
        }
        let found = ratios(&rounds, 1).remove(0);
        assert_eq!((found.against, found.limit, found.verdict), (Contestant::Bare, None, None));
    }
}
