//! The conductor's side of a trial over several hosts: it sets the load hosts to work, hears what they count, and gathers what they
//! measured.

use std::{
    cell::RefMut,
    collections::BTreeSet,
    os::fd::AsFd,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use nix::poll::{PollFd, PollFlags, poll};

use super::{Figures, Hosts, Order, Task, Word, progress_every, untagged, watched::Watched};
use crate::{
    context::TrialContext,
    hosts::{Broken, Frame, Guest, Team, clock as clocks, clock::Offset},
    ipc::{
        control::{Control, Window},
        family::{Cut, Patience},
    },
    load::{Dead, LoaderReport, Sizing},
    record::{Counts, ErrorCount, Exit, Gather, HostRole, HostRow},
    scenario::Load,
    sys::{
        clock,
        process::{self, poll_timeout},
    },
    trial::{
        Job,
        ceiling::Ceiling,
        loaders::{Left, LoaderAccount},
    },
};

/// How long a host may take to answer a question for the time, and to send the next part of its results.
const ANSWER_PATIENCE: Duration = Duration::from_secs(10);
/// How long a host under load may say nothing, beside the time between what it counts and what it counts next.
const SILENCE: Duration = Duration::from_secs(10);
/// How often to look whether the server still runs while hosts set themselves up.
const LOOK_AGAIN: Duration = Duration::from_millis(10);
/// How many hosts send their results at once: what has arrived of them is held in memory until the last of it has.
const REPORTING: usize = 16;

/// Conducts the load hosts of a trial.
pub struct Conductor<'a> {
    team: RefMut<'a, Team>,
    /// The place of the first load host among them; servers come before.
    first: usize,
    hosts: Vec<LoadHost>,
    context: TrialContext,
    sizing: &'a Sizing,
    left: Left,
    gather: Gather,
    /// Whether the hosts have been told to end early.
    told: bool,
}

/// How far a load host has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
enum Stage {
    #[default]
    SettingUp,
    Ready,
    Loading,
    /// Its load has ended.
    Ended,
    /// It has sent all that it has.
    Done,
}

/// What is known of a load host.
#[derive(Debug, Default)]
pub(super) struct LoadHost {
    stage: Stage,
    /// When it was lost, by this host's clock, and how.
    lost: Option<(u64, String)>,
    /// Why it ended its load early, if nobody here asked for that.
    early: Option<String>,
    /// Its loaders' processes.
    pids: Vec<i32>,
    /// How far its clock is ahead, before the trial and after it.
    pub before: Option<Offset>,
    pub after: Option<Offset>,
    /// What each of its loaders had counted by its latest progress.
    figures: Vec<Figures>,
    pub watched: Option<Watched>,
    accounts: Vec<LoaderAccount>,
    /// Histograms that have arrived, by population and name.
    histograms: Vec<(usize, String, Counts)>,
    /// What its ports sustain.
    ceiling: Option<Ceiling>,
    /// When it last sent anything: of its load, then of its results.
    heard: Option<Instant>,
    /// Bytes that its link had carried before the trial, and for the trial.
    bytes_before: u64,
    pub bytes: u64,
}

/// A host that was lost during a trial.
#[derive(Debug, Clone, PartialEq)]
pub struct LostHost {
    pub rank: usize,
    /// How, as a clause: `its connection was reset`.
    pub how: String,
    /// Seconds from the trial's start.
    pub after_s: f64,
}

/// What the hosts leave besides their accounts and histograms.
pub struct Heard {
    /// The place of the first of the hosts in the team.
    pub(super) first: usize,
    pub(super) hosts: Vec<LoadHost>,
    pub(in crate::trial) lost: Vec<LostHost>,
    pub(super) gather: Gather,
    /// What the ports of all hosts sustain; `None` without any.
    pub(in crate::trial) ceiling: Option<Ceiling>,
}

impl LoadHost {
    /// Whether it was lost.
    pub(super) fn is_lost(&self) -> bool {
        self.lost.is_some()
    }

    /// Whether it can be spoken to.
    fn is_there(&self) -> bool {
        self.lost.is_none()
    }

    /// Whether its load goes on, as far as is known.
    fn is_loading(&self) -> bool {
        self.is_there() && self.stage < Stage::Ended
    }
}

