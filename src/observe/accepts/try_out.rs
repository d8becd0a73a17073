//! Tries on a connection of our own whether accepts are counted.

use std::{
    net::{TcpListener, TcpStream},
    process,
};

use anyhow::{Context, Result, ensure};

use super::{Accepts, Filter, Level, MemberSeen, Ours, Snapshot};
use crate::{observe::reach::demand_local, record::WaitEnd, sys::clock};

/// How often to try. The kernel runs no program at a tracepoint of a processor on which a process was preempted within bpf(2), be it
/// whose it may (`trace_call_bpf` in kernel/trace/bpf_trace.c).
const ATTEMPTS: usize = 5;

/// Accepts a connection of this process's on the loopback device, and looks whether the level, or the best that works, counted it.
/// Returns the level and what it cannot know. To be called in a process that does nothing else.
pub fn try_out(level: Option<Level>) -> Result<(Level, Option<String>)> {
    (1..ATTEMPTS).find_map(|_| attempt(level).ok()).map_or_else(|| attempt(level), Ok)
}

fn attempt(level: Option<Level>) -> Result<(Level, Option<String>)> {
    let listener = TcpListener::bind("127.0.0.1:0").context("binding to 127.0.0.1")?;
    let address = listener.local_addr().context("getsockname")?;
    let (mut accepts, level) = Accepts::attach(level, &Filter::here(vec![address])?, 1)?;
    demand_local(address)?;
    accepts.ours(Ours { processes: &[process::id() as i32], hosts: &[] })?;
    let _client = TcpStream::connect(address).with_context(|| format!("connecting to {address}"))?;
    let (_server, _) = listener.accept().context("accept4")?;
    listener.set_nonblocking(true).context("fcntl(O_NONBLOCK)")?;
    ensure!(listener.accept().is_err(), "a second connection to {address} from nowhere");
    let now_ns = clock::monotonic_ns();
    let Snapshot { at_ns, members, lost_events, aged_out, reset_in_queue, missed_runs: _ } = accepts.read()?;
    let [member] = &members[..] else { anyhow::bail!("{} members accepted instead of one", members.len()) };
    let MemberSeen {
        pid, tid, comm, accepted, foreign, unstamped, eagain, open, open_peak, last_accept_ns, waits, ..
    } = member;
    let own = process::id() as i32;
    ensure!((*pid, *tid) == (own, own), "process {own} accepted, and {pid} (thread {tid}, {comm}) was counted");
    let counts = [*accepted, *foreign, *unstamped, *eagain, *open, *open_peak, waits.len(), lost_events, aged_out];
    let expected = match level {
        Level::Btf | Level::Tracepoints => [1, 0, 0, 1, 1, 1, 1, 0, 0],
        Level::Counts => [1, 0, 1, 1, 0, 0, 0, 0, 0],
    };
    ensure!(counts == expected, "one accept and one that found nothing were counted as {counts:?}");
    ensure!(reset_in_queue.unwrap_or(0) == 0, "a connection was reset with its listener, which is open");
    ensure!(*last_accept_ns <= now_ns && now_ns <= at_ns, "an accept lies in the future");
    ensure!(member.ends == WaitEnd::Accept && member.listener == Some(address), "the accept was counted elsewhere");
    Ok((level, accepts.missing().map(str::to_owned)))
}
