//! Share per worker against what chance allows.

mod chance;

use std::{cmp::Reverse, collections::BTreeSet};

use maud::{Markup, html};

use self::chance::Chance;
use super::{Content, In};
use crate::{
    format::{all_of, percent, plural},
    record::{CountedBy, Distribution, MemberRow, TrialRecord},
    report::{
        Grid, Ranked,
        claims::capital,
        html::{
            parts::folded,
            tracks::{at, grid, scale},
        },
        plot::figure::Axis,
        ranked::Cell,
    },
};

/// Cells beyond these are folded.
const OPEN: usize = 9;
/// Of more workers, only the busiest and the least busy are drawn.
const WORKERS: usize = 8;
/// Of more trials of a worker, only about this many are drawn.
const DOTS: usize = 40;
/// Where no worker has more than this many times the mean, the spread is even.
const EVEN: f64 = 1.05;

/// The chart.
#[derive(Debug, Clone, PartialEq)]
pub struct Shares {
    /// The finding.
    pub title: String,
    /// What is shared: `accepts` or `flows`.
    pub what: &'static str,
    /// In the order of the matrix.
    pub cells: Vec<CellShares>,
    /// The same in numbers: a row for each worker of each cell.
    pub table: Grid,
}

/// A cell's row of the chart.
#[derive(Debug, Clone, PartialEq)]
pub struct CellShares {
    /// Its name.
    pub name: String,
    /// What its members are: `worker` or `member`.
    member: &'static str,
    /// Whether its members differ from trial to trial, and stand for the busiest of each trial, the second, and so on.
    by_rank: bool,
    /// By worker.
    pub workers: Vec<WorkerShare>,
    /// What chance explains, if chance decides which worker is next.
    pub chance: Option<Chance>,
    /// Who got most, and what part of all.
    most: (Most, f64),
    /// The busiest worker's accepts ÷ the mean, on average over the trials.
    imbalance: f64,
}

/// A worker's share.
#[derive(Debug, Clone, PartialEq)]
pub struct WorkerShare {
    /// Number.
    pub worker: usize,
    /// Name.
    pub name: String,
    /// Of everything in all trials together.
    pub pooled: f64,
    /// Of all draws together, if chance decides.
    pub drawn: Option<f64>,
    /// In each trial, with its number: of the draws if chance decides, else of everything.
    pub trials: Vec<(usize, f64)>,
}

/// Who got most in a cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Most {
    /// In every trial the worker that registered first.
    FirstRegistered,
    /// In every trial the same worker.
    Worker(usize),
    /// Sometimes one, sometimes another; the part is the busiest one's of a trial, on average.
    Varying,
}

/// What is shared, and how a trial tells.
struct Counted {
    /// `accepts` or `flows`.
    what: &'static str,
    of_worker: fn(&MemberRow) -> u64,
    of_trial: fn(&TrialRecord) -> Option<&Distribution>,
}

static ACCEPTS: Counted = Counted {
    what: "accepts",
    of_worker: |worker| worker.total.accepted.unwrap_or(0),
    of_trial: |trial| trial.distribution.as_ref(),
};
static FLOWS: Counted = Counted {
    what: "flows",
    of_worker: |worker| worker.datagram_socket.as_ref().map_or(0, |socket| socket.flows),
    of_trial: |trial| trial.flow_distribution.as_ref(),
};

pub(super) fn section(ranked: &Ranked<'_>) -> Option<Content> {
    let chart = shares(ranked)?;
    let axis = axis(&chart);
    let cells = |cells: &[CellShares]| html! { div.tracks.columns { @for shares in cells { (cell(shares, &axis)) } } };
    let (open, more) = chart.cells.split_at(chart.cells.len().min(OPEN));
    let figure = html! {
        (cells(open))
        @if !more.is_empty() { (folded(&plural(more.len(), "more cell"), &cells(more))) }
    };
    let what = chart.what;
    let mut note = format!("Bar: share of all {what} in the cell's valid trials. Dots: trials.");
    if chart.cells.iter().any(|cell| cell.chance.is_some()) {
        note += " Where chance decides, dots and bands are of draws: of distinct 4-tuples where the kernel hashes them, since one that \
                 occurs again is not drawn again; otherwise of connections or flows. Light band: where the shares of all workers would \
                 lie in 95 % of trials with as few draws as the cell's smallest. Dark band, with several trials: where the shares of \
                 all trials' draws together would lie in 97.5 % of cells (binomial quantiles, Bonferroni).";
    }
    if chart.cells.iter().any(|cell| cell.by_rank) {
        note += " Where the members are other processes or threads in each trial, each trial's are put in the order of their shares: \
                 the busiest, the second, and so on.";
    }
    Some(Content {
        title: format!("Share of {what} per {}", ranked.member()),
        finding: chart.title,
        figure: Some(figure),
        notes: vec![(In::Page, note)],
        tables: vec![(In::Page, chart.table)],
        ..Content::default()
    })
}

