//! Exact accept waits, stages and queues, against what is known beforehand.

use std::{collections::BTreeSet, fs};

use crate::{
    common::{self, Bench, assert_balanced, assert_code, number, of_workers, scenario, stderr},
    requires,
};
use serde_json::Value;

tests! {
    nothing [
        stages_add_up_to_the_response,
        queues_fill_to_the_backlog_and_account_for_every_drop,
        without_privilege_the_bound_is_used_and_said,
    ]
    root [
        waits_are_as_long_as_the_worker_sleeps,
        waits_come_in_steps_of_the_service_time,
        an_exact_wait_is_within_its_bound,
        a_port_that_a_reset_has_freed_may_be_stamped_again,
        ten_thousand_connections_have_ten_thousand_waits,
        no_cgroup_and_no_program_is_left,
        with_privilege_waits_are_exact,
    ]
}

fn wait(trial: &Value) -> &Value {
    &trial["latency_ns"]["accept_wait"]
}

/// The wait of those who come while a worker sleeps is at least the rest of its sleep, to the nanosecond; no client sees it in
/// its own connect.
fn waits_are_as_long_as_the_worker_sleeps() {
    let bench = scenario()
        .workers(1)
        .connections(90)
        .set("stamps", "sock_ops")
        .set("server.accept_delay", "400ms")
        .set("load.mode", "open")
        .set("load.arrivals", "burst")
        .set("load.burst_size", 30)
        .set("load.burst_every", "100ms")
        .each("server.strategy", ["shared-epoll", "reuseport", "shared-blocking", "shared-uring", "dispatcher"])
        .bench();
    for trial in bench.trials(0) {
        assert_balanced(&trial);
        let (wait, connect) = (wait(&trial), &trial["latency_ns"]["connect"]);
        assert_eq!((&wait["method"], &wait["count"]), (&"sock_ops".into(), &90.into()), "{}", trial["cell"]);
        // The first burst comes 400 ms before the worker wakes, the last 200 ms, less what they take themselves; three digits of
        // the histogram take 1/1024 at most.
        let burst_ns = number(&trial["latency_ns"]["connect_from_intended"]["max"]);
        for (figure, floor_ns) in [("min", 199_800_000_u64), ("max", 399_600_000)] {
            let floor_ns = floor_ns.saturating_sub(burst_ns);
            assert!(number(&wait[figure]) >= floor_ns, "{} {figure}: {wait}, burst {burst_ns}", trial["cell"]);
        }
        assert!(number(&connect["p50"]) < number(&wait["min"]), "{}: {connect} {wait}", trial["cell"]);
    }
}

/// One at a time, ten milliseconds of service each: the k-th of a burst waits for k others. Of app `close`, since a worker does
/// not wait for a request that has not come yet, but takes the next connection.
fn waits_come_in_steps_of_the_service_time() {
    let bench = scenario()
        .workers(1)
        .burst(10)
        .set("stamps", "sock_ops")
        .set("server.accept_batch", 1)
        .set("server.app", "close")
        .set("server.service_time", "10ms")
        .bench();
    let trial = &bench.trials(0)[0];
    let wait = wait(trial);
    assert_eq!(number(&wait["count"]), 10);
    // Quantiles of ten values are values: the k-th sorted wait, counted from 0, is at least k × 10 ms, less what the burst
    // itself took, by the loader's own account.
    let burst_ns = number(&trial["latency_ns"]["connect_from_intended"]["max"]);
    for (quantile, k) in [("p50", 4), ("p90", 8), ("max", 9)] {
        let floor_ns = (k * 10_000_000_u64).saturating_sub(burst_ns + 100_000);
        assert!(number(&wait[quantile]) >= floor_ns, "{quantile}: {wait}");
    }
    assert!(number(&wait["min"]) < 10_000_000, "{wait}");
}

/// Both ways side by side: no exact wait is longer than its bound, in any strategy, over any network and family.
fn an_exact_wait_is_within_its_bound() {
    for network in ["", "address = \"::1\"", "network = \"veth\"", "network = \"veth\"\naddress = \"2001:2::1\""] {
        let bench = Bench::new(&format!(
            r#"
            repetitions = 1
            stamps = "both"
            {network}
            [server]
            workers = 2
            [load]
            concurrency = 16
            connections = 300
            loaders = 2
            [matrix]
            server.strategy = ["shared-blocking", "shared-epoll", "shared-epoll-exclusive", "shared-accept-mutex",
                "shared-uring", "dispatcher", "reuseport", "reuseport-uring", "reuseport-least"]
            load.close_how = ["fin", "rst"]
            server.app = ["close", "echo"]
            "#
        ));
        for trial in bench.trials(0) {
            assert_balanced(&trial);
            let (wait, bound) = (wait(&trial), &trial["latency_ns"]["accept_wait_bound"]);
            assert_eq!((&wait["count"], &bound["count"]), (&300.into(), &300.into()), "{}", trial["cell"]);
            // Each client has found its own stamp between its connect call and accept.
            let measured = &trial["measured"];
            assert_eq!((&measured["unstamped"], &measured["stamps_impossible"]), (&0.into(), &0.into()));
            for figure in ["min", "p50", "p99", "max", "mean"] {
                assert!(number(&wait[figure]) <= number(&bound[figure]), "{}: {wait} {bound}", trial["cell"]);
            }
        }
    }
}

