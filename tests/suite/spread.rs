//! What chance decides, and how often it is asked.

use std::{fs, process::Command, thread};

use nix::sched::{CloneFlags, unshare};
use serde_json::Value;

use crate::common::{self, Bench, Scenario, assert_balanced, assert_code, number, of_workers, scenario, strategies};

tests! {
    nothing [
        p_values_of_the_hash_are_uniform,
        p_values_of_the_hash_are_uniform_with_few_ports,
        p_values_of_hashed_flows_are_uniform_with_few_ports,
        only_chance_has_p_values,
    ]
    root [
        in_one_network_a_tuple_is_drawn_once,
    ]
}

/// A scenario of which each repetition has a hash of its own, and goes through its source ports again and again.
fn cycling() -> Scenario {
    Scenario::repeated(40).strategy("reuseport").workers(4).closed(16, 1_000)
}

/// P(D ≥ d) of Kolmogorov and Smirnov's D for values that should be uniform on 0 to 1, with Stephens's correction (1970).
fn uniformity(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    let n = values.len() as f64;
    let steps = values.iter().enumerate().map(|(i, value)| ((i + 1) as f64 / n - value).max(value - i as f64 / n));
    let lambda = (n.sqrt() + 0.12 + 0.11 / n.sqrt()) * steps.fold(0.0, f64::max);
    let term = |j: i32| 2.0 * (-1_f64).powi(j - 1) * (-2.0 * f64::from(j * j) * lambda * lambda).exp();
    (1..=100).map(term).sum::<f64>().clamp(0.0, 1.0)
}

/// Runs a scenario, and demands p-values that are uniform; what would happen by chance once in a million times does not happen.
fn uniform(scenario: &dyn Fn() -> Scenario, distribution: &str) -> (Bench, Vec<Value>) {
    let run = || {
        let bench = scenario().bench();
        let trials = bench.trials(0);
        let uniformity = uniformity_of(&trials, distribution);
        (bench, trials, uniformity)
    };
    let mut found = Vec::new();
    loop {
        let (bench, trials, uniformity) = run();
        if uniformity > 0.01 {
            return (bench, trials);
        }
        found.push(uniformity);
        assert!(found.len() < 3, "{found:?}: {trials:?}");
    }
}

fn uniformity_of(trials: &[Value], distribution: &str) -> f64 {
    let spreads: Vec<&Value> = trials.iter().map(|trial| &trial[distribution]).collect();
    let p_values: Vec<f64> = spreads.iter().map(|spread| spread["p_value"].as_f64().unwrap()).collect();
    assert_eq!(p_values.len(), 40);
    assert!(spreads.iter().all(|spread| spread["draws"] == "tuples" && spread["new_draws_by_member"].is_null()));
    uniformity(p_values)
}

fn draws_counts(trials: &[Value], distribution: &str) -> Vec<u64> {
    trials.iter().map(|trial| number(&trial[distribution]["draws_count"])).collect()
}

/// A trial may run through all of its ports: what the hash did once counts once.
fn p_values_of_the_hash_are_uniform() {
    let (bench, trials) = uniform(&|| cycling().set("load.close_how", "rst"), "distribution");
    let draws = draws_counts(&trials, "distribution");
    for (trial, draws) in trials.iter().zip(&draws) {
        assert_balanced(trial);
        assert!((1..=number(&trial["connections"]["accepted"])).contains(draws), "{}", trial["distribution"]);
    }
    // Each trial hashes for itself, so all draws are in the pool.
    let cell = &common::read_json(&bench.path("out/summary.json"))["cells"][0];
    assert_eq!(number(&cell["spread"]["draws_count"]), draws.iter().sum::<u64>());
}

/// Each of 64 ports serves again and again, and always with the same worker.
fn p_values_of_the_hash_are_uniform_with_few_ports() {
    let few = || cycling().set("sysctl.ip_local_port_range", "40000 40063").set("load.close_how", "rst");
    let (_, trials) = uniform(&few, "distribution");
    let draws = draws_counts(&trials, "distribution");
    assert!(draws.iter().all(|draws| (32..=64).contains(draws)), "{draws:?}");
}

