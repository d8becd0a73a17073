//! What the harness itself costs, by a calibration: in a report, and on its own.

use super::{Content, In};
use crate::{
    format::{change, duration, percent, plural, thousands},
    record::{Calibration, Contestant, CostVerdict, IntervalKind, Lag, Ratio, Run, Values},
    report::{Grid, Ranked, claims::capital},
    stats::{Record, ascending, median},
};

/// Title of the section.
const TITLE: &str = "What the harness itself costs";

const PIECES: &str = "What single operations cost";

pub(super) fn section(ranked: &Ranked<'_>) -> Option<Content> {
    let calibration = of_record(ranked.record)?;
    let several = ranked.record.host.get("hosts").is_some();
    let of_rank_0 = several.then(|| {
        format!("{TITLE}: of this run's hosts, the calibration holds for that of rank 0; it ran the load on the same machine.")
    });
    Some(Content {
        title: TITLE.to_owned(),
        finding: finding(&calibration),
        tables: grids(&calibration).into_iter().map(|grid| (In::All, grid)).collect(),
        notes: of_rank_0.into_iter().chain(legend(&calibration)).map(|line| (In::All, line)).collect(),
        ..Content::default()
    })
}

/// The calibration in a record's `host.json`.
pub(super) fn of_record(record: &Record) -> Option<Calibration> {
    serde_json::from_value(record.host.get("calibration")?.clone()).ok()
}

/// What recording and exact stamps cost, in a sentence.
pub fn finding(calibration: &Calibration) -> String {
    let costs: Vec<String> = calibration.ratios.iter().filter_map(cost).collect();
    if costs.is_empty() {
        return "No two contestants were compared".to_owned();
    }
    capital(&costs.join("; "))
}

/// `recording: 1.1 % fewer connections/s (95 % interval −1.5 % to −0.3 %), a cost is shown, and any over 3 % is ruled out`; `None` without a
/// limit.
fn cost(ratio: &Ratio) -> Option<String> {
    let (verdict, limit) = (ratio.verdict?, format!("{:.0} %", 100.0 * ratio.limit?));
    let what = match ratio.contestant {
        Contestant::ExactStamps => "exact stamps",
        _ => "recording",
    };
    let [of_median, low, high] = [ratio.rate.median, ratio.rate.low, ratio.rate.high].map(|rate| rate - 1.0);
    let than = if of_median > 0.0 { "more" } else { "fewer" };
    let interval = match ratio.rate.interval {
        IntervalKind::Bootstrap => "95 % interval",
        IntervalKind::Range => "rounds from",
    };
    let rates =
        format!("{} {than} connections/s ({interval} {} to {})", percent(of_median.abs()), change(low), change(high));
    // Where the interval contains 0, or lies above it, there may be no cost at all.
    let judged = match (verdict, high < 0.0) {
        (CostVerdict::Shown, true) => format!("a cost is shown, and any over {limit} is ruled out"),
        (CostVerdict::Shown, false) => format!("no cost is shown, and any over {limit} is ruled out"),
        (CostVerdict::Exceeded, _) => format!("a cost over {limit} is shown"),
        (CostVerdict::CannotBeTold, true) => format!("a cost is shown, and one over {limit} is not ruled out"),
        (CostVerdict::CannotBeTold, false) => format!("no cost is shown, and one over {limit} is not ruled out"),
        (CostVerdict::TooFewRounds, _) => "too few rounds to show a cost or to rule one out".to_owned(),
    };
    Some(format!("{what}: {rates}, {judged}"))
}

/// The contestants, and the costs of single operations.
pub fn grids(calibration: &Calibration) -> Vec<Grid> {
    vec![contest(calibration), pieces(calibration)]
}

fn contest(calibration: &Calibration) -> Grid {
    let texts = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect::<Vec<_>>();
    let row = |contestant: Contestant| {
        let of = |figure: fn(&Run) -> f64| median(&ascending(&calibration.values(contestant, figure)));
        let (rate, cpu) = (of(|run| run.connections_per_s)?, of(|run| run.cpu_ns_per_connection)?);
        let mut row = vec![contestant.words().to_owned(), thousands(rate), duration(cpu)];
        match calibration.ratios.iter().find(|ratio| ratio.contestant == contestant) {
            Some(ratio) => {
                row.extend([share(&ratio.rate), share(&ratio.cpu), ratio.against.words().to_owned(), claim(ratio)]);
            }
            None => row.extend(texts(&["–", "–", "", ""])),
        }
        Some(row)
    };
    Grid {
        title: TITLE.to_owned(),
        head: texts(&[
            "contestant",
            "connections/s",
            "CPU per\nconnection",
            "connections/s,\nratio",
            "CPU,\nratio",
            "compared with",
            "costs at most 3 %",
        ]),
        labels: 1,
        words: 2,
        rows: Contestant::ALL.into_iter().filter_map(row).collect(),
    }
}

/// `0.985 (0.978–0.991)`.
fn share(values: &Values) -> String {
    format!("{:.3} ({:.3}–{:.3})", values.median, values.low, values.high)
}

/// Whether the limit was shown to hold, by rate and by CPU time.
fn claim(ratio: &Ratio) -> String {
    match (ratio.verdict, ratio.cpu_verdict) {
        (Some(rate), Some(cpu)) if rate == cpu => rate.words().to_owned(),
        (Some(rate), Some(cpu)) => format!("rate: {}; CPU: {}", rate.words(), cpu.words()),
        _ => String::new(),
    }
}

