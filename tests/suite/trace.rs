//! Traces: what `listenbench trace` shows of them, and that a load makes each of their starts.

use std::{fs, process::Command};

use serde_json::{Value, json};

use crate::common::{Bench, assert_balanced, assert_code, number, scenario, stderr, stdout, words};

tests! {
    nothing [
        a_log_of_a_thousand_lines_makes_a_thousand_connections,
        requests_of_one_connection_are_made_on_one,
        a_table_decides_requests_and_holds,
        double_speed_halves_the_load_and_repetition_multiplies_it,
        a_trace_runs_beside_another_population,
        malformed_lines_are_located_and_too_many_refused,
        a_plan_refuses_what_cannot_be_replayed,
        a_preview_shows_rate_burstiness_and_gaps,
        a_million_lines_take_little_memory,
    ]
    root_and_tcpdump [
        a_capture_of_a_replay_is_the_trace_again,
    ]
}

/// A bench whose scenario replays the file `trace` of its folder.
fn replaying(text: &str, change: impl FnOnce(crate::common::Scenario) -> crate::common::Scenario) -> Bench {
    let trace = scenario().set("load.mode", "open").set("load.arrivals", "trace").set("load.trace", "trace");
    let bench = change(trace.set("server.workers", 2)).bench();
    fs::write(bench.path("trace"), text).unwrap();
    bench
}

/// Lines of nginx's combined format, so many in each of as many seconds.
fn combined(seconds: u64, each: u64) -> String {
    let line = |second: u64| {
        format!(
            "192.0.2.{} - - [14/Nov/2023:22:13:{second:02} +0000] \"GET / HTTP/1.1\" 200 612 \"-\" \"curl\"\n",
            second + 1
        )
    };
    (0..seconds).flat_map(|second| (0..each).map(move |_| line(second))).collect()
}

fn of_load(trial: &Value) -> &Value {
    &trial["loads"][0]["replay"]
}

fn a_log_of_a_thousand_lines_makes_a_thousand_connections() {
    let bench = replaying(&combined(4, 250), |one| one.set("load.trace_speed", 4.0));
    let trial = &bench.trials(0)[0];
    assert_balanced(trial);
    let connections = &trial["connections"];
    assert_eq!(
        (number(&connections["established"]), number(&connections["verified"])),
        (1_000, 1_000),
        "{connections}"
    );
    let replay = of_load(trial);
    for (key, count) in
        [("lines", 1_000), ("connections", 1_000), ("requests", 1_000), ("spread", 1_000), ("traced", 1_000)]
    {
        assert_eq!(number(&replay[key]), count, "{key}: {replay}");
    }
    assert_eq!([&replay["due"], &replay["started"], &replay["missed"]].map(number), [1_000, 1_000, 0], "{replay}");
    assert_eq!(number(&replay["late_max_ns"]), number(&trial["latency_ns"]["send_lag"]["max"]));
    assert_eq!(replay["tells_connections"], json!(false));
    let sum = Command::new("sha256sum").arg(bench.path("trace")).output().unwrap();
    assert!(stdout(&sum).starts_with(replay["sha256"].as_str().unwrap()), "{replay}");
    let summary = words(&fs::read_to_string(bench.path("out/report.html")).unwrap());
    for part in [
        "Replayed traces",
        "All 1,000 starts that were due were made",
        "spread at random within each second",
        "one request",
    ] {
        assert!(summary.contains(part), "{part}: {summary}");
    }
    // Every repetition, and any number of loaders, follows the same schedule.
    let again =
        replaying(&combined(4, 250), |one| one.set("load.trace_speed", 4.0).set("load.loaders", 3).set("seed", 9));
    assert_eq!(again.trials(0)[0]["loads"][0]["schedule"], trial["loads"][0]["schedule"]);
}

