//! Options of `listenbench compare`.

use std::path::PathBuf;

use clap::{Args, ValueHint};

/// `listenbench compare`
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  listenbench run --interleave before.toml after.toml --out change\n  \
                        listenbench compare change/before change/after --fail-if 'accept_wait_p99 worse than 5%'\n  \
                        listenbench compare old-1 old-2 old-3 old-4 -- new-1 new-2 new-3 new-4\n  \
                        listenbench compare old new --fail-if 'response_p99 worse than 5%' --junit junit.xml\n  \
                        listenbench compare change/before change/after --html change.html\n  \
                        listenbench compare old new --metric accept_wait_p99 --metric accepted_per_s --markdown\n\n\
                        A difference is claimed between records of one interleaved experiment, or with at least four records \
                        a side; four against four suffice for one comparison (one cell, one metric), more comparisons need \
                        more. Two single records of separate runs also differ by drift: their ratios are shown, and nothing \
                        is claimed.\n\n\
                        Exit codes of --fail-if: 0 if in every cell the whole 95 % interval of the change is within the limit; \
                        3 if in any cell all of it is beyond the limit and the difference is significant (p ≤ 0.05 after Holm's \
                        correction); 4 if neither, which includes too few trials, separate runs, and cells or metrics that \
                        one side lacks.")]
pub struct Compare {
    /// Folders of two records, the baseline first; or those of the baseline, followed by `--` and the others
    #[arg(value_name = "A", num_args = 1.., required = true, value_hint = ValueHint::DirPath)]
    pub base: Vec<PathBuf>,
    /// Folders of the records to compare with the baseline's
    #[arg(value_name = "B", last = true, value_hint = ValueHint::DirPath)]
    pub new: Vec<PathBuf>,
    /// Metric to compare; repeatable [default: those of --fail-if, or the answers of the baseline's scenario, with the figures of the
    /// usual ones]
    #[arg(long = "metric", value_name = "METRIC")]
    pub metrics: Vec<String>,
    /// Exit with code 3 if this condition is met, and with 4 if that cannot be decided: METRIC worse than N%; repeatable
    #[arg(long, value_name = "CONDITION")]
    pub fail_if: Vec<String>,
    /// Print JSON instead of tables
    #[arg(long, conflicts_with = "markdown")]
    pub json: bool,
    /// Print Markdown instead of tables
    #[arg(long)]
    pub markdown: bool,
    /// Also write the comparison as a page to this file
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub html: Option<PathBuf>,
    /// Also write the results of --fail-if to this file as JUnit's XML, a test for each condition and cell: met is a failure, undecided
    /// an error
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, requires = "fail_if")]
    pub junit: Option<PathBuf>,
    /// Also write them to this file as TAP: met and undecided are not ok
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, requires = "fail_if")]
    pub tap: Option<PathBuf>,
}
