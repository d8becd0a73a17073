//! What people read. One model, made from summaries; each form of it in one file.

mod answer;
pub mod comparison;
pub mod curve;
mod files;

pub mod markdown;
mod model;
mod ranking;
pub mod terminal;

pub use answer::{Answer, answer, p_value};
pub use files::Reading;
pub use model::{Grid, Model, model};
pub use ranking::{Group, Ranking, Row, plain, ranking};
