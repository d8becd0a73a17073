//! Answers that are known beforehand, demanded of the real binary.

use crate::{
    common::{Bench, Server, assert_balanced, assert_code, errors, number, scenario, verdicts, when_undisturbed},
    requires,
};
use serde_json::{Value, json};

tests! {
    nothing [
        a_backlog_of_2_holds_3_connections_that_nobody_accepts,
        reuseport_spreads_connections_as_chance_does,
        ten_at_once_are_served_one_after_the_other,
        ten_at_once_wait_in_the_queue_one_service_longer_each,
        listeners_are_registered_as_the_strategies_names_say,
        spread_workers_are_pinned_round_the_processors,
        a_batch_bounds_the_accepts_of_a_wake_up,
        the_herd_comes_for_all_but_the_exclusive_listener,
        a_hundred_ports_make_a_hundred_connections,
        many_loaders_follow_one_schedule,
        an_overloaded_worker_is_stopped_and_its_queue_counted,
        all_ways_of_closing_balance,
        the_seed_and_the_recorded_scenario_repeat_a_run,
        service_time_is_burnt_in_the_worker,
        held_connections_are_open_at_once,
    ]
}

fn workers<'a>(trial: &'a Value, field: &str) -> Vec<u64> {
    let workers: &'a Vec<Value> = trial["workers"].as_array().unwrap();
    workers.iter().map(|worker| number(&worker[field])).collect()
}

/// The accept queue holds min(backlog, somaxconn) + 1: the kernel's test for "full" is `>`.
fn a_backlog_of_2_holds_3_connections_that_nobody_accepts() {
    let bench = scenario()
        .workers(1)
        .closed(10, 10)
        .set("server.backlog", 2)
        .set("server.accept_delay", "1h")
        .set("load.loaders", 1)
        .set("load.connect_timeout", "400ms")
        .set("load.reply_timeout", "2s")
        .bench();
    // Nothing is completed, so the trial is invalid; its counts hold all the same.
    let trials = bench.trials(3);
    let connections = &trials[0]["connections"];
    assert_eq!(number(&connections["established"]), 3, "{connections}");
    assert_eq!(number(&connections["accepted"]), 0);
    assert_eq!(number(&connections["left_in_queue"]), 3);
    assert_eq!(errors(&trials[0], "connect", "ETIMEDOUT"), 7);
    assert_eq!(errors(&trials[0], "receive", "ETIMEDOUT"), 3);
    assert_eq!(workers(&trials[0], "queue_peak"), [3]);
    assert_eq!(workers(&trials[0], "queue_limit"), [2]);
    assert!(verdicts(&trials[0]).contains(&"queue-overflow"), "{}", trials[0]["verdicts"]);
    assert!(verdicts(&trials[0]).contains(&"errors"));
    assert_balanced(&trials[0]);
}

/// SO_REUSEPORT throws 4-tuples on listeners by a hash: their spread is the multinomial's.
fn reuseport_spreads_connections_as_chance_does() {
    let bench = scenario().strategy("reuseport").workers(4).closed(16, 2_000).set("load.close_how", "rst").bench();
    let trial = &bench.trials(0)[0];
    assert_balanced(trial);
    assert_eq!(number(&trial["connections"]["accepted"]), 2_000);
    assert!(trial["distribution"]["p_value"].as_f64().unwrap() > 1e-6, "{}", trial["distribution"]);
    assert!(workers(trial, "accepted").iter().all(|accepted| *accepted > 0));
}

/// One worker, ten clients at once, 10 ms each: the k-th is answered after k services. CPU burnt takes at least as much time,
/// and responses count from the burst's own instant, so the bounds are exact.
fn ten_at_once_are_served_one_after_the_other() {
    let bench = scenario()
        .workers(1)
        .burst(10)
        .set("server.accept_batch", 1)
        .set("server.service_time", "10ms")
        .set("load.loaders", 1)
        .bench();
    let trial = &bench.trials(0)[0];
    assert_balanced(trial);
    let response = &trial["latency_ns"]["response"];
    assert_eq!(number(&response["count"]), 10);
    // Histograms keep three digits.
    for (figure, floor_ns) in [("min", 9_990_000), ("p50", 49_900_000), ("max", 99_900_000)] {
        assert!(number(&response[figure]) >= floor_ns, "{figure}: {response}");
    }
}

