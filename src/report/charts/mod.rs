//! The charts of a report as pure data: a title that states the finding, figures or rows, and the table with the numbers.

mod finding;
pub mod percentiles;
pub mod ports;
pub mod ranking;
pub mod searches;
pub mod series;
pub mod shares;
pub mod stages;
mod subject;

pub use subject::{Cell, Subject, with_settings};

/// With a capital first letter.
pub fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}
