//! Runs trials in sequence, as planned or as a search chooses them, and records each as it ends.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use rand::{SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;

use super::{
    Chosen, How, Printed, job, lines,
    outline::{outline, planned_length},
    size,
};
use crate::{
    commands::Ended,
    context::Role,
    ipc::{control::Recording, draws::Seen},
    live::{Expected, Progress, Trials},
    load::Sizing,
    record::{Outcome, TrialRecord, Writer},
    report::terminal,
    scenario::{self, Network, Plan, Search, Stop, Trial, Until, Whole},
    stats::{
        self, Looks, Record,
        search::{self, Goal, Next},
    },
    trial::{self, Job, Place, hosts::Hosts},
};

/// Runs the trials of a scenario, or of several as one experiment.
pub(super) struct Runner<'a> {
    chosen: &'a [Chosen],
    /// The hosts that share the trials; `None` if this one does it all.
    hosts: Option<&'a Hosts>,
    /// One per scenario.
    writers: &'a mut [Writer],
    interrupted: &'a AtomicBool,
    stamps_allowed: bool,
    progress: Progress<'a>,
    printed: Printed,
    flawed: bool,
    /// By record and cell, the client ends of its trials so far, where they share the machine's own network.
    seen: BTreeMap<(usize, usize), Seen>,
}

impl<'a> Runner<'a> {
    pub(super) fn new(
        (chosen, hosts): (&'a [Chosen], Option<&'a Hosts>),
        stamps_allowed: bool,
        writers: &'a mut [Writer],
        following: &'a [Chosen],
        how: How,
        interrupted: &'a AtomicBool,
    ) -> Self {
        let How { kind, printed, verbose } = how;
        let outlines: Vec<String> =
            chosen.iter().map(|chosen| terminal::prose(&outline(&chosen.plan, &chosen.sizings))).collect();
        let progress = Progress::start((kind, verbose), &outlines.join("\n"), expected(chosen, following), interrupted);
        Self {
            chosen,
            hosts,
            writers,
            interrupted,
            stamps_allowed,
            progress,
            printed,
            flawed: false,
            seen: BTreeMap::new(),
        }
    }

    /// Runs the planned trials, or with `[stop]` until enough is known. Blocks stay whole: a cell that is decided is repeated while another is
    /// not, so that all are compared over the same stretches of time.
    pub(super) fn planned(&mut self) -> Result<Ended> {
        let chosen = self.chosen;
        let plans: Vec<&Plan> = chosen.iter().map(|chosen| &chosen.plan).collect();
        let order: Vec<(usize, (usize, Trial))> = scenario::interleaved(&plans).into_iter().enumerate().collect();
        for block in order.chunk_by(|(_, (_, one)), (_, (_, other))| one.repetition == other.repetition) {
            let (_, (_, first)) = block[0];
            if self.is_enough(&plans[0].whole, first.repetition)? {
                break;
            }
            for (number, (record, trial)) in block {
                let Chosen { name, plan, sizings, .. } = &chosen[*record];
                let place = (chosen.len() > 1).then_some(Place { record: name, number: *number });
                self.trial(*record, Job { place, ..self.job(plan, *trial, &sizings[trial.cell]) })?;
                if self.is_interrupted() {
                    return Ok(Ended::Interrupted);
                }
            }
        }
        Ok(self.ended())
    }

    /// Searches all cells in turn, one trial each, so that drift of the machine affects all of them alike.
    pub(super) fn search(&mut self, search: &Search) -> Result<Ended> {
        let chosen = &self.chosen[0];
        let goal = Goal::of(search, chosen.plan.whole.repetitions, &chosen.plan.populations())
            .map_err(|(key, problem)| chosen.plan.wrong(key, problem))?;
        let first = chosen.plan.search_from.unwrap_or(1.0);
        let mut rng = ChaCha8Rng::seed_from_u64(chosen.plan.whole.seed);
        let mut number = 0;
        for round in 0.. {
            let record = Record::read(self.writers[0].folder())?;
            let next = |cell| match search::next(&goal, first, &search::attempts(&goal, &record.trials, cell)) {
                Next::Try(value) => Some((cell, value)),
                Next::Done(_) => None,
            };
            let mut wanted: Vec<(usize, f64)> = (0..chosen.plan.cells.len()).filter_map(next).collect();
            if wanted.is_empty() {
                break;
            }
            wanted.shuffle(&mut rng);
            for (cell, value) in wanted {
                let mut plan = Plan::read_at(&chosen.source(), &chosen.overrides, search, value)?;
                plan.read_traces()?;
                if let Some(hosts) = self.hosts {
                    job::place(hosts, &mut plan);
                }
                let sizing = &size(&chosen.source.name, &plan, chosen.room)?[cell];
                let job = self.job(&plan, Trial { number, repetition: round, cell }, sizing);
                self.trial(0, Job { searched: Some(value), ..job })?;
                number += 1;
                if self.is_interrupted() {
                    return Ok(Ended::Interrupted);
                }
            }
        }
        Ok(self.ended())
    }

