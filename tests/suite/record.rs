//! The record: every name that readers rely on, and histograms that any HdrHistogram reader takes.

use std::{collections::BTreeMap, fs};

use crate::{
    common::{Bench, assert_balanced, assert_code, number, read_json, scenario, stderr, stdout},
    requires,
};
use hdrhistogram::{
    Histogram,
    serialization::{
        Deserializer,
        interval_log::{IntervalLogIterator, LogEntry},
    },
};
use serde_json::Value;

tests! {
    nothing [
        a_record_has_every_file_and_name,
        histograms_are_readable_and_add_up,
        a_list_shows_the_trials_and_runs_none,
        several_scenarios_leave_several_records,
        without_out_a_record_lands_in_results,
    ]
}

const SCENARIO: &str = r#"
    question = "What is it?"
    repetitions = 3
    [load]
    mode = "open"
    rate = 400.0
    duration = "500ms"
    warmup = "100ms"
    [matrix]
    server.strategy = ["shared-epoll", "reuseport"]
"#;

fn demand_names(value: &Value, names: &[&str]) {
    for name in names {
        let found = name.split('.').try_fold(value, |value, part| match part.parse::<usize>() {
            Ok(index) => value.get(index),
            Err(_) => value.get(part),
        });
        assert!(found.is_some(), "{name} is missing in {value}");
    }
}

fn a_record_has_every_file_and_name() {
    let bench = Bench::new(SCENARIO);
    let trials = bench.trials(0);
    assert_eq!(trials.len(), 6);
    for (i, trial) in trials.iter().enumerate() {
        assert_balanced(trial);
        assert_eq!((number(&trial["schema"]), number(&trial["trial"])), (2, i as u64));
        assert_eq!(number(&trial["repetition"]), i as u64 / 2);
        demand_names(
            trial,
            &[
                "scenario",
                "seed",
                "started_at",
                "cell.strategy",
                "outcome",
                "verdicts",
                "duration_s",
                "subject.kind",
                "subject.command",
                "rates.offered_per_s",
                "rates.accepted_per_s",
                "rates.completed_per_s",
                "rates.requests_per_s",
                "rates.drain_s",
                "connections.attempted",
                "connections.established",
                "connections.accepted",
                "connections.completed",
                "connections.left_in_queue",
                "connections.aborted",
                "connections.unaccounted",
                "connections.misdelivered",
                "connections.errors",
                "distribution.imbalance",
                "distribution.jain",
                "distribution.chi_squared",
                "distribution.p_value",
                "distribution.draws",
                "workers.1.member",
                "workers.1.pid",
                "workers.1.tid",
                "workers.1.comm",
                "workers.1.counted_by",
                "workers.1.accepted",
                "workers.1.wakeups",
                "workers.1.empty_wakeups",
                "workers.1.accept_eagain",
                "workers.1.requests",
                "workers.1.share.cpu",
                "workers.1.cpu_user_ns",
                "workers.1.cpu_system_ns",
                "workers.1.open_peak",
                "workers.1.queue_peak",
                "workers.1.queue_limit",
                "workers.1.exit",
                "loaders.0.loader",
                "loaders.0.attempted",
                "loaders.0.cpu_user_ns",
                "loaders.0.cpu_system_ns",
                "kernel.ListenOverflows",
                "kernel.ListenDrops",
                "kernel.TCPTimeWaitOverflow",
                "kernel.RetransSegs",
                "kernel_measured.ListenDrops",
                "softnet.squeezed",
                "machine.softirq",
                "sockets_peak.time_wait",
                "observer.cpu_system_ns",
                "workers.1.queue.full_share",
                "workers.1.accept_batch.mean",
                "stages_ns.return.p99",
                "series.queue_peak.0.1",
                "series.queue_drops.0.1",
                "series.interval_ms",
                "series.accepted.0.1",
                "series.queue_depth.0.1",
                "series.open.0.1",
            ],
        );
        let method = if requires::root() { "sock_ops" } else { "connect-call" };
        assert_eq!(trial["latency_ns"]["accept_wait"]["method"], method);
        assert_eq!(trial["latency_ns"]["accept_wait"]["ends"], "serving");
        for latency in ["accept_wait", "connect", "connect_from_intended", "response", "service", "send_lag"] {
            demand_names(
                &trial["latency_ns"][latency],
                &["due", "lost", "count", "min", "mean", "p50", "p90", "p99", "p999", "max"],
            );
        }
        demand_names(&trial["workers"][0]["accept_wait"], &["count", "p99", "method"]);
        // Latencies are of the window's connections, the balance is of all.
        let measured = number(&trial["measured"]["completed"]);
        assert_eq!(number(&trial["latency_ns"]["response"]["count"]), measured);
        assert!(measured < number(&trial["connections"]["completed"]));
        // A single population's figures are the trial's.
        let [load] = &trial["loads"].as_array().unwrap()[..] else { panic!("{}", trial["loads"]) };
        assert_eq!((&load["name"], &load["loaders"]), (&Value::from("load"), &Value::from([0])));
        for figures in ["rates", "measured", "latency_ns", "schedule"] {
            assert_eq!(load[figures], trial[figures], "{figures}");
        }
        for count in ["attempted", "established", "completed", "errors"] {
            assert_eq!(load["connections"][count], trial["connections"][count], "{count}");
        }
        assert_eq!(load["requests_completed"], trial["connections"]["replies"]);
        // The client's own part of the response is inside it, and lateness is part of the latency.
        assert!(trial["latency_ns"]["service"]["max"].as_u64() <= trial["latency_ns"]["response"]["max"].as_u64());
    }
    let host = read_json(&bench.path("out/host.json"));
    demand_names(
        &host,
        &[
            "kernel",
            "cpu",
            "memory_bytes",
            "open_files.hard",
            "sysctls.tcp_tw_reuse",
            "tool",
            "revision",
            "command",
            "seed",
        ],
    );
    let summary = read_json(&bench.path("out/summary.json"));
    assert_eq!(summary["cells"].as_array().unwrap().len(), 2);
    for cell in summary["cells"].as_array().unwrap() {
        assert_eq!((number(&cell["valid"]), number(&cell["invalid"]), number(&cell["failed"])), (3, 0, 0));
        for metric in ["accepted_per_s", "accept_wait_p50_ns", "accept_wait_p99_ns", "connect_p99_ns", "imbalance"] {
            let metric = &cell["metrics"][metric];
            let values: Vec<f64> = metric["values"].as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect();
            assert_eq!(values.len(), 3);
            let [median, low, high] = ["median", "low", "high"].map(|name| metric[name].as_f64().unwrap());
            assert!(low <= median && median <= high && values.contains(&median), "{metric}");
        }
    }
    let markdown = fs::read_to_string(bench.path("out/summary.md")).unwrap();
    let method = if requires::root() { "exact" } else { "upper bound" };
    for part in ["What is it?", "| reuseport", "accept wait p50", "empty wake-ups", method, "tcp_tw_reuse", "kernel"] {
        assert!(markdown.contains(part), "{part} is missing in {markdown}");
    }
    let page = fs::read_to_string(bench.path("out/report.html")).unwrap();
    for part in ["What is it?", "reuseport", "by percentile", "Share of accepts per worker", "<svg", "tcp_tw_reuse"] {
        assert!(page.contains(part), "{part} is missing in the report");
    }
    assert!(!page.contains("https://") && page.ends_with("</html>"));
}