/// Where no member got more than this many times the mean, who got most says nothing.
const UNREMARKABLE: f64 = 1.1;

/// Whether a share of what so many members had to share is not worth naming.
pub(super) fn is_near_mean(share: f64, members: usize) -> bool {
    share * (members as f64) < UNREMARKABLE
}

/// How far all shares that are not worth naming lie above the mean, at most: `over 10 % more`. They need not be even: of two members, one may
/// have 45 % and the other 55 %.
pub(super) fn beyond_mean() -> String {
    format!("over {:.0} % more", 100.0 * (UNREMARKABLE - 1.0))
}

/// What members share: `accepts` or `flows`.
pub(super) fn what(ranked: &Ranked<'_>) -> &'static str {
    counted(ranked).what
}

/// Whether chance decided how a cell's accepts, or flows, spread over its members, and explains it.
pub(super) fn is_chance(ranked: &Ranked<'_>, cell: &Cell<'_>) -> bool {
    of_cell(cell, counted(ranked)).is_some_and(|shares| shares.is_chance())
}

fn counted(ranked: &Ranked<'_>) -> &'static Counted {
    if ranked.has_connections() { &ACCEPTS } else { &FLOWS }
}

/// `None` where nothing was shared by several workers.
fn shares(ranked: &Ranked<'_>) -> Option<Shares> {
    let counted = counted(ranked);
    let cells: Vec<CellShares> = ranked.cells.iter().filter_map(|cell| of_cell(cell, counted)).collect();
    if cells.is_empty() {
        return None;
    }
    let what = counted.what;
    Some(Shares { title: title(&cells, what), what, table: table(&cells, what), cells })
}

fn of_cell(cell: &Cell<'_>, counted: &Counted) -> Option<CellShares> {
    let total = |trial: &TrialRecord| trial.acceptors().map(counted.of_worker).sum::<u64>();
    // What members get that come or go depends on how long they are there.
    let is_told = |trial: &&TrialRecord| total(trial) > 0 && !trial.changed_members();
    let trials: Vec<&TrialRecord> = cell.trials.iter().copied().filter(is_told).collect();
    let members: BTreeSet<usize> = trials.iter().flat_map(|trial| trial.acceptors()).map(|row| row.member).collect();
    let by_rank = !cell.is_own() && !are_the_same(&trials);
    let of = |trial: &TrialRecord, worker: usize| {
        if by_rank {
            let mut counts: Vec<u64> = trial.acceptors().map(counted.of_worker).collect();
            counts.sort_unstable_by_key(|count| Reverse(*count));
            return counts.get(worker).copied().unwrap_or(0);
        }
        trial.workers.iter().find(|row| row.member == worker).map_or(0, counted.of_worker)
    };
    let members: Vec<usize> = if by_rank {
        (0..trials.iter().map(|trial| trial.acceptors().count()).max().unwrap_or(0)).collect()
    } else {
        members.into_iter().collect()
    };
    if members.len() < 2 {
        return None;
    }
    let drawn: Vec<&Distribution> = trials.iter().filter_map(|trial| (counted.of_trial)(trial)).collect();
    let chance = Chance::of(&drawn, cell.summary.spread.as_ref());
    let all: u64 = trials.iter().map(|trial| total(trial)).sum();
    let in_trial = |trial: &TrialRecord, worker: usize| {
        let draws = (counted.of_trial)(trial).map_or(&[][..], |distribution| &distribution.draws_by_member);
        if chance.is_some() && !draws.is_empty() {
            share(draws.get(worker).copied().unwrap_or(0), draws.iter().sum())
        } else {
            share(of(trial, worker), total(trial))
        }
    };
    let worker = |worker: usize| WorkerShare {
        worker,
        name: if by_rank { ranked(worker) } else { cell.member(worker) },
        pooled: share(trials.iter().map(|trial| of(trial, worker)).sum(), all),
        drawn: chance.as_ref().and_then(|chance| chance.drawn.get(worker).copied()),
        trials: trials.iter().map(|trial| (trial.trial, in_trial(trial, worker))).collect(),
    };
    let busiest =
        |trial: &TrialRecord| share(trial.acceptors().map(counted.of_worker).max().unwrap_or(0), total(trial));
    let mean =
        |of: &dyn Fn(&TrialRecord) -> f64| trials.iter().map(|trial| of(trial)).sum::<f64>() / trials.len() as f64;
    let most = if by_rank { Most::Varying } else { most(&trials, counted) };
    let led: u64 = trials.iter().filter_map(|trial| leader(trial, counted)).map(counted.of_worker).sum();
    let part = if most == Most::Varying { mean(&busiest) } else { share(led, all) };
    Some(CellShares {
        name: cell.full_name.clone(),
        member: cell.members(),
        by_rank,
        workers: members.into_iter().map(worker).collect(),
        most: (most, part),
        imbalance: mean(&|trial| busiest(trial) * trial.acceptors().count() as f64),
        chance,
    })
}

/// Whether another server's members are the same processes and threads in all trials.
fn are_the_same(trials: &[&TrialRecord]) -> bool {
    let of = |trial: &TrialRecord| trial.acceptors().map(|row| (row.member, row.pid, row.tid)).collect::<BTreeSet<_>>();
    trials.windows(2).all(|pair| of(pair[0]) == of(pair[1]))
}

/// A rank from 0 in words.
fn ranked(rank: usize) -> String {
    match rank {
        0 => "busiest".to_owned(),
        1 => "second".to_owned(),
        2 => "third".to_owned(),
        _ => format!("number {}", rank + 1),
    }
}

fn share(part: u64, whole: u64) -> f64 {
    part as f64 / whole.max(1) as f64
}

/// The worker that got more than any other; `None` if several got as much.
fn leader<'a>(trial: &'a TrialRecord, counted: &Counted) -> Option<&'a MemberRow> {
    let most = trial.workers.iter().map(counted.of_worker).max()?;
    let mut leaders = trial.workers.iter().filter(|row| (counted.of_worker)(row) == most);
    leaders.next().filter(|_| leaders.next().is_none())
}

