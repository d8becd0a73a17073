//! Rows that are drawn on one scale by HTML alone, so that they fit any width.

use maud::{Markup, html};

use crate::report::plot::figure::Axis;

/// A place on a track, or a part of it, in percent of its width.
pub fn at(position: f64) -> String {
    format!("{:.2}%", 100.0 * position.clamp(0.0, 1.0))
}

/// Thin lines at the marked values of an axis.
pub fn grid(axis: &Axis) -> Markup {
    html! { @for (value, _) in &axis.ticks { i.tick style={ "left:" (at(axis.position(*value))) } {} } }
}

/// The marked values of an axis, under the tracks.
pub fn scale(axis: &Axis) -> Markup {
    html! {
        div.row.scale aria-hidden="true" {
            span.track {
                @for (value, label) in &axis.ticks { i style={ "left:" (at(axis.position(*value))) } { (label) } }
            }
        }
    }
}
