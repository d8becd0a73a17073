//! Rows on a common scale, drawn with HTML alone so that they fit any width.

use maud::{Markup, html};

use crate::report::plot::figure::Axis;

/// A position on a track, or a length, in percent of its width.
pub fn at(position: f64) -> String {
    format!("{:.2}%", 100.0 * position.clamp(0.0, 1.0))
}

/// Thin lines at an axis' labelled values.
pub fn grid(axis: &Axis) -> Markup {
    html! { @for (value, _) in &axis.ticks { i.tick style={ "left:" (at(axis.position(*value))) } {} } }
}

/// Labels that are closer than this part of a track's width overlap on a phone.
const CROWDED: f64 = 0.16;

/// An axis' labels, under the tracks; a narrow screen leaves out those that are too close to the one before.
pub fn scale(axis: &Axis) -> Markup {
    let mut last = f64::NEG_INFINITY;
    let mut is_crowded = |position: f64| {
        let crowded = position - last < CROWDED;
        if !crowded {
            last = position;
        }
        crowded
    };
    html! {
        div.row.scale aria-hidden="true" {
            span.track {
                @for (value, label) in &axis.ticks {
                    @let position = axis.position(*value);
                    i.crowded[is_crowded(position)] style={ "left:" (at(position)) } { (label) }
                }
            }
        }
    }
}
