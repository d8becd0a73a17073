//! Runs whose number of trials depends on what the first ones find: `[stop]` and `[search]`.

use crate::common::{Bench, assert_code, read_json, stderr, stdout, when_undisturbed};
use serde_json::Value;

tests! {
    nothing [
        repetitions_end_when_the_interval_is_narrow_enough,
        an_interval_that_never_is_narrow_enough_is_said,
        a_search_brackets_the_highest_rate_that_the_ports_bear,
        slips_in_stop_and_search_name_the_key,
        a_run_too_short_to_show_a_difference_is_told_so_beforehand,
    ]
}

const STOP: &str = r#"
    repetitions = 5
    [load]
    connections = 20
    concurrency = 2
    close_how = "rst"
"#;

fn run_verdicts(summary: &Value) -> Vec<&str> {
    summary["verdicts"].as_array().unwrap().iter().map(|verdict| verdict["name"].as_str().unwrap()).collect()
}

fn repetitions_end_when_the_interval_is_narrow_enough() {
    // The largest share of accepts that one of one worker can have is 1, always.
    let bench = Bench::new(&format!(
        "answers = [\"imbalance\"]\nstop = {{ relative_error = 0.01, max_repetitions = 9 }}\n{STOP}\n[server]\nworkers = 1"
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
    let bench = Bench::new(&format!("stop = {{ relative_error = 0.0001, max_repetitions = 7 }}\n{STOP}"));
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
        ("[stop]\nmax_repetitions = 9", "`stop.relative_error`"),
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
    let bench = Bench::new(&format!("{STOP}\n[matrix]\nserver.workers = [1, 2, 3, 4, 5]"));
    let list = bench.run(&["--list"]);
    assert_code(&list, 0);
    let text = stderr(&list).split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(text.contains("5 trials per cell cannot show a difference in 20 comparisons"), "{text}");
    assert!(text.contains("use --set repetitions=6"), "{text}");
    assert!(!stderr(&bench.run(&["--list", "--set", "repetitions=6"])).contains("cannot show"));
}
