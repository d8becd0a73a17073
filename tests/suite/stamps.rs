//! Exact accept waits, stages and queues, against what is known beforehand.

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
        the_accept_wait_has_the_same_parts_in_every_strategy,
        a_ring_that_overflows_loses_a_few_times_and_no_connection,
        an_exact_wait_is_within_its_bound,
        a_port_that_a_reset_has_freed_may_be_stamped_again,
        ten_thousand_connections_have_ten_thousand_waits,
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
        .set("server.accept_delay", "1500ms")
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
        // The first burst comes 1,500 ms before the worker wakes, the last 1,300 ms, less what they take themselves; three digits of
        // the histogram take 1/1024 at most.
        let burst_ns = number(&trial["latency_ns"]["connect_from_intended"]["max"]);
        for (figure, floor_ns) in [("min", 1_298_700_000_u64), ("max", 1_498_500_000)] {
            let floor_ns = floor_ns.saturating_sub(burst_ns);
            assert!(number(&wait[figure]) >= floor_ns, "{} {figure}: {wait}, burst {burst_ns}", trial["cell"]);
        }
        assert!(number(&connect["p50"]) < number(&wait["min"]), "{}: {connect} {wait}", trial["cell"]);
    }
}

/// One at a time, ten milliseconds of service each: the k-th of a burst waits for k others, whoever accepted it. Of app `close`,
/// since a worker does not wait for a request that has not come yet, but takes the next connection.
fn waits_come_in_steps_of_the_service_time() {
    let bench = scenario()
        .workers(1)
        .burst(10)
        .set("stamps", "sock_ops")
        .set("server.accept_batch", 1)
        .set("server.app", "close")
        .set("server.service_time", "10ms")
        .each("server.strategy", ["shared-epoll", "reuseport", "shared-uring", "shared-blocking", "dispatcher"])
        .bench();
    for trial in bench.trials(0) {
        let (wait, hand_over) = (wait(&trial), &trial["latency_ns"]["hand_over"]);
        assert_eq!((number(&wait["count"]), &wait["ends"]), (10, &"serving".into()), "{}", trial["cell"]);
        // Quantiles of ten values are values: the k-th sorted wait, counted from 0, is at least k × 10 ms, less what the burst
        // itself took, by the loader's own account.
        let burst_ns = number(&trial["latency_ns"]["connect_from_intended"]["max"]);
        for (quantile, k) in [("p50", 4), ("p90", 8), ("max", 9)] {
            let floor_ns = (k * 10_000_000_u64).saturating_sub(burst_ns + 100_000);
            assert!(number(&wait[quantile]) >= floor_ns, "{} {quantile}: {wait}", trial["cell"]);
        }
        // The first one waits for nobody: the others wait that much longer.
        let (min, max) = (number(&wait["min"]), number(&wait["max"]));
        assert!(max - min >= 90_000_000_u64.saturating_sub(burst_ns + 200_000), "{}: {wait}", trial["cell"]);
        // Nothing holds up a thread or a dispatcher, so nearly all of the wait is hand-over.
        if is_handed_over(&trial) {
            assert_eq!(number(&hand_over["count"]) + of_unknown_time(&trial), 10, "{}: {hand_over}", trial["cell"]);
            assert!(number(&hand_over["max"]) <= number(&wait["max"]), "{}: {hand_over} {wait}", trial["cell"]);
        } else {
            assert!(hand_over.is_null(), "{}: {hand_over}", trial["cell"]);
        }
    }
}

/// Whether another thread or process accepts for the workers, or a ring whose completions are timed.
fn is_handed_over(trial: &Value) -> bool {
    let strategy = trial["cell"]["strategy"].as_str().unwrap();
    ["shared-blocking", "dispatcher"].contains(&strategy) || (is_ring(trial) && wait(trial)["method"] == "sock_ops")
}

fn is_ring(trial: &Value) -> bool {
    trial["cell"]["strategy"].as_str().unwrap().ends_with("-uring")
}

/// Accepts from a ring at an unknown time; nothing else has any.
fn of_unknown_time(trial: &Value) -> u64 {
    let unknown = &trial["measured"]["hand_over_unknown"];
    assert_eq!(unknown.is_null(), !is_ring(trial) || wait(trial)["method"] != "sock_ops", "{}", trial["cell"]);
    unknown.as_u64().unwrap_or(0)
}

