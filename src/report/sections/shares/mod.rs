//! Share per worker against what chance allows.

mod chance;

use maud::{Markup, html};

use self::chance::{band, is_chance, is_outside};
use super::{Content, In};
use crate::{
    format::{percent, plural},
    record::{MemberRow, TrialRecord},
    report::{
        Grid, Ranked,
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
    /// By worker.
    pub workers: Vec<WorkerShare>,
    /// The shares that chance allows in the cell's smallest trial, which has the widest band.
    pub band: (f64, f64),
    /// Number of valid trials with anything to share.
    pub trials: usize,
    /// Number of those in which some worker is outside the trial's own band.
    pub outside: usize,
    /// Whether chance explains that number.
    pub is_chance: bool,
}

/// A worker's share.
#[derive(Debug, Clone, PartialEq)]
pub struct WorkerShare {
    /// Number.
    pub worker: usize,
    /// In all trials together.
    pub pooled: f64,
    /// In each trial, with its number.
    pub trials: Vec<(usize, f64)>,
}

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
    let note = format!(
        "Bar: share of all {what} in the cell's valid trials. Dots: trials. Grey band: if chance alone \
         decided, the shares of all workers would lie within it in 95 % of trials as small as the cell's smallest (binomial \
         quantiles, Bonferroni)."
    );
    Some(Content {
        title: format!("Share of {what} per worker"),
        finding: chart.title,
        figure: Some(figure),
        notes: vec![(In::Page, note)],
        tables: vec![(In::Page, chart.table)],
        ..Content::default()
    })
}

/// `None` where nothing was shared by several workers.
fn shares(ranked: &Ranked<'_>) -> Option<Shares> {
    let (what, count): (_, fn(&MemberRow) -> u64) = if ranked.has_connections() {
        ("accepts", |worker| worker.total.accepted)
    } else {
        ("flows", |worker| worker.datagram_socket.as_ref().map_or(0, |socket| socket.flows))
    };
    let cells: Vec<CellShares> = ranked.cells.iter().filter_map(|cell| of_cell(cell, count)).collect();
    if cells.is_empty() {
        return None;
    }
    Some(Shares { title: title(ranked, &cells, what, count), what, table: table(&cells), cells })
}

fn of_cell(cell: &Cell<'_>, count: fn(&MemberRow) -> u64) -> Option<CellShares> {
    let total = |trial: &TrialRecord| trial.workers.iter().map(count).sum::<u64>();
    let trials: Vec<(&TrialRecord, u64)> =
        cell.trials.iter().map(|trial| (*trial, total(trial))).filter(|(_, total)| *total > 0).collect();
    let k = trials.iter().map(|(trial, _)| trial.workers.len()).max().filter(|k| *k > 1)?;
    let of =
        |trial: &TrialRecord, worker: usize| trial.workers.iter().find(|row| row.member == worker).map_or(0, count);
    let all: u64 = trials.iter().map(|(_, total)| total).sum();
    let worker = |worker: usize| WorkerShare {
        worker,
        pooled: trials.iter().map(|(trial, _)| of(trial, worker)).sum::<u64>() as f64 / all as f64,
        trials: trials.iter().map(|(trial, total)| (trial.trial, of(trial, worker) as f64 / *total as f64)).collect(),
    };
    let is_outside = |(trial, total): &&(&TrialRecord, u64)| {
        let counts = || (0..k).map(|worker| of(trial, worker));
        is_outside(*total, k, counts().min().unwrap_or(0), counts().max().unwrap_or(0))
    };
    let outside = trials.iter().filter(is_outside).count();
    Some(CellShares {
        name: cell.full_name.clone(),
        workers: (0..k).map(worker).collect(),
        band: band(trials.iter().map(|(_, total)| *total).min()?, k),
        trials: trials.len(),
        outside,
        is_chance: is_chance(outside, trials.len()),
    })
}

