//! `listenbench show`: a scenario's text, or all of its effective values.

use anyhow::Result;

use super::{Ended, say, shorthands, sources};
use crate::{cli, scenario::Plan};

/// Runs the command.
pub fn run(options: &cli::Show) -> Result<Ended> {
    let text = sources::text(&options.scenario)?;
    shorthands::once_each(&options.set)?;
    let plan = Plan::read(&text.source(), &options.set)?;
    let shown = if options.effective { plan.effective } else { text.text().to_owned() };
    say(shown.trim_end_matches('\n'))?;
    Ok(Ended::Done)
}