/// A queue that only ever waits for service: queue, accept and hand-over add up to the accept wait in every strategy, and what the
/// client saw of it is in the response. Nobody calls accept to learn that a ring, a thread or a dispatcher has nothing.
fn the_accept_wait_has_the_same_parts_in_every_strategy() {
    let bench = scenario()
        .workers(2)
        .poisson(300.0)
        .connections(150)
        .set("stamps", "sock_ops")
        .set("server.accept_batch", 1)
        .set("server.service_time", "5ms")
        .each(
            "server.strategy",
            ["shared-epoll-exclusive", "reuseport", "shared-uring", "reuseport-uring", "shared-blocking", "dispatcher"],
        )
        .bench();
    for trial in bench.trials(0) {
        assert_balanced(&trial);
        let cell = &trial["cell"];
        let (wait, stages) = (wait(&trial), &trial["stages_ns"]);
        assert_eq!((number(&wait["count"]), number(&stages["queue"]["count"])), (150, 150), "{cell}: {wait}");
        let mean = |stage: &str| stages[stage]["mean"].as_u64().unwrap_or(0);
        let parts = mean("queue") + mean("accept") + mean("hand_over");
        let whole = number(&wait["mean"]);
        assert!(parts.abs_diff(whole) * 100 <= whole + 1_000, "{cell}: {parts} ns of parts, {whole} ns of wait");
        assert!(number(&wait["max"]) <= number(&trial["latency_ns"]["response"]["max"]), "{cell}: {wait}");
        let accepted: u64 = of_workers(&trial, "accepted").iter().sum();
        let hand_over = &trial["latency_ns"]["hand_over"];
        assert_eq!(
            hand_over["count"].as_u64().unwrap_or(0),
            if is_handed_over(&trial) { accepted - of_unknown_time(&trial) } else { 0 },
            "{cell}"
        );
        assert_eq!(stages["hand_over"].is_null(), !is_handed_over(&trial), "{cell}");
        if is_handed_over(&trial) {
            assert!(
                of_workers(&trial, "accept_eagain").iter().all(|calls| *calls == 0),
                "{cell}: {}",
                trial["workers"]
            );
        }
        if cell["strategy"] == "dispatcher" {
            assert!(number(&trial["helper"]["accept_eagain"]) > 0, "{}", trial["helper"]);
        }
    }
}

/// A ring has room for 1,024 completions. Those that it had no room for are served as well, and not given a time.
fn a_ring_that_overflows_loses_a_few_times_and_no_connection() {
    let bench = scenario()
        .workers(1)
        .burst(2_500)
        .set("stamps", "sock_ops")
        .set("server.app", "close")
        .set("server.accept_batch", 1)
        .set("server.service_time", "200us")
        .each("server.strategy", ["shared-uring", "reuseport-uring"])
        .bench();
    for trial in bench.trials(0) {
        assert_balanced(&trial);
        assert_eq!(number(&wait(&trial)["count"]), 2_500, "{}", trial["cell"]);
        let timed = number(&trial["latency_ns"]["hand_over"]["count"]);
        assert_eq!(timed + of_unknown_time(&trial), 2_500, "{}", trial["cell"]);
        assert!(timed >= 1_024, "{}: {timed}", trial["cell"]);
    }
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
        assert_eq!(stages.contains_key("hand_over"), is_handed_over(&trial), "{}", trial["cell"]);
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
        .set("server.accept_delay", "1500ms")
        .set("load.connect_timeout", "8s")
        .set("answers", vec!["lost_connections_share"])
        .each("server.strategy", ["reuseport", "shared-epoll"])
        .bench();
    for trial in bench.trials(0) {
        assert_balanced(&trial);
        let workers = trial["workers"].as_array().unwrap();
        for worker in workers {
            assert_eq!((number(&worker["queue_limit"]), number(&worker["queue_peak"])), (5, 6), "{}", trial["cell"]);
            assert!(worker["queue"]["full_share"].as_f64().unwrap() > 0.0, "{}", worker["queue"]);
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
        assert!(
            detail.contains("connects took ") && detail.contains("dropped at full accept queues, and "),
            "{detail}"
        );
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
    // Nor is anything claimed of a ring.
    let bench = scenario().connections(20).each("server.strategy", ["shared-uring", "reuseport-uring"]).bench();
    let output = bench.run_as_ordinary_user();
    assert_eq!(stderr(&output).matches("how long connections lie in an io_uring").count(), 1, "{}", stderr(&output));
    for trial in bench.read_trials() {
        assert!(trial["latency_ns"]["hand_over"].is_null() && trial["stages_ns"]["hand_over"].is_null(), "{trial}");
        assert!(trial["measured"].get("hand_over_unknown").is_none(), "{}", trial["measured"]);
    }
    let bench = scenario().connections(20).set("stamps", "sock_ops").bench();
    assert_code(&bench.run_as_ordinary_user(), 3);
    let error = bench.read_trials()[0]["error"].as_str().unwrap().to_owned();
    assert!(error.contains("loading BPF programs is not permitted: run as root"), "{error}");
}
