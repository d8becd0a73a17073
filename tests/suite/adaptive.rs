//! Runs whose number of trials depends on what the first ones find: `[stop]` and `[search]`.

use crate::common::{Bench, assert_code, read_json, stderr, stdout, when_undisturbed};
use serde_json::Value;

tests! {
    nothing [
        repetitions_end_with_the_look_that_decides,
        a_run_that_decides_nothing_says_so,
        the_command_line_replaces_the_rule_that_ends_a_run,
        repetitions_end_when_the_interval_is_narrow_enough,
        an_interval_that_never_is_narrow_enough_is_said,
        a_search_brackets_the_highest_rate_that_the_ports_bear,
        slips_in_stop_and_search_name_the_key,
        a_run_too_short_to_show_a_difference_is_told_so_beforehand,
    ]
}

const FEW: &str = r#"
    [load]
    connections = 20
    concurrency = 2
    close_how = "rst"
"#;

fn run_verdicts(summary: &Value) -> Vec<&str> {
    summary["verdicts"].as_array().unwrap().iter().map(|verdict| verdict["name"].as_str().unwrap()).collect()
}

/// Of one worker, the largest share is always the same; of replies after no time and after 30 ms, the medians are not.
fn repetitions_end_with_the_look_that_decides() {
    const CELLS: &str = "[server]\nworkers = 1\n[matrix]\nserver.service_time = [\"0us\", \"30ms\"]";
    for (answer, shown, smaller) in [("imbalance", 0, 1), ("response_p50", 1, 0)] {
        let stop = "stop = { difference = 0.1, min_repetitions = 5, max_repetitions = 9 }";
        let bench = Bench::new(&format!("answers = [\"{answer}\"]\n{stop}\n{FEW}\n{CELLS}"));
        let list = stdout(&bench.run(&["--list"]));
        assert!(list.contains("5 to 9 repetitions = 10 to 18 trials"), "{list}");
        let output = bench.run(&[]);
        assert_code(&output, 0);
        assert_eq!(bench.read_trials().len(), 2 * 5);
        let summary = read_json(&bench.path("out/summary.json"));
        let decision = &summary["decision"];
        assert_eq!((&decision["looks"], &decision["look"]), (&Value::from(vec![5, 9]), &Value::from(1)));
        assert_eq!((&decision["shown"], &decision["smaller"]), (&Value::from(shown), &Value::from(smaller)));
        assert_eq!((&decision["repetitions"], &decision["decided"]), (&Value::from(5), &Value::from(true)));
        let text = stdout(&output).split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(
            text.contains("Stopped after 5 of at most 9 repetitions: all differences over 10 % are decided."),
            "{text}"
        );
        if shown > 0 {
            // Of 252 orders, two are as extreme, and there are two looks.
            let p = ["p_value", "p_adjusted"].map(|p| 252.0 * summary["comparisons"][0][p].as_f64().unwrap());
            assert!((p[0] - 2.0).abs() < 1e-6 && (p[1] - 4.0).abs() < 1e-6, "{p:?}");
        }
    }
}

/// Three trials of each cell can show nothing.
fn a_run_that_decides_nothing_says_so() {
    let stop = "stop = { difference = 0.1, min_repetitions = 2, max_repetitions = 3 }";
    let bench = Bench::new(&format!("answers = [\"response_p50\"]\n{stop}\n{FEW}\n[matrix]\nserver.workers = [1, 2]"));
    let output = bench.run(&[]);
    assert_code(&output, 0);
    assert_eq!(bench.read_trials().len(), 2 * 3);
    let summary = read_json(&bench.path("out/summary.json"));
    assert_eq!((&summary["decision"]["look"], &summary["decision"]["decided"]), (&Value::from(2), &Value::from(false)));
    let text =
        |output| format!("{}{}", stdout(output), stderr(output)).split_whitespace().collect::<Vec<_>>().join(" ");
    let text = text(&output);
    assert!(text.contains("use --set stop.max_repetitions="), "{text}");
    let ended = "Stopped after all 3 repetitions, but not all differences over 10 % are decided: 1 of 1 comparison with the best is not.";
    assert!(text.contains(ended), "{text}");
}