/// A server's reset frees the client's port at once: the next connection from it may be established, and stamped, before the
/// first one's loader has looked for its own stamp. That is no impossible stamp, and nobody else's wait.
fn a_port_that_a_reset_has_freed_may_be_stamped_again() {
    let bench = Bench::new(
        r#"
        repetitions = 4
        stamps = "sock_ops"
        [sysctl]
        ip_local_port_range = "40000 40051"
        [server]
        workers = 3
        app = "close"
        [load]
        concurrency = 24
        connections = 20000
        loaders = 2
        close_how = "rst"
        [matrix]
        server.strategy = ["shared-blocking", "reuseport"]
        "#,
    );
    for trial in bench.trials(0) {
        assert_balanced(&trial);
        assert_eq!((&trial["outcome"], &trial["measured"]["stamps_impossible"]), (&"valid".into(), &0.into()));
        assert_eq!(number(&wait(&trial)["count"]), 20_000, "{}", trial["cell"]);
    }
}

/// As many waits as accepts, none lost, over many reuses of each port.
fn ten_thousand_connections_have_ten_thousand_waits() {
    let bench = scenario()
        .workers(2)
        .closed(64, 10_000)
        .set("stamps", "sock_ops")
        .set("load.close_how", "rst")
        .set("sysctl.ip_local_port_range", "40000 40999")
        .each("server.strategy", ["reuseport", "shared-epoll"])
        .bench();
    for trial in bench.trials(0) {
        assert_balanced(&trial);
        assert_eq!((number(&wait(&trial)["count"]), number(&trial["measured"]["unstamped"])), (10_000, 0));
        let waits: u64 = trial["workers"].as_array().unwrap().iter().map(|w| number(&w["accept_wait"]["count"])).sum();
        assert_eq!(waits, of_workers(&trial, "accepted").iter().sum::<u64>());
    }
}

/// The processes of a run, and the BPF programs they hold.
#[derive(Default)]
struct Seen {
    pids: BTreeSet<u32>,
    programs: BTreeSet<u32>,
}

impl Seen {
    fn look(&mut self, bench: &Bench) {
        for pid in bench.processes() {
            self.pids.insert(pid);
            let entries = fs::read_dir(format!("/proc/{pid}/fdinfo")).into_iter().flatten().flatten();
            let texts = entries.filter_map(|entry| fs::read_to_string(entry.path()).ok());
            self.programs.extend(texts.filter_map(|text| {
                text.lines().find_map(|line| line.strip_prefix("prog_id:")).and_then(|id| id.trim().parse::<u32>().ok())
            }));
        }
    }

    /// A cgroup's name ends in the id of the process that made it. A program is freed with its last socket, a moment after
    /// the trial.
    fn demand_nothing_left(&self) {
        assert!(!self.programs.is_empty());
        let made_here = |name: &str| {
            name.rsplit('-').next().and_then(|pid| pid.parse().ok()).is_some_and(|pid| self.pids.contains(&pid))
        };
        let left = || cgroups().into_iter().filter(|name| made_here(name)).collect::<Vec<_>>();
        common::wait_until("the run's cgroups to be gone", || left().is_empty());
        let loaded = || aya::programs::loaded_programs().flatten().any(|program| self.programs.contains(&program.id()));
        common::wait_until("the run's programs to be gone", || !loaded());
    }
}

fn cgroups() -> Vec<String> {
    let roots = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];
    let entries = roots.iter().flat_map(fs::read_dir).flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| name.contains("listenbench-"))
        .collect()
}

/// Nothing stays behind: no cgroup, no program, neither after an end nor when the run is killed in the midst.
fn no_cgroup_and_no_program_is_left() {
    let bench = Bench::new("repetitions = 3\nstamps = \"sock_ops\"\n[load]\nduration = \"400ms\"");
    let mut seen = Seen::default();
    let mut run = bench.spawn(&["run", "scenario.toml", "--out", "killed"]);
    bench.wait_for("lb:worker", 2);
    common::wait_until("a program to be in use", || {
        seen.look(&bench);
        !seen.programs.is_empty()
    });
    run.kill().unwrap();
    run.wait().unwrap();
    bench.demand_nothing_left();
    seen.demand_nothing_left();

    let mut seen = Seen::default();
    let mut run = bench.spawn(&["run", "scenario.toml", "--out", "out"]);
    common::wait_until("the run to end", || {
        seen.look(&bench);
        run.try_wait().unwrap().is_some()
    });
    assert_code(&run.wait_with_output().unwrap(), 0);
    bench.demand_nothing_left();
    seen.demand_nothing_left();
}

