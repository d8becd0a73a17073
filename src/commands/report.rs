//! `listenbench report`: regenerates everything derived from a record.

use anyhow::Result;

use super::{Ended, folder, say};
use crate::{
    cli,
    format::plural,
    report::{PERCENTILES, Reading, terminal},
};

/// Runs the command.
pub fn run(options: &cli::Report) -> Result<Ended> {
    let mut damaged = false;
    for path in &options.records {
        let folder = folder(path)?;
        let reading = Reading::of(&folder)?;
        damaged |= reading.is_damaged();
        let report = reading.report();
        let files = report.write(&folder)?;
        say(terminal::render(&report.document, terminal::width()).trim_end())?;
        let (percentiles, others): (Vec<&String>, Vec<&String>) =
            files.iter().partition(|name| name.starts_with(PERCENTILES));
        let others: Vec<&str> = others.into_iter().map(String::as_str).collect();
        let more = match percentiles.len() {
            0 => String::new(),
            count => format!(", and {} in {PERCENTILES}/", plural(count, "file")),
        };
        say(terminal::prose(&format!("written from {}: {}{more}", path.display(), others.join(", "))))?;
    }
    Ok(if damaged { Ended::Flawed } else { Ended::Done })
}
