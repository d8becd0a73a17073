//! `listenbench run`: plan, rehearse, run the trials, write the record, show the results.

mod agent;
mod interleave;
mod job;
pub(super) mod lines;
mod outline;
mod programs;
mod reasons;
mod rehearse;
mod set_ups;
mod trials;

use std::{net::IpAddr, path::Path, sync::atomic::AtomicBool};

use anyhow::{Context, Result};

pub(super) use self::{job::lead, programs::named as programs_of};

use self::{outline::outline, trials::Runner};
use super::{Ended, Usage, calibrate, capacity, interrupt_flag, prints_to_terminal, say, say_all, shorthands, sources};
use strum::IntoEnumIterator;

use crate::{
    cli::{self, Recording, Shorthand},
    context::Side,
    ipc::family::Patience,
    live::Kind,
    load::{self, Room, Sizing},
    observe::host::{self, NetworkFacts},
    record::{Destination, Host, Writer},
    report::{Reading, derived_files, terminal},
    scenario::{self, Cell, Network, Plan, Source, Trial},
    sys::{clock, folder::Folder, process},
    trial::{self, hosts::Hosts},
};

/// A scenario to run.
pub(super) struct Chosen {
    /// The name of its record: the scenario's, numbered if an experiment has several of that name.
    name: String,
    source: sources::Text,
    /// Values that override the scenario's, as `key=value`.
    overrides: Vec<String>,
    plan: Plan,
    /// What the machines allow that its load runs on.
    room: Room,
    /// One per cell.
    sizings: Vec<Sizing>,
    /// Whether a running server may be on another machine.
    allow_remote: bool,
    /// Where the load hosts' clients are, by cell, once the hosts have been asked; empty without any.
    clients: Vec<Vec<IpAddr>>,
}

impl Chosen {
    /// Plans a scenario's trials, on this machine or on the hosts of a job.
    pub fn read(
        source: sources::Text,
        overrides: Vec<String>,
        allow_remote: bool,
        hosts: Option<&Hosts>,
    ) -> Result<Self> {
        let overrides = match hosts {
            Some(hosts) => job::fit(hosts, &source.source(), overrides)?,
            None => overrides,
        };
        let mut plan = sources::plan(&source, &overrides)?;
        rehearse::metrics_exist(&plan)?;
        if hosts.is_some() {
            job::replays_nothing(&plan)?;
        }
        plan.read_traces()?;
        let mut room = capacity::room()?;
        match hosts {
            Some(hosts) => {
                job::check(hosts, &plan)?;
                job::place(hosts, &mut plan);
                room = job::room(hosts, plan.whole.servers, room);
            }
            None => job::needs_none(&plan)?,
        }
        let sizings = size(&source.name, &plan, room)?;
        let (name, clients) = (plan.whole.name.clone(), Vec::new());
        Ok(Self { name, source, overrides, plan, room, sizings, allow_remote, clients })
    }

    fn source(&self) -> Source<'_> {
        self.source.source()
    }
}

/// Runs the command.
pub fn run(options: &cli::Run) -> Result<Ended> {
    job::lead(|hosts| run_on(options, hosts))
}

fn run_on(options: &cli::Run, hosts: Option<&Hosts>) -> Result<Ended> {
    let Recording { overrides, shorthands: of_load, allow_remote, .. } = &options.recording;
    let names =
        if options.scenarios.is_empty() { vec![sources::DEFAULT.to_owned()] } else { options.scenarios.clone() };
    if names.iter().filter(|name| *name == sources::STDIN).count() > 1 {
        anyhow::bail!(Usage(
            "standard input (`-`) can be read only once: name it once, or save it to a file".to_owned()
        ));
    }
    let given: Vec<Shorthand<'_>> = options.server.given().chain(of_load.given()).collect();
    let of_options = shorthands::settings(&given, overrides)?;
    let choose = |name: &String| {
        let (text, mut all) = (sources::text(name)?, overrides.all());
        shorthands::fit(&given, &text, &all)?;
        all.extend(of_options.iter().cloned());
        shorthands::as_typed(&given, overrides, Chosen::read(text, all, *allow_remote, hosts))
    };
    execute(names.iter().map(choose).collect::<Result<_>>()?, options.interleave, &options.recording, hosts)
}

