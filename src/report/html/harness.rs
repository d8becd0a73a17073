//! What the harness itself costs, of a record that was given a calibration.

use maud::{Markup, html};

use super::parts::{notes, section as titled, table};
use crate::report::{charts::Subject, harness};

/// The section; `None` where nobody calibrated.
pub fn section(subject: &Subject<'_>) -> Option<Markup> {
    let calibration = harness::of_record(subject.record)?;
    let body = html! {
        @for (place, grid) in harness::grids(&calibration).iter().enumerate() {
            @if place > 0 { h3 { (grid.title) } }
            (table(grid))
        }
        (notes(&harness::legend(&calibration)))
    };
    Some(titled(harness::TITLE, &harness::finding(&calibration), &body))
}