/// The same without requests, so that the service follows the accept: the k-th client waits in the queue for k − 1
/// services, less what the burst itself took.
fn ten_at_once_wait_in_the_queue_one_service_longer_each() {
    let bench = scenario()
        .workers(1)
        .burst(10)
        .set("server.accept_batch", 1)
        .set("server.app", "close")
        .set("server.service_time", "10ms")
        .set("load.loaders", 1)
        .bench();
    let trial = &bench.trials(0)[0];
    assert_balanced(trial);
    let wait = &trial["latency_ns"]["accept_wait"];
    assert_eq!(number(&wait["count"]), 10);
    let burst_ns = number(&trial["latency_ns"]["connect_from_intended"]["max"]);
    // Histograms keep three digits.
    for (figure, floor_ns) in [("p50", 39_900_000_u64), ("max", 89_900_000)] {
        assert!(number(&wait[figure]) >= floor_ns.saturating_sub(burst_ns), "{figure}: {wait}, burst {burst_ns}");
    }
}

/// What each strategy's name says, read from the kernel: the flags of the listener in each worker's epoll instance.
fn listeners_are_registered_as_the_strategies_names_say() {
    const EPOLLIN: u64 = 0x1;
    const EPOLLET: u64 = 1 << 31;
    const EPOLLEXCLUSIVE: u64 = 1 << 28;
    for (strategy, flags, listeners) in [
        ("shared-epoll", EPOLLIN, 1),
        ("shared-epoll-edge", EPOLLIN | EPOLLET, 1),
        ("shared-epoll-exclusive", EPOLLIN | EPOLLEXCLUSIVE, 1),
        ("reuseport", EPOLLIN, 3),
    ] {
        let bench = Bench::new("");
        let _server = Server::start(&bench, &["server.workers=3", &format!("server.strategy={strategy}")]);
        let mut sockets = std::collections::BTreeSet::new();
        for pid in bench.wait_for("lb:worker", 3) {
            let mut registered = Vec::new();
            for entry in std::fs::read_dir(format!("/proc/{pid}/fdinfo")).unwrap().flatten() {
                let text = std::fs::read_to_string(entry.path()).unwrap_or_default();
                // `tfd: 5 events: 19 data: 0 …`: the listener is registered under token 0.
                for line in text.lines().filter(|line| line.starts_with("tfd:")) {
                    let words: Vec<&str> = line.split_whitespace().collect();
                    if words[5] == "0" {
                        registered.push((words[1].to_owned(), u64::from_str_radix(words[3], 16).unwrap()));
                    }
                }
            }
            // EPOLLERR and EPOLLHUP are always added by the kernel.
            registered.sort_unstable();
            registered.dedup();
            assert_eq!(registered.len(), 1, "{strategy}: {registered:?}");
            assert_eq!(registered[0].1 & !0x18, flags, "{strategy}");
            sockets.insert(std::fs::read_link(format!("/proc/{pid}/fd/{}", registered[0].0)).unwrap());
        }
        assert_eq!(sockets.len(), listeners, "{strategy}: {sockets:?}");
    }
}

/// Spread workers have a processor each, counted round; others have all.
fn spread_workers_are_pinned_round_the_processors() {
    let allowed = |pid: u32| -> String {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap().trim().to_owned()
    };
    let all = allowed(std::process::id());
    let cpus = requires::processors();
    for (pin, distinct) in [("none", 1), ("spread", cpus.min(3))] {
        let bench = Bench::new("");
        let _server = Server::start(&bench, &["server.workers=3", &format!("server.pin={pin}")]);
        let lists: Vec<String> = bench.wait_for("lb:worker", 3).into_iter().map(allowed).collect();
        assert_eq!(lists.iter().collect::<std::collections::BTreeSet<_>>().len(), distinct, "{pin}: {lists:?}");
        assert!(lists.iter().all(|list| if pin == "none" { *list == all } else { list.parse::<usize>().is_ok() }));
    }
}

/// A batch bounds the accepts of a wake-up, whatever the trigger; a burst of 12 in batches of 3 takes four wake-ups.
fn a_batch_bounds_the_accepts_of_a_wake_up() {
    let bench = scenario()
        .workers(1)
        .burst(12)
        .set("server.accept_batch", 3)
        .set("server.app", "close")
        .set("server.service_time", "5ms")
        .set("server.accept_delay", "2s")
        .each("server.strategy", ["shared-epoll", "shared-epoll-edge", "shared-epoll-exclusive", "reuseport"])
        .bench();
    for trial in bench.trials(0) {
        assert_balanced(&trial);
        assert_eq!(number(&trial["connections"]["completed"]), 12);
        assert_eq!(workers(&trial, "wakeups"), [4], "{}", trial["cell"]);
        // The queue is never found empty within a batch.
        assert_eq!(workers(&trial, "accept_eagain"), [0], "{}", trial["cell"]);
        // They waited for the worker's delay, less what the burst itself took.
        let burst_ns = number(&trial["latency_ns"]["connect_from_intended"]["max"]);
        let floor_ns = 1_998_000_000_u64.saturating_sub(burst_ns);
        assert!(number(&trial["latency_ns"]["accept_wait"]["min"]) >= floor_ns, "{}", trial["latency_ns"]);
    }
}