fn the_command_line_replaces_the_rule_that_ends_a_run() {
    let stop = "stop = { difference = 0.1, min_repetitions = 5, max_repetitions = 9 }";
    let bench = Bench::new(&format!("{stop}\n{FEW}\n[matrix]\nserver.workers = [1, 2]"));
    assert_code(&bench.run(&["--set", "repetitions=2"]), 0);
    assert_eq!(bench.read_trials().len(), 2 * 2);
    assert!(read_json(&bench.path("out/summary.json"))["decision"].is_null());
    let again = stdout(&bench.command(&["run", "out/scenario.toml", "--list"]).output().unwrap());
    assert!(again.contains("× 2 repetitions = 4 trials"), "{again}");
    let short = stdout(&bench.command(&["run", "scenario.toml", "--list", "--repetitions", "3"]).output().unwrap());
    assert!(short.contains("× 3 repetitions = 6 trials"), "{short}");
    let fixed = Bench::new(&format!("repetitions = 4\n{FEW}\n[matrix]\nserver.workers = [1, 2]"));
    let list = stdout(&fixed.run(&["--list", "--set", "stop.difference=0.2", "--set", "stop.max_repetitions=6"]));
    assert!(list.contains("5 to 6 repetitions") && list.contains("all differences over 20 % are decided"), "{list}");
}

fn repetitions_end_when_the_interval_is_narrow_enough() {
    // The largest share of accepts that one of one worker can have is 1, always.
    let bench = Bench::new(&format!(
        "answers = [\"imbalance\"]\nstop = {{ relative_error = 0.01, max_repetitions = 9 }}\n{FEW}\n[server]\nworkers = 1"
    ));
    assert_code(&bench.run(&[]), 0);
    let summary = read_json(&bench.path("out/summary.json"));
    assert_eq!((bench.read_trials().len(), &summary["answers"][0]["metric"]), (5, &Value::from("imbalance")));
    assert_eq!(
        (&summary["precision"]["narrow"], &summary["precision"]["reached"]),
        (&Value::from(true), &Value::from(0.0))
    );
    assert!(!run_verdicts(&summary).contains(&"interval-wide"));
}

fn an_interval_that_never_is_narrow_enough_is_said() {
    let bench = Bench::new(&format!("stop = {{ relative_error = 0.0001, max_repetitions = 7 }}\n{FEW}"));
    let output = bench.run(&[]);
    assert_code(&output, 0);
    assert_eq!(bench.read_trials().len(), 7);
    let summary = read_json(&bench.path("out/summary.json"));
    assert_eq!(summary["precision"]["narrow"], false);
    assert!(summary["precision"]["reached"].as_f64().unwrap() > 0.0001);
    assert!(run_verdicts(&summary).contains(&"interval-wide"));
    assert!(stdout(&output).contains("interval-wide"), "{}", stdout(&output));
}

/// A window of 400 ms at a constant rate begins four tenths of the rate's connections, and each leaves its port in TIME_WAIT for
/// longer: 40 ports suffice for a rate of 100, and for no higher one.
const SEARCH: &str = r#"
    repetitions = 1
    [sysctl]
    ip_local_port_range = "40000 40039"
    tcp_tw_reuse = 0
    [load]
    mode = "open"
    arrivals = "constant"
    rate = 40.0
    duration = "400ms"
    [search]
    metric = "completed_share"
    limit = 0.999
    precision = 0.05
    [matrix]
    server.strategy = ["reuseport", "shared-epoll"]
"#;

fn a_search_brackets_the_highest_rate_that_the_ports_bear() {
    // A trial without a single start in its window is invalid, and counts as one beyond the limit.
    when_undisturbed(brackets);
}

fn brackets() {
    let bench = Bench::new(SEARCH);
    let output = bench.run(&[]);
    assert_code(&output, 0);
    let summary = read_json(&bench.path("out/summary.json"));
    let searches = summary["searches"].as_array().unwrap();
    assert_eq!(searches.len(), 2);
    for search in searches {
        let [within, beyond] = ["within", "beyond"].map(|end| search[end].as_f64().unwrap());
        // A start more or less falls into the window.
        assert!(within <= 103.0 && beyond > 100.0 && beyond <= 1.06 * within, "{search}");
        assert_eq!((&search["status"], &search["variable"]), (&Value::from("confirmed"), &Value::from("load.rate")));
        assert_eq!(search["within_figure"], 1.0);
    }
    let trials = bench.read_trials();
    for trial in &trials {
        assert_eq!(trial["search"]["name"], "rate");
        assert_eq!(trial["search"]["value"], trial["cell"]["rate"]);
    }
    // In turn, not one cell after the other.
    assert_ne!(trials[0]["cell"]["strategy"], trials[1]["cell"]["strategy"]);
    assert!(
        stdout(&output).contains("The highest load.rate that keeps share completed at or above 99.9 %"),
        "{}",
        stdout(&output)
    );

    // The recorded scenario repeats the search.
    let again = bench.command(&["run", "out/scenario.toml", "--list"]).output().unwrap();
    assert_code(&again, 0);
    assert!(stdout(&again).contains("searched for the highest load.rate"), "{}", stdout(&again));
}

