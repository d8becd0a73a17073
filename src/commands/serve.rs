//! `listenbench serve`: a scenario's server in the foreground, on the host's network.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use anyhow::{Context, Result, anyhow};

use super::{Ended, Usage, interrupt_flag, note, say, sources};
use crate::{
    cli,
    context::{Side, TrialContext, Waits},
    format,
    ipc::{
        control::{Control, Count, Window},
        family::Patience,
    },
    scenario::{Headers, Scenario, Transport, keys},
    sys::clock,
    trial::{Finished, Listening, OwnServer, SETUP_PATIENCE, Subject, wait_until_ready},
};

const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Runs the command: serves until SIGINT or SIGTERM, its normal end, then prints what each worker did.
pub fn run(options: &cli::Serve) -> Result<Ended> {
    let (plan, cell) = sources::single_cell("serve", &options.scenario, &options.overrides, |a, b| {
        a.server == b.server
            && a.protocol == b.protocol
            && a.address == b.address
            && a.closing() == b.closing()
            && a.headers == b.headers
    })?;
    if options.proxy_protocol && !cell.scenario.protocol.has(Transport::Tcp) {
        anyhow::bail!(Usage(format!(
            "{}: --proxy-protocol is about connections, and protocol = \"udp\" has none: leave it out, or use --set protocol=tcp",
            options.scenario
        )));
    }
    if let Some(problem) = cell.scenario.amplifies() {
        anyhow::bail!(plan.wrong(keys::SERVER_REPLY_BYTES, problem));
    }
    let interrupted = interrupt_flag()?;
    let headers = if options.proxy_protocol { Headers::All } else { cell.scenario.headers };
    let scenario = Arc::new(Scenario { headers, ..cell.scenario });
    let workers = scenario.server.workers;
    let control = Arc::new(Control::new(workers, 0, 0).context("mapping shared memory")?);
    let context = TrialContext {
        scenario: Arc::clone(&scenario),
        target: scenario.address,
        control: Arc::clone(&control),
        side: Side::Whole,
        clients: Arc::default(),
        ledger: None,
        stamps: None,
        completions: None,
        waits: Waits { exact: false, bound: false },
        seed: plan.whole.seed,
        repetition: 0,
    };
    let mut server = Box::new(OwnServer::fork(&context, Listening::open(&scenario)?, "worker")?);
    let patience = Patience::of(SETUP_PATIENCE).unless(&interrupted);
    wait_until_ready(&control, server.at_barrier(), patience, || server.check_running())?;
    let now_ns = clock::monotonic_ns();
    control.open(Window { start_ns: now_ns, measure_from_ns: now_ns, measure_to_ns: u64::MAX, deadline_ns: u64::MAX });
    say(format_args!(
        "listening on {}: strategy {}, {}, app {}{}; stop with Ctrl-C",
        server.address(),
        scenario.server.strategy.name,
        format::plural(workers, "worker"),
        scenario.server.app.name(),
        match headers {
            Headers::None => "",
            Headers::Some => ", with or without a PROXY protocol header",
            Headers::All => ", after a PROXY protocol header",
        }
    ))?;
    if scenario.is_beyond_loopback() {
        note(format_args!("{} is not a loopback address: other machines may reach this server", server.address()));
    }
    let ended_early = loop {
        if let Err(died) = server.check_running() {
            break Err(died);
        }
        if interrupted.load(Relaxed) {
            break Ok(());
        }
        std::thread::sleep(LOOK_AGAIN);
    };
    // Also after a worker's death: what it counted is known.
    server.stop()?;
    say(format_args!(
        "{:>6} {:>12} {:>12} {:>10} {:>14} {:>14} {:>10}",
        "worker", "accepted", "datagrams", "wake-ups", "empty wake-ups", "accept EAGAIN", "CPU"
    ))?;
    for worker in 0..workers {
        let counts = control.since_start(worker);
        let cpu_ns = counts.get(Count::CpuUserNs) + counts.get(Count::CpuSystemNs);
        say(format_args!(
            "{worker:>6} {:>12} {:>12} {:>10} {:>14} {:>14} {:>10}",
            counts.get(Count::Accepted),
            counts.get(Count::Datagrams),
            counts.get(Count::Wakeups) + counts.get(Count::DatagramWakeups),
            counts.get(Count::EmptyWakeups) + counts.get(Count::DatagramEmptyWakeups),
            counts.get(Count::AcceptEagain),
            format::duration(cpu_ns as f64)
        ))?;
    }
    let Finished { members, helper, .. } = server.finish();
    let errors = members.into_iter().map(|ended| (ended.pid, ended.errors));
    for (pid, errors) in errors.chain(helper.map(|(row, errors)| (row.pid, errors))) {
        for error in errors {
            say(format_args!("errors of {pid}: {error}"))?;
        }
    }
    ended_early.map(|()| Ended::Done).map_err(|died| {
        anyhow!(
            "{}; the server was stopped: look for the cause in the kernel log (`dmesg`), and serve again",
            format::causes(&died)
        )
    })
}