fn histograms_are_readable_and_add_up() {
    let bench = Bench::new(SCENARIO);
    let trials = bench.trials(0);
    let log = fs::read(bench.path("out/histograms.hlog")).unwrap();
    let mut merged: BTreeMap<(usize, String), Histogram<u64>> = BTreeMap::new();
    let mut sums = BTreeMap::new();
    let mut per_worker = 0;
    for entry in IntervalLogIterator::new(&log) {
        let LogEntry::Interval(interval) = entry.unwrap() else { continue };
        let tag = interval.tag().unwrap().as_str().to_owned();
        let mut parts = tag.split('.');
        let trial: usize = parts.next().unwrap().strip_prefix('t').unwrap().parse().unwrap();
        let part = parts.next().unwrap();
        per_worker += usize::from(part.starts_with('w') && !tag.contains("stage_"));
        let bytes = base64_decode(interval.encoded_histogram());
        let histogram: Histogram<u64> = Deserializer::new().deserialize(&mut &bytes[..]).unwrap();
        if part == "all" {
            assert!(sums.insert((trial, parts.next().unwrap().to_owned()), histogram).is_none(), "{tag}");
            continue;
        }
        assert!(part.starts_with(['w', 'l']), "{tag}");
        let sum = merged
            .entry((trial, parts.next().unwrap().to_owned()))
            .or_insert_with(|| Histogram::new_with_bounds(1, 60_000_000_000, 3).unwrap());
        sum.add(histogram).unwrap();
    }
    let of = |(place, histogram): (&(usize, String), &Histogram<u64>)| {
        let figures = [0.5, 0.9, 0.99].map(|quantile| histogram.value_at_quantile(quantile));
        (place.clone(), histogram.len(), histogram.max(), figures)
    };
    assert!(sums.iter().map(of).eq(merged.iter().map(of)), "one sum for each trial and metric");
    assert_eq!(per_worker, 24, "6 trials × 2 workers × accept_wait and accept_batch");
    for ((trial, metric), histogram) in &merged {
        if metric == "accept_batch" {
            let workers = trials[*trial]["workers"].as_array().unwrap();
            let wakeups: u64 = workers.iter().map(|worker| number(&worker["accept_batch"]["count"])).sum();
            assert_eq!(wakeups, histogram.len(), "t{trial}");
            continue;
        }
        let recorded = match metric.strip_prefix("stage_") {
            Some(stage) => &trials[*trial]["stages_ns"][stage],
            None => &trials[*trial]["latency_ns"][metric],
        };
        assert_eq!(number(&recorded["count"]), histogram.len(), "t{trial} {metric}");
        assert_eq!(number(&recorded["p99"]), histogram.value_at_quantile(0.99), "t{trial} {metric}");
        assert_eq!(number(&recorded["max"]), histogram.max(), "t{trial} {metric}");
    }
    // A start is late because others came first, or because the timer was; a trial may have none of a kind.
    let lateness = ["queued_lag", "timer_lag"];
    let count = |trial: usize, metric: &str| merged.get(&(trial, metric.to_owned())).map_or(0, Histogram::len);
    for trial in 0..trials.len() {
        assert_eq!(
            lateness.map(|metric| count(trial, metric)).iter().sum::<u64>(),
            count(trial, "send_lag"),
            "t{trial}"
        );
    }
    let stages = if requires::root() { 8 } else { 7 };
    let others = merged.keys().filter(|(_, metric)| !lateness.contains(&metric.as_str()));
    assert_eq!(others.count(), 6 * (7 + stages));
}