/// Runs scenarios, one after the other or as one experiment, on this machine or on the hosts of a job.
pub(super) fn execute(
    mut chosen: Vec<Chosen>,
    interleave: bool,
    options: &cli::Recording,
    hosts: Option<&Hosts>,
) -> Result<Ended> {
    if interleave {
        interleave::prepare(&mut chosen)?;
    }
    // The scenarios of an experiment run together, others one after the other.
    let together = if interleave { chosen.len() } else { 1 };
    if options.dry_run && !options.quiet {
        let side = if hosts.is_some() { Side::Server } else { Side::Whole };
        chosen.chunks(together).try_for_each(|together| list(together, side))?;
    }
    chosen.iter().try_for_each(|chosen| programs::exist(&chosen.plan))?;
    let destinations = destinations(options.out.as_deref(), &chosen)?;
    let printed = Printed::of(options);
    // Lines of JSON would be drawn over.
    let over_screen = printed == Printed::Lines && prints_to_terminal();
    let plain = options.dry_run || over_screen || options.progress == cli::Progress::Plain;
    let kind = Kind::choose(options.quiet, plain);
    let interrupted = interrupt_flag()?;
    process::adopt_orphans().context("prctl(PR_SET_CHILD_SUBREAPER)")?;
    if let Some(words) = trial::sweep().words() {
        kind.note(terminal::prose(&words));
    }
    let patience = Patience::of(trial::SETUP_PATIENCE).unless(&interrupted);
    // Whatever will predictably fail does so before the first trial of the first scenario.
    let facts: Vec<NetworkFacts> = chosen
        .iter()
        .map(|chosen| rehearse::rehearse(chosen, options.force, hosts, (kind, patience)))
        .collect::<Result<_>>()?;
    if let Some(hosts) = hosts {
        chosen.iter_mut().try_for_each(|chosen| rehearse::on_hosts(chosen, options.force, hosts, (kind, patience)))?;
    }
    let all_networks = chosen.iter().flat_map(|chosen| chosen.plan.cells.iter().map(|cell| cell.scenario.network));
    let probe = trial::probe(&all_networks.collect::<Vec<_>>(), patience)?;
    let calibration = options.calibration.as_deref().map(|file| calibrate::remembered(file, &probe)).transpose()?;
    chosen
        .iter()
        .filter_map(|chosen| outline::too_few(&chosen.plan))
        .chain(chosen.chunks(together).flat_map(interleave::too_few))
        .chain(chosen.iter().flat_map(reasons::left_out))
        .for_each(|line| kind.note(terminal::prose(&line)));
    rehearse::warn_of_bounds(chosen.iter().map(|chosen| &chosen.plan), (&probe, hosts), kind);
    if options.verbose {
        for (chosen, facts) in chosen.iter().zip(&facts) {
            let lines = reasons::reasons(chosen, &facts.sysctls, &probe, hosts)?;
            lines.iter().for_each(|line| kind.note(terminal::prose(line)));
        }
    }
    if options.dry_run {
        return Ok(Ended::Done);
    }
    let mut folders = destinations.iter().map(Destination::make).collect::<Result<Vec<Folder>>>()?.into_iter();
    let experiment = interleave.then(host::unique_id).transpose().context("reading random/uuid")?;
    let host = |(chosen, facts): (&Chosen, _)| {
        let (launcher, all) = hosts.map(|hosts| hosts.for_record(chosen.plan.whole.servers)).unzip();
        Host {
            launcher,
            hosts: all.unwrap_or_default(),
            calibration: calibration.clone(),
            experiment: experiment.clone(),
            ..host::read(chosen.plan.whole.seed, &networks(&chosen.plan), facts, &probe)
        }
    };
    let machines: Vec<Host> = chosen.iter().zip(facts).map(host).collect();
    let mut ended = Ended::Done;
    let how = How { kind, printed, verbose: options.verbose };
    let mut following = &chosen[..];
    for (chosen, machines) in chosen.chunks(together).zip(machines.chunks(together)) {
        following = following.get(together..).unwrap_or_default();
        let folders = folders.by_ref().take(together);
        match run_together((chosen, following), folders, (machines, hosts), how, &interrupted)? {
            Ended::Interrupted => return Ok(Ended::Interrupted),
            flawed @ Ended::Flawed => ended = flawed,
            Ended::Done | Ended::Undecided => {}
        }
    }
    Ok(ended)
}

fn size(name: &str, plan: &Plan, room: Room) -> Result<Vec<Sizing>> {
    let sized = |cell: &Cell| load::size(&cell.scenario, room).with_context(|| format!("{name}: {}", cell.label()));
    plan.cells.iter().map(sized).collect()
}

/// Lists the trials of a scenario, or of several as one experiment, of which this machine has this side.
fn list(chosen: &[Chosen], side: Side) -> Result<()> {
    for Chosen { plan, sizings, .. } in chosen {
        say(terminal::row(&outline(plan, sizings), 2))?;
        // Where the load's network cannot even be rehearsed, what cannot run says so.
        for need in capacity::of_height(plan, sizings, side).unwrap_or_default() {
            let lacks = if need.is_met() { String::new() } else { format!(": not enough; {}", need.remedy) };
            say(terminal::row(&format!("needs {need}{lacks}"), 2))?;
        }
    }
    let plans: Vec<&Plan> = chosen.iter().map(|chosen| &chosen.plan).collect();
    if plans[0].whole.search.is_some() {
        // Later trials depend on the results of the first.
        say("cell")?;
        return say_all(plans[0].cells.iter().map(Cell::label));
    }
    let names = || chosen.iter().map(|chosen| chosen.name.len()).chain(["record".len()]);
    let width = if chosen.len() > 1 { names().max().unwrap_or(0) + 2 } else { 0 };
    let column = |name: &str| if width > 0 { format!("{name:<width$}") } else { String::new() };
    say(format_args!("{:>5}  {:>10}  {}cell", "trial", "repetition", column("record")))?;
    let start = "trial  repetition  ".len() + width;
    say_all(scenario::interleaved(&plans).into_iter().map(|(record, Trial { number, repetition, cell })| {
        let (record, cell) = (column(&chosen[record].name), plans[record].cells[cell].label());
        terminal::row(&format!("{number:>5}  {repetition:>10}  {record}{cell}"), start)
    }))
}