fn requests_of_one_connection_are_made_on_one() {
    // 100 clients with 1, 2 and 3 requests in turn, logged as they end: not in the order of their starts.
    let mut lines: Vec<(u64, String)> = Vec::new();
    for client in 0..100 {
        for request in 0..=client % 3 {
            let end_ms = 10 * client + 7 * request + 5;
            let line = format!(
                "{{\"msec\": \"1700000000.{end_ms:03}\", \"request_time\": \"0.005\", \"remote_addr\": \"::1\", \"remote_port\": \"{}\"}}\n",
                5_000 + client
            );
            lines.push((end_ms, line));
        }
    }
    lines.retain(|(end_ms, _)| *end_ms < 1_000);
    lines.sort();
    let requests = lines.len() as u64;
    let text: String = lines.into_iter().map(|(_, line)| line).collect();
    let bench = replaying(&text, |one| one);
    let trial = &bench.trials(0)[0];
    assert_balanced(trial);
    assert_eq!(number(&trial["connections"]["established"]), 100, "{}", trial["connections"]);
    assert_eq!(number(&trial["connections"]["verified"]), requests);
    assert_eq!((number(&of_load(trial)["requests"]), &of_load(trial)["tells_connections"]), (requests, &json!(true)));
}

fn a_table_decides_requests_and_holds() {
    // All 20 are held until a second after the first starts, so that they are open together.
    let rows: String = (0..20)
        .map(|row| format!("{:.3},{},{:.3}\n", f64::from(row) / 100.0, 1 + row % 4, 1.0 - f64::from(row) / 100.0))
        .collect();
    let bench = replaying(&format!("time,requests,hold\n{rows}"), |one| one.set("load.duration", "1500ms"));
    let trial = &bench.trials(0)[0];
    assert_balanced(trial);
    assert_eq!(number(&trial["connections"]["verified"]), 50, "{}", trial["connections"]);
    let peak = trial["workers"].as_array().unwrap().iter().map(|worker| number(&worker["open_peak"])).sum::<u64>();
    assert_eq!(peak, 20, "{}", trial["workers"]);
}

fn double_speed_halves_the_load_and_repetition_multiplies_it() {
    let rows: String = (0..100).map(|row| format!("{:.2}\n", f64::from(row) / 100.0)).collect();
    let bench = replaying(&rows, |one| one.each("load.trace_speed", [1.0, 2.0]).each("load.trace_repeat", [1, 3]));
    let trials = bench.trials(0);
    assert_eq!(trials.len(), 4);
    for trial in &trials {
        let (speed, repeat) = (trial["cell"]["trace_speed"].as_f64().unwrap(), number(&trial["cell"]["trace_repeat"]));
        let replay = of_load(trial);
        assert_eq!(number(&replay["started"]), 100 * repeat, "{replay}");
        assert_eq!(number(&trial["connections"]["established"]), 100 * repeat);
        let expected = repeat as f64 / speed;
        assert!((replay["length_s"].as_f64().unwrap() - expected).abs() < 1e-6, "{replay}");
        assert!((trial["duration_s"].as_f64().unwrap() - expected).abs() < 1e-6, "{}", trial["duration_s"]);
    }
}

fn a_trace_runs_beside_another_population() {
    let text = "repetitions = 1\nserver.workers = 2\n[[load]]\nname = \"log\"\nmode = \"open\"\narrivals = \"trace\"\ntrace = \"trace\"\n\
                start = \"200ms\"\n[[load]]\nname = \"steady\"\nconcurrency = 2\n";
    let bench = Bench::new(text);
    fs::write(bench.path("trace"), "0\n0.1\n0.2\n0.3\n").unwrap();
    let trial = &bench.trials(0)[0];
    assert_balanced(trial);
    assert_eq!(number(&of_load(trial)["started"]), 4);
    // The trace takes 400 ms, and ends both.
    assert!((trial["duration_s"].as_f64().unwrap() - 0.6).abs() < 1e-6, "{}", trial["duration_s"]);
    assert!(trial["loads"][1]["replay"].is_null());
}