fn most(trials: &[&TrialRecord], counted: &Counted) -> Most {
    let Some(leaders) = trials.iter().map(|trial| leader(trial, counted)).collect::<Option<Vec<_>>>() else {
        return Most::Varying;
    };
    if leaders.iter().all(|row| row.registration_rank == Some(0)) {
        return Most::FirstRegistered;
    }
    match leaders.first() {
        // Another server's members may be other processes in every trial.
        Some(first)
            if leaders.iter().all(|row| {
                row.member == first.member
                    && (row.counted_by == CountedBy::Own || (row.pid, row.tid) == (first.pid, first.tid))
            }) =>
        {
            Most::Worker(first.member)
        }
        _ => Most::Varying,
    }
}

fn title(cells: &[CellShares], what: &str) -> String {
    let within: Vec<&CellShares> = cells.iter().filter(|cell| cell.is_chance()).collect();
    let others = cells.iter().filter(|cell| !cell.is_chance());
    let Some(most) = others.max_by(|one, other| one.imbalance.total_cmp(&other.imbalance)) else {
        return match cells {
            [cell] => sentence_case(format!("{}'s spread of {what} stays within chance", cell.name)),
            _ => format!("In {} cells, the spread of {what} stays within chance", all_of(cells.len())),
        };
    };
    // The other cells are not tested.
    let tested = cells.iter().filter(|cell| cell.chance.is_some()).count();
    let rest = match within[..] {
        [] => String::new(),
        [cell] => format!("; {} stays within chance", cell.name),
        _ if within.len() == tested => {
            format!("; {} cells in which chance decides stay within it", all_of(tested))
        }
        _ => format!("; {} of {tested} cells in which chance decides stay within it", within.len()),
    };
    sentence_case(format!("{}{rest}", most.finding(what)))
}

