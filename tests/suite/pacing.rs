//! How a loader waits for the next start of an open loop.

use crate::common::{Bench, assert_balanced, assert_code, number, scenario, stderr};

tests! {
    nothing [
        spinning_keeps_the_schedule_and_does_not_sleep,
        a_closed_loop_has_no_use_for_a_pacer,
    ]
}

fn spinning_keeps_the_schedule_and_does_not_sleep() {
    let bench = scenario()
        .poisson(5_000.0)
        .connections(1_000)
        .set("load.loaders", 1)
        .set("load.close_how", "rst")
        .each("load.engine", ["mio", "auto"])
        .each("load.pacer", ["sleep", "spin"])
        .bench();
    // On a busy machine a trial may be invalid for its lateness; its counts hold all the same.
    let output = bench.run(&[]);
    let trials = bench.read_trials();
    assert_eq!(trials.len(), 4, "{}", stderr(&output));
    for trial in &trials {
        assert_balanced(trial);
        assert_eq!(trial["connections"]["completed"], 1_000);
        assert_eq!(trial["latency_ns"]["send_lag"]["count"], 1_000);
    }
    for trial in &trials {
        assert_eq!(trial["schedule"], trials[0]["schedule"]);
        // Of gaps of 200 µs on the mean, one in 150 is longer than the stretch that is not slept through.
        let slept = number(&trial["loaders"][0]["voluntary_switches"]);
        assert!(trial["cell"]["pacer"] == "sleep" || slept < 200, "{}: {}", trial["cell"], trial["loaders"]);
    }
}

fn a_closed_loop_has_no_use_for_a_pacer() {
    let output = Bench::new("[load]\npacer = \"spin\"").run(&[]);
    assert_code(&output, 2);
    assert!(stderr(&output).contains("load.pacer"), "{}", stderr(&output));
}
