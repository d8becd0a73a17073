//! `listenbench trace`: what replaying a trace would be like.

mod chart;
mod preview;

use anyhow::{Result, bail};

pub(super) use self::preview::Preview;
use super::{Ended, Lines, Usage, say, say_json};
use crate::{
    cli,
    report::terminal,
    scenario::keys::{self, AnyKey},
    trace::{Asked, FormatAsked, Schedule, survey},
};

/// Width without a terminal.
const WIDTH: usize = 100;

/// The chart's narrowest and widest.
const CHART: std::ops::RangeInclusive<usize> = 20..=120;

/// Runs the command.
pub fn run(options: &cli::Trace) -> Result<Ended> {
    let asked = asked(options)?;
    let schedule = Schedule::read(&asked)?;
    let width = terminal::width().unwrap_or(WIDTH);
    let columns = width.saturating_sub(chart::LABEL).clamp(*CHART.start(), *CHART.end());
    let survey = survey(&schedule, columns);
    let preview = Preview::of(&asked, &schedule, &survey);
    if options.json { say_json(&preview, Lines::Several) } else { say(preview.text(width).trim_end()) }?;
    Ok(Ended::Done)
}

/// What the options ask for. They are refused as the keys are whose values they stand for.
fn asked(options: &cli::Trace) -> Result<Asked> {
    let cli::Trace { file, format, speed, from, to, repeat, max_malformed, .. } = options;
    let is_allowed = |option: &str, key: &dyn AnyKey, value: toml::Value| match key.check(&value) {
        Ok(()) => Ok(()),
        Err(problem) => bail!(Usage(format!("--{option}: {problem}"))),
    };
    is_allowed("speed", keys::LOAD_TRACE_SPEED, (*speed).into())?;
    is_allowed("max-malformed", keys::LOAD_TRACE_MAX_MALFORMED, (*max_malformed).into())?;
    let format = FormatAsked::read(format).map_err(|problem| Usage(format!("--format {format}: {problem}")))?;
    if to.is_some_and(|to| to <= *from) {
        bail!(Usage("--to must be after --from: both count from the trace's first start".to_owned()));
    }
    Ok(Asked {
        path: file.clone(),
        format,
        speed: *speed,
        from: *from,
        to: *to,
        repeat: *repeat,
        max_malformed: *max_malformed,
    })
}