/// The stages up to the last byte of the reply add up to the response: with stamps, and without.
fn stages_add_up_to_the_response() {
    let stamps = if requires::root() { &["connect-call", "sock_ops"][..] } else { &["connect-call"] };
    let bench = scenario()
        .workers(2)
        .poisson(1_000.0)
        .connections(1_000)
        .set("server.service_time", "200us")
        .each("stamps", stamps)
        .each("server.app", ["close", "echo", "http"])
        .each("server.strategy", ["reuseport", "shared-blocking", "dispatcher", "shared-uring"])
        .bench();
    for trial in bench.trials(0) {
        let stages = trial["stages_ns"].as_object().unwrap();
        let response = &trial["latency_ns"]["response"];
        let mut sum = 0;
        for (stage, figures) in stages {
            // A port's next connection may have been answered before this one's client looked.
            assert!(number(&figures["count"]) >= 990, "{} {stage}: {figures}", trial["cell"]);
            sum += if stage == "close" { 0 } else { number(&figures["mean"]) };
        }
        let mean = number(&response["mean"]);
        assert!(sum.abs_diff(mean) * 100 <= mean, "{}: {sum} ns of stages, {mean} ns of response", trial["cell"]);
        assert_eq!(stages.contains_key("handshake"), trial["cell"]["stamps"] == "sock_ops");
        // The service time is CPU time, of which this stage has all.
        assert!(number(&stages["serve"]["min"]) >= 199_000, "{}: {}", trial["cell"], stages["serve"]);
    }
}

/// The queue is never longer than backlog + 1, reaches it when nobody accepts, and each listener's drops are its part of the
/// namespace's.
fn queues_fill_to_the_backlog_and_account_for_every_drop() {
    let bench = scenario()
        .workers(2)
        .burst(60)
        .set("queue_interval", "5ms")
        .set("server.backlog", 5)
        .set("server.accept_delay", "700ms")
        .set("load.connect_timeout", "6s")
        .each("server.strategy", ["reuseport", "shared-epoll"])
        .bench();
    for trial in bench.trials(0) {
        assert_balanced(&trial);
        let workers = trial["workers"].as_array().unwrap();
        for worker in workers {
            assert_eq!((number(&worker["queue_limit"]), number(&worker["queue_peak"])), (5, 6), "{}", trial["cell"]);
            assert!(worker["queue"]["full_share"].as_f64().unwrap() > 0.05, "{}", worker["queue"]);
            assert!(worker["queue"]["mean"].as_f64().unwrap() <= 6.0);
        }
        let peaks = trial["series"]["queue_peak"].as_array().unwrap();
        assert!(peaks.iter().flat_map(|row| row.as_array().unwrap()).all(|peak| number(peak) <= 6));
        let drops = workers.iter().map(|worker| number(&worker["queue"]["drops"]));
        // What is of a shared listener stands in every row.
        let drops: u64 = if trial["cell"]["strategy"] == "reuseport" { drops.sum() } else { drops.max().unwrap() };
        assert_eq!(drops, number(&trial["kernel"]["ListenDrops"]), "{}", trial["cell"]);
        let over_time = trial["series"]["queue_drops"].as_array().unwrap();
        let over_time: u64 = over_time.iter().map(|row| number(&row[0])).sum();
        assert_eq!(over_time, number(&workers[0]["queue"]["drops"]), "{}", trial["series"]["queue_drops"]);
        // SYNs came again after whole seconds, and the verdict says so.
        let retries = trial["verdicts"].as_array().unwrap().iter().find(|verdict| verdict["name"] == "syn-retries");
        let detail = retries.unwrap()["detail"].as_str().unwrap();
        assert!(detail.contains("connects took 1 s") && detail.contains("dropped at full queues"), "{detail}");
    }
}

fn with_privilege_waits_are_exact() {
    let bench = scenario().connections(20).bench();
    let trial = &bench.trials(0)[0];
    assert_eq!(wait(trial)["method"], "sock_ops");
    assert_eq!(common::read_json(&bench.path("out/host.json"))["accept_stamps"], "allowed");
}

/// An ordinary user gets bounds, and is told; one who insists is told why not.
fn without_privilege_the_bound_is_used_and_said() {
    let bench = scenario().connections(20).bench();
    let output = bench.run_as_ordinary_user();
    assert_code(&output, 0);
    assert!(
        stderr(&output).contains("upper bounds here") && stderr(&output).contains("run as root"),
        "{}",
        stderr(&output)
    );
    assert_eq!(wait(&bench.read_trials()[0])["method"], "connect-call");
    let bench = scenario().connections(20).set("stamps", "sock_ops").bench();
    assert_code(&bench.run_as_ordinary_user(), 3);
    let error = bench.read_trials()[0]["error"].as_str().unwrap().to_owned();
    assert!(error.contains("BPF program stamp") && error.contains("run as root"), "{error}");
}
