//! How late a timer is, and how long a round trip over loopback takes.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    os::fd::{AsFd, AsRawFd},
};

use anyhow::{Context, Result};
use hdrhistogram::Histogram;
use mio::{Events, Interest, Poll, Token, unix::SourceFd};
use nix::sys::{
    time::{TimeSpec, TimeValLike},
    timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags},
};

use crate::{
    ipc::family::Family,
    load,
    observe::reach::demand_local,
    record::{Lag, Lags},
    sys::clock,
};

const TIMERS: u64 = 500;
/// Interval between timers: long enough for the processor to go to sleep.
const TIMER_NS: u64 = 1_000_000;
const ROUND_TRIPS: u64 = 5_000;
/// Round trips before measuring starts.
const WARM_UP: u64 = 500;
/// The size of an echo app's request and reply.
const BYTES: usize = 16;

/// Measures both lags. Forks, so the calling process must be single-threaded.
pub fn lags() -> Result<Lags> {
    Ok(Lags { timer: timer()?, round_trip: round_trip()? })
}

/// Measures a timer and an epoll instance set up like a loader's.
fn timer() -> Result<Lag> {
    let mut poll = Poll::new().context("epoll_create")?;
    let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC)
        .context("timerfd_create")?;
    poll.registry()
        .register(&mut SourceFd(&timer.as_fd().as_raw_fd()), Token(0), Interest::READABLE)
        .context("registering the timer")?;
    let mut events = Events::with_capacity(8);
    let mut late = load::histogram();
    for _ in 0..TIMERS {
        let due_ns = clock::monotonic_ns() + TIMER_NS;
        let at = Expiration::OneShot(TimeSpec::nanoseconds(due_ns as i64));
        timer.set(at, TimerSetTimeFlags::TFD_TIMER_ABSTIME).context("timerfd_settime")?;
        loop {
            match poll.poll(&mut events, None) {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                result => result.context("epoll_wait")?,
            }
            let now_ns = clock::monotonic_ns();
            if now_ns >= due_ns {
                late.saturating_record(now_ns - due_ns);
                break;
            }
        }
    }
    Ok(lag(&late))
}

fn round_trip() -> Result<Lag> {
    let listener = TcpListener::bind("127.0.0.1:0").context("bind 127.0.0.1")?;
    let address = listener.local_addr().context("getsockname")?;
    demand_local(address)?;
    // Killed if still running when this function returns.
    let mut family = Family::default();
    family.fork("lb:echo", "the echo process", |_| Ok(echo(&listener)?))?;
    let mut stream = TcpStream::connect(address).with_context(|| format!("connect {address}"))?;
    stream.set_nodelay(true).context("setsockopt TCP_NODELAY")?;
    let mut trips = load::histogram();
    let mut bytes = [0; BYTES];
    for trip in 0..WARM_UP + ROUND_TRIPS {
        let begun_ns = clock::monotonic_ns();
        stream.write_all(&bytes).and_then(|()| stream.read_exact(&mut bytes)).context("round trip over loopback")?;
        if trip >= WARM_UP {
            trips.saturating_record(clock::monotonic_ns() - begun_ns);
        }
    }
    drop(stream);
    Ok(lag(&trips))
}

fn echo(listener: &TcpListener) -> std::io::Result<()> {
    let (mut stream, _) = listener.accept()?;
    stream.set_nodelay(true)?;
    let mut bytes = [0; BYTES];
    // Ends with the client's close.
    while stream.read_exact(&mut bytes).is_ok() {
        stream.write_all(&bytes)?;
    }
    Ok(())
}

fn lag(histogram: &Histogram<u64>) -> Lag {
    Lag {
        count: histogram.len(),
        p50: histogram.value_at_quantile(0.50),
        p99: histogram.value_at_quantile(0.99),
        max: histogram.max(),
    }
}
