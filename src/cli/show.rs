//! Options of `listenbench show`.

use clap::{Args, ValueHint};

/// `listenbench show`
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  listenbench show tail\n  \
                        listenbench show nginx > copy.toml               to be changed\n  \
                        listenbench show quick --effective               with every key that it uses, defaults included\n  \
                        listenbench show quick --effective --set server.workers=4")]
pub struct Show {
    /// Name of a built-in scenario, or a scenario file
    #[arg(value_hint = ValueHint::FilePath)]
    pub scenario: String,
    /// Print every effective value, as a record's scenario.toml has them, without comments
    #[arg(long)]
    pub effective: bool,
    /// Override a value, as `run` does; repeatable
    #[arg(long, short, value_name = "KEY=VALUE", requires = "effective")]
    pub set: Vec<String>,
}