fn malformed_lines_are_located_and_too_many_refused() {
    let log = format!("{}what is this?\n{}", combined(1, 150), combined(1, 50));
    let bench = replaying(&log, |one| one);
    let trial = &bench.trials(0)[0];
    let replay = of_load(trial);
    assert_eq!(
        (number(&replay["lines"]), number(&replay["malformed"]), number(&replay["started"])),
        (201, 1, 200),
        "{replay}"
    );
    assert_eq!(number(&replay["malformed_first"][0]["line"]), 151);
    assert!(
        words(&fs::read_to_string(bench.path("out/summary.md")).unwrap())
            .contains("trace:151 does not have the log's layout")
    );
    let refused = bench.run(&["--set=load.trace_max_malformed=0.001", "--dry-run"]);
    assert_code(&refused, 2);
    let said = stderr(&refused);
    assert!(said.contains("scenario.toml:") && said.contains("`load.trace`") && said.contains("line 151"), "{said}");
}

fn a_plan_refuses_what_cannot_be_replayed() {
    let bench = replaying("0\n1\n", |one| one);
    for (set, problem) in [
        ("load.trace=missing.log", "missing.log: No such file or directory"),
        ("load.trace=.", "is a folder"),
        ("load.trace_from=\"5s\"", "has no start from"),
        ("load.trace_format=\"pcapng\"", "does not begin like a capture"),
        ("load.trace_format=\"xml\"", "must be \"auto\""),
        ("load.connections=5", "excludes load.arrivals"),
        ("load.rate=5", "`load.rate` has no effect"),
        ("deadline=\"100ms\"", "ends the trial before"),
        ("load.mode=\"kept\"", "is about when connections start"),
    ] {
        let refused = bench.run(&["--dry-run", "--set", set]);
        assert_code(&refused, 2);
        assert!(words(&stderr(&refused)).contains(problem), "{set}: {}", stderr(&refused));
    }
    let planned = bench.run(&["--dry-run", "--verbose"]);
    assert_code(&planned, 0);
    assert!(words(&stderr(&planned)).contains("/trace (CSV): 2 starts in 2"), "{}", stderr(&planned));
}

