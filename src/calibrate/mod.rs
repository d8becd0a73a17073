//! Measures what the harness itself costs on this machine, so that readers know how much of each figure is the
//! harness's own.
//!
//! Four contestants make the same exchange, round by round in random order: a `bare` loop of blocking system calls that
//! records nothing (the machine's ceiling), and the harness with recording off, on, and with exact stamps. The
//! difference between two contestants is the cost of what separates them; taking `ratios` within a round cancels the
//! machine's drift. `costs` and `lags` measure the parts separately.

mod bare;
mod contest;
mod costs;
mod lags;
mod ratios;

pub use contest::{Contest, fits};
pub use costs::{clock_read_ns, costs};
pub use lags::lags;
pub use ratios::ratios;
