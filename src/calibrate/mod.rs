//! What the harness itself costs on this machine, so that a reader of its figures knows what part of them is the harness's.
//!
//! Four contestants make the same exchange in turn, round by round in random order: a `bare` loop of blocking system calls
//! that records nothing, which is the machine's own ceiling; and the harness with recording off, on, and with exact stamps.
//! What differs between two of them is what is between them, and rounds make the `ratios` independent of the machine's
//! drift. `costs` and `lags` take the pieces apart.

mod bare;
mod contest;
mod costs;
mod lags;
mod ratios;

pub use contest::{Contest, fits};
pub use costs::costs;
pub use lags::lags;
pub use ratios::ratios;
