//! `listenbench run`: plan, rehearse, run the trials, write the record, show the table.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    time::{Duration, SystemTime},
};

use anyhow::{Context, Result};

use super::{Ended, Usage, capacity, interrupt_flag, say, sources};
use crate::{
    cli,
    live::{Expected, Kind, Progress, Trials},
    load::{self, Sizing},
    observe::{
        host::{self, Host, Probe},
        ports::Range,
    },
    record::{Outcome, Record, Writer, reader},
    report::{self, format::seconds},
    scenario::{Bound, Network, Plan, ScenarioError, Stamps},
    server::{Listeners, Site},
    stats,
    sys::{affinity, limits, process},
    trial::{self, Job, Rehearsal},
};

/// Set-up and counting of a trial, for the estimate of a run's length.
const OVERHEAD: Duration = Duration::from_millis(150);

/// Carries the command out.
pub fn run(options: &cli::Run) -> Result<Ended> {
    let overrides = options.overrides.all();
    let names =
        if options.scenarios.is_empty() { vec![sources::DEFAULT.to_owned()] } else { options.scenarios.clone() };
    let plans: Vec<Plan> = names.iter().map(|name| sources::plan(name, &overrides)).collect::<Result<_>>()?;
    let sizings: Vec<Vec<Sizing>> =
        names.iter().zip(&plans).map(|(name, plan)| size(name, plan)).collect::<Result<_>>()?;
    if options.list {
        for (plan, sizings) in plans.iter().zip(&sizings) {
            list(plan, sizings)?;
        }
        return Ok(Ended::Done);
    }
    let folders = folders(options.out.as_deref(), &plans)?;
    let kind = Kind::choose(options.quiet, options.progress == cli::Progress::Plain);
    let interrupted = interrupt_flag()?;
    process::adopt_orphans().context("prctl(PR_SET_CHILD_SUBREAPER)")?;
    // Everything that can be known to go wrong does so before the first trial of the first scenario.
    let sysctls: Vec<BTreeMap<String, String>> = names
        .iter()
        .zip(&plans)
        .map(|(name, plan)| rehearse(name, plan, options.force, kind))
        .collect::<Result<_>>()?;
    let probe = trial::probe()?;
    warn_of_bounds(&plans, &probe, kind);
    for folder in &folders {
        Writer::make_folder(folder)?;
    }
    let mut ended = Ended::Done;
    for (((plan, sizings), folder), sysctls) in plans.iter().zip(&sizings).zip(&folders).zip(sysctls) {
        match scenario(plan, sizings, folder, sysctls, &probe, kind, &interrupted)? {
            Ended::Done => {}
            Ended::Flawed => ended = Ended::Flawed,
            Ended::Interrupted => return Ok(Ended::Interrupted),
        }
    }
    Ok(ended)
}

fn size(name: &str, plan: &Plan) -> Result<Vec<Sizing>> {
    let files = limits::open_files().context("getrlimit(RLIMIT_NOFILE)")?.hard;
    let cpus = affinity::allowed_cpus().context("sched_getaffinity")?.len();
    plan.cells
        .iter()
        .map(|cell| load::size(&cell.scenario, files, cpus).with_context(|| format!("{name}: {}", cell.label())))
        .collect()
}

fn list(plan: &Plan, sizings: &[Sizing]) -> Result<()> {
    say(outline(plan, sizings))?;
    say(format_args!("{:>5}  {:>10}  cell", "trial", "repetition"))?;
    for trial in &plan.trials {
        say(format_args!("{:>5}  {:>10}  {}", trial.number, trial.repetition, plan.cells[trial.cell].label()))?;
    }
    Ok(())
}