fn a_preview_shows_rate_burstiness_and_gaps() {
    let bench = Bench::new("");
    // 10 starts at once, ten times a second.
    let rows: String = (0..1_000).map(|row| format!("{:.1}\n", f64::from(row / 10) / 10.0)).collect();
    fs::write(bench.path("trace.csv"), &rows).unwrap();
    let preview = |more: &[&str]| bench.command(&[&["trace", "trace.csv"], more].concat()).output().unwrap();
    let shown = preview(&[]);
    assert_code(&shown, 0);
    let text = words(&stdout(&shown));
    for part in [
        "trace.csv: CSV",
        "1,000 lines, 1,000 connections",
        "1,000 starts in",
        "Burstiness",
        "Gaps between starts",
        "900 at the same instant",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let json: Value =
        serde_json::from_str(&stdout(&preview(&["--json", "--speed", "2", "--to", "5s", "--repeat", "3"]))).unwrap();
    assert_eq!((number(&json["starts"]), json["length_s"].as_f64()), (1_500, Some(7.5)), "{json}");
    assert_eq!(json["rate"]["starts"].as_array().unwrap().iter().map(number).sum::<u64>(), 500);
    // In windows of 10 ms, a fifth has ten starts: the mean is 2, the variance 16.
    let index = json["dispersion"].as_array().unwrap().iter().find(|one| one["window_s"] == json!(0.01)).unwrap();
    assert!((index["index"].as_f64().unwrap() - 8.0).abs() < 0.1, "{index}");
    assert_eq!(number(&json["gaps"]["together"]), 450);
    let packed = Command::new("gzip").args(["-k"]).arg(bench.path("trace.csv")).status().unwrap();
    assert!(packed.success());
    let unpacked = bench.command(&["trace", "trace.csv.gz", "--json"]).output().unwrap();
    assert_eq!(number(&serde_json::from_str::<Value>(&stdout(&unpacked)).unwrap()["connections"]), 1_000);
    for (more, code, problem) in [
        (&["--speed", "0"][..], 2, "--speed: must be a number"),
        (&["--format", "xml"], 2, "--format xml: must be one of"),
        (&["--from", "2s", "--to", "1s"], 2, "--to must be after --from"),
        (&["--from", "1h"], 1, "has no start from"),
        (&["--format", "pcap"], 1, "does not begin like a capture"),
    ] {
        let refused = preview(more);
        assert_code(&refused, code);
        assert!(words(&stderr(&refused)).contains(problem), "{more:?}: {}", stderr(&refused));
    }
}

/// Whatever the length of a log, reading it takes a few MB.
fn a_million_lines_take_little_memory() {
    let bench = Bench::new("");
    let mut text = String::new();
    for row in 0..1_000_000_u64 {
        // Nearly in order, as logs are.
        text += &format!("{}.{:03} GET\n", 1_700_000_000 + row / 1_000, (row * 7) % 1_000);
    }
    fs::write(bench.path("log"), &text).unwrap();
    drop(text);
    let script = "ulimit -d $((32 * 1024)) && exec \"$0\" trace log --json";
    let binary = env!("CARGO_BIN_EXE_listenbench");
    let output = Command::new("sh").args(["-c", script, binary]).current_dir(bench.path("")).output().unwrap();
    assert_code(&output, 0);
    let json: Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!((number(&json["lines"]), number(&json["starts"])), (1_000_000, 1_000_000));
    assert!((json["length_s"].as_f64().unwrap() - 1_000.0).abs() < 0.01, "{}", json["length_s"]);
}

/// What tcpdump sees of a Poisson load, replayed, has the gaps of that load.
fn a_capture_of_a_replay_is_the_trace_again() {
    let rows = "0\n0.05\n0.06\n0.2\n0.25\n0.7\n0.71\n0.9\n";
    let bench = replaying(rows, |one| {
        one.set("network", "host").set("port", i64::from(crate::common::free_port())).set("load.loaders", 1)
    });
    let port = fs::read_to_string(bench.path("scenario.toml")).unwrap();
    let port: String = port.lines().find_map(|line| line.strip_prefix("port = ")).unwrap().to_owned();
    let capture = bench.path("capture.pcap");
    let mut tcpdump = Command::new("tcpdump")
        .args(["-i", "lo", "-U", "-s", "128", "-w"])
        .arg(&capture)
        .arg(format!("tcp dst port {port} and tcp[tcpflags] & (tcp-syn|tcp-ack) == tcp-syn"))
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    // Its first line says that it listens.
    let mut said = std::io::BufReader::new(tcpdump.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("listening on") {
        line.clear();
        assert_ne!(std::io::BufRead::read_line(&mut said, &mut line).unwrap(), 0, "tcpdump ended");
    }
    let output = bench.run(&[]);
    assert_code(&output, 0);
    crate::common::wait_until("the capture has all SYNs", || {
        let seen = bench.command(&["trace", "capture.pcap", "--json"]).output().unwrap();
        let json: Option<Value> = serde_json::from_str(&stdout(&seen)).ok();
        json.is_some_and(|json| number(&json["connections"]) == 8)
    });
    Command::new("kill").args(["-INT", &tcpdump.id().to_string()]).status().unwrap();
    tcpdump.wait().unwrap();
    // Its replay makes as many connections, and is as long.
    let again = bench
        .command(&["run", "scenario.toml", "--out", "again", "--set", "load.trace=capture.pcap"])
        .output()
        .unwrap();
    assert_code(&again, 0);
    let trial = &crate::common::read_trials(&bench.path("again"))[0];
    assert_eq!((number(&of_load(trial)["started"]), of_load(trial)["format"].as_str()), (8, Some("pcap")));
    assert_eq!(number(&trial["connections"]["established"]), 8);
    // A log that has another content is another trace.
    let compared = |b: &str| words(&stdout(&bench.command(&["compare", "out", b]).output().unwrap()));
    assert!(compared("again").contains("different scenario: SHA-256 of what was replayed: "), "{}", compared("again"));
    assert!(!compared("out").contains("SHA-256"), "{}", compared("out"));
}
