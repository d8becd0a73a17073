//! Cells in order, each with its median, interval and trials on one scale.

use maud::{Markup, html};

use super::tracks::{at, grid, scale};
use crate::report::{
    Grid,
    plot::figure::Axis,
    sections::{Content, In},
};

/// Cells by a figure, best first.
#[derive(Debug, Clone, PartialEq)]
pub struct Standings {
    pub title: String,
    /// The topic, as a short phrase.
    pub about: String,
    /// The axis of all groups.
    pub axis: Axis,
    /// In the order of the matrix.
    pub groups: Vec<Places>,
    pub table: Grid,
    pub notes: Vec<String>,
}

/// Cells that compete.
#[derive(Debug, Clone, PartialEq)]
pub struct Places {
    /// What they have in common; may be empty.
    pub heading: String,
    /// Best first.
    pub places: Vec<Place>,
}

/// A cell.
#[derive(Debug, Clone, PartialEq)]
pub struct Place {
    /// Its name.
    pub name: String,
    /// Its figures; `None` if no valid trial has any.
    pub figures: Option<Figures>,
    /// How it compares with the best.
    pub standing: String,
    /// Whether it was shown to be worse than the best.
    pub is_worse: bool,
}

/// A cell's figures.
#[derive(Debug, Clone, PartialEq)]
pub struct Figures {
    /// Median; like the other values, infinite if it was not reached, and then not drawn.
    pub median: f64,
    /// Lower end of its interval.
    pub low: f64,
    /// Upper end of its interval.
    pub high: f64,
    /// The median for display.
    pub shown: String,
    /// All figures for display.
    pub tip: String,
    /// Values of single trials.
    pub trials: Vec<f64>,
}

impl Standings {
    /// As a section of the report's page.
    pub fn content(self) -> Content {
        let figure = html! {
            div.tracks {
                @for group in &self.groups {
                    div.group {
                        @if !group.heading.is_empty() { h3 { (group.heading) } }
                        @for place in &group.places { (row(place, &self.axis)) }
                        @if group.places.iter().any(|place| place.figures.is_some()) { (scale(&self.axis)) }
                    }
                }
            }
        };
        Content {
            title: self.about,
            finding: self.title,
            figure: Some(figure),
            notes: self.notes.into_iter().map(|note| (In::Page, note)).collect(),
            tables: vec![(In::Page, self.table)],
            ..Content::default()
        }
    }
}

fn row(place: &Place, axis: &Axis) -> Markup {
    html! {
        div.row tabindex="0" data-tip=[place.figures.as_ref().map(|figures| &figures.tip)] {
            span.who { (place.name) }
            span.track { (grid(axis)) @if let Some(figures) = &place.figures { (marks(figures, axis, place.is_worse)) } }
            span.value { @if let Some(figures) = &place.figures { (figures.shown) } @else { "–" } }
            span.remark.worse[place.is_worse] { (place.standing) }
        }
    }
}

fn marks(figures: &Figures, axis: &Axis, is_worse: bool) -> Markup {
    let place = |value: f64| axis.position(value);
    let is_reached = |value: f64| value.is_finite();
    // An interval whose end was not reached goes on to the end of the scale.
    let end = |value: f64| if is_reached(value) { place(value) } else { place(axis.high) };
    let (low, high) = (end(figures.low), end(figures.high));
    html! {
        i.interval.worse[is_worse] style={ "left:" (at(low)) ";width:" (at(high - low)) } {}
        @for value in figures.trials.iter().filter(|value| is_reached(**value)) { i.dot style={ "left:" (at(place(*value))) } {} }
        @if is_reached(figures.median) { i.median.worse[is_worse] style={ "left:" (at(place(figures.median))) } {} }
    }
}
