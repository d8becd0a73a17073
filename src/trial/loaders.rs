//! The loaders of a load: forking them, hearing them, and their accounts. A trial and `listenbench load` use the same.

use std::{collections::BTreeMap, net::SocketAddr, os::fd::AsFd, sync::Arc, time::Duration};

use anyhow::{Context, Result, bail};
use hdrhistogram::Histogram;
use nix::poll::{PollFd, PollFlags, poll};

use super::gathered::LoaderAccount;
use crate::{
    ipc::{
        control::Control,
        ledger::Ledger,
        message::{self, Inbox},
    },
    load::{Loader, LoaderReport, Part, Waits, histogram},
    observe::stamps::Stamps,
    record::Exit,
    scenario::Scenario,
    sys::process::{self, Child},
};

/// Histograms by `w<worker>.<metric>`, `l<loader>.<metric>` and `f<fault>.<metric>`.
pub type Histograms = BTreeMap<String, Histogram<u64>>;

/// What all loaders of a load have in common.
#[derive(Clone, Copy)]
pub struct LoadJob<'a> {
    /// The cell's scenario.
    pub scenario: &'a Arc<Scenario>,
    /// Where to connect.
    pub target: SocketAddr,
    /// The port ledger; there is none for another program's server.
    pub ledger: Option<&'a Arc<Ledger>>,
    /// Where stamps of connections are, if there are any.
    pub stamps: Option<&'a Arc<Stamps>>,
    /// Which accept waits are recorded.
    pub waits: Waits,
    /// Seed of the schedule.
    pub seed: u64,
    /// Repetition, from 0.
    pub repetition: usize,
}

/// The forked loaders.
pub struct Loaders {
    members: Vec<Member>,
}

struct Member {
    child: Child,
    inbox: Inbox,
    ended: bool,
}

impl Loaders {
    /// Forks the loaders. They wait at the control block's barrier.
    pub fn fork(job: LoadJob<'_>, loaders: usize, control: &Arc<Control>) -> Result<Self> {
        let member = |number| {
            let loader = Loader {
                part: Part { loader: number, loaders },
                scenario: Arc::clone(job.scenario),
                target: job.target,
                seed: job.seed,
                repetition: job.repetition,
                control: Arc::clone(control),
                ledger: job.ledger.cloned(),
                stamps: job.stamps.cloned(),
                waits: job.waits,
            };
            let child = process::spawn(&format!("lb:loader{number}"), |pipe| {
                message::answer(pipe, |sender| {
                    let (report, measures) = loader.run()?;
                    for (name, histogram) in measures.named() {
                        sender.histogram(&name, &histogram)?;
                    }
                    sender.json(&report)
                })
            })
            .with_context(|| format!("forking loader {number}"))?;
            Ok(Member { child, inbox: Inbox::default(), ended: false })
        };
        Ok(Self { members: (0..loaders).map(member).collect::<Result<_>>()? })
    }

    /// How many there are.
    #[allow(clippy::len_without_is_empty, reason = "there is always at least one")]
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// The process ids.
    pub fn pids(&self) -> impl Iterator<Item = i32> {
        self.members.iter().map(|member| member.child.pid.as_raw())
    }

    /// Fails with the error of a loader that has ended, which none should before the barrier opens.
    pub fn check_setup(&mut self) -> Result<()> {
        for (number, member) in self.members.iter_mut().enumerate() {
            if let Some(exit) = process::ended(member.child.pid) {
                while let Ok(false) = member.inbox.read_from(&mut member.child.pipe) {}
                member.inbox.open::<LoaderReport>().with_context(|| format!("loader {number}"))?;
                bail!("loader {number} ended during set-up: {}", Exit::from(exit.status));
            }
        }
        Ok(())
    }

    /// Hears what the loaders say, for at most so long; true when all have ended.
    pub fn hear(&mut self, at_most: Duration) -> Result<bool> {
        let mut running: Vec<&mut Member> = self.members.iter_mut().filter(|member| !member.ended).collect();
        if running.is_empty() {
            return Ok(true);
        }
        let mut ready: Vec<PollFd<'_>> =
            running.iter().map(|member| PollFd::new(member.child.pipe.as_fd(), PollFlags::POLLIN)).collect();
        // A signal ends the wait early, with nothing readable.
        if poll(&mut ready, process::poll_timeout(at_most)).unwrap_or(0) == 0 {
            return Ok(false);
        }
        let readable: Vec<bool> = ready.iter().map(|fd| fd.any().unwrap_or(false)).collect();
        for (member, _) in running.iter_mut().zip(readable).filter(|(_, readable)| *readable) {
            member.ended = member.inbox.read_from(&mut member.child.pipe).context("reading a loader's pipe")?;
        }
        Ok(self.members.iter().all(|member| member.ended))
    }

    /// Kills those that have not ended.
    pub fn kill(&self) {
        for member in self.members.iter().filter(|member| !member.ended) {
            process::kill_now(member.child.pid);
        }
    }

    /// Their accounts and histograms, once all have ended.
    pub fn accounts(self) -> Result<(Vec<LoaderAccount>, Histograms)> {
        let mut histograms = Histograms::new();
        let accounts = self
            .members
            .into_iter()
            .enumerate()
            .map(|(number, member)| member.account(number, &mut histograms))
            .collect::<Result<_>>()?;
        Ok((accounts, histograms))
    }
}

impl Member {
    /// Its account; its accept waits are added to those of the worker, whoever measured them.
    fn account(self, number: usize, histograms: &mut Histograms) -> Result<LoaderAccount> {
        let exit = Exit::from(process::wait(self.child.pid).status);
        let pid = self.child.pid.as_raw();
        let message = match self.inbox.open::<LoaderReport>() {
            Ok(Some(message)) => message,
            Ok(None) => return Ok(LoaderAccount { pid, exit, report: None }),
            Err(error) => return Ok(LoaderAccount { pid, exit: Exit::Other(format!("{error:#}")), report: None }),
        };
        for (name, part) in message.histograms {
            // What is of a worker or of a fault, whichever loader measured it, has its name already.
            let name = if name.contains('.') { name } else { format!("l{number}.{name}") };
            histograms.entry(name).or_insert_with(histogram).add(&part).context("merging histograms")?;
        }
        Ok(LoaderAccount { pid, exit, report: Some(message.report) })
    }
}
