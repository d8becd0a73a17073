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

/// An axis' labels, under the tracks.
pub fn scale(axis: &Axis) -> Markup {
    html! {
        div.row.scale aria-hidden="true" {
            span.track {
                @for (value, label) in &axis.ticks { i style={ "left:" (at(axis.position(*value))) } { (label) } }
            }
        }
    }
}