fn title(ranked: &Ranked<'_>, cells: &[CellShares], what: &str, count: fn(&MemberRow) -> u64) -> String {
    let chance = cells.iter().filter(|cell| cell.is_chance).count();
    let busiest = |cell: &CellShares| cell.workers.iter().map(|worker| worker.pooled).fold(0.0, f64::max);
    let of_mean = |cell: &CellShares| busiest(cell) * cell.workers.len() as f64;
    let beyond = cells.iter().filter(|cell| !cell.is_chance);
    let most = beyond.max_by(|one, other| of_mean(one).total_cmp(&of_mean(other)));
    let rest = match chance {
        0 => String::new(),
        _ if cells.len() == 1 => String::new(),
        1 => {
            let name = cells.iter().find(|cell| cell.is_chance).map_or("", |cell| &cell.name);
            format!("; {name} stays within chance")
        }
        _ => format!("; {chance} of {} cells stay within chance", cells.len()),
    };
    match most {
        None if cells.len() == 1 => format!("{}'s spread of {what} stays within chance", cells[0].name),
        None => format!("In all {} cells, the spread of {what} stays within chance", cells.len()),
        // A spread more even than chance would make it is beyond chance.
        Some(cell) if busiest(cell) <= cell.band.1 => {
            format!("{} spreads {what} more evenly than chance would{rest}", cell.name)
        }
        Some(cell) => format!(
            "{} gives {} of all {what} to {}{rest}",
            cell.name,
            percent(busiest(cell)),
            to_whom(ranked, cell, count)
        ),
    }
}

/// `worker 3`, or how it became the busiest.
fn to_whom(ranked: &Ranked<'_>, shares: &CellShares, count: fn(&MemberRow) -> u64) -> String {
    let Some(busiest) = shares.workers.iter().max_by(|one, other| one.pooled.total_cmp(&other.pooled)) else {
        return "no worker".to_owned();
    };
    let cell = ranked.cells.iter().find(|cell| cell.full_name == shares.name);
    let trials = || {
        cell.into_iter().flat_map(|cell| &cell.trials).filter(|trial| trial.workers.iter().any(|row| count(row) > 0))
    };
    let leads = |trial: &&TrialRecord| {
        trial.workers.iter().max_by_key(|row| count(row)).is_some_and(|row| row.registration_rank == 0)
    };
    if trials().all(leads) {
        "the worker that registered first".to_owned()
    } else {
        format!("worker {}", busiest.worker)
    }
}

fn table(cells: &[CellShares]) -> Grid {
    let head = ["cell", "worker", "all trials", "lowest trial", "highest trial", "chance allows"];
    let row = |cell: &CellShares, worker: &WorkerShare| {
        let of_trials = || worker.trials.iter().map(|(_, share)| *share);
        vec![
            cell.name.clone(),
            worker.worker.to_string(),
            percent(worker.pooled),
            percent(of_trials().fold(1.0, f64::min)),
            percent(of_trials().fold(0.0, f64::max)),
            format!("{} to {}", percent(cell.band.0), percent(cell.band.1)),
        ]
    };
    let rows = cells.iter().flat_map(|cell| cell.workers.iter().map(move |worker| row(cell, worker)));
    Grid::new(head, 0, rows.collect())
}

fn axis(chart: &Shares) -> Axis {
    let shares = chart.cells.iter().flat_map(|cell| {
        cell.workers.iter().flat_map(|worker| worker.trials.iter().map(|(_, share)| *share)).chain([cell.band.1])
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
    let verdict = if shares.is_chance { "within chance" } else { "beyond chance" };
    let all = shares.trials;
    html! {
        div.group {
            h3 { (shares.name) " " span.remark.worse[!shares.is_chance] { (verdict) ": " (shares.outside) " of " (all) @if all == 1 { " trial" } @else { " trials" } " outside the band" } }
            @for worker in shown { (row(shares, worker, axis)) }
            @if left_out > 0 { p.note { (plural(left_out, "worker")) " between these: only in the table." } }
            (scale(axis))
        }
    }
}

fn row(shares: &CellShares, worker: &WorkerShare, axis: &Axis) -> Markup {
    let place = |share: f64| axis.position(share);
    let (low, high) = shares.band;
    let step = worker.trials.len().div_ceil(DOTS).max(1);
    let tip = format!(
        "{}\nworker {}: {}\nchance allows {} to {}",
        shares.name,
        worker.worker,
        percent(worker.pooled),
        percent(low),
        percent(high)
    );
    html! {
        div.row tabindex="0" data-tip=(tip) {
            span.who { "worker " (worker.worker) }
            span.track {
                i.band style={ "left:" (at(place(low))) ";width:" (at(place(high) - place(low))) } {}
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
    use super::*;
    use crate::report::sample::two_strategies;

    #[test]
    fn a_title_says_who_has_most() {
        let reading = two_strategies(1);
        let chart = shares(&Ranked::of(&reading)).unwrap();
        assert_eq!(
            chart.title,
            "shared gives 95.8 % of all accepts to the worker that registered first; reuseport stays within chance"
        );
        assert_eq!((chart.cells[1].outside, chart.cells[1].workers[0].pooled), (5, 230.0 / 240.0));
    }
}
