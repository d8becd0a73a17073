//! `listenbench serve`: a scenario's server in the foreground, on the host's network.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use anyhow::{Context, Result, anyhow, bail};

use super::{Ended, Usage, interrupt_flag, note, say, sources};
use crate::{
    cli,
    context::{Side, TrialContext, Waits},
    format,
    ipc::{
        control::{Control, Count, Window},
        family::Patience,
    },
    observe::mptcp,
    scenario::{
        Headers, MOST_BOUND, Network, Plan, Scenario, Transport,
        keys::{self, AnyKey},
    },
    server::{self, ListenError},
    sys::clock,
    tls,
    trial::{DIR, Finished, Listening, OwnServer, SETUP_PATIENCE, Subject, wait_until_ready},
};

/// Head of the column of connections that are plain TCP on a listener of MPTCP.
const PLAIN: &str = "by plain TCP";
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Has the server listen where the options say.
fn bind_to(options: &cli::Serve, scenario: &mut Scenario) -> Result<()> {
    let bind = &mut scenario.server.bind;
    if let [first, ..] = options.bind[..] {
        bind.addresses.clone_from(&options.bind);
        // Its clients are not ours, and may connect to any of them.
        scenario.address.set_ip(first);
    }
    bind.v6only = options.v6only.or(bind.v6only);
    bind.device = options.device.clone().or(bind.device.take());
    let limit = MOST_BOUND;
    if options.bind.len() > limit {
        bail!(Usage(format!("--bind: more than {limit} addresses")));
    }
    if let Some(twice) = options.bind.iter().enumerate().find(|(place, ip)| options.bind[..*place].contains(*ip)) {
        bail!(Usage(format!("--bind: {} is named twice", twice.1)));
    }
    if let Some((_, problem)) = bind.objection(Network::Host, None) {
        bail!(Usage(format!("--bind: {problem}")));
    }
    let any = scenario.bound().iter().any(|bound| bound.is_ipv6() && bound.ip().is_unspecified());
    if options.v6only.is_some() && !any {
        bail!(Usage(
            "--v6only: none of the addresses is ::, so it has no effect: leave it out, or add --bind ::".to_owned()
        ));
    }
    Ok(())
}

/// The option or the key that is to blame for a server that cannot listen here, if one is.
fn refused(options: &cli::Serve, plan: &Plan, error: anyhow::Error) -> anyhow::Error {
    let why = format::causes(&error);
    match error.downcast_ref::<ListenError>().and_then(ListenError::key) {
        Some(key) if key == keys::SERVER_DEVICE.path() && options.device.is_some() => {
            Usage(format!("--device: {why}")).into()
        }
        Some(_) if !options.bind.is_empty() => Usage(format!("--bind: {why}")).into(),
        Some(key) => plan.refused(key, why).into(),
        None => error,
    }
}