impl<'a> Conductor<'a> {
    /// Sets the hosts to work on their parts of a trial.
    pub fn begin(job: Job<'a>, mut team: RefMut<'a, Team>, context: &TrialContext) -> Result<Self> {
        let sizing = job.sizing;
        let mut hosts = Vec::with_capacity(team.guests.len());
        let first = Hosts::first_of_loads(&team.guests, job.plan.whole.servers);
        for (host, guest) in team.guests[first..].iter_mut().enumerate() {
            let bytes_before = guest.link.bytes_sent() + guest.link.bytes_received();
            let task = Task::of(job, context.control.records(), (host, guest.rank));
            let asked = guest.link.send(&Order::SetUp(Box::new(task)));
            asked.with_context(|| format!("{} (rank {})", guest.facts.name, guest.rank))?;
            hosts.push(LoadHost { bytes_before, ..LoadHost::default() });
        }
        let (context, left) = (context.clone(), Left::nothing(&context.scenario));
        Ok(Self { team, first, hosts, context, sizing, left, gather: Gather::default(), told: false })
    }

    /// Waits until the loaders of all hosts wait for the start, and estimates how far their clocks are ahead. `check` fails if the server
    /// has ended.
    pub fn await_ready(&mut self, patience: Patience<'_>, mut check: impl FnMut() -> Result<()>) -> Result<()> {
        let wait = patience.begin();
        while self.hosts.iter().any(|host| host.stage == Stage::SettingUp) {
            self.hear(LOOK_AGAIN)?;
            self.all_there()?;
            check()?;
            let late = || self.named(|host| host.stage == Stage::SettingUp).join(", ");
            if let Err(cut) = wait.check() {
                let waited = format!("waiting for {}", late());
                for number in 0..self.hosts.len() {
                    if self.hosts[number].stage == Stage::SettingUp {
                        self.lose(number, format!("it was not ready: {cut}"));
                    }
                }
                return Err(cut).context(waited);
            }
        }
        self.estimate(|host| &mut host.before);
        self.all_there()
    }

    /// How long before the start the hosts have to be told.
    pub fn start_ahead_ns(&self) -> u64 {
        100_000_000 + 2_000_000 * self.hosts.len() as u64
    }

    /// Tells the hosts when to start.
    pub fn start(&mut self, window: Window) {
        for number in 0..self.hosts.len() {
            let ahead_ns = self.hosts[number].before.map_or(0, |offset| offset.offset_ns);
            // Before it is told: if it is lost by then, its load is missing from the start.
            self.hosts[number].stage = Stage::Loading;
            self.hosts[number].heard = Some(Instant::now());
            self.tell(number, &Order::Start { window, ahead_ns });
        }
    }

    /// Hears the hosts, for no longer than `at_most`. Returns true once their load has ended everywhere.
    pub fn drain(&mut self, at_most: Duration) -> Result<bool> {
        self.hear(at_most)?;
        let silence = progress_every(self.hosts.len()) + SILENCE;
        for number in 0..self.hosts.len() {
            let host = &self.hosts[number];
            if host.is_loading() && host.heard.is_some_and(|heard| heard.elapsed() > silence) {
                self.lose(number, format!("it said nothing for {SILENCE:?}"));
            }
        }
        if self.context.control.interrupted_ns().is_some() && !self.told {
            self.told = true;
            (0..self.hosts.len()).for_each(|number| self.tell(number, &Order::EndEarly));
        }
        Ok(!self.hosts.iter().any(LoadHost::is_loading))
    }

    /// Gives up the hosts whose load has not ended.
    pub fn give_up(&mut self) {
        for number in 0..self.hosts.len() {
            if self.hosts[number].is_loading() {
                self.lose(number, "its load did not end when it should have".to_owned());
            }
        }
    }

