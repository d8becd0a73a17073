//! Rates of starts that change, clients that think, and connections that are replaced.

use std::{fs, path::Path};

use serde_json::{Value, json};

use crate::common::{
    Bench, Scenario, assert_balanced, assert_code, number, of_workers, read_trials, scenario, stderr, stdout,
};

tests! {
    nothing [
        each_kind_of_arrivals_starts_what_its_rates_say,
        a_schedule_is_the_same_for_every_strategy_and_number_of_loaders,
        a_table_of_rates_is_beside_its_scenario_and_then_in_the_record,
        a_wrong_table_of_rates_is_named_with_its_line,
        a_loader_for_the_highest_rate,
        clients_that_think_ask_one_after_the_other,
        replaced_connections_are_established_accepted_and_completed,
        a_search_needs_one_rate,
    ]
}

fn open(arrivals: &str) -> Scenario {
    scenario().set("load.mode", "open").set("load.arrivals", arrivals).duration("600ms").set("load.close_how", "rst")
}

fn ramp() -> Scenario {
    open("ramp").set("load.rate_from", 100).set("load.rate_to", 900)
}

fn mmpp() -> Scenario {
    open("mmpp")
        .set("load.rate_low", 200)
        .set("load.rate_high", 1_200)
        .set("load.dwell_low", "20ms")
        .set("load.dwell_high", "20ms")
}

fn rates() -> Scenario {
    let rows = json!([[0, 100], [60, 1_000], [120, 0], [180, 700]]);
    open("rates").set("load.rates", rows).set("load.rates_speed", 400)
}

fn effective(bench: &Bench) -> String {
    fs::read_to_string(bench.path("out/scenario.toml")).unwrap()
}

fn each_kind_of_arrivals_starts_what_its_rates_say() {
    for (name, scenario, expected, deviation) in [
        // 500 per second for 600 ms, and the square root of that.
        ("ramp", ramp(), 300.0, 17.3),
        // 700 per second; the index of dispersion is 1 + 2·1000²·50²/(100²·(200·50 + 1200·50)) = 8.1.
        ("mmpp", mmpp(), 420.0, 58.5),
        // 150 ms each at 100, 1000, 0 and 700 per second.
        ("rates", rates(), 270.0, 16.4),
    ] {
        let bench = scenario.bench();
        let trial = &bench.trials(0)[0];
        assert_balanced(trial);
        let (measured, connections) = (&trial["measured"], &trial["connections"]);
        let planned = number(&measured["planned"]);
        assert!((planned as f64 - expected).abs() < 5.0 * deviation, "{name}: {planned}");
        let counts = ["attempted", "established", "accepted", "completed"].map(|count| number(&connections[count]));
        assert_eq!(counts, [planned; 4], "{name}: {connections}");
        let offered = trial["rates"]["offered_per_s"].as_f64().unwrap();
        assert!((offered * 0.6 - planned as f64).abs() < 1e-6 * offered, "{name}: {offered}");
        assert!(trial["loads"][0]["schedule"].is_string(), "{trial}");
        assert!(effective(&bench).contains(&format!("arrivals = \"{name}\"")), "{}", effective(&bench));
    }
}

fn a_schedule_is_the_same_for_every_strategy_and_number_of_loaders() {
    for scenario in [ramp(), mmpp(), rates()] {
        let strategies = ["shared-epoll", "reuseport"];
        let bench = scenario.each("server.strategy", json!(strategies)).each("load.loaders", json!([1, 3])).bench();
        let trials = bench.trials(0);
        assert_eq!(trials.len(), 4);
        let of = |trial: &Value| (trial["loads"][0]["schedule"].clone(), trial["measured"]["planned"].clone());
        assert!(trials.iter().all(|trial| of(trial) == of(&trials[0])), "{trials:?}");
        // Another seed has another schedule.
        let output = bench.command(&["run", "scenario.toml", "--out", "other", "--seed=77"]).output().unwrap();
        assert_code(&output, 0);
        assert_ne!(of(&read_trials(&bench.path("other"))[0]).0, of(&trials[0]).0);
    }
}

fn a_table_of_rates_is_beside_its_scenario_and_then_in_the_record() {
    let bench = Bench::new("");
    fs::create_dir(bench.path("day")).unwrap();
    fs::write(bench.path("day/rates.csv"), "# one hour\ntime,rate\n00:00,200\n00:15,900\n00:30,0\n00:45,400\n")
        .unwrap();
    let text = "repetitions = 1\n[load]\nmode = \"open\"\narrivals = \"rates\"\nrates = \"rates.csv\"\nrates_speed = 6000\n\
                duration = \"600ms\"\nclose_how = \"rst\"\n";
    fs::write(bench.path("day/day.toml"), text).unwrap();
    let run = |scenario: &str, out: &str, more: &[&str]| {
        let output = bench.command(&[&["run", scenario, "--out", out], more].concat()).output().unwrap();
        assert_code(&output, 0);
        let trial = read_trials(&bench.path(out)).remove(0);
        assert_balanced(&trial);
        (trial["loads"][0]["schedule"].clone(), number(&trial["measured"]["planned"]))
    };
    // Another working directory than the scenario's.
    let first = run("day/day.toml", "out", &[]);
    // 150 ms each at 200, 900, 0 and 400 per second: 225, with a standard deviation of 15.
    assert!((150..=300).contains(&first.1), "{}", first.1);
    // On the command line, a name is relative to the working directory.
    assert_eq!(run("day/day.toml", "set", &["--set", "load.rates=day/rates.csv"]), first);
    fs::remove_file(bench.path("day/rates.csv")).unwrap();
    let recorded = effective(&bench);
    assert!(recorded.contains("rates = [[0.0, 200.0], [900.0, 900.0], [1800.0, 0.0], [2700.0, 400.0]]"), "{recorded}");
    assert_eq!(run("out/scenario.toml", "again", &[]), first);
}

