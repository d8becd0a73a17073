//! What people read. One model, made from summaries; each form of it in one file.

pub mod curve;
mod files;

pub mod markdown;
mod model;
pub mod terminal;

pub use files::Reading;
pub use model::{Grid, Model, model};
