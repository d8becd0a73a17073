//! What rates count: the measured window, and nothing after it.

use std::{
    fs,
    io::{Read, Write},
    net::TcpListener,
    thread,
    time::Duration,
};

use serde_json::json;

use crate::common::{Bench, assert_balanced, number, of_workers, read_json, scenario, verdicts};

tests! {
    nothing [
        a_reply_after_the_window_is_in_no_rate,
        what_an_overloaded_worker_leaves_for_later_is_drain,
        every_request_is_some_workers,
        percentiles_cover_those_that_gave_up,
        flows_of_a_stalled_worker_are_unanswered,
        trials_that_mostly_failed_are_invalid_unless_failures_are_asked_about,
        a_closed_loop_is_never_called_saturated,
        a_loader_that_falls_behind_its_schedule_is_saturated,
    ]
}

/// A server whose every reply comes later than the window's end.
fn a_reply_after_the_window_is_in_no_rate() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = listener.local_addr().unwrap().to_string();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            thread::spawn(move || {
                while stream.read(&mut [0; 4_096]).is_ok_and(|length| length > 0) {
                    thread::sleep(Duration::from_millis(1_500));
                    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi");
                }
            });
        }
    });
    let bench = scenario()
        .set("server.app", "http")
        .set("load.concurrency", 5)
        .duration("1s")
        .set("load.warmup", "0s")
        .set("load.requests", 2)
        .bench();
    let trial = bench.load(&target, &[], 0);
    let (rates, measured) = (&trial["rates"], &trial["measured"]);
    assert_eq!((&rates["completed_per_s"], &rates["requests_per_s"]), (&0.0.into(), &0.0.into()), "{rates}");
    let drained = ["completed_in_drain", "requests_in_drain"].map(|name| number(&measured[name]));
    assert_eq!(drained, [5, 10], "{measured}");
    // Two replies, one after the other.
    assert!(rates["drain_s"].as_f64().unwrap() >= 2.0, "{rates}");
}

/// One worker at 20 ms of CPU each completes at most 26 connections in half a second, whatever is offered.
fn what_an_overloaded_worker_leaves_for_later_is_drain() {
    let bench = scenario()
        .workers(1)
        .constant(200.0)
        .duration("500ms")
        .set("load.warmup", "0s")
        .set("load.close_how", "rst")
        .set("load.reply_timeout", "60s")
        .set("server.service_time", "20ms")
        .bench();
    let trial = &bench.trials(0)[0];
    assert_balanced(trial);
    let (rates, measured) = (&trial["rates"], &trial["measured"]);
    assert_eq!(number(&measured["completed"]), 100, "{measured}");
    let inside = number(&measured["completed_in_window"]);
    assert!(inside <= 26, "{measured}");
    assert_eq!(inside + number(&measured["completed_in_drain"]), 100);
    assert_eq!(rates["completed_per_s"], inside as f64 / 0.5);
    assert_eq!(rates["offered_per_s"], 200.0);
    assert!(rates["drain_s"].as_f64().unwrap() > 0.0 && rates["requests_per_s"].is_null(), "{rates}");
}

fn every_request_is_some_workers() {
    let bench = Bench::new(
        "repetitions = 1\n[server]\nworkers = 2\n[load]\nrequests = 5\nconnections = 200\nconcurrency = 4\n\
         warmup = \"0s\"\n[matrix]\nserver.app = [\"echo\", \"http\"]\n",
    );
    for trial in &bench.trials(0) {
        assert_balanced(trial);
        assert_eq!(of_workers(trial, "requests").iter().sum::<u64>(), 1_000);
        assert!(trial["rates"]["requests_per_s"].as_f64().unwrap() > 0.0, "{}", trial["rates"]);
        for what in ["requests", "cpu"] {
            let shares = trial["workers"].as_array().unwrap().iter().map(|row| row["share"][what].as_f64().unwrap());
            assert!((shares.sum::<f64>() - 1.0).abs() < 1e-9, "{what}: {}", trial["workers"]);
        }
    }
}

