//! The ranking: each cell's median with its interval and its trials on one scale; of a search, what each found.

use maud::{Markup, html};

use super::{
    parts::{notes, section as titled, table},
    tracks::{at, grid, scale},
};
use crate::report::{
    charts::{
        Subject,
        ranking::{Figures, Place, ranking},
        searches::searches,
    },
    plot::figure::Axis,
};

/// The section; `None` where nothing can be ranked.
pub fn section(subject: &Subject<'_>) -> Option<Markup> {
    let chart = searches(subject).or_else(|| ranking(subject))?;
    let body = html! {
        div.tracks {
            @for group in &chart.groups {
                div.group {
                    @if !group.heading.is_empty() { h3 { (group.heading) } }
                    @if group.places.iter().all(|place| place.figures.is_none()) {
                        p.note { "No valid trial of these " (group.places.len()) " cells has this figure." }
                    } @else {
                        @for place in &group.places { (row(place, &chart.axis)) }
                        (scale(&chart.axis))
                    }
                }
            }
        }
        (notes(&chart.notes))
        (table(&chart.table))
    };
    Some(titled(&chart.about, &chart.title, &body))
}

fn row(place: &Place, axis: &Axis) -> Markup {
    html! {
        div.row tabindex="0" data-tip=[place.figures.as_ref().map(|figures| &figures.tip)] {
            span.who { (place.name) }
            span.track { (grid(axis)) @if let Some(figures) = &place.figures { (marks(figures, axis, place.is_worse)) } }
            span.value { @if let Some(figures) = &place.figures { (figures.shown) } @else { "–" } }
            span.said.worse[place.is_worse] { (place.said) }
        }
    }
}

fn marks(figures: &Figures, axis: &Axis, is_worse: bool) -> Markup {
    let place = |value: f64| axis.position(value);
    let (low, high) = (place(figures.low), place(figures.high));
    html! {
        i.interval.worse[is_worse] style={ "left:" (at(low)) ";width:" (at(high - low)) } {}
        @for value in &figures.trials { i.dot style={ "left:" (at(place(*value))) } {} }
        i.median.worse[is_worse] style={ "left:" (at(place(figures.median))) } {}
    }
}