    /// Gathers what the hosts measured. What a lost host would have done is lost.
    pub fn finish(mut self, window: Window) -> Result<(Left, Heard)> {
        self.hosts.iter_mut().for_each(|host| host.heard = None);
        self.estimate(|host| &mut host.after);
        let begun = Instant::now();
        self.gather()?;
        self.gather.gather_ns = clock::nanoseconds(begun.elapsed());
        let interrupted_ns = self.context.control.interrupted_ns();
        for (host, guest) in self.hosts.iter_mut().zip(&self.team.guests[self.first..]) {
            let carried = guest.link.bytes_sent() + guest.link.bytes_received();
            host.bytes = carried - host.bytes_before;
            self.gather.bytes += host.bytes;
        }
        for number in 0..self.hosts.len() {
            let accounts = match &self.hosts[number].lost {
                None => std::mem::take(&mut self.hosts[number].accounts),
                Some((_, how)) => self.accounts_of_lost(number, how, (window, interrupted_ns))?,
            };
            self.left.accounts.extend(accounts);
        }
        let since_start_s = |at_ns: u64| at_ns.saturating_sub(window.start_ns) as f64 / 1e9;
        let lost = self.pairs().filter_map(|(host, guest)| {
            let (at_ns, how) = match (&host.lost, &host.early) {
                (Some((at_ns, how)), _) => (*at_ns, how.clone()),
                (None, Some(why)) => (interrupted_ns?, why.clone()),
                (None, None) => return None,
            };
            Some(LostHost { rank: guest.rank, how, after_s: since_start_s(at_ns) })
        });
        let lost = lost.collect();
        self.gather.peak_memory_bytes = process::peak_resident_bytes();
        // Hosts that share an address share its ports.
        let mut known = BTreeSet::new();
        let with_ports = self.pairs().filter(|(_, guest)| known.insert(guest.link.peer().ip()));
        let ceiling = Ceiling::of_hosts(with_ports.filter_map(|(host, _)| host.ceiling));
        Ok((self.left, Heard { first: self.first, hosts: self.hosts, lost, gather: self.gather, ceiling }))
    }

    /// Asks for results, of a few hosts at a time.
    fn gather(&mut self) -> Result<()> {
        let mut next = 0;
        loop {
            let reporting = |host: &LoadHost| host.is_there() && host.heard.is_some() && host.stage < Stage::Done;
            while next < self.hosts.len() && self.hosts.iter().filter(|host| reporting(host)).count() < REPORTING {
                if self.hosts[next].is_there() {
                    self.tell(next, &Order::Report);
                    self.hosts[next].heard = Some(Instant::now());
                }
                next += 1;
            }
            if !self.hosts.iter().any(reporting) {
                if next == self.hosts.len() {
                    return Ok(());
                }
                continue;
            }
            self.hear(LOOK_AGAIN)?;
            for number in 0..self.hosts.len() {
                let host = &self.hosts[number];
                if reporting(host) && host.heard.is_some_and(|heard| heard.elapsed() > ANSWER_PATIENCE) {
                    self.lose(number, format!("it sent nothing of its results for {ANSWER_PATIENCE:?}"));
                }
            }
        }
    }

    /// Estimates the offsets of all hosts that are there.
    fn estimate(&mut self, place: impl Fn(&mut LoadHost) -> &mut Option<Offset>) {
        for number in 0..self.hosts.len() {
            if !self.hosts[number].is_there() {
                continue;
            }
            let link = &mut self.team.guests[self.first + number].link;
            match clocks::estimate(link, Patience::of(ANSWER_PATIENCE)) {
                Ok(offset) => *place(&mut self.hosts[number]) = Some(offset),
                Err(broken) => self.lose(number, described(&broken)),
            }
        }
    }

    /// Waits for words of any host, and takes them in.
    fn hear(&mut self, at_most: Duration) -> Result<()> {
        let there = self.hosts.iter().enumerate().filter(|(_, host)| host.is_there() && host.stage < Stage::Done);
        let there: Vec<usize> = there.map(|(number, _)| number).collect();
        let guests = &self.team.guests[self.first..];
        let mut fds: Vec<PollFd<'_>> =
            there.iter().map(|number| PollFd::new(guests[*number].link.as_fd(), PollFlags::POLLIN)).collect();
        if poll(&mut fds, poll_timeout(at_most)).unwrap_or(0) == 0 {
            return Ok(());
        }
        let readable = fds.iter().map(|fd| fd.any().unwrap_or(false)).collect::<Vec<_>>();
        for (number, _) in there.into_iter().zip(readable).filter(|(_, readable)| *readable) {
            while self.hosts[number].is_there() && self.hosts[number].stage < Stage::Done {
                match self.team.guests[self.first + number].link.try_receive::<Word>() {
                    Ok(None) => break,
                    Ok(Some(frame)) => self.take(number, frame)?,
                    Err(broken) => self.lose(number, described(&broken)),
                }
            }
        }
        Ok(())
    }