/// Without EPOLLEXCLUSIVE an arrival wakes every waiting worker; with it, one: the first registered that is idle. A worker
/// that wakes too late is often sent back to sleep by epoll itself, so the herd shows in the times they go to sleep.
fn the_herd_comes_for_all_but_the_exclusive_listener() {
    when_undisturbed(herds);
}

fn herds() {
    let bench = scenario()
        .workers(4)
        .constant(100.0)
        .connections(100)
        .set("load.close_how", "rst")
        .each("server.strategy", ["shared-epoll", "shared-epoll-edge", "shared-epoll-exclusive"])
        .bench();
    let trials = bench.trials(0);
    let trial = |strategy: &str| trials.iter().find(|trial| trial["cell"]["strategy"] == strategy).unwrap();
    let sleeps = |strategy: &str| -> u64 { workers(trial(strategy), "voluntary_switches").iter().sum() };
    let exclusive = "shared-epoll-exclusive";
    for herd in ["shared-epoll", "shared-epoll-edge"] {
        assert_balanced(trial(herd));
        assert!(sleeps(herd) > sleeps(exclusive) + 50, "{herd} {}, exclusive {}", sleeps(herd), sleeps(exclusive));
        let empty: u64 = workers(trial(herd), "empty_wakeups").iter().sum();
        let eagain: u64 = workers(trial(herd), "accept_eagain").iter().sum();
        assert!(eagain >= empty, "{eagain} EAGAINs, {empty} empty wake-ups");
    }
    assert!(workers(trial(exclusive), "accepted")[0] >= 75, "{:?}", workers(trial(exclusive), "accepted"));
}

/// A range of 100 ports, no reuse of TIME_WAIT, clients that close by FIN: exactly 100 connections, and the loader goes
/// on to the end of its schedule.
fn a_hundred_ports_make_a_hundred_connections() {
    let bench = scenario()
        .constant(200.0)
        .connections(150)
        .set("sysctl.ip_local_port_range", "40000 40099")
        .set("sysctl.tcp_tw_reuse", 0)
        .set("answers", json!(["ports_exhausted_after_s"]))
        .bench();
    let trial = &bench.trials(0)[0];
    assert_balanced(trial);
    assert_eq!(number(&trial["connections"]["completed"]), 100);
    assert_eq!(errors(trial, "connect", "EADDRNOTAVAIL"), 50);
    assert_eq!(trial["outcome"], "valid");
    assert_eq!((number(&trial["usable_ports"]), number(&trial["ports_peak"])), (100, 100));
    assert!(verdicts(trial).contains(&"ports-scarce"), "{}", trial["verdicts"]);
}

/// A schedule is the scenario's, however many loaders share it: bursts stay whole, and the bound is met exactly.
fn many_loaders_follow_one_schedule() {
    let run = |loaders: u32| {
        let bench = scenario()
            .set("load.mode", "open")
            .set("load.loaders", loaders)
            .each("load.arrivals", ["burst", "poisson"])
            .bench();
        let sets = ["load.burst_size=2", "load.burst_every=50ms", "load.rate=400", "load.connections=31"];
        let arguments: Vec<&str> = sets.iter().flat_map(|set| ["--set", set]).collect();
        assert_code(&bench.run(&arguments), 0);
        let mut trials = bench.read_trials();
        trials.sort_by_key(|trial| number(&trial["cell_index"]));
        for trial in &trials {
            assert_balanced(trial);
            assert_eq!(number(&trial["connections"]["completed"]), 31, "{loaders}: {}", trial["cell"]);
        }
        // 31 starts in pairs 50 ms apart: 30 gaps in 750 ms.
        assert_eq!(trials[0]["rates"]["offered_per_s"], 40.0);
        trials.iter().map(|trial| trial["schedule"].to_string()).collect::<Vec<_>>()
    };
    assert_eq!(run(1), run(3));
}

/// A server that cannot keep up is no failure: what it leaves in the queue is counted there.
fn an_overloaded_worker_is_stopped_and_its_queue_counted() {
    let bench = scenario()
        .workers(1)
        .duration("300ms")
        .set("server.app", "close")
        .set("server.service_time", "40ms")
        .set("load.mode", "open")
        .set("load.arrivals", "burst")
        .set("load.burst_size", 500)
        .set("load.burst_every", "10s")
        .set("load.reply_timeout", "2s")
        .set("answers", json!(["lost_connections_share"]))
        .each("server.accept_batch", json!(["drain", 1]))
        .bench();
    for trial in bench.trials(0) {
        assert_balanced(&trial);
        assert_eq!(trial["outcome"], "valid");
        assert_eq!(number(&trial["connections"]["established"]), 500);
        if trial["cell"]["accept_batch"] == 1 {
            assert!(number(&trial["connections"]["left_in_queue"]) > 400, "{}", trial["connections"]);
        }
    }
}