fn slips_in_stop_and_search_name_the_key() {
    for (scenario, part) in [
        ("[stop]\nmax_repetitions = 9", "`stop.difference`: is missing"),
        ("repetitions = 5\n[stop]\ndifference = 0.1", "`repetitions` has no effect with [stop]"),
        ("[stop]\ndifference = 0.1\nrelative_error = 0.03", "keep one of the two"),
        ("[stop]\nrelative_error = 0.03\nmax_repetitions = 2", "`stop.max_repetitions`"),
        ("answers = [\"nonsense\"]", "`answers`: unknown metric"),
        ("answers = [\"imbalance\", \"imbalance\"]", "`answers`: lists \"imbalance\" twice"),
        ("answers = [\"response_p99\", \"response_p99_ns\"]", "`answers`: lists `response_p99_ns` twice"),
        ("answers = []", "`answers`: must be a list of metrics"),
        ("answers = \"imbalance\"", "or write \"auto\""),
        ("[matrix]\nanswers = [[\"imbalance\"], [\"jain\"]]", "cannot be swept"),
        (
            "answers = [\"jain\"]\n[load]\nmode = \"open\"\n[search]\nmetric = \"response_p99\"\nlimit = \"1ms\"",
            "`answers`: has no effect with a [search]",
        ),
        ("[search]\nlimit = \"1ms\"", "`search.metric`"),
        ("[search]\nmetric = \"accept_wait_p99\"", "`search.limit`"),
        ("[load]\nmode = \"open\"\n[search]\nmetric = \"nonsense\"\nlimit = 1", "`search.metric`"),
        ("[load]\nmode = \"open\"\n[search]\nmetric = \"accept_wait_p99\"\nlimit = 1", "`search.limit`"),
        ("[load]\nmode = \"open\"\n[search]\nmetric = \"imbalance\"\nlimit = \"1ms\"", "`search.limit`"),
        ("[search]\nmetric = \"accept_wait_p99\"\nlimit = \"1ms\"", "`load.rate` has no effect"),
        ("[search]\nmetric = \"accept_wait_p99\"\nlimit = \"1ms\"\nvariable = \"port\"", "`search.variable`"),
        (
            "[load]\nmode = \"open\"\n[search]\nmetric = \"accept_wait_p99\"\nlimit = \"1ms\"\n[matrix]\nload.rate = [1, 2]",
            "`search.variable`",
        ),
        ("[matrix]\nstop.relative_error = [0.1, 0.2]", "whole scenario"),
        ("[matrix]\nstop.difference = [0.1, 0.2]", "whole scenario"),
        (
            "stop.difference = 0.1\n[load]\nmode = \"open\"\n[search]\nmetric = \"accept_wait_p99\"\nlimit = \"1ms\"",
            "`stop.difference`: a [search] chooses",
        ),
        (
            "stop.relative_error = 0.1\n[load]\nmode = \"open\"\n[search]\nmetric = \"accept_wait_p99\"\nlimit = \"1ms\"",
            "keep one of the two",
        ),
    ] {
        let bench = Bench::new(scenario);
        let output = bench.run(&[]);
        assert_code(&output, 2);
        let message = stderr(&output);
        assert!(message.contains(part) && message.contains("scenario.toml"), "{scenario}: {message}");
        assert!(!bench.path("out").exists(), "{scenario}");
    }
}

fn a_run_too_short_to_show_a_difference_is_told_so_beforehand() {
    let bench = Bench::new(&format!("{FEW}\n[matrix]\nserver.workers = [1, 2, 3, 4, 5]"));
    let list = bench.run(&["--list"]);
    assert_code(&list, 0);
    let text = stderr(&list).split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(text.contains("5 trials per cell cannot show a difference in 20 comparisons"), "{text}");
    assert!(text.contains("use --set repetitions=6"), "{text}");
    assert!(!stderr(&bench.run(&["--list", "--set", "repetitions=6"])).contains("cannot show"));
}
