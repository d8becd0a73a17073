//! What readers of a record have of several populations: figures, tags, answers, searches; and what a storm does to kept connections.

use std::fs;

use serde_json::Value;

use crate::common::{Bench, assert_code, assert_kept_and_storm, number, read_json, stderr, stdout, when_undisturbed};

tests! {
    nothing [
        each_population_has_figures_of_its_own,
        a_damaged_histogram_of_a_population_is_named,
        metrics_of_populations_are_checked_before_the_first_trial,
        a_search_keeps_one_population_s_limit_by_another_s_key,
        a_burst_that_is_drained_keeps_open_connections_waiting,
    ]
}

const MIXED: &str = r#"
    question = "What becomes of kept connections?"
    seed = 5
    repetitions = 2
    server.workers = 2
    [[load]]
    name = "kept"
    mode = "kept"
    arrivals = "constant"
    concurrency = 4
    request_rate = 50.0
    duration = "400ms"
    warmup = "100ms"
    [[load]]
    name = "storm"
    mode = "open"
    arrivals = "constant"
    rate = 300.0
"#;

fn each_population_has_figures_of_its_own() {
    let bench = Bench::new(MIXED);
    let said = bench.run(&[]);
    assert_code(&said, 0);
    let said = stdout(&said);
    for answer in ["response p99 of kept", "response p99 of storm"] {
        assert!(said.contains(answer), "{said}");
    }
    let read = |name: &str| fs::read_to_string(bench.path(&format!("out/{name}"))).unwrap();
    let summary = read_json(&bench.path("out/summary.json"));
    let answers = summary["answers"].as_array().unwrap().iter().map(|answer| answer["metric"].as_str().unwrap());
    assert_eq!(answers.collect::<Vec<_>>(), ["kept.response_p99_ns", "storm.response_p99_ns"]);
    let metrics = &summary["cells"][0]["metrics"];
    // 4 connections × 50 per second; a connection per request.
    assert_kept_and_storm(metrics);
    assert!(metrics["kept.accepted_per_s"].is_null() && metrics["accepted_per_s"].is_object());

    let (cells, trials) = (read("cells.csv"), read("trials.csv"));
    assert!(cells.contains("\nkept.response_p99_ns,,,ns,lower,2,2,"), "{cells}");
    assert!(trials.lines().next().unwrap().contains(",storm.response_p99_ns,"), "{trials}");
    let exposition = read("metrics.txt");
    let family =
        exposition.split("# TYPE ").find(|family| family.starts_with("listenbench_response_p99_seconds ")).unwrap();
    for load in ["{scenario=", "load=\"kept\",stat=\"median\"}", "load=\"storm\",stat=\"median\"}"] {
        assert!(family.contains(load), "{family}");
    }
    let log = read("histograms.hlog");
    for tag in ["Tag=t0.kept.l0.response,", "Tag=t1.storm.l1.connect,", "Tag=t0.w0.accept_batch,"] {
        assert!(log.contains(tag), "{tag}");
    }
    let files: Vec<_> =
        fs::read_dir(bench.path("out/percentiles")).unwrap().map(|file| file.unwrap().file_name()).collect();
    assert!(files.iter().any(|name| name.to_string_lossy().ends_with(".kept.response.hgrm")), "{files:?}");
    let page = read("report.html");
    assert!(page.contains("Response of kept by percentile") && page.contains("Response of storm by percentile"));
    // Read again, the record agrees with its log.
    assert_code(&bench.command(&["report", "out"]).output().unwrap(), 0);
}

fn a_damaged_histogram_of_a_population_is_named() {
    let bench = Bench::new(MIXED);
    assert_code(&bench.run(&["--set", "repetitions=1"]), 0);
    let path = bench.path("out/histograms.hlog");
    // The populations change places in the log: its sums stay.
    let log = fs::read_to_string(&path).unwrap();
    let swapped = log.replace(".kept.l0.response,", ".x.").replace(".storm.l1.response,", ".kept.l0.response,");
    fs::write(&path, swapped.replace(".x.", ".storm.l1.response,")).unwrap();
    let output = bench.command(&["report", "out"]).output().unwrap();
    let said = stdout(&output) + &stderr(&output);
    assert!(said.contains("`t0.kept.*.response`") && said.contains("`t0.storm.*.response`"), "{said}");
}

