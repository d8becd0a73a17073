//! `listenbench calibrate`: measures the harness's own overhead on this machine.

use std::{
    fs::{self, File, OpenOptions},
    io::Write,
    path::Path,
    time::Duration,
};

use anyhow::{Context, Result, anyhow};

use super::{Ended, Lines, Usage, capacity, interrupt_flag, note, say, say_json, shorthands, sources};
use crate::{
    calibrate::{self, Contest},
    cli,
    context::Role,
    format::seconds,
    ipc::family::{self, Patience},
    json, load,
    observe::host::{self, NetworkFacts, Probe},
    record::{Calibration, Machine, SCHEMA, bounds, read_bounded, remedy},
    report::{harness, terminal},
    scenario::Plan,
    sys::{clock, process},
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
    shorthands::settings(&[], &options.overrides)?;
    let (text, set) = chosen(options)?;
    let plan = plan(&text, &set)?;
    let name = text.name;
    let interrupted = interrupt_flag()?;
    process::adopt_orphans().context("prctl(PR_SET_CHILD_SUBREAPER)")?;
    let patience = Patience::of(SETUP_PATIENCE).unless(&interrupted);
    rehearse(&name, &plan, patience)?;
    let probe = trial::probe(&[plan.cells[0].scenario.network], patience)?;
    let sizing = load::size(&plan.cells[0].scenario, capacity::room()?).with_context(|| name.clone())?;
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
    let loaders = sizing.loaders();
    let mut contest = Contest::new(plan, sizing, span, stamps);
    let length = seconds(contest.length(rounds));
    note(format_args!("{scenario}: {} runs, about {length}; keep the machine otherwise idle", contest.runs(rounds)));
    let measured_at = humantime::format_rfc3339_seconds(clock::wall()).to_string();
    let mut begun = 0;
    let (rounds, held) = contest.hold(rounds, &interrupted, &mut |round, _| {
        if round == begun {
            begun += 1;
            note(format_args!("round {begun} of {rounds}"));
        }
    });
    let calibration = Calibration {
        schema: SCHEMA,
        measured_at,
        machine: here(seed, &probe),
        scenario,
        set,
        seed,
        seconds: span.as_secs_f64(),
        workers,
        loaders,
        bare: contest.bare(),
        stamps_error: probe.stamps_error,
        ratios: calibrate::ratios(&rounds, seed),
        partial: held.is_err(),
        rounds,
        costs,
        lags,
    };
    // One that cannot be written is still shown, and the reverse.
    let json = json::lines(&calibration)?;
    let written = match &options.out {
        Some(file) if calibration.rounds.is_empty() => {
            note(format_args!("{} is not written: no run had ended, so that nothing can be compared", file.display()));
            Ok(())
        }
        Some(file) => write_new(file, &json),
        None => Ok(()),
    };
    let shown = if options.json { say_json(&calibration, Lines::Several) } else { show(&calibration) };
    // Whatever ended it early, what was measured is kept.
    written.and(shown).and(held).map(|()| Ended::Done)
}

/// The scenario and the values that override its own.
fn chosen(options: &cli::Calibrate) -> Result<(sources::Text, Vec<String>)> {
    let mut set = options.overrides.all();
    Ok(match &options.scenario {
        Some(name) => (sources::text(name)?, set),
        None => {
            // The default scenario sweeps strategies; use the one the bare loop implements.
            if !set.iter().any(|one| one.starts_with("server.strategy=")) {
                set.push("server.strategy=reuseport".to_owned());
            }
            (sources::text(sources::DEFAULT)?, set)
        }
    })
}

fn plan(text: &sources::Text, set: &[String]) -> Result<Plan> {
    let name = &text.name;
    let plan = sources::plan(text, set)?;
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
    match trial::rehearse(&plan.cells[0], Role::default(), patience)? {
        Rehearsal::Ready { strategy_error: None, .. } => Ok(()),
        Rehearsal::Ready { strategy_error: Some(why), .. } => anyhow::bail!("{name}: {why}"),
        Rehearsal::Refused { path, why } => anyhow::bail!(plan.refused(&path, why)),
    }
}

/// This machine and this build.
fn here(seed: u64, probe: &Probe) -> Machine {
    Machine::of(&host::read(seed, "", NetworkFacts::default(), probe))
}

fn write_new(file: &Path, json: &str) -> Result<()> {
    let opened = OpenOptions::new().write(true).create_new(true).open(file);
    let written = opened.and_then(|mut opened| {
        let written = opened.write_all(format!("{json}\n").as_bytes()).and_then(|()| opened.sync_data());
        // Half of it would be refused by `run --calibration`, and be in the way of the next.
        written.inspect_err(|_| drop(fs::remove_file(file)))
    });
    written.map_err(|error| {
        let remedy = remedy(&error);
        anyhow!(
            "writing {}: {error}: the calibration is only shown, and not kept; {remedy}, then calibrate again",
            file.display()
        )
    })
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
    let bytes = File::open(file).and_then(|file| read_bounded(file, bounds::TEXT_BYTES));
    let bytes = bytes.with_context(|| format!("reading {name}"))?;
    let calibration: Calibration = json::read(&bytes).map_err(|error| {
        Usage(format!(
            "{name}, line {}: {error}; expected a file written by `listenbench calibrate --out`",
            error.line()
        ))
    })?;
    if calibration.rounds.is_empty() {
        anyhow::bail!(Usage(format!("{name} has no rounds: measure again with `listenbench calibrate --out`")));
    }
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