/// Names of cells stay as they are; a run without any begins the sentence.
fn sentence_case(text: String) -> String {
    if text.starts_with("the run") { capital(&text) } else { text }
}

impl CellShares {
    /// Whether chance decides, and explains what happened.
    fn is_chance(&self) -> bool {
        self.chance.as_ref().is_some_and(Chance::explains)
    }

    /// What is to be said of a cell that chance does not explain.
    fn finding(&self, what: &str) -> String {
        let name = &self.name;
        if let Some(chance) = &self.chance {
            return format!("{name} {}", chance.finding(what));
        }
        let (most, part) = (self.most.0, percent(self.most.1));
        match most {
            _ if self.imbalance < EVEN => {
                let highest = self.workers.iter().map(|worker| worker.pooled).fold(0.0, f64::max);
                format!("{name} spreads {what} evenly: no {} has more than {} of all", self.member, percent(highest))
            }
            Most::FirstRegistered => format!("{name} gives {part} of all {what} to the worker that registered first"),
            Most::Worker(worker) => {
                let who = self.workers.iter().find(|share| share.worker == worker).map(|share| &share.name[..]);
                format!("{name} gives {part} of all {what} to {}", who.unwrap_or(self.member))
            }
            Most::Varying => {
                format!("{name} gives the busiest {} of a trial {part} of its {what} on average", self.member)
            }
        }
    }

    /// How the chance test ended; empty where chance does not decide.
    fn remark(&self) -> String {
        let Some(chance) = &self.chance else { return String::new() };
        let verdict = if chance.explains() { "within chance" } else { "beyond chance" };
        let inside = |outside: bool| if outside { "outside" } else { "inside" };
        let together = inside(chance.pooled_is_outside);
        match chance.trials {
            1 => format!("{verdict}: {together} the band"),
            trials if chance.trials_are_independent => {
                format!(
                    "{verdict}: {} of {trials} trials outside their bands, all together {together} theirs",
                    chance.outside
                )
            }
            trials => {
                format!("{verdict}: the different 4-tuples of all {trials} trials together {together} their band")
            }
        }
    }
}

fn table(cells: &[CellShares], what: &str) -> Grid {
    let head = [
        "cell".to_owned(),
        "member".to_owned(),
        format!("of all {what}"),
        "of all draws".to_owned(),
        "lowest trial".to_owned(),
        "highest trial".to_owned(),
        "chance allows in a trial".to_owned(),
        "in all trials".to_owned(),
    ];
    let row = |cell: &CellShares, worker: &WorkerShare| {
        let of_trials = || worker.trials.iter().map(|(_, share)| *share);
        let band = |band: fn(&Chance) -> (f64, f64)| {
            cell.chance
                .as_ref()
                .map(band)
                .map_or_else(|| "–".to_owned(), |(low, high)| format!("{} to {}", percent(low), percent(high)))
        };
        vec![
            cell.name.clone(),
            worker.name.clone(),
            percent(worker.pooled),
            worker.drawn.map_or_else(|| "–".to_owned(), percent),
            percent(of_trials().fold(1.0, f64::min)),
            percent(of_trials().fold(0.0, f64::max)),
            band(|chance| chance.trial_band),
            band(|chance| chance.pooled_band),
        ]
    };
    let rows = cells.iter().flat_map(|cell| cell.workers.iter().map(move |worker| row(cell, worker)));
    Grid { labels: 2, ..Grid::new(head, 0, rows.collect()) }
}

fn axis(chart: &Shares) -> Axis {
    let shares = chart.cells.iter().flat_map(|cell| {
        let of_workers =
            cell.workers.iter().flat_map(|worker| worker.trials.iter().map(|(_, share)| *share).chain([worker.pooled]));
        of_workers.chain(cell.chance.iter().map(|chance| chance.trial_band.1))
    });
    let high = shares.fold(0.0, f64::max).min(1.0);
    Axis::from_zero("", high, |share| format!("{:.0} %", 100.0 * share))
}