/// Every way of closing, by either side, in every app: nothing is lost, nothing is an error.
fn all_ways_of_closing_balance() {
    let bench = scenario()
        .closed(8, 150)
        .set("load.requests", 3)
        .each("server.strategy", ["shared-epoll-edge", "reuseport"])
        .each("server.app", ["echo", "http"])
        .each("load.close_by", ["client", "server"])
        .each("load.close_how", ["fin", "rst"])
        .bench();
    let trials = bench.trials(0);
    assert_eq!(trials.len(), 16);
    for trial in &trials {
        assert_balanced(trial);
        assert_eq!(number(&trial["connections"]["completed"]), 150, "{}: {}", trial["cell"], trial["connections"]);
        assert_eq!(number(&trial["connections"]["replies"]), 450);
        assert_eq!(number(&trial["connections"]["verified"]), 450);
        assert_eq!(number(&trial["latency_ns"]["accept_wait"]["count"]), 150);
        assert_eq!(number(&trial["latency_ns"]["response"]["count"]), 450);
    }
    let bench = scenario().closed(8, 300).set("server.app", "close").each("load.close_how", ["fin", "rst"]).bench();
    for trial in bench.trials(0) {
        assert_balanced(&trial);
        assert_eq!(number(&trial["connections"]["completed"]), 300, "{}", trial["connections"]);
        assert_eq!(number(&trial["latency_ns"]["accept_wait"]["count"]), 300);
    }
}

/// The seed fixes order and schedule; another seed gives others; the record's scenario repeats the run.
fn the_seed_and_the_recorded_scenario_repeat_a_run() {
    const SCENARIO: &str = r#"
        repetitions = 2
        [load]
        mode = "open"
        rate = 300.0
        duration = "300ms"
        warmup = "100ms"
        [matrix]
        server.strategy = ["shared-epoll", "reuseport"]
        server.workers = [1, 2]
    "#;
    let plan = |bench: &Bench| -> Vec<(String, String)> {
        let trials = bench.read_trials();
        trials.iter().map(|trial| (trial["cell"].to_string(), trial["schedule"].to_string())).collect()
    };
    let first = Bench::new(SCENARIO);
    assert_code(&first.run(&[]), 0);
    let effective = std::fs::read_to_string(first.path("out/scenario.toml")).unwrap();
    let again = Bench::new(&effective);
    assert_code(&again.run(&[]), 0);
    assert_eq!(plan(&first), plan(&again));
    assert_eq!(effective, std::fs::read_to_string(again.path("out/scenario.toml")).unwrap());
    // Within a repetition every cell meets the same arrivals.
    let schedules: std::collections::BTreeSet<String> = plan(&first).into_iter().map(|trial| trial.1).collect();
    assert_eq!(schedules.len(), 2, "{schedules:?}");
    let other = Bench::new(SCENARIO);
    assert_code(&other.run(&["--seed", "2"]), 0);
    assert!(plan(&other).iter().all(|trial| !schedules.contains(&trial.1)));
}

/// Service times are CPU time in user mode: two workers on a burn of 5 ms use 5 ms for each connection, and say so.
fn service_time_is_burnt_in_the_worker() {
    let bench = scenario()
        .closed(2, 40)
        .set("server.service_time", "5ms")
        .each("server.service_distribution", ["fixed", "exponential"])
        .each("server.app", ["close", "echo"])
        .bench();
    for trial in bench.trials(0) {
        assert_balanced(&trial);
        let sum = |mode: &str| workers(&trial, mode).iter().sum::<u64>();
        let (user, system) = (sum("cpu_user_ns"), sum("cpu_system_ns"));
        // More, if the machine's own clock of processor time counts what a hypervisor took.
        let least = if trial["cell"]["service_distribution"] == "fixed" { 200_000_000 } else { 80_000_000 };
        assert!(user + system >= least, "{user} and {system} ns for 40 × 5 ms: {}", trial["cell"]);
        assert!(user > system, "{user} ns of user time, {system} ns of system time: {}", trial["cell"]);
    }
}

/// A held connection stays open: as many at once as are held.
fn held_connections_are_open_at_once() {
    let bench = scenario()
        .workers(1)
        .connections(50)
        .set("load.mode", "open")
        .set("load.arrivals", "burst")
        .set("load.burst_size", 50)
        .set("load.hold", "3s")
        .bench();
    let trial = &bench.trials(0)[0];
    assert_balanced(trial);
    assert_eq!(workers(trial, "open_peak"), [50]);
    assert_eq!(number(&trial["connections"]["completed"]), 50);
}
