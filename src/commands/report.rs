//! `listenbench report`: regenerates everything derived from a record.

use anyhow::Result;

use super::{Ended, say};
use crate::{
    cli,
    report::{PERCENTILES, Reading, terminal},
};

/// Runs the command.
pub fn run(options: &cli::Report) -> Result<Ended> {
    for folder in &options.records {
        let reading = Reading::of(folder)?;
        let report = reading.report();
        let files = report.write(folder)?;
        say(terminal::render(&report.document, terminal::width()).trim_end())?;
        let (percentiles, others): (Vec<&String>, Vec<&String>) =
            files.iter().partition(|name| name.starts_with(PERCENTILES));
        let others: Vec<&str> = others.into_iter().map(String::as_str).collect();
        say(terminal::prose(&format!(
            "written from {}: {}, and {} files in {}/",
            folder.display(),
            others.join(", "),
            percentiles.len(),
            PERCENTILES
        )))?;
    }
    Ok(Ended::Done)
}
