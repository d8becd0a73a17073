//! What people read. One model, made from summaries; each form of it in one file.

mod answer;
pub mod charts;
pub mod comparison;
pub mod csv;
pub mod distributions;
mod files;
#[cfg(test)]
mod fixture;
pub mod harness;
pub mod hgrm;
pub mod html;
pub mod markdown;
mod model;
pub mod openmetrics;
pub mod plot;
pub mod ramp;
mod ranking;
#[cfg(test)]
mod sample;
pub mod terminal;
pub mod verdicts;

pub use answer::{Answer, answer, p_equals, p_value};
pub use files::Reading;
pub use model::{Grid, Model, model};
pub use ranking::{Group, Ranking, Row, plain, ranking, short};
