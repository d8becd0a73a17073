//! Reports of records, for readers and programs.
//!
//! A [`Reading`] is a record with its summary. [`Ranked`] ranks and names its cells, the sections state the findings,
//! and `terminal`, `markdown` and `html` format the resulting [`Document`]. `exports` writes the files.

mod answer;
mod claims;
mod columns;
pub mod comparison;
mod csv;
mod distributions;
mod document;
mod exports;
mod grid;
pub mod history;
mod html;
pub mod markdown;
mod plot;
mod ranked;
mod ranking;
mod reading;
#[cfg(test)]
mod sample;
mod sections;
pub mod stopping;
pub mod terminal;
mod verdicts;

pub use answer::Answer;
pub use claims::p_equals;
pub use columns::{TableColumn, table_columns};
pub use document::Document;
pub use exports::{PERCENTILES, SummaryFile, csv_columns, names as derived_files};
pub use grid::Grid;
pub use ranked::Ranked;
pub use ranking::{Group, Ranking, Row, plain, short};
pub use reading::{Reading, Report};
pub use sections::harness;
