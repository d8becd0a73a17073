//! What people read. One model, made from summaries; each form of it in one file.

pub mod csv;
pub mod curve;
mod files;
#[cfg(test)]
mod fixture;
pub mod hgrm;
pub mod markdown;
mod model;
pub mod openmetrics;
pub mod terminal;

pub use files::Reading;
pub use model::{Grid, Model, model};
