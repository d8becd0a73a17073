//! `listenbench calibrate`: measures the harness's own overhead on this machine.

use std::{
    collections::BTreeMap,
    fs::OpenOptions,
    io::Write,
    path::Path,
    time::{Duration, SystemTime},
};

use anyhow::{Context, Result};

use super::{Ended, Usage, capacity, interrupt_flag, note, say, sources};
use crate::{
    calibrate::{self, Contest},
    cli,
    format::seconds,
    ipc::family::{self, Patience},
    observe::host::{self, Probe},
    record::{Calibration, Machine, SCHEMA},
    report::{harness, terminal},
    scenario::Plan,
    sys::process,
    trial::{self, Rehearsal, SETUP_PATIENCE},
};

/// Time limit for measuring single operations; generous enough for slow machines and debug builds.
const PIECES_PATIENCE: Duration = Duration::from_secs(60);

/// Runs the command.
pub fn run(options: &cli::Calibrate) -> Result<Ended> {
    let span = Duration::try_from_secs_f64(options.seconds).ok().filter(|span| *span >= Duration::from_millis(10));
    let span = span.ok_or_else(|| Usage(format!("--seconds {}: must be at least 0.01", options.seconds)))?;
    if let Some(file) = options.out.as_deref().filter(|file| file.exists()) {
        anyhow::bail!(Usage(format!("{} already exists and is not overwritten: choose another file", file.display())));
    }
    let (name, set) = chosen(options);
    let plan = plan(&name, &set)?;
    let interrupted = interrupt_flag()?;
    process::adopt_orphans().context("prctl(PR_SET_CHILD_SUBREAPER)")?;
    let patience = Patience::of(SETUP_PATIENCE).unless(&interrupted);
    rehearse(&name, &plan, patience)?;
    let probe = trial::probe(patience)?;
    let sizing = capacity::size(&plan.cells[0].scenario).with_context(|| name.clone())?;
    let (seed, workers) = (plan.whole.seed, plan.cells[0].scenario.server.workers);
    let scenario = plan.whole.name.clone();

    let stamps = probe.stamps_error.is_none();
    if let Some(why) = &probe.stamps_error {
        note(terminal::prose(&format!("exact stamps are not measured: {why}")));
    }
    let (costs, lags) = family::ask("lb:pieces", Patience::of(PIECES_PATIENCE).unless(&interrupted), || {
        Ok((calibrate::costs(stamps, seed)?, calibrate::lags()?))
    })?;
    let rounds = options.rounds as usize;
    let mut contest = Contest::new(plan, sizing, span, stamps);
    let length = seconds(contest.length(rounds));
    note(format_args!("{scenario}: {} runs, about {length}; keep the machine otherwise idle", contest.runs(rounds)));
    let measured_at = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
    let mut begun = 0;
    let rounds = contest.hold(rounds, &interrupted, &mut |round, _| {
        if round == begun {
            begun += 1;
            note(format_args!("round {begun} of {rounds}"));
        }
    })?;
    let calibration = Calibration {
        schema: SCHEMA,
        measured_at,
        machine: here(seed, &probe),
        scenario,
        set,
        seed,
        seconds: span.as_secs_f64(),
        workers,
        loaders: sizing.loaders,
        bare: contest.bare(),
        stamps_error: probe.stamps_error,
        ratios: calibrate::ratios(&rounds, seed),
        rounds,
        costs,
        lags,
    };
    let json = serde_json::to_string_pretty(&calibration)?;
    if let Some(file) = &options.out {
        write_new(file, &json)?;
    }
    if options.json {
        say(json)?;
    } else {
        show(&calibration)?;
    }
    Ok(Ended::Done)
}

/// The scenario's name and the values that override its own.
fn chosen(options: &cli::Calibrate) -> (String, Vec<String>) {
    let mut set = options.overrides.all();
    match &options.scenario {
        Some(name) => (name.clone(), set),
        None => {
            // The default scenario sweeps strategies; use the one the bare loop implements.
            if !set.iter().any(|one| one.starts_with("server.strategy=")) {
                set.push("server.strategy=reuseport".to_owned());
            }
            (sources::DEFAULT.to_owned(), set)
        }
    }
}

fn plan(name: &str, set: &[String]) -> Result<Plan> {
    let plan = sources::plan(&sources::text(name)?, set)?;
    let cell = &plan.cells[0];
    if plan.cells.len() > 1 {
        let flags: Vec<String> = cell.swept.iter().map(|(path, value)| format!("--set {path}={value}")).collect();
        anyhow::bail!(Usage(format!(
            "{name}: `calibrate` runs a single cell, but this scenario has {}: pin the swept keys, e.g. with {}",
            plan.cells.len(),
            flags.join(" ")
        )));
    }
    calibrate::fits(&cell.scenario).map_err(|why| Usage(format!("{name}: {why}")))?;
    Ok(plan)
}

/// Tries out what every run will need.
fn rehearse(name: &str, plan: &Plan, patience: Patience<'_>) -> Result<()> {
    match trial::rehearse(&plan.cells[0], patience)? {
        Rehearsal::Ready { strategy_error: None, .. } => Ok(()),
        Rehearsal::Ready { strategy_error: Some(why), .. } => anyhow::bail!("{name}: {why}"),
        Rehearsal::Refused { sysctl, why } => {
            anyhow::bail!(plan.refused_sysctl(&sysctl, why))
        }
    }
}

/// This machine and this build.
fn here(seed: u64, probe: &Probe) -> Machine {
    Machine::of(&host::read(seed, "", BTreeMap::new(), probe))
}

fn write_new(file: &Path, json: &str) -> Result<()> {
    let opened = OpenOptions::new().write(true).create_new(true).open(file);
    opened
        .and_then(|mut opened| opened.write_all(format!("{json}\n").as_bytes()))
        .with_context(|| format!("writing {}", file.display()))
}

fn show(calibration: &Calibration) -> Result<()> {
    say(terminal::prose(&harness::finding(calibration)))?;
    for grid in harness::grids(calibration) {
        say(&grid.title)?;
        say(terminal::grid(&grid, terminal::width()).trim_end())?;
    }
    harness::legend(calibration).iter().try_for_each(|line| say(terminal::prose(line)))
}

/// Reads a file written by `calibrate --out`. Refuses one from another machine, kernel or build.
pub(super) fn remembered(file: &Path, probe: &Probe) -> Result<Calibration> {
    let name = file.display();
    let text = std::fs::read_to_string(file).with_context(|| format!("reading {name}"))?;
    let calibration: Calibration = serde_json::from_str(&text)
        .map_err(|error| Usage(format!("{name}: {error}; expected a file written by `listenbench calibrate --out`")))?;
    let here = here(0, probe);
    let differences = here.differences(&calibration.machine);
    if !differences.is_empty() {
        anyhow::bail!(Usage(format!(
            "{name} was measured under different conditions: {}; measure again with `listenbench calibrate --out`",
            differences.join(", ")
        )));
    }
    if !here.is_exact() {
        note(terminal::prose(&format!(
            "{name}: revision {} does not identify the build; make sure the calibration comes from this one",
            here.revision
        )));
    }
    Ok(calibration)
}