/// What will run, how long it takes, and with how many processes.
fn outline(plan: &Plan, sizings: &[Sizing]) -> String {
    let plural = |count: usize| if count == 1 { "" } else { "s" };
    let fewest = sizings.iter().min_by_key(|sizing| (sizing.loaders, sizing.connections));
    let most = sizings.iter().max_by_key(|sizing| (sizing.loaders, sizing.connections));
    let sizing = match (fewest, most) {
        (Some(fewest), Some(most)) if fewest != most => format!("{fewest}, to {most}"),
        (Some(same), _) => same.to_string(),
        (None, _) => String::new(),
    };
    let (cells, repetitions) = (plan.cells.len(), plan.repetitions);
    format!(
        "{}: {cells} cell{} × {repetitions} repetition{} = {} trial{}{}, seed {}; {sizing}",
        plan.name,
        plural(cells),
        plural(repetitions),
        plan.trials.len(),
        plural(plan.trials.len()),
        planned_length(plan).map_or_else(String::new, |length| format!(", about {}", seconds(length))),
        plan.seed,
    )
}

/// `None` where a cell is bound by a number of connections, whose time nobody knows beforehand.
fn planned_length(plan: &Plan) -> Option<Duration> {
    let trials = plan.trials.iter().map(|trial| {
        let load = &plan.cells[trial.cell].scenario.load;
        match load.bound {
            _ if plan.cells[trial.cell].scenario.fill.is_some() => None,
            Bound::Duration(span) => Some(load.warmup + span + load.hold + OVERHEAD),
            Bound::Connections(_) => None,
        }
    });
    trials.sum()
}

fn folders(out: Option<&Path>, plans: &[Plan]) -> Result<Vec<PathBuf>> {
    // 2026-01-31T12:00:00Z without what file systems and shells dislike.
    let now = humantime::format_rfc3339_seconds(SystemTime::now()).to_string().replace(['-', ':'], "");
    let folders: Vec<PathBuf> = plans
        .iter()
        .map(|plan| match out {
            None => Path::new("results").join(format!("{now}-{}", plan.name)),
            Some(out) if plans.len() == 1 => out.to_owned(),
            Some(out) => out.join(&plan.name),
        })
        .collect();
    if let Some(i) = (1..folders.len()).find(|&i| folders[..i].contains(&folders[i])) {
        anyhow::bail!(Usage(format!(
            "two scenarios are named \"{}\": their records would share a folder",
            plans[i].name
        )));
    }
    folders.iter().try_for_each(|folder| Writer::check(folder))?;
    Ok(folders)
}

/// Tries what every trial will need. Returns the sysctls of the network that will be used.
fn rehearse(name: &str, plan: &Plan, force: bool, kind: Kind) -> Result<BTreeMap<String, String>> {
    let mut sysctls = None;
    let mut tried: Vec<(_, Range)> = Vec::new();
    for cell in &plan.cells {
        match cell.scenario.network {
            Network::Host if cell.scenario.address.ip().is_unspecified() => {
                anyhow::bail!(ScenarioError {
                    source_name: name.to_owned(),
                    problem: "`address`: loaders cannot connect to \"any address\": name one of this machine's"
                        .to_owned(),
                });
            }
            Network::Host => {
                for transport in cell.scenario.protocol.transports() {
                    Listeners::shared(Site::of(&cell.scenario.server, cell.scenario.address, transport))?;
                }
                sysctls.get_or_insert_with(host::sysctls);
                let ports = Range::read().context("reading ip_local_port_range")?;
                capacity::check(name, cell, &ports, force)?;
            }
            network @ (Network::Namespace | Network::Veth) => {
                let scenario = &cell.scenario;
                let new = (network, scenario.address, &scenario.sysctls, scenario.protocol, &scenario.server);
                if let Some((_, ports)) = tried.iter().find(|(known, _)| *known == new) {
                    capacity::check(name, cell, ports, force)?;
                    continue;
                }
                match trial::rehearse(cell)? {
                    Rehearsal::Ready { sysctls: found, strategy_error, ports } => {
                        capacity::check(name, cell, &ports, force)?;
                        tried.push((new, ports));
                        sysctls.get_or_insert(found);
                        if let Some(why) = strategy_error {
                            let strategy = cell.scenario.server.strategy.name();
                            kind.note(format_args!(
                                "{name}: strategy {strategy} cannot run here, its trials will be failures: {why}"
                            ));
                        }
                    }
                    Rehearsal::Refused(why) => {
                        anyhow::bail!(ScenarioError { source_name: name.to_owned(), problem: why });
                    }
                }
            }
        }
    }
    Ok(sysctls.unwrap_or_default())
}