fn pieces(calibration: &Calibration) -> Grid {
    let costs = &calibration.costs;
    let single = |what: &str, ns: f64| vec![what.to_owned(), nanoseconds(ns), String::new()];
    let lag = |what: &str, lag: &Lag| vec![what.to_owned(), duration(lag.p50 as f64), duration(lag.p99 as f64)];
    let mut rows = vec![single("reading the clock", costs.clock_read_ns)];
    rows.extend(costs.stamp_lookup_ns.map(|ns| single("looking up an exact stamp", ns)));
    rows.extend([
        single("recording into a histogram shared between processes", costs.shared_histogram_ns),
        single("recording into a loader's own histogram", costs.own_histogram_ns),
        single("adding an accept to the ledger", costs.ledger_entry_ns),
        single("writing and reading a connection's stages", costs.journey_ns),
        lag("timer: from expiry to the return of epoll", &calibration.lags.timer),
        lag("loopback: round trip of 16 bytes", &calibration.lags.round_trip),
    ]);
    Grid {
        title: PIECES.to_owned(),
        head: ["operation", "median", "p99"].map(str::to_owned).to_vec(),
        labels: 1,
        words: 0,
        rows,
    }
}

/// With a decimal, which single operations need.
fn nanoseconds(ns: f64) -> String {
    if ns < 99.95 { format!("{ns:.1} ns") } else { duration(ns) }
}

/// What the tables mean, and the conditions of the calibration.
pub fn legend(calibration: &Calibration) -> Vec<String> {
    let bare = calibration.bare;
    let mut lines = vec![
        format!(
            "{TITLE}: calibrated {} with scenario {}{}, {} workers, {} loaders; {} rounds of {} s each, in random order. bare loop: {} \
             servers and {} clients that only make blocking system calls, without checking or recording anything: the machine's ceiling.",
            calibration.measured_at,
            calibration.scenario,
            calibration.set.iter().map(|set| format!(" {set}")).collect::<String>(),
            calibration.workers,
            calibration.loaders,
            calibration.rounds.len(),
            calibration.seconds,
            bare.servers,
            bare.clients,
        ),
        "Ratios: medians of the ratios of each round, with 95 % intervals. recording off: only counters, without histograms, \
         stages, ledger, stamps or samples. Operations: measured with the caches to themselves, unlike in a trial."
            .to_owned(),
    ];
    if calibration.partial {
        lines.push("Partial: the calibration ended before all of its rounds had been held.".to_owned());
    }
    lines.extend(calibration.stamps_error.as_ref().map(|why| format!("Exact stamps are not available here: {why}")));
    let verdicts = calibration.verdicts();
    if let Some(runs) = verdicts.get("cpu-contended").or(verdicts.get("cpu-steal")) {
        let all = plural(calibration.rounds.iter().map(|round| round.runs.len()).sum::<usize>(), "run");
        lines.push(format!("Other programs used the processors in {runs} of {all}: repeat on a quieter machine."));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cost_is_stated_only_where_it_is_shown() {
        let of = |contestant, (low, median, high): (f64, f64, f64), verdict, interval| {
            let values = Values { median, low, high, interval, values: Vec::new(), attempts: None };
            let (rate, cpu, limit) = (values.clone(), values, Some(0.03));
            let verdict = Some(verdict);
            let ratio =
                Ratio { contestant, against: Contestant::Bare, rate, cpu, limit, verdict, cpu_verdict: verdict };
            cost(&ratio).unwrap()
        };
        let recording = |ends, verdict| of(Contestant::RecordingOn, ends, verdict, IntervalKind::Bootstrap);
        for (ends, verdict, told) in [
            (
                (0.641, 0.876, 1.062),
                CostVerdict::CannotBeTold,
                "12.4 % fewer connections/s (95 % interval −35.9 % to +6.2 %), no cost is shown, and one over 3 % is not ruled out",
            ),
            (
                (0.985, 0.989, 0.997),
                CostVerdict::Shown,
                "1.1 % fewer connections/s (95 % interval −1.5 % to −0.3 %), a cost is shown, and any over 3 % is ruled out",
            ),
            (
                (0.985, 1.005, 1.01),
                CostVerdict::Shown,
                "0.5 % more connections/s (95 % interval −1.5 % to +1.0 %), no cost is shown, and any over 3 % is ruled out",
            ),
            (
                (0.95, 0.975, 0.99),
                CostVerdict::CannotBeTold,
                "2.5 % fewer connections/s (95 % interval −5.0 % to −1.0 %), a cost is shown, and one over 3 % is not ruled out",
            ),
            (
                (0.8, 0.9, 0.95),
                CostVerdict::Exceeded,
                "10.0 % fewer connections/s (95 % interval −20.0 % to −5.0 %), a cost over 3 % is shown",
            ),
        ] {
            assert_eq!(recording(ends, verdict), format!("recording: {told}"));
        }
        assert_eq!(
            of(Contestant::ExactStamps, (0.9, 1.0, 1.1), CostVerdict::TooFewRounds, IntervalKind::Range),
            "exact stamps: 0.0 % fewer connections/s (rounds from −10.0 % to +10.0 %), too few rounds to show a cost or to rule one out"
        );
    }
}
