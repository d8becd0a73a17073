//! Options of `listenbench explain`.

use clap::Args;

/// `listenbench explain`
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  listenbench explain                    everything that has an explanation\n  \
                        listenbench explain loader-saturated   a verdict: when, what it means, what to do\n  \
                        listenbench explain load.rate server.strategy\n  \
                        listenbench explain accept_wait_p99 reuseport hand_over\n  \
                        listenbench explain 'wait p99'         a column of a report\n  \
                        listenbench explain 4                  an exit code")]
pub struct Explain {
    /// A key, metric, verdict, strategy, stage, event, value, column, word, limit, built-in scenario or exit code; without any, a list
    /// of all
    #[arg(value_name = "NAME")]
    pub names: Vec<String>,
}