fn metrics_of_populations_are_checked_before_the_first_trial() {
    let alone = "[load]\nduration = \"1s\"\n";
    for (scenario, answer, says) in [
        (MIXED, "keep.response_p99", "the populations of this scenario are `kept`, `storm`"),
        (MIXED, "kept.respons_p99", "did you mean `kept.response_p99_ns`"),
        (MIXED, "kept.imbalance", "`imbalance` is known of the whole load only, not of `kept`"),
        (alone, "load.response_p99", "only a scenario with several [[load]] tables has metrics by population"),
    ] {
        let bench = Bench::new(scenario);
        let output = bench.run(&["--set", &format!("answers=[\"{answer}\"]")]);
        assert_code(&output, 2);
        assert!(stderr(&output).contains("answers") && stderr(&output).contains(says), "{answer}: {}", stderr(&output));
    }
}

fn a_search_keeps_one_population_s_limit_by_another_s_key() {
    let bench = Bench::new(MIXED);
    // A limit that nothing breaks, and one that nothing keeps.
    for (limit, status) in [("1m", "no-end-found"), ("1ns", "nothing-within")] {
        let search = [
            "repetitions=2",
            "load.kept.reply_timeout=30s",
            "search.metric=kept.response_p99",
            &format!("search.limit={limit}"),
            "search.variable=load.storm.rate",
            "search.highest=400.0",
        ];
        let arguments: Vec<&str> = search.iter().flat_map(|set| ["--set", *set]).collect();
        fs::remove_dir_all(bench.path("out")).ok();
        let output = bench.run(&arguments);
        let found = &read_json(&bench.path("out/summary.json"))["searches"][0];
        assert_eq!(found["variable"], "load.storm.rate", "{}", stderr(&output));
        assert_eq!((&found["metric"], &found["status"]), (&"kept.response_p99_ns".into(), &status.into()), "{found}");
        let said = stdout(&output);
        assert!(said.contains("The highest load.storm.rate that keeps response p99 of kept within "), "{said}");
    }
}

/// One worker, stopped until a burst of connections and a request of an open one wait for it. Each costs 5 ms.
const BURST: &str = r#"
    repetitions = 1
    seed = 2
    deadline = "60s"
    [server]
    strategy = "shared-epoll"
    workers = 1
    service_time = "5ms"
    [[load]]
    name = "kept"
    mode = "kept"
    arrivals = "constant"
    concurrency = 1
    request_rate = 20.0
    reply_timeout = "30s"
    duration = "3500ms"
    [[load]]
    name = "storm"
    mode = "open"
    arrivals = "burst"
    burst_size = 400
    burst_every = "30s"
    start = "450ms"
    reply_timeout = "30s"
    [[event]]
    kind = "stall"
    worker = 0
    at = "350ms"
    for = "500ms"
    [matrix]
    server.accept_batch = [1, "drain"]
"#;

/// A worker serves what it has accepted before it looks at its open connections again. So an open connection waits for the whole burst
/// (N·s) if the worker drains its queue, and for one of it if it accepts one at a time (2·s, with its own service).
fn a_burst_that_is_drained_keeps_open_connections_waiting() {
    when_undisturbed(|| {
        let bench = Bench::new(BURST);
        assert_code(&bench.run(&[]), 0);
        let trials = bench.read_trials();
        let of = |batch: Value| trials.iter().find(|trial| trial["cell"]["accept_batch"] == batch).unwrap();
        let (one, drain) = (of(1.into()), of("drain".into()));
        let batch = |trial: &Value| number(&trial["workers"][0]["accept_batch"]["max"]);
        assert_eq!((batch(one), batch(drain)), (1, 400), "the whole burst was there when the worker went on");
        let response =
            |trial: &Value, load: usize, figure| number(&trial["loads"][load]["latency_ns"]["response"][figure]);
        let [kept, storm] = [0, 1];
        // The open connection's request came before the burst, and was answered after all of it or before nearly all of it.
        assert!(response(drain, kept, "max") > response(drain, storm, "max") / 5 * 4, "{}", drain["loads"]);
        assert!(response(one, kept, "max") < response(one, storm, "max") / 2, "{}", one["loads"]);
        // N·s beside 2·s: while the burst lasts, as well.
        assert!(response(drain, kept, "p50") > 20 * response(one, kept, "p50"), "{} {}", drain["loads"], one["loads"]);
    });
}
