//! The ranking: each cell's median with its interval and its trials, on one scale.

use maud::{Markup, html};

use super::parts::{at, notes, section as titled, table};
use crate::report::charts::{
    Subject,
    figure::Axis,
    ranking::{Figures, Place, ranking},
};

/// The section; `None` where nothing can be ranked.
pub fn section(subject: &Subject<'_>) -> Option<Markup> {
    let chart = ranking(subject)?;
    let body = html! {
        div.tracks {
            @for group in &chart.groups {
                div.group {
                    @if !group.heading.is_empty() { h3 { (group.heading) } }
                    @for place in &group.places { (row(place, &chart.axis)) }
                    div.row.scale aria-hidden="true" { span.track { @for (value, label) in &chart.axis.ticks { i style={ "left:" (at(chart.axis.position(*value))) } { (label) } } } }
                }
            }
        }
        (notes(&chart.notes))
        (table(&chart.table))
    };
    Some(titled(&format!("Ranking by {}", chart.metric), &chart.title, &body))
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

/// Thin lines at the marked values of an axis.
pub fn grid(axis: &Axis) -> Markup {
    html! { @for (value, _) in &axis.ticks { i.tick style={ "left:" (at(axis.position(*value))) } {} } }
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