    fn take(&mut self, number: usize, frame: Frame<Word>) -> Result<()> {
        let host = &mut self.hosts[number];
        host.heard = host.heard.map(|_| Instant::now());
        match frame {
            Frame::Histogram(tag, histogram) => match untagged(&tag) {
                Some((load, name)) if load < self.left.of_loads.len() => {
                    host.histograms.push((load, name.to_owned(), histogram));
                }
                _ => self.lose(number, format!("it sent a histogram called {tag}")),
            },
            Frame::Value(Word::Ready(pids, ceiling)) if host.stage == Stage::SettingUp => {
                host.stage = Stage::Ready;
                host.pids = pids;
                host.ceiling = Some(ceiling);
            }
            Frame::Value(Word::Progress(figures)) if host.stage == Stage::Loading => {
                host.figures = figures;
                show(&self.context.control, number, &host.figures);
            }
            Frame::Value(Word::Ended { early }) if host.stage == Stage::Loading => {
                host.stage = Stage::Ended;
                if early.is_some() {
                    host.early = early;
                    self.context.control.interrupt();
                }
            }
            Frame::Value(Word::Watched(watched)) => host.watched = Some(*watched),
            Frame::Value(Word::Account(account)) => host.accounts.push(*account),
            Frame::Value(Word::Ports(address, ports)) => {
                if let Some(ledger) = &self.context.ledger {
                    for (port, word) in ports {
                        ledger.add_established((address, port).into(), word)?;
                    }
                }
            }
            Frame::Value(Word::Done) => {
                host.stage = Stage::Done;
                let begun = Instant::now();
                for (load, name, part) in std::mem::take(&mut host.histograms) {
                    self.left.add(&self.context.scenario, load, &name, &part);
                }
                self.gather.merge_ns += clock::nanoseconds(begun.elapsed());
            }
            // A host that cannot do its part may be able to do another.
            Frame::Value(Word::Failed(why)) if host.stage < Stage::Loading => {
                let Guest { rank, facts, .. } = &self.team.guests[self.first + number];
                bail!("{} (rank {rank}): {why}", facts.name);
            }
            Frame::Value(Word::Failed(why)) => self.lose(number, why),
            Frame::Value(word) => self.lose(number, format!("it said {word:?} at the wrong time")),
        }
        Ok(())
    }

    /// Tells a host something, if it is there.
    fn tell(&mut self, number: usize, order: &Order) {
        if self.hosts[number].is_there()
            && let Err(error) = self.team.guests[self.first + number].link.send(order)
        {
            self.lose(number, format!("{error:#}"));
        }
    }

    /// A host is lost. The load is not what it was to be any more, so that the others end it.
    fn lose(&mut self, number: usize, how: String) {
        self.hosts[number].lost = Some((clock::monotonic_ns(), how));
        self.hosts[number].histograms.clear();
        if self.hosts[number].stage == Stage::Loading {
            self.context.control.interrupt();
        }
    }

    /// The load hosts, with what is known of each. The team's first guests may be server hosts.
    fn pairs(&self) -> impl Iterator<Item = (&LoadHost, &Guest)> {
        self.hosts.iter().zip(&self.team.guests[self.first..])
    }

    /// Fails if a host has been lost.
    fn all_there(&self) -> Result<()> {
        for (host, guest) in self.pairs() {
            if let Some((_, how)) = &host.lost {
                bail!("{} (rank {}): {how}", guest.facts.name, guest.rank);
            }
        }
        Ok(())
    }

    /// The rows of the hosts that were lost before the load began.
    pub fn lost_before_start(&self) -> Vec<HostRow> {
        let row = |(host, guest): (&LoadHost, &Guest)| {
            let (_, how) = host.lost.as_ref()?;
            Some(HostRow {
                rank: guest.rank,
                name: guest.facts.name.clone(),
                role: HostRole::Load,
                lost_after_s: Some(0.0),
                exit: Exit::Other(how.clone()),
                ..HostRow::default()
            })
        };
        self.pairs().filter_map(row).collect()
    }