    fn job<'b>(&self, plan: &'b Plan, trial: Trial, sizing: &'b Sizing) -> Job<'b>
    where
        'a: 'b,
    {
        let (stamps_allowed, recording) = (self.stamps_allowed, Recording::On);
        Job {
            plan,
            trial,
            sizing,
            searched: None,
            stamps_allowed,
            recording,
            place: None,
            seen: None,
            allow_remote: false,
            role: Role::default(),
            hosts: self.hosts,
        }
    }

    /// Runs a trial of one of the records.
    fn trial(&mut self, record: usize, job: Job<'_>) -> Result<()> {
        let cell = job.trial.cell;
        let scenario = &job.plan.cells[cell].scenario;
        let role = match self.hosts {
            Some(hosts) => hosts.role(&self.chosen[record].clients[cell]),
            None => Role::default(),
        };
        let seen =
            match self.seen.entry((record, cell)) {
                _ if scenario.network != Network::Host => None,
                Entry::Occupied(seen) => Some(&*seen.into_mut()),
                Entry::Vacant(place) => Some(&*place.insert(
                    Seen::new(role.places(&scenario.sources().addresses).len()).context("mapping shared memory")?,
                )),
            };
        let job = Job { seen, allow_remote: self.chosen[record].allow_remote, role, ..job };
        let before: usize = self.chosen[..record].iter().map(|chosen| chosen.plan.cells.len()).sum();
        self.progress.begin(job, before + cell);
        let outcome = match self.hosts {
            Some(hosts) if scenario.server_host > 0 => trial::hosts::have_conducted(job, hosts, self.interrupted),
            _ => trial::run(job, self.interrupted, &mut |view| self.progress.tick(job, view))?,
        };
        let output = outcome.output.filter(|output| !output.is_empty());
        let ended = self.writers[record].trial(outcome.record, &outcome.histograms, output.as_deref())?;
        self.progress.end(job, &ended);
        if self.printed == Printed::Lines {
            lines::trial(self.writers[record].folder().path(), &ended)?;
        }
        self.flawed |= ended.outcome != Outcome::Valid;
        match self.hosts {
            Some(hosts) if !outcome.in_step => self.resume(hosts, &ended),
            _ => Ok(()),
        }
    }

    /// Has the load hosts go on after a trial that did not end as it should have. Fails if one of them is lost: later trials would have
    /// another load.
    fn resume(&self, hosts: &Hosts, ended: &TrialRecord) -> Result<()> {
        let lost = ended.hosts.iter().find(|host| host.lost_after_s.is_some());
        match lost {
            // Whoever interrupts the run may have ended other hosts, too: the record comes first.
            _ if self.is_interrupted() => {
                hosts.in_step.set(false);
                Ok(())
            }
            Some(host) => bail!("lost {host}, so the run stopped: {}", host.exit),
            None => job::restore(hosts),
        }
    }

    /// Whether after so many repetitions the only record's trials show what `[stop]` asks.
    fn is_enough(&self, whole: &Whole, repetitions: usize) -> Result<bool> {
        let Some(Stop { until, .. }) = whole.stop else { return Ok(false) };
        let is_look = match until {
            Until::Decided(_) => Looks::of(whole).after().contains(&repetitions),
            Until::Precise(_) => repetitions >= whole.repetitions,
        };
        if !is_look {
            return Ok(false);
        }
        let summary = stats::summarize(&Record::read(self.writers[0].folder())?);
        Ok(match until {
            Until::Decided(_) => summary.decision.is_some_and(|decision| decision.is_over()),
            Until::Precise(_) => summary.precision.is_some_and(|precision| precision.narrow),
        })
    }

    fn is_interrupted(&self) -> bool {
        self.interrupted.load(Relaxed)
    }

    fn ended(&self) -> Ended {
        if self.flawed { Ended::Flawed } else { Ended::Done }
    }

    pub(super) fn finish(self) {
        self.progress.finish();
    }
}

/// How many trials to expect, and how long they take.
fn expected(chosen: &[Chosen], following: &[Chosen]) -> Expected {
    let whole = &chosen[0].plan.whole;
    let of_cell = |plan: &Plan, number: usize| match &whole.search {
        Some(search) => search.max_trials,
        None => plan.trials.iter().filter(|trial| trial.cell == number).count(),
    };
    let of_plan = |chosen: &Chosen| -> Vec<_> {
        let plan = &chosen.plan;
        let cells = plan.cells.iter().enumerate();
        cells.map(|(number, cell)| (of_cell(plan, number), cell.scenario.expected_length())).collect()
    };
    Expected {
        trials: if whole.search.is_some() || whole.stop.is_some() { Trials::AtMost } else { Trials::Exactly },
        cells: chosen.iter().flat_map(of_plan).collect(),
        following: following
            .iter()
            .map(|one| planned_length(&one.plan, &one.plan.trials))
            .sum::<Option<Duration>>()
            .filter(|_| !following.is_empty()),
    }
}