fn destinations(out: Option<&Path>, chosen: &[Chosen]) -> Result<Vec<Destination>> {
    // 2026-01-31T12:00:00Z without the characters that file systems and shells treat specially.
    let now = humantime::format_rfc3339_seconds(clock::wall()).to_string().replace(['-', ':'], "");
    let destinations: Vec<Destination> = chosen
        .iter()
        .map(|one| match out {
            None => Destination::new_below(Path::new("results"), format!("{now}-{}", one.name)),
            Some(out) if chosen.len() == 1 => Destination::named(out),
            Some(out) => Destination::below(out, one.name.clone()),
        })
        .collect();
    if let Some(i) = (1..destinations.len()).find(|&i| destinations[..i].contains(&destinations[i])) {
        anyhow::bail!(Usage(format!(
            "two scenarios are named \"{}\", so their records would share a folder: set `name` in one of them, or run both as \
             one experiment with --interleave",
            chosen[i].name
        )));
    }
    destinations.iter().try_for_each(|destination| destination.check(derived_files()))?;
    Ok(destinations)
}

/// Runs a scenario, or several as one experiment.
fn run_together(
    (chosen, following): (&[Chosen], &[Chosen]),
    folders: impl Iterator<Item = Folder>,
    (machines, hosts): (&[Host], Option<&Hosts>),
    how: How,
    interrupted: &AtomicBool,
) -> Result<Ended> {
    let record = |((chosen, folder), host): ((&Chosen, Folder), &Host)| {
        Writer::create(folder, derived_files(), &chosen.plan.effective, host)
    };
    let mut writers: Vec<Writer> = chosen.iter().zip(folders).zip(machines).map(record).collect::<Result<_>>()?;
    let mut runner =
        Runner::new((chosen, hosts), machines[0].stamps_allowed(), &mut writers, following, how, interrupted);
    let ended = match &chosen[0].plan.whole.search {
        Some(search) => runner.search(search),
        None => runner.planned(),
    };
    runner.finish();
    // Also after a failure: finished trials are summarized, whatever becomes of another record.
    let folders = || writers.iter().map(Writer::folder);
    let concluded: Vec<Result<()>> = writers.iter().map(|writer| conclude(writer, how.printed)).collect();
    // The first error counts: the later ones may be its consequences.
    let ended = ended?;
    concluded.into_iter().collect::<Result<()>>()?;
    if let ([base, new, ..], Printed::Report) = (&folders().collect::<Vec<_>>()[..], how.printed) {
        let (base, new) = (base.path().display(), new.path().display());
        say(format_args!("compare them: listenbench compare {base} {new}"))?;
    }
    Ok(ended)
}

/// The networks the cells use, by their names in the scenario.
fn networks(plan: &Plan) -> String {
    let used = |network: &Network| plan.cells.iter().any(|cell| cell.scenario.network == *network);
    let names: Vec<&str> = Network::iter().filter(used).map(Network::into).collect();
    names.join(" and ")
}

/// How a run tells of itself.
#[derive(Debug, Clone, Copy)]
struct How {
    /// Its progress, on standard error.
    kind: Kind,
    printed: Printed,
    /// Whether the progress says why.
    verbose: bool,
}

/// What goes to standard output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Printed {
    /// Each record's report and folder.
    Report,
    /// Each record's folder.
    Folder,
    /// Lines of JSON.
    Lines,
}

impl Printed {
    fn of(options: &Recording) -> Self {
        match (options.json, options.quiet) {
            (true, _) => Self::Lines,
            (false, true) => Self::Folder,
            (false, false) => Self::Report,
        }
    }
}

/// Summarizes the record from what is on disk.
fn conclude(writer: &Writer, printed: Printed) -> Result<()> {
    let (folder, path) = (writer.folder(), writer.folder().path().display());
    let reading = Reading::of(folder)?;
    let report = reading.report();
    let written = report.write(folder);
    let shown = match printed {
        Printed::Folder => say(&path),
        Printed::Lines => lines::summary(folder.path(), &report),
        Printed::Report => {
            let text = terminal::render(&report.document, terminal::width());
            say(text.trim_end()).and_then(|()| say(format_args!("record: {path}")))
        }
    };
    written?;
    shown.with_context(|| {
        format!("{path} has the record and its report, which cannot be shown; trials in it: {}", writer.kept())
    })
}
