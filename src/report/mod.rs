//! What people read. One model, made from summaries; each form of it in one file.

mod answer;
pub mod comparison;
pub mod csv;
pub mod curve;
mod files;
#[cfg(test)]
mod fixture;
pub mod harness;
pub mod hgrm;
pub mod markdown;
mod model;
pub mod openmetrics;
mod ranking;
pub mod terminal;

pub use answer::{Answer, answer, p_value};
pub use files::Reading;
pub use model::{Grid, Model, model};
pub use ranking::{Group, Ranking, Row, plain, ranking};
