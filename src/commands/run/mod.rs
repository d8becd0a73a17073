//! `listenbench run`: plan, rehearse, run the trials, write the record, show the results.

mod outline;
mod rehearse;
mod trials;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::atomic::AtomicBool,
    time::SystemTime,
};

use anyhow::{Context, Result};

use self::{outline::outline, trials::Runner};
use super::{Ended, Usage, calibrate, capacity, interrupt_flag, say, sources};
use strum::IntoEnumIterator;

use crate::{
    cli,
    ipc::family::Patience,
    live::Kind,
    load::Sizing,
    observe::host,
    record::{Host, Writer, reader},
    report::{Reading, derived_files, terminal},
    scenario::{Cell, Network, Plan, Source},
    sys::process,
    trial,
};

/// A scenario to run.
struct Chosen {
    source: sources::Text,
    plan: Plan,
    /// One per cell.
    sizings: Vec<Sizing>,
}

impl Chosen {
    fn source(&self) -> Source<'_> {
        self.source.source()
    }
}

/// Runs the command.
pub fn run(options: &cli::Run) -> Result<Ended> {
    let overrides = options.overrides.all();
    let names =
        if options.scenarios.is_empty() { vec![sources::DEFAULT.to_owned()] } else { options.scenarios.clone() };
    let chosen: Vec<Chosen> = names.iter().map(|name| choose(name, &overrides)).collect::<Result<_>>()?;
    if options.list {
        chosen.iter().try_for_each(list)?;
        return Ok(Ended::Done);
    }
    let folders = folders(options.out.as_deref(), &chosen)?;
    let kind = Kind::choose(options.quiet, options.progress == cli::Progress::Plain);
    let interrupted = interrupt_flag()?;
    process::adopt_orphans().context("prctl(PR_SET_CHILD_SUBREAPER)")?;
    let patience = Patience::of(trial::SETUP_PATIENCE).unless(&interrupted);
    // Whatever will predictably fail does so before the first trial of the first scenario.
    let sysctls: Vec<BTreeMap<String, String>> =
        chosen.iter().map(|chosen| rehearse::rehearse(chosen, options.force, kind, patience)).collect::<Result<_>>()?;
    let probe = trial::probe(patience)?;
    let calibration = options.calibration.as_deref().map(|file| calibrate::remembered(file, &probe)).transpose()?;
    chosen
        .iter()
        .filter_map(|chosen| outline::too_few(&chosen.plan))
        .for_each(|line| kind.note(terminal::prose(&line)));
    rehearse::warn_of_bounds(chosen.iter().map(|chosen| &chosen.plan), &probe, kind);
    for folder in &folders {
        Writer::make_folder(folder)?;
    }
    let mut ended = Ended::Done;
    for ((chosen, folder), sysctls) in chosen.iter().zip(&folders).zip(sysctls) {
        let host = host::read(chosen.plan.whole.seed, &networks(&chosen.plan), sysctls, &probe);
        let host = Host { calibration: calibration.clone(), ..host };
        match scenario(chosen, &overrides, folder, &host, kind, &interrupted)? {
            Ended::Done => {}
            Ended::Flawed => ended = Ended::Flawed,
            Ended::Interrupted => return Ok(Ended::Interrupted),
        }
    }
    Ok(ended)
}

fn choose(name: &str, overrides: &[String]) -> Result<Chosen> {
    let source = sources::text(name)?;
    let plan = sources::plan(&source, overrides)?;
    rehearse::metrics_exist(&plan)?;
    Ok(Chosen { sizings: size(name, &plan)?, source, plan })
}

fn size(name: &str, plan: &Plan) -> Result<Vec<Sizing>> {
    let sized = |cell: &Cell| capacity::size(&cell.scenario).with_context(|| format!("{name}: {}", cell.label()));
    plan.cells.iter().map(sized).collect()
}

fn list(chosen: &Chosen) -> Result<()> {
    let plan = &chosen.plan;
    say(outline(plan, &chosen.sizings))?;
    outline::too_few(plan).map_or(Ok(()), say)?;
    for need in capacity::of_height(plan, &chosen.sizings)? {
        let lacks = if need.is_met() { String::new() } else { format!(": not enough; {}", need.remedy) };
        say(format_args!("needs {need}{lacks}"))?;
    }
    if plan.whole.search.is_some() {
        // Later trials depend on the results of the first.
        say("cell")?;
        return plan.cells.iter().try_for_each(|cell| say(cell.label()));
    }
    say(format_args!("{:>5}  {:>10}  cell", "trial", "repetition"))?;
    for trial in &plan.trials {
        say(format_args!("{:>5}  {:>10}  {}", trial.number, trial.repetition, plan.cells[trial.cell].label()))?;
    }
    Ok(())
}

fn folders(out: Option<&Path>, chosen: &[Chosen]) -> Result<Vec<PathBuf>> {
    // 2026-01-31T12:00:00Z without the characters that file systems and shells treat specially.
    let now = humantime::format_rfc3339_seconds(SystemTime::now()).to_string().replace(['-', ':'], "");
    let folders: Vec<PathBuf> = chosen
        .iter()
        .map(|one| match out {
            None => Path::new("results").join(format!("{now}-{}", one.plan.whole.name)),
            Some(out) if chosen.len() == 1 => out.to_owned(),
            Some(out) => out.join(&one.plan.whole.name),
        })
        .collect();
    if let Some(i) = (1..folders.len()).find(|&i| folders[..i].contains(&folders[i])) {
        anyhow::bail!(Usage(format!(
            "two scenarios are named \"{}\", so their records would share a folder",
            chosen[i].plan.whole.name
        )));
    }
    folders.iter().try_for_each(|folder| Writer::check(folder, derived_files()))?;
    Ok(folders)
}

fn scenario(
    chosen: &Chosen,
    overrides: &[String],
    folder: &Path,
    host: &Host,
    kind: Kind,
    interrupted: &AtomicBool,
) -> Result<Ended> {
    let plan = &chosen.plan;
    let mut writer = Writer::create(folder, derived_files(), &plan.effective)?;
    writer.write_json(reader::HOST, host)?;
    let mut runner = Runner::new(chosen, host.stamps_allowed(), &mut writer, kind, interrupted);
    let ended = match &plan.whole.search {
        Some(search) => runner.search(chosen, overrides, search),
        None => runner.planned(plan, &chosen.sizings),
    };
    runner.finish();
    // Also after a failure: finished trials are summarized.
    conclude(folder, kind)?;
    ended
}

/// The networks the cells use, by their names in the scenario.
fn networks(plan: &Plan) -> String {
    let used = |network: &Network| plan.cells.iter().any(|cell| cell.scenario.network == *network);
    let names: Vec<&str> = Network::iter().filter(used).map(Network::into).collect();
    names.join(" and ")
}

/// Summarizes the record from what is on disk.
fn conclude(folder: &Path, kind: Kind) -> Result<()> {
    let reading = Reading::of(folder)?;
    let report = reading.report();
    report.write(folder)?;
    if kind == Kind::Quiet {
        return say(folder.display());
    }
    say(terminal::render(&report.document, terminal::width()).trim_end())?;
    say(format_args!("record: {}", folder.display()))
}