/// Runs the command: serves until SIGINT or SIGTERM, its normal end, then prints what each worker did.
pub fn run(options: &cli::Serve) -> Result<Ended> {
    let (plan, mut cell) = sources::single_cell("serve", &options.scenario, &options.overrides, |a, b| {
        a.server == b.server
            && a.protocol == b.protocol
            && (a.address, &a.unix) == (b.address, &b.unix)
            && a.closing() == b.closing()
            && a.headers == b.headers
    })?;
    if options.proxy_protocol && !cell.scenario.protocol.has(Transport::Tcp) {
        bail!(Usage(format!(
            "{}: --proxy-protocol is about connections, and protocol = \"udp\" has none: leave it out, or use --set protocol=tcp",
            options.scenario
        )));
    }
    if cell.scenario.protocol.is_multipath()
        && let Some(why) = mptcp::lack()
    {
        bail!(plan.wrong(keys::PROTOCOL, why));
    }
    if let Some(unix) = &cell.scenario.unix {
        if !options.bind.is_empty() || options.v6only.is_some() || options.device.is_some() {
            bail!(Usage(format!(
                "--bind, --v6only and --device are about networks, and this server listens on {unix}: leave them out"
            )));
        }
        if unix.contains(DIR) {
            bail!(plan.wrong(keys::ADDRESS, format!("{DIR} is the folder of a trial's server: name another")));
        }
    }
    bind_to(options, &mut cell.scenario)?;
    if let Some(problem) = cell.scenario.amplifies() {
        bail!(plan.wrong(keys::SERVER_REPLY_BYTES, problem));
    }
    if let Some(problem) = server::check_descriptors(&cell.scenario.server)? {
        bail!(plan.wrong(keys::SERVER_OPEN_FILES, problem));
    }
    let security = tls::Server::of(&cell.scenario)
        .map_err(|error| plan.wrong(keys::SERVER_CERTIFICATE, format::causes(&error)))?;
    let interrupted = interrupt_flag()?;
    let headers = if options.proxy_protocol { Headers::All } else { cell.scenario.headers };
    let scenario = Arc::new(Scenario { headers, ..cell.scenario });
    let (workers, multipath) = (scenario.server.workers, scenario.server.listen.multipath);
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
        tls: security,
        waits: Waits { exact: false, bound: false },
        seed: plan.whole.seed,
        repetition: 0,
    };
    let listening = Listening::open(&scenario).map_err(|error| refused(options, &plan, error))?;
    let mut server = Box::new(OwnServer::fork(&context, listening, "worker")?);
    let patience = Patience::of(SETUP_PATIENCE).unless(&interrupted);
    wait_until_ready(&control, server.at_barrier(), patience, || server.check_running())?;
    let now_ns = clock::monotonic_ns();
    control.open(Window { start_ns: now_ns, measure_from_ns: now_ns, measure_to_ns: u64::MAX, deadline_ns: u64::MAX });
    let bound: Vec<String> = server.describe().bound.iter().map(ToString::to_string).collect();
    say(format_args!(
        "listening on {}: strategy {}, {}, app {}{}{}; stop with Ctrl-C",
        bound.join(", "),
        scenario.server.strategy.name,
        format::plural(workers, "worker"),
        scenario.server.app.name(),
        if multipath { ", MPTCP" } else { "" },
        match headers {
            Headers::None => "",
            Headers::Some => ", PROXY protocol headers accepted",
            Headers::All => ", PROXY protocol headers expected",
        }
    ))?;
    if scenario.server.app.is_secured() && scenario.server.certificate.is_none() {
        note(format_args!(
            "the certificate was made at start, and no client knows it: have clients trust any (curl -k, load.verify=false), or set \
             server.certificate and server.private_key"
        ));
    }
    for bound in scenario.beyond_loopback() {
        let ip = bound.ip();
        let what =
            if ip.is_unspecified() { "stands for every address of this machine" } else { "is not a loopback address" };
        note(format_args!("{bound} {what}: other machines may reach this server"));
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
        "{:>6} {:>12} {:>12} {:>10} {:>14} {:>14} {:>10}{}",
        "worker",
        "accepted",
        "datagrams",
        "wake-ups",
        "empty wake-ups",
        "accept EAGAIN",
        "CPU",
        if multipath { format!(" {PLAIN:>12}") } else { String::new() }
    ))?;
    for worker in 0..workers {
        let counts = control.since_start(worker);
        let cpu_ns = counts.get(Count::CpuUserNs) + counts.get(Count::CpuSystemNs);
        say(format_args!(
            "{worker:>6} {:>12} {:>12} {:>10} {:>14} {:>14} {:>10}{}",
            counts.get(Count::Accepted),
            counts.get(Count::Datagrams),
            counts.get(Count::Wakeups) + counts.get(Count::DatagramWakeups),
            counts.get(Count::EmptyWakeups) + counts.get(Count::DatagramEmptyWakeups),
            counts.get(Count::AcceptEagain),
            format::duration(cpu_ns as f64),
            if multipath { format!(" {:>12}", counts.get(Count::FellBack)) } else { String::new() }
        ))?;
    }
    if scenario.server.app.is_secured() {
        let of = |count| (0..workers).map(|worker| control.since_start(worker).get(count)).sum::<u64>();
        let handshakes = format::counted(of(Count::Handshakes), "TLS handshake", "TLS handshakes");
        say(format_args!("{handshakes}, {} of them resumed", of(Count::HandshakesResumed)))?;
    }
    let Finished { members, helper, .. } = server.finish();
    let errors = members.into_iter().map(|ended| (ended.pid, ended.errors));
    for (pid, errors) in errors.chain(helper.map(|(row, errors)| (row.pid, errors))) {
        for error in errors {
            say(format_args!("errors of {pid}: {}", error.explained()))?;
        }
    }
    ended_early.map(|()| Ended::Done).map_err(|died| {
        anyhow!(
            "{}; the server was stopped: look for the cause in the kernel log (`dmesg`), and serve again",
            format::causes(&died)
        )
    })
}
