//! A server that the trial starts, from a command.

use std::{collections::BTreeSet, net::SocketAddr, path::Path, time::Duration};

use anyhow::{Context, Error, Result, anyhow};
use nix::sys::signal::Signal;

use super::{
    folder::Placed,
    keeper::{Demand, Keeper, Kept, Order, STOP_GRACE},
    output,
    outside::{Ending, Origin, Outside, Watch},
};
use crate::{
    context::TrialContext,
    ipc::family::{self, Cut, Patience},
    observe::{accepts::Ours, holder, processes, sockets},
    record::{self, Done, Exit, SubjectKind},
    scenario::{Act, Scenario, ServerCommand, Transport},
    sys::unix::SCHEME,
};

/// A command that was started.
struct Started {
    keeper: Keeper,
    subject: record::Subject,
    stop_signal: Signal,
    /// What events do to it: the keeper knows each by its place.
    acts: Vec<Act>,
    /// How many events have been due so far.
    due: usize,
}

/// Why a command is not ready.
pub struct NotReady {
    /// What is wrong, with the end of its output.
    pub error: Error,
    /// What it wrote.
    pub output: String,
}

/// Starts the command, and waits until something listens at the scenario's address.
pub fn start(
    context: &TrialContext,
    command: &ServerCommand,
    ours: Ours<'_>,
    placed: &mut Placed,
) -> Result<Result<Outside, NotReady>> {
    let scenario = &context.scenario;
    let place = scenario.place();
    let mut watch = Watch::begin(scenario, ours)?;
    let (acts, demands): (Vec<Act>, Vec<Demand>) =
        scenario.events.iter().filter_map(|event| Some((event.act.clone(), demand(&event.act)?))).unzip();
    let order = Order {
        words: command.words.clone(),
        files: files(context, command),
        values: values(scenario),
        stop_signal: command.stop_signal,
        open_files: scenario.server.open_files,
        demands,
    };
    let mut keeper = Keeper::start(order, placed.take_folder())?;
    let mut broken = None;
    let listening = || match watch.is_listening() {
        Ok(listening) => listening,
        Err(error) => {
            broken = Some(error);
            true
        }
    };
    let waited = family::wait_until(Patience::of(command.ready_within), listening, || check(&mut keeper));
    if let Some(error) = broken {
        return Err(error);
    }
    if let Err(error) = waited {
        return Ok(Err(not_ready(keeper, &place, command.ready_within, &error)?));
    }
    let started = Started { keeper, subject: described(command), stop_signal: command.stop_signal, acts, due: 0 };
    Ok(Ok(Outside::new(watch, started)))
}

/// The files of its folder: those of the scenario and, with TLS, a certificate and its key, apart and in one file.
fn files(context: &TrialContext, command: &ServerCommand) -> Vec<(String, String)> {
    let mut files: Vec<(String, String)> = Vec::new();
    if let Some(tls) = &context.tls {
        let [certificate, key] = tls.identity().pem();
        files.push(("tls.pem".to_owned(), format!("{certificate}{key}")));
        files.extend([("tls.crt".to_owned(), certificate), ("tls.key".to_owned(), key)]);
    }
    // One of the scenario's takes the place of one of these.
    files.retain(|(name, _)| command.files.iter().all(|file| file.name != *name));
    files.extend(command.files.iter().map(|file| (file.name.clone(), file.contents.clone())));
    files
}

/// What the keeper is to do for an event; `None` if it is for our own server only.
fn demand(act: &Act) -> Option<Demand> {
    match act {
        Act::Signal { signal } => Some(Demand::Signal(*signal)),
        Act::Exec { words } => Some(Demand::Run(words.clone())),
        _ => None,
    }
}

/// What the record says of a command's server, whether or not it came to listen.
pub fn described(command: &ServerCommand) -> record::Subject {
    let program = Path::new(&command.words[0]).file_name().map(|name| name.to_string_lossy().into_owned());
    record::Subject {
        kind: SubjectKind::Command,
        name: program.unwrap_or_else(|| command.words[0].clone()),
        command: Some(command.text.clone()),
        ..record::Subject::default()
    }
}

/// What stands for the names in braces.
fn values(scenario: &Scenario) -> Vec<(&'static str, String)> {
    let Scenario { address, unix, server, .. } = scenario;
    let workers = ("workers", server.workers.to_string());
    if let Some(unix) = unix {
        // As nginx and gunicorn write it. An abstract name has no form that they share.
        let address = unix.path().map_or_else(|| unix.to_string(), |path| format!("{SCHEME}{path}"));
        return vec![("address", address), workers];
    }
    let host = match address {
        SocketAddr::V4(address) => address.ip().to_string(),
        SocketAddr::V6(address) => format!("[{}]", address.ip()),
    };
    let all = [("address", host), ("port", address.port().to_string()), workers];
    let backend = scenario.backend().map(|backend| backend.address);
    all.into_iter().chain(backend.map(|backend| ("backend", backend.to_string()))).collect()
}