/// Flows of datagrams are hashed like connections.
fn p_values_of_hashed_flows_are_uniform_with_few_ports() {
    let few = || cycling().set("sysctl.ip_local_port_range", "40000 40063").set("protocol", "udp");
    let (_, trials) = uniform(&few, "flow_distribution");
    let draws = draws_counts(&trials, "flow_distribution");
    assert!(draws.iter().all(|draws| (32..=64).contains(draws)), "{draws:?}");
}

/// Where a rule or the faster worker decides there is nothing to test; imbalance and Jain's index remain.
fn only_chance_has_p_values() {
    let bench = scenario().workers(2).closed(8, 200).each("server.strategy", strategies()).bench();
    for trial in bench.trials(0) {
        assert_balanced(&trial);
        let spread = &trial["distribution"];
        let strategy = trial["cell"]["strategy"].as_str().unwrap();
        let draws = match strategy {
            "reuseport" | "reuseport-uring" => Some("tuples"),
            "reuseport-random" => Some("connections"),
            _ => None,
        };
        assert_eq!((spread["draws"].as_str(), spread["p_value"].is_number()), (draws, draws.is_some()), "{strategy}");
        assert!(spread["imbalance"].as_f64() >= Some(1.0) && spread["jain"].as_f64() <= Some(1.0), "{spread}");
        if draws == Some("connections") {
            assert_eq!(
                (number(&spread["draws_count"]), &spread["draws_by_member"]),
                (200, &of_workers(&trial, "accepted").into())
            );
        }
    }
    let one = &scenario().strategy("reuseport").workers(1).closed(8, 50).bench().trials(0)[0];
    assert_eq!((&one["distribution"]["p_value"], &one["distribution"]["imbalance"]), (&Value::Null, &1.0.into()));
}

/// In the machine's own network, the hash is the same in every trial, so a tuple that occurs again is not drawn again.
fn in_one_network_a_tuple_is_drawn_once() {
    // The network is the thread's own, and other tests may follow on this one.
    thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        assert!(Command::new("ip").args(["link", "set", "lo", "up"]).status().unwrap().success());
        fs::write("/proc/sys/net/ipv4/ip_local_port_range", "40000 40063").unwrap();
        let bench: Bench = Scenario::repeated(4)
            .strategy("reuseport")
            .workers(2)
            .closed(8, 600)
            .set("load.close_how", "rst")
            .set("network", "host")
            .bench();
        let trials = bench.trials(0);
        let sum = |trial: &Value, draws: &str| -> u64 {
            trial["distribution"][draws].as_array().unwrap().iter().map(number).sum()
        };
        let new: u64 = trials.iter().map(|trial| sum(trial, "new_draws_by_member")).sum();
        let drawn: u64 = trials.iter().map(|trial| sum(trial, "draws_by_member")).sum();
        assert!(new <= 64 && drawn > new, "{new} of {drawn}");
        assert_eq!(sum(&trials[0], "new_draws_by_member"), number(&trials[0]["distribution"]["draws_count"]));
        // Whichever of the ports came, all trials agree where they go.
        let all = trials.iter().filter(|trial| number(&trial["distribution"]["draws_count"]) == 64);
        let spreads: Vec<&Value> = all.map(|trial| &trial["distribution"]["draws_by_member"]).collect();
        assert!(spreads.windows(2).all(|two| two[0] == two[1]), "{spreads:?}");
        let cell = &common::read_json(&bench.path("out/summary.json"))["cells"][0];
        assert_eq!(number(&cell["spread"]["draws_count"]), new);
        assert_code(&bench.command(&["report", "out"]).output().unwrap(), 0);
        assert!(
            fs::read_to_string(bench.path("out/report.html"))
                .unwrap()
                .contains("the different 4-tuples of all 4 trials")
        );
    })
    .join()
    .unwrap();
}