/// Five of forty fit into the queue and are accepted in time; the rest give up. No percentile may speak for the five alone.
fn percentiles_cover_those_that_gave_up() {
    let bench = scenario()
        .workers(1)
        .burst(40)
        .set("server.backlog", 4)
        .set("server.accept_delay", "3s")
        .set("load.connect_timeout", "300ms")
        .set("load.close_how", "rst")
        .set("load.loaders", 1)
        .set("answers", json!(["lost_connections_share"]))
        .bench();
    let trial = &bench.trials(0)[0];
    assert_balanced(trial);
    let completed = number(&trial["measured"]["completed"]);
    assert!((1..=20).contains(&completed), "{}", trial["connections"]);
    for latency in ["response", "service", "connect", "accept_wait"] {
        let of = &trial["latency_ns"][latency];
        assert_eq!([&of["due"], &of["count"]].map(number), [40, completed], "{latency}: {of}");
        assert_eq!(number(&of["lost"]), 40 - completed, "{latency}: {of}");
        assert!(of["p50"].is_null() && of["p99"].is_null() && number(&of["max"]) > 0, "{latency}: {of}");
    }
    let lost = format!("not reached ({:.1} % lost)", 100.0 * (40 - completed) as f64 / 40.0);
    for file in ["summary.md", "report.html"] {
        let text = fs::read_to_string(bench.path("out").join(file)).unwrap();
        assert!(text.contains(&lost), "{file} lacks {lost}");
    }
    let summary = read_json(&bench.path("out/summary.json"));
    let response = &summary["cells"][0]["metrics"]["response_p99_ns"];
    assert!(response["median"].is_null() && response["values"] == json!([null]), "{response}");
    assert_eq!(response["attempts"], json!({ "due": 40, "lost": 40 - completed }));
    let cells = fs::read_to_string(bench.path("out/cells.csv")).unwrap();
    assert!(cells.contains("response_p99_ns,,,ns,lower,1,1,,,,range\n"), "{cells}");
}

/// One of two workers is stopped for good: the flows that hash to it are never answered.
fn flows_of_a_stalled_worker_are_unanswered() {
    let bench = scenario()
        .strategy("reuseport")
        .workers(2)
        .set("protocol", "udp")
        .constant(200.0)
        .duration("1s")
        .set("load.warmup", "0s")
        .set("load.reply_timeout", "2s")
        .event(json!({ "kind": "stall", "worker": 1, "at": "100ms" }))
        .bench();
    let trial = &bench.trials(0)[0];
    let datagrams = &trial["datagrams"];
    let unanswered = number(&datagrams["flows"]) - number(&datagrams["answered_flows"]);
    // Of about 180 flows after the stall, half.
    assert!((21..200).contains(&unanswered), "{datagrams}");
    let response = &trial["latency_ns"]["response"];
    assert_eq!((number(&response["due"]), number(&response["lost"])), (200, unanswered));
    assert!(response["p90"].is_null(), "{response}");
    let answers = &read_json(&bench.path("out/summary.json"))["answers"];
    assert_eq!(answers[0]["metric"], "flows_unanswered");
}

/// A trial that completed nothing measured nothing; one in which a third failed did not carry its load, unless that is the question.
fn trials_that_mostly_failed_are_invalid_unless_failures_are_asked_about() {
    let silent = || {
        let scenario = scenario().workers(1).burst(12).set("server.accept_delay", "3s").set("load.loaders", 1);
        scenario.set("server.backlog", 3).set("load.connect_timeout", "300ms").set("load.close_how", "rst")
    };
    let invalid = |bench: Bench| {
        let trial = bench.trials(3).remove(0);
        assert_eq!(trial["outcome"], "invalid", "{}", trial["verdicts"]);
        trial["verdicts"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap().to_owned()).collect()
    };
    // Nobody answers in time.
    let never = || silent().set("load.reply_timeout", "200ms");
    let verdicts: Vec<String> = invalid(never().bench());
    assert!(verdicts.contains(&"nothing-measured".to_owned()), "{verdicts:?}");
    let verdicts: Vec<String> = invalid(never().set("answers", json!(["lost_connections_share"])).bench());
    assert!(verdicts.contains(&"nothing-measured".to_owned()), "{verdicts:?}");
    // Four of twelve fit into the queue and are answered.
    let verdicts: Vec<String> = invalid(silent().bench());
    assert!(verdicts.contains(&"failures".to_owned()), "{verdicts:?}");
    let trial = &silent().set("answers", json!(["lost_connections_share"])).bench().trials(0)[0];
    assert_eq!(trial["outcome"], "valid");
}

/// A closed loop keeps its loaders busy by design.
fn a_closed_loop_is_never_called_saturated() {
    let trial = &scenario().closed(16, 3_000).set("load.close_how", "rst").bench().trials(0)[0];
    assert!(!verdicts(trial).contains(&"loader-saturated"), "{}", trial["verdicts"]);
    let loaders = trial["loaders"].as_array().unwrap();
    assert!(
        loaders.iter().all(|loader| loader["busy_share"].as_f64().is_some_and(|share| share <= 1.0)),
        "{loaders:?}"
    );
}

/// More than any loader can start: the schedule runs away from it.
fn a_loader_that_falls_behind_its_schedule_is_saturated() {
    let bench = scenario()
        .constant(2_000_000.0)
        .connections(4_000)
        .set("load.close_how", "rst")
        .set("load.loaders", 1)
        .set("server.workers", 1)
        .set("load.warmup", "0s")
        .bench();
    let trial = &bench.trials(0)[0];
    assert!(verdicts(trial).contains(&"loader-saturated"), "{}", trial["verdicts"]);
    assert!(number(&trial["measured"]["queued"]) > 40, "{}", trial["measured"]);
}
