//! How the connections that a load holds all at once came to be open.

use maud::{Markup, html};

use super::parts::{notes, section as titled, table};
use crate::report::{charts::Subject, ramp};

/// The section; `None` where no trial had a ramp.
pub fn section(subject: &Subject<'_>) -> Option<Markup> {
    let grid = ramp::grid(subject.record, subject.summary)?;
    let body = html! {
        (table(&grid))
        (notes(&[ramp::LEGEND.to_owned()]))
    };
    Some(titled(ramp::TITLE, &ramp::finding(subject.record, subject.summary), &body))
}