/// Fails once it is certain that the command will not listen.
fn check(keeper: &mut Keeper) -> Result<()> {
    keeper.check_running()?;
    // Whatever a command that ended well has left may still begin to listen; once nothing is left, its keeper ends.
    if keeper.has_failed() { Err(anyhow!("it has ended")) } else { Ok(()) }
}

/// Why nothing listens. The command is killed.
fn not_ready(keeper: Keeper, address: &str, ready_within: Duration, error: &Error) -> Result<NotReady> {
    let late = error.downcast_ref::<Cut>().is_some();
    let elsewhere = elsewhere(&keeper);
    // If it could not be started, its keeper's error says so.
    let kept = keeper.kill()?;
    let mut said = match (&kept.exit, late) {
        (Some(Exit::Ok), false) => {
            format!(
                "`server.command`: it exited with status 0, and left nothing running that could listen at {address}"
            )
        }
        (Some(Exit::Ok), true) => format!(
            "`server.command`: it exited with status 0, and nothing that it left running listened at {address} within {ready_within:?} \
             (`server.ready_within`)"
        ),
        (Some(exit), _) => format!("`server.command`: it ended ({exit}) before anything listened at {address}"),
        (None, _) => {
            format!("`server.command`: nothing listened at {address} within {ready_within:?} (`server.ready_within`)")
        }
    };
    if !elsewhere.is_empty() {
        said += &format!(
            "; instead, it listens at {}: use {{address}} and {{port}} in the command or its files",
            elsewhere.join(" and ")
        );
    }
    let output = all_output(&kept);
    said += &match output::last_lines(&output) {
        Some(lines) => format!("; its last output:{lines}"),
        None => "; it printed nothing".to_owned(),
    };
    Ok(NotReady { error: anyhow!(said), output })
}

/// Where the command listens, if not where it should.
fn elsewhere(keeper: &Keeper) -> Vec<String> {
    let processes: BTreeSet<i32> = processes::descendants(keeper.pid()).into_iter().collect();
    let Ok(sockets) = sockets::read(Transport::Tcp, None) else { return Vec::new() };
    let listeners: Vec<_> = sockets.into_iter().filter(|socket| socket.state == sockets::State::LISTEN).collect();
    let holders = holder::of_sockets(&listeners.iter().map(|socket| u64::from(socket.inode)).collect());
    let ours = |inode: u32| {
        holders.get(&u64::from(inode)).is_some_and(|held| held.iter().any(|process| processes.contains(&process.pid)))
    };
    let mut addresses: Vec<SocketAddr> =
        listeners.iter().filter(|socket| ours(socket.inode)).map(|socket| socket.local).collect();
    addresses.sort_unstable();
    addresses.dedup();
    addresses.iter().map(SocketAddr::to_string).collect()
}

fn all_output(kept: &Kept) -> String {
    let gap = if kept.output.is_empty() || kept.output.ends_with('\n') { "" } else { "\n" };
    format!("{}{gap}{}", kept.output, kept.logs)
}

impl Origin for Started {
    fn describe(&self) -> record::Subject {
        self.subject.clone()
    }

    fn pids(&self, _holders: Vec<i32>) -> Vec<i32> {
        processes::descendants(self.keeper.pid())
    }

    fn check_running(&mut self) -> Result<()> {
        check(&mut self.keeper)
    }

    fn act(&mut self, act: &Act, _holders: &[i32]) -> Result<()> {
        let place = self.acts.iter().position(|known| known == act);
        let place = place.context("the server's keeper was not told of this event")?;
        self.due += 1;
        self.keeper.demand(place as u32)
    }

    fn end(self: Box<Self>) -> Ending {
        let pid = self.keeper.command_pid();
        let account = self.keeper.stop();
        match account.report {
            Some(mut kept) => {
                let missed = || Done { error: Some("the server had ended".to_owned()), ..Done::default() };
                kept.done.resize_with(kept.done.len().max(self.due), missed);
                let mut output = all_output(&kept);
                if kept.killed {
                    output += &format!("[what was left {STOP_GRACE:?} after {} was killed]\n", self.stop_signal);
                }
                Ending { pid, output: Some(output), exit: kept.exit, dead: None, done: kept.done }
            }
            // The trial has been measured, whatever became of the keeper.
            None => Ending {
                pid,
                exit: None,
                output: None,
                done: Vec::new(),
                dead: Some((format!("the server's keeper (pid {})", account.pid), account.exit)),
            },
        }
    }
}