    /// The names of some hosts.
    fn named(&self, which: impl Fn(&LoadHost) -> bool) -> Vec<String> {
        let named = self.pairs().filter(|(host, _)| which(host));
        named.map(|(_, guest)| format!("{} (rank {})", guest.facts.name, guest.rank)).collect()
    }

    /// The accounts of a lost host's loaders: what they had counted when it was last heard, and what would have been due of them.
    fn accounts_of_lost(
        &self,
        number: usize,
        how: &str,
        (window, interrupted_ns): (Window, Option<u64>),
    ) -> Result<Vec<LoaderAccount>> {
        let TrialContext { scenario, seed, repetition, .. } = &self.context;
        let host = &self.hosts[number];
        let ahead_ns = host.before.map_or(0, |offset| offset.offset_ns);
        let nothing = Figures::default();
        let account = |(loader, (load, part))| {
            let figures = host.figures.get(loader).unwrap_or(&nothing);
            let mut report = figures.report()?.by_clock_behind(ahead_ns);
            // A lost host's own end of its schedule says nothing about values: its histograms are lost with it.
            report.schedule = None;
            let of: &Load = &scenario.loads[load];
            Dead { scenario, load: of, part, window, seed: *seed, repetition: *repetition, interrupted_ns }
                .complete(&mut report, &[]);
            Ok(LoaderAccount {
                host: Some(self.team.guests[self.first + number].rank),
                load,
                pid: host.pids.get(loader).copied().unwrap_or(0),
                exit: Exit::Other(format!("lost with its host: {how}")),
                cpu: Default::default(),
                set_up: Default::default(),
                report,
            })
        };
        self.sizing.parts(number).enumerate().map(account).collect()
    }
}

impl Figures {
    /// The report that the figures make.
    fn report(&self) -> Result<LoaderReport> {
        let scratch = std::sync::Arc::new(Control::new(0, 1, 0).context("mapping shared memory")?);
        let account = scratch.account(0);
        account.take_over(&self.words, &self.errors);
        Ok(LoaderReport::read(&account))
    }
}

/// Shows what a host's loaders have counted, as one, to those who watch.
fn show(control: &std::sync::Arc<Control>, number: usize, figures: &[Figures]) {
    let mut sums: Vec<u64> = Vec::new();
    for figures in figures {
        sums.resize(sums.len().max(figures.words.len()), 0);
        sums.iter_mut().zip(&figures.words).for_each(|(sum, word)| *sum = sum.wrapping_add(*word));
    }
    let errors = ErrorCount::merged(figures.iter().flat_map(|figures| figures.errors.iter().copied()));
    control.account(number).take_over(&sums, &errors);
}

fn described(broken: &Broken) -> String {
    match broken {
        Broken::Cut(Cut::TooLong(patience)) => format!("it did not answer for {patience:?}"),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        ipc::control::LoaderCount,
        record::{Cause, Step},
    };

    #[test]
    fn figures_that_travelled_make_the_same_report_and_show_as_one() {
        let control = Arc::new(Control::new(0, 2, 0).unwrap());
        let account = control.account(1);
        account.add(LoaderCount::Attempted, 5);
        account.add(LoaderCount::Completed, 3);
        account.set(LoaderCount::LastCompletedNs, 1_000);
        account.add_error(Step::Connect, Cause::Deadline);
        let figures = Figures { words: account.words(), errors: account.errors() };
        let report = figures.report().unwrap();
        assert_eq!(report, LoaderReport::read(&account));
        assert_eq!((report.attempted, report.in_flight(), report.last_completed_ns), (5, 1, 1_000));
        show(&control, 0, &[figures.clone(), figures]);
        let shown = control.account(0);
        assert_eq!((shown.get(LoaderCount::Attempted), shown.errors()[0].count), (10, 2));
    }

    #[test]
    fn silence_is_told_from_an_end() {
        let silence = Broken::Cut(Cut::TooLong(Duration::from_secs(10)));
        assert_eq!(described(&silence), "it did not answer for 10s");
        assert_eq!(described(&Broken::Ended("its connection was reset".to_owned())), "its connection was reset");
    }
}