/// Says where accept waits will be upper bounds only.
fn warn_of_bounds(plans: &[Plan], probe: &Probe, kind: Kind) {
    let wants = |plan: &Plan| plan.cells.iter().any(|cell| cell.scenario.stamps == Stamps::Auto);
    if let (Some(why), true) = (&probe.stamps_error, plans.iter().any(wants)) {
        kind.note(report::terminal::prose(&format!(
            "accept waits are upper bounds here, from the client's connect call; exact ones cannot be had: {why}"
        )));
    }
}

fn scenario(
    plan: &Plan,
    sizings: &[Sizing],
    folder: &Path,
    sysctls: BTreeMap<String, String>,
    probe: &Probe,
    kind: Kind,
    interrupted: &AtomicBool,
) -> Result<Ended> {
    let mut writer = Writer::create(folder, &plan.effective)?;
    writer.write_json(reader::HOST, &Host::read(plan.seed, &networks(plan), sysctls, probe))?;
    let ended = trials(plan, sizings, probe.stamps_error.is_none(), &mut writer, kind, interrupted);
    // Also after a failure: what has ended is summed up.
    conclude(&writer, kind)?;
    ended
}

/// Whose network the cells use, by the key's values.
fn networks(plan: &Plan) -> String {
    let used = |network| plan.cells.iter().any(|cell| cell.scenario.network == network);
    let names: Vec<&str> = Network::ALL.iter().filter(|(_, network)| used(*network)).map(|(name, _)| *name).collect();
    names.join(" and ")
}

fn trials(
    plan: &Plan,
    sizings: &[Sizing],
    stamps_allowed: bool,
    writer: &mut Writer,
    kind: Kind,
    interrupted: &AtomicBool,
) -> Result<Ended> {
    let outline = report::terminal::prose(&outline(plan, sizings));
    let expected = Expected { trials: Trials::Exactly(plan.trials.len()), length: planned_length(plan) };
    let mut progress = Progress::start(kind, &outline, expected, interrupted);
    let mut ended = Ended::Done;
    for trial in &plan.trials {
        let job = Job { plan, trial: *trial, sizing: sizings[trial.cell], stamps_allowed };
        progress.begin(job);
        let outcome = trial::run(job, interrupted, &mut |view| progress.tick(view))?;
        writer.trial(&outcome.record, &outcome.histograms)?;
        progress.end(job, &outcome.record);
        if outcome.record.outcome != Outcome::Valid {
            ended = Ended::Flawed;
        }
        if interrupted.load(Relaxed) {
            ended = Ended::Interrupted;
            break;
        }
    }
    progress.finish();
    Ok(ended)
}

/// Sums the record up, from what is on disk.
fn conclude(writer: &Writer, kind: Kind) -> Result<()> {
    let record = Record::read(writer.folder())?;
    let summary = stats::summarize(&record);
    let model = report::model(&record, &summary);
    writer.write_json(reader::SUMMARY_JSON, &summary)?;
    writer.write_text(reader::SUMMARY_MARKDOWN, &report::markdown::render(&model))?;
    if let Some(svg) = report::curve::render(&record)? {
        writer.write_text(reader::PORTS_CURVE, &svg)?;
    }
    if kind == Kind::Quiet {
        return say(writer.folder().display());
    }
    say(report::terminal::render(&model, report::terminal::width()).trim_end())?;
    say(format_args!("record: {}", writer.folder().display()))
}