fn cell(shares: &CellShares, axis: &Axis) -> Markup {
    let mut shown: Vec<&WorkerShare> = shares.workers.iter().collect();
    let left_out = shown.len().saturating_sub(WORKERS);
    if left_out > 0 {
        shown.sort_by(|one, other| other.pooled.total_cmp(&one.pooled));
        shown.drain(WORKERS / 2..shares.workers.len() - WORKERS / 2);
        shown.sort_by_key(|worker| worker.worker);
    }
    let remark = shares.remark();
    html! {
        div.group {
            h3 { (shares.name) @if !remark.is_empty() { " " span.remark.worse[!shares.is_chance()] { (remark) } } }
            @for worker in shown { (row(shares, worker, axis)) }
            @if left_out > 0 { p.note { (plural(left_out, shares.member)) " between these: only in the table." } }
            (scale(axis))
        }
    }
}

fn row(shares: &CellShares, worker: &WorkerShare, axis: &Axis) -> Markup {
    let place = |share: f64| axis.position(share);
    let bands: Vec<(f64, f64)> = match &shares.chance {
        Some(chance) if chance.trials > 1 => vec![chance.trial_band, chance.pooled_band],
        Some(chance) => vec![chance.trial_band],
        None => Vec::new(),
    };
    let step = worker.trials.len().div_ceil(DOTS).max(1);
    let mut tip = format!("{}\n{}: {}", shares.name, worker.name, percent(worker.pooled));
    if let Some(drawn) = worker.drawn {
        tip += &format!("\nof all draws: {}", percent(drawn));
    }
    for ((low, high), of) in bands.iter().zip(["a trial", "all trials together"]) {
        tip += &format!("\nchance allows {} to {} in {of}", percent(*low), percent(*high));
    }
    html! {
        div.row tabindex="0" data-tip=(tip) {
            span.who { (worker.name) }
            span.track {
                @for (number, (low, high)) in bands.iter().enumerate() { i.band.pooled[number > 0] style={ "left:" (at(place(*low))) ";width:" (at(place(*high) - place(*low))) } {} }
                (grid(axis))
                i.bar style={ "width:" (at(place(worker.pooled))) } {}
                @for (_, share) in worker.trials.iter().step_by(step) { i.dot style={ "left:" (at(place(*share))) } {} }
            }
            span.value { (percent(worker.pooled)) }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        record::WaitEnd,
        report::sample::{Sample, two_strategies},
    };

    #[test]
    fn a_title_says_who_has_most() {
        let reading = two_strategies(1);
        let chart = shares(&Ranked::of(&reading)).unwrap();
        assert_eq!(
            chart.title,
            "shared gives 95.8 % of all accepts to the worker that registered first; reuseport stays within chance"
        );
        let [reuseport, shared] = &chart.cells[..] else { panic!("{:?}", chart.cells) };
        assert_eq!((reuseport.chance.as_ref().unwrap().outside, &shared.chance), (0, &None));
        assert_eq!((shared.workers[0].pooled, shared.workers[0].drawn), (230.0 / 240.0, None));
        assert_eq!(
            (shared.remark(), reuseport.remark()),
            (String::new(), "within chance: 0 of 5 trials outside their bands, all together inside theirs".to_owned())
        );
    }

    /// The title of trials with these accepts by worker, each in a cell named by its strategy.
    fn titled(trials: &[(&str, &[u64])]) -> String {
        let mut sample = Sample::new("Who gets it?");
        for (strategy, accepts) in trials {
            sample.trial(json!({ "strategy": strategy }), accepts, 1_000);
        }
        shares(&Ranked::of(&sample.reading())).map(|chart| chart.title).unwrap_or_default()
    }

    #[test]
    fn a_title_is_true_for_one_cell_one_trial_and_ties() {
        for (trials, title) in [
            (&[("reuseport", &[50, 52][..])][..], "reuseport's spread of accepts stays within chance"),
            (
                &[("reuseport", &[20, 80])],
                "reuseport gives 80.0 % of all 4-tuples to worker 1, where chance allows 39.0 % to 61.0 %",
            ),
            (
                &[("reuseport", &[60, 60, 60, 20])],
                "reuseport gives 10.0 % of all 4-tuples to worker 3, where chance allows 17.5 % to 33.0 %",
            ),
            (&[("turns", &[33, 33, 34])], "turns spreads accepts evenly: no worker has more than 34.0 % of all"),
            (
                &[("turns", &[10, 10]), ("reuseport", &[9, 12])],
                "turns spreads accepts evenly: no worker has more than 50.0 % of all; reuseport stays within chance",
            ),
            // Now one, now the other.
            (
                &[("shared", &[90, 10]), ("shared", &[20, 80])],
                "shared gives the busiest worker of a trial 85.0 % of its accepts on average",
            ),
            (
                &[("shared", &[40, 40, 20])],
                "shared gives the busiest worker of a trial 40.0 % of its accepts on average",
            ),
            (&[("shared", &[10, 90]), ("shared", &[20, 80])], "shared gives 85.0 % of all accepts to worker 1"),
            (
                &[("reuseport", &[30, 70]), ("reuseport", &[70, 30])],
                "reuseport spreads accepts less evenly than chance would: 2 of 2 trials are outside the band",
            ),
            // Nothing is shared by one worker, or if nothing was accepted.
            (&[("reuseport", &[7])], ""),
            (&[("reuseport", &[0, 0])], ""),
        ] {
            assert_eq!(titled(trials), title);
        }
        let mut sample = Sample::new("Who gets it?");
        sample.trial(json!({}), &[70, 30], 1_000);
        assert_eq!(
            shares(&Ranked::of(&sample.reading())).unwrap().title,
            "The run gives 70.0 % of all accepts to the worker that registered first"
        );
    }

    #[test]
    fn another_servers_members_are_named_where_they_stay_the_same() {
        let titled = |pids: [i32; 2]| {
            let mut sample = Sample::new("");
            for pid in pids {
                let trial = sample.of_nginx(json!({}), &[30, 10], 1_000, WaitEnd::Accept);
                (trial.workers[0].pid, trial.workers[0].tid) = (pid, pid);
            }
            let reading = sample.reading();
            let ranked = Ranked::of(&reading);
            let content = section(&ranked).unwrap();
            assert_eq!(content.title, "Share of accepts per member");
            (content.finding, ranked.cells[0].member(0))
        };
        let (same, name) = titled([7, 7]);
        assert_eq!((&same[..], &name[..]), ("The run gives 75.0 % of all accepts to nginx 7", "nginx 7"));
        let (other, name) = titled([7, 8]);
        assert_eq!(other, "The run gives the busiest member of a trial 75.0 % of its accepts on average");
        assert_eq!(name, "member 0");
    }

    #[test]
    fn other_processes_in_each_trial_are_compared_by_rank() {
        let mut sample = Sample::new("");
        for (pids, accepts) in [([7, 8], [100, 0]), ([9, 10], [26, 74])] {
            let trial = sample.of_nginx(json!({}), &accepts, 1_000, WaitEnd::Accept);
            for (pid, row) in pids.into_iter().zip(&mut trial.workers) {
                (row.pid, row.tid) = (pid, pid);
            }
        }
        let reading = sample.reading();
        let ranked = Ranked::of(&reading);
        let [cell] = &shares(&ranked).unwrap().cells[..] else { panic!() };
        let shown: Vec<(&str, f64)> = cell.workers.iter().map(|worker| (&worker.name[..], worker.pooled)).collect();
        assert_eq!(shown, [("busiest", 0.87), ("second", 0.13)]);
        assert_eq!(
            cell.finding("accepts"),
            "the run gives the busiest member of a trial 87.0 % of its accepts on average"
        );
        assert!(section(&ranked).unwrap().notes[0].1.ends_with("the busiest, the second, and so on."));
    }

    #[test]
    fn cells_in_which_chance_does_not_decide_are_not_counted_as_tested() {
        let title = |last: &[u64]| {
            let mut sample = Sample::new("Who gets it?");
            sample.trial(json!({ "strategy": "turns", "n": 1 }), &[10, 10], 1_000);
            sample.trial(json!({ "strategy": "reuseport", "n": 1 }), &[9, 12], 1_000);
            sample.trial(json!({ "strategy": "reuseport", "n": 2 }), &[11, 10], 1_000);
            sample.trial(json!({ "strategy": "reuseport", "n": 3 }), last, 1_000);
            shares(&Ranked::of(&sample.reading())).unwrap().title
        };
        let rest = |title: &str| title.split_once("; ").unwrap().1.to_owned();
        assert_eq!(rest(&title(&[8, 12])), "all 3 cells in which chance decides stay within it");
        assert_eq!(rest(&title(&[1, 99])), "2 of 3 cells in which chance decides stay within it");
    }
}
