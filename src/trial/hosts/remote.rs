//! Trials whose server is not on rank 0's host: rank 0 asks the server's to conduct them, and gets the record.

use std::{
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail};

use super::{Hosts, Order, Task, Word};
use crate::{
    format,
    hosts::{Agent, Broken, Frame, Guest},
    ipc::{
        control::Recording,
        family::{Cut, Patience},
    },
    json,
    record::{Exit, HostFacts, HostRole, HostRow, TrialRecord},
    scenario::{Plan, UnderTest},
    trial::{self, GRACE, INTERRUPTED_GRACE, Job, Outcome, loaders::Histograms, process::SETUP_PATIENCE},
};

/// Bytes of a record that a message carries; as JSON in JSON, they may take twice as many.
const PART: usize = 256 << 10;
/// How often rank 0 looks whether the user has interrupted the run.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Has the host with the cell's server conduct a trial. Never fails: a host that cannot, or is lost, makes the trial fail.
pub fn have_conducted(job: Job<'_>, hosts: &Hosts, interrupted: &AtomicBool) -> Outcome {
    let rank = job.cell().scenario.server_host;
    let mut team = hosts.team.borrow_mut();
    let (servers, loads) = {
        let first = Hosts::first_of_loads(&team.guests, job.plan.whole.servers);
        team.guests.split_at_mut(first)
    };
    let Some(server) = servers.iter_mut().find(|guest| guest.rank == rank) else {
        return trial::not_run(job, &anyhow!("the job has no rank {rank}"));
    };
    let begun = Instant::now();
    ask(job, server, loads, interrupted).unwrap_or_else(|error| {
        let name = server.facts.name.clone();
        let lost = error.is::<Broken>().then(|| HostRow {
            rank,
            name: name.clone(),
            role: HostRole::Server,
            lost_after_s: Some(begun.elapsed().as_secs_f64()),
            exit: Exit::Other(format::causes(&error)),
            ..HostRow::default()
        });
        let mut outcome = trial::not_run(job, &error.context(format!("{name} (rank {rank})")));
        outcome.record.hosts.extend(lost);
        outcome
    })
}

fn ask(job: Job<'_>, server: &mut Guest, loads: &mut [Guest], interrupted: &AtomicBool) -> Result<Outcome> {
    let guests = loads.iter().map(|guest| guest.rank).collect();
    let records = job.recording == Recording::On;
    let task = Task { guests, ..Task::of(job, records, (0, server.rank)) };
    server.link.send(&Order::Conduct(Box::new(task)))?;
    let card = match server.link.receive(Patience::of(SETUP_PATIENCE))? {
        Frame::Value(Word::Card(card)) => card,
        Frame::Value(Word::Failed(why)) => bail!(why),
        other => bail!("it said {other:?} when it was to conduct a trial"),
    };
    for guest in loads {
        // The server's host says who has not come.
        let _ = guest.link.send(&Order::Visit(card.clone()));
    }
    let scenario = &job.cell().scenario;
    let ready_within = 2 * SETUP_PATIENCE
        + if let UnderTest::Command(command) = &scenario.subject { command.ready_within } else { Duration::ZERO };
    let mut patience = ready_within + scenario.deadline + 2 * GRACE;
    let (mut since, mut told) = (Instant::now(), false);
    let (mut record, mut histograms) = (String::new(), Histograms::new());
    loop {
        if interrupted.load(Relaxed) && !told {
            server.link.send(&Order::EndEarly)?;
            (since, told, patience) = (Instant::now(), true, 2 * INTERRUPTED_GRACE);
        }
        match server.link.receive(Patience::of(LOOK_AGAIN)) {
            Ok(Frame::Value(Word::Record(part))) => record.push_str(&part),
            Ok(Frame::Histogram(name, histogram)) => drop(histograms.insert(name, histogram)),
            Ok(Frame::Value(Word::Conducted { output, in_step })) => {
                let record: TrialRecord = json::read(record.as_bytes()).context("reading its record")?;
                return Ok(Outcome { record, histograms, output, in_step });
            }
            Ok(Frame::Value(Word::Failed(why))) => bail!(why),
            Ok(Frame::Value(word)) => bail!("it said {word:?} while it conducted a trial"),
            Err(Broken::Cut(Cut::TooLong(_))) if since.elapsed() < patience => {}
            Err(broken) => return Err(broken.into()),
        }
    }
}

/// Conducts a trial for rank 0, as the host that `here` describes. Fails if rank 0 cannot be told of it.
pub fn conduct(
    agent: &mut Agent,
    here: HostFacts,
    (plan, task): (&Plan, &Task),
    interrupted: &AtomicBool,
) -> Result<()> {
    match conducted(agent, here, (plan, task), interrupted) {
        Ok(Outcome { record, histograms, output, in_step }) => {
            let record = json::line(&record)?;
            for part in parts(&record, PART) {
                agent.link.send(&Word::Record(part.to_owned()))?;
            }
            for (name, histogram) in &histograms {
                agent.link.send_histogram(name, histogram)?;
            }
            agent.link.send(&Word::Conducted { output, in_step })
        }
        Err(error) => agent.link.send(&Word::Failed(format::causes(&error))),
    }
}

fn conducted(
    agent: &mut Agent,
    here: HostFacts,
    (plan, task): (&Plan, &Task),
    interrupted: &AtomicBool,
) -> Result<Outcome> {
    let invite = |link: &mut crate::hosts::Link, card| link.send(&Word::Card(card));
    let team = agent.lead(&task.guests, Patience::of(SETUP_PATIENCE).unless(interrupted), invite)?;
    let hosts = Hosts::new(here, team);
    let mut plan = plan.clone();
    plan.cells.get_mut(task.cell).context("the scenario has no such cell")?.scenario.address = task.address;
    let mut role = hosts.role(&task.clients);
    role.job = &task.job;
    let job = task.job(&plan, role, Some(&hosts));
    let early = AtomicBool::new(false);
    let outcome = trial::run(job, &early, &mut |_| {
        // Whatever rank 0 says meanwhile asks for the end, and so does its silence for good.
        let is_quiet = matches!(agent.link.try_receive::<Order>(), Ok(None));
        if !is_quiet || interrupted.load(Relaxed) {
            early.store(true, Relaxed);
        }
    })?;
    for guest in &mut hosts.team.borrow_mut().guests {
        // Whoever does not hear it has lost the connection, and goes back to rank 0 by itself.
        let _ = guest.link.send(&Order::Over);
    }
    Ok(outcome)
}

/// A text in parts of at most so many bytes, none of which cuts a character.
fn parts(text: &str, most: usize) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let end = (0..=most.min(rest.len())).rev().find(|at| rest.is_char_boundary(*at))?;
        let (part, others) = rest.split_at(end);
        rest = others;
        (!part.is_empty()).then_some(part)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_travels_in_parts_that_cut_no_character() {
        assert_eq!(parts("abcdéfg", 5).collect::<Vec<_>>(), ["abcd", "éfg"]);
        assert_eq!(parts("abcdéfg", 6).collect::<Vec<_>>(), ["abcdé", "fg"]);
        assert_eq!(parts("abc", 3).collect::<Vec<_>>(), ["abc"]);
        assert_eq!(parts("", 3).count(), 0);
    }
}