fn a_wrong_table_of_rates_is_named_with_its_line() {
    let bench = Bench::new("[load]\nmode = \"open\"\narrivals = \"rates\"\nrates = \"day.csv\"\n");
    let says = |table: Option<&str>, expected: &str| {
        if let Some(table) = table {
            fs::write(bench.path("day.csv"), table).unwrap();
        }
        let output = bench.run(&["--dry-run"]);
        assert_code(&output, 2);
        let expected = format!("scenario.toml:4: `load.rates`: day.csv{expected}");
        assert!(stderr(&output).contains(&expected), "{expected:?}: {}", stderr(&output));
    };
    says(None, ": No such file or directory");
    says(
        Some("time,rate\n0,100\n60,many\n"),
        ":3: expected a rate in starts per second, such as `250` or `0.5`, not \"many\"",
    );
    says(Some("0,100\n60;200\n"), ":2: expected a time and a rate, such as `3600,250`, not \"60;200\"");
    says(Some("0,100\n0,200\n"), ":2: times must ascend, and 0 s follows 0 s");
    says(Some("time,rate\n"), " has no rows");
    assert!(!Path::new(&bench.path("out")).exists());
}

fn a_loader_for_the_highest_rate() {
    let bench = Bench::new("[load]\nmode = \"open\"\narrivals = \"ramp\"\nrate_to = 30000\n");
    let output = bench.run(&["--dry-run"]);
    assert_code(&output, 0);
    let said = stdout(&output);
    assert!(said.contains("3 loaders"), "{said}");
}

fn clients_that_think_ask_one_after_the_other() {
    const CLIENTS: u64 = 8;
    let kept = |distribution: &str| {
        scenario()
            .set("load.mode", "kept")
            .set("load.concurrency", CLIENTS)
            .set("load.think_time", "50ms")
            .set("load.think_distribution", distribution)
            .duration("800ms")
    };
    for distribution in ["fixed", "exponential", "lognormal", "pareto"] {
        let bench = kept(distribution).set("load.engine", "auto").set("load.loaders", 2).bench();
        let trial = &bench.trials(0)[0];
        assert_balanced(trial);
        let (connections, measured) = (&trial["connections"], &trial["measured"]["kept"]);
        let counts = ["attempted", "accepted", "completed"].map(|count| number(&connections[count]));
        assert_eq!(counts, [CLIENTS; 3], "{distribution}: {connections}");
        let (planned, replies) = (number(&measured["planned"]), number(&connections["replies"]));
        assert_eq!((planned, number(&measured["completed"])), (replies, replies), "{distribution}: {measured}");
        assert!(replies > CLIENTS, "{distribution}: {replies}");
        if distribution == "fixed" {
            // A client asks at most once in 50 ms, however late it was before.
            assert!(replies <= CLIENTS * 800 / 50, "{replies}");
        }
        // When requests were due depended on the server.
        assert!(trial["rates"]["offered_per_s"].is_null() && trial["loads"][0]["schedule"].is_null(), "{trial}");
    }
    // A server that takes 100 ms for each is asked less often, and by no more than one request of each client at once.
    let slow = kept("fixed").workers(1).set("server.service_time", "100ms").bench();
    let trial = &slow.trials(0)[0];
    let replies = number(&trial["connections"]["replies"]);
    assert!((CLIENTS..=3 * CLIENTS).contains(&replies), "{replies}");
}

fn replaced_connections_are_established_accepted_and_completed() {
    for (engine, asking) in [("mio", "load.request_rate"), ("auto", "load.request_rate"), ("mio", "load.think_time")] {
        let bench = scenario()
            .set("load.mode", "kept")
            .set("load.concurrency", 8)
            .set(asking, if asking.ends_with("rate") { json!(100) } else { json!("5ms") })
            .set("load.lifetime", "100ms")
            .set("load.lifetime_distribution", "fixed")
            .set("load.close_how", "rst")
            .set("load.engine", engine)
            .duration("600ms")
            .bench();
        let trial = &bench.trials(0)[0];
        assert_balanced(trial);
        let connections = &trial["connections"];
        let replaced = number(&connections["replaced"]);
        // Each of the eight lives for at least 100 ms of the 600, after which none is replaced, however late its requests are.
        assert!((8..=8 * 5).contains(&replaced), "{connections}");
        let counts = ["attempted", "established", "accepted", "completed"].map(|count| number(&connections[count]));
        assert_eq!(counts, [8 + replaced; 4], "{connections}");
        assert_eq!(of_workers(trial, "accepted").iter().sum::<u64>(), 8 + replaced);
        assert_eq!((number(&connections["reconnected"]), &connections["errors"]), (0, &json!([])));
        assert_eq!(number(&trial["loads"][0]["connections"]["replaced"]), replaced);
        // No request is lost to a replacement.
        let kept = &trial["measured"]["kept"];
        assert_eq!(number(&kept["planned"]), number(&kept["completed"]), "{kept}");
        let markdown = fs::read_to_string(bench.path("out/summary.md")).unwrap();
        assert!(markdown.contains("took the place of one whose lifetime"), "{markdown}");
    }
}

fn a_search_needs_one_rate() {
    let search = "[search]\nmetric = \"response_p99\"\nlimit = \"5ms\"\n[load]\nmode = \"open\"\narrivals = \"mmpp\"\n";
    let output = Bench::new(search).run(&["--dry-run"]);
    assert_code(&output, 2);
    let expected = "`search.variable`: `load.rate` has no effect in this scenario: `load.arrivals = \"mmpp\"` has no such rate to vary";
    assert!(stderr(&output).contains(expected), "{}", stderr(&output));
}
