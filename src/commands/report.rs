//! `listenbench report`: everything that is made from a record, made again.

use anyhow::Result;

use super::{Ended, say};
use crate::{
    cli,
    report::{Reading, terminal},
};

/// Carries the command out.
pub fn run(options: &cli::Report) -> Result<Ended> {
    for folder in &options.records {
        let reading = Reading::of(folder)?;
        let files = reading.write(folder)?;
        say(terminal::render(&reading.model(), terminal::width()).trim_end())?;
        say(format_args!("made from {}: {}", folder.display(), files.join(", ")))?;
    }
    Ok(Ended::Done)
}