fn base64_decode(text: &str) -> Vec<u8> {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digits = text.bytes().filter(|byte| *byte != b'=');
    let bits: Vec<u32> = digits.map(|byte| ALPHABET.iter().position(|a| *a == byte).unwrap() as u32).collect();
    let chunks = bits.chunks(4).flat_map(|chunk| {
        let word = chunk.iter().enumerate().fold(0, |word, (i, digit)| word | digit << (18 - 6 * i));
        word.to_be_bytes()[1..chunk.len()].to_vec()
    });
    chunks.collect()
}

fn a_list_shows_the_trials_and_runs_none() {
    let bench = Bench::new(SCENARIO);
    let output = bench.run(&["--list"]);
    assert_code(&output, 0);
    let text = stdout(&output);
    assert!(text.contains("2 cells × 3 repetitions = 6 trials") && text.contains("1 loader "), "{text}");
    assert_eq!(text.lines().filter(|line| line.contains("strategy=")).count(), 6, "{text}");
    assert!(!bench.path("out").exists());
    assert_eq!(text, stdout(&bench.run(&["--list"])));
    assert_ne!(text, stdout(&bench.run(&["--list", "--seed", "5"])));
    let swept = stdout(&bench.run(&["--list", "--set", "server.workers=[1,2,3]", "--set", "repetitions=1"]));
    assert!(swept.contains("6 cells × 1 repetition = 6 trials"), "{swept}");
}

fn several_scenarios_leave_several_records() {
    let bench = scenario().connections(5).bench();
    fs::write(bench.path("other.toml"), "name = \"second\"\nrepetitions = 1\n[load]\nconnections = 5").unwrap();
    let output = bench.command(&["run", "scenario.toml", "other.toml", "--out", "both"]).output().unwrap();
    assert_code(&output, 0);
    assert!(bench.path("both/scenario/summary.md").exists() && bench.path("both/second/summary.md").exists());
    // Progress is a line a trial where there is no terminal, and the record's path ends each table.
    assert!(stderr(&output).contains("1 of 1: trial 0, repetition 0"), "{}", stderr(&output));
    assert!(stdout(&output).contains("record: both/second"), "{}", stdout(&output));
}

fn without_out_a_record_lands_in_results() {
    let bench = scenario().connections(5).bench();
    assert_code(&bench.command(&["run", "scenario.toml"]).output().unwrap(), 0);
    let folders: Vec<String> = fs::read_dir(bench.path("results"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(folders.len(), 1);
    assert!(folders[0].starts_with("20") && folders[0].ends_with("Z-scenario"), "{folders:?}");
}
