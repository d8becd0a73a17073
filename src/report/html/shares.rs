//! Share per worker: each trial as a dot, all trials as a bar, and the band that chance allows.

use maud::{Markup, html};

use super::{
    parts::{folded, section as titled, table},
    tracks::{at, grid, scale},
};
use crate::{
    format::percent,
    report::{
        charts::{
            Subject,
            shares::{CellShares, Shares, WorkerShare, shares},
        },
        plot::figure::Axis,
    },
};

/// More cells are folded.
const OPEN: usize = 9;
/// Of more workers, only those with the most and those with the least are drawn.
const WORKERS: usize = 8;
/// Trials of a worker that are shown one by one, at most.
const DOTS: usize = 40;

/// The section; `None` where nothing was shared.
pub fn section(subject: &Subject<'_>) -> Option<Markup> {
    let chart = shares(subject)?;
    let axis = axis(&chart);
    let cells = |cells: &[CellShares]| html! { div.tracks.columns { @for shares in cells { (cell(shares, &axis)) } } };
    let open = chart.cells.len().min(OPEN);
    let body = html! {
        (cells(&chart.cells[..open]))
        @if chart.cells.len() > open { (folded(&format!("{} more cells", chart.cells.len() - open), &cells(&chart.cells[open..]))) }
        p.note {
            "Bar: share of all " (chart.what) " in the cell's valid trials. Dots: trials. Grey band: where the shares of all \
             workers lie together in 95 % of trials of the cell's smallest size, if each of the " (chart.what) " falls on a worker \
             by chance (binomial quantiles, Bonferroni)."
        }
        (table(&chart.table))
    };
    Some(titled(&format!("Share of {} per worker", chart.what), &chart.title, &body))
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
    let said = if shares.is_chance { "within chance" } else { "beyond chance" };
    let all = shares.trials;
    html! {
        div.group {
            h3 { (shares.name) " " span.said.worse[!shares.is_chance] { (said) ": " (shares.outside) " of " (all) @if all == 1 { " trial" } @else { " trials" } " outside of the band" } }
            @for worker in shown { (row(shares, worker, axis)) }
            @if left_out > 0 { p.note { (left_out) " workers between these are in the table." } }
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
