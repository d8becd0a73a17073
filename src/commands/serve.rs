//! `listenbench serve`: a scenario's server in the foreground, on the host's network.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use anyhow::{Context, Result};

use super::{Ended, interrupt_flag, say, sources};
use crate::{
    cli,
    context::{TrialContext, Waits},
    format,
    ipc::{
        control::{Control, Count, Window},
        family::Patience,
    },
    scenario::Scenario,
    sys::clock,
    trial::{Finished, Listening, OwnServer, SETUP_PATIENCE, Subject, wait_until_ready},
};

const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Runs the command: serves until SIGINT or SIGTERM, its normal end, then prints what each worker did.
pub fn run(options: &cli::Serve) -> Result<Ended> {
    let (plan, cell) = sources::single_cell("serve", &options.scenario, &options.overrides, |a, b| {
        let closing = |scenario: &Scenario| (scenario.load.close_by, scenario.load.close_how, scenario.load.requests);
        a.server == b.server && a.protocol == b.protocol && a.address == b.address && closing(a) == closing(b)
    })?;
    let interrupted = interrupt_flag()?;
    let scenario = Arc::new(cell.scenario);
    let workers = scenario.server.workers;
    let control = Arc::new(Control::new(workers, 0, 0).context("mapping shared memory")?);
    let context = TrialContext {
        scenario: Arc::clone(&scenario),
        target: scenario.address,
        control: Arc::clone(&control),
        ledger: None,
        stamps: None,
        waits: Waits { exact: false, bound: false },
        seed: plan.whole.seed,
        repetition: 0,
    };
    let mut server = Box::new(OwnServer::fork(&context, Listening::open(&scenario)?)?);
    let patience = Patience::of(SETUP_PATIENCE).unless(&interrupted);
    wait_until_ready(&control, server.at_barrier(), patience, || server.check_running())?;
    let now_ns = clock::monotonic_ns();
    control.open(Window { start_ns: now_ns, measure_from_ns: now_ns, measure_to_ns: u64::MAX, deadline_ns: u64::MAX });
    say(format_args!(
        "listening on {}: strategy {}, {workers} workers, app {}; stop with Ctrl-C",
        server.address(),
        scenario.server.strategy.name,
        scenario.server.app.name()
    ))?;
    while !interrupted.load(Relaxed) {
        server.check_running()?;
        std::thread::sleep(LOOK_AGAIN);
    }
    server.stop();
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
    Ok(Ended::Done)
}
