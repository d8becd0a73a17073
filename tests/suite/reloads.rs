//! Workers that join, leave and are replaced: what is lost, and who gets what.

use crate::common::{
    Bench, Scenario, assert_balanced, assert_code, errors, number, of_workers, scenario, stderr, strategies_without,
    when_undisturbed,
};
use serde_json::{Value, json};

tests! {
    nothing [
        listeners_that_are_passed_on_lose_nothing,
        a_reopened_listener_loses_exactly_what_waited_in_the_old_one,
        a_restart_refuses_exactly_what_comes_in_the_gap,
        workers_that_are_cut_off_lose_exactly_what_they_have_open,
        a_worker_that_leaves_serves_what_it_has_open,
        a_worker_that_joins_gets_its_part_of_new_tuples,
        flows_move_as_the_kernel_selects,
        every_strategy_balances_under_load,
        changes_wait_for_the_one_before,
        changes_of_workers_that_cannot_be_are_refused,
    ]
    root [
        steered_listeners_are_replaced_in_their_programs,
    ]
}

const CLIENTS: u64 = 60;

/// So many at once, and again every other second.
fn bursts(size: u64, count: u64) -> Scenario {
    let burst = scenario().set("load.mode", "open").set("load.arrivals", "burst").set("load.burst_every", "2s");
    burst.set("load.burst_size", size).connections(size * count).set("load.reply_timeout", "20s")
}

/// A burst that nobody accepts before the event, a second later, and one after that.
fn waiting() -> Scenario {
    bursts(CLIENTS, 2).workers(2).set("server.accept_delay", "60s")
}

fn reload(how: &str) -> Value {
    json!({ "kind": "reload", "how": how, "at": "1s", "drain": "500ms" })
}

/// Strategies whose workers can be replaced.
fn replaceable() -> Vec<String> {
    strategies_without("workers cannot change")
}

fn event(trial: &Value) -> &Value {
    &trial["events"][0]
}

fn lost(trial: &Value) -> [u64; 3] {
    ["reset_in_queue", "refused", "cut"].map(|cause| number(&event(trial)["lost"][cause]))
}

/// What each generation of workers accepted.
fn accepted(trial: &Value) -> Vec<u64> {
    let rows = trial["workers"].as_array().unwrap();
    let of = |generation: u64| rows.iter().filter(move |row| row["generation"] == generation);
    let last = rows.iter().map(|row| number(&row["generation"])).max().unwrap();
    (0..=last).map(|generation| of(generation).map(|row| number(&row["accepted"])).sum()).collect()
}

fn assert_valid(trial: &Value) {
    assert_balanced(trial);
    assert_eq!(trial["outcome"], "valid", "{}: {}", trial["cell"], trial["verdicts"]);
    // Waits are of the connections that the generation accepted during the event, but for those that nobody saw established. Whoever
    // may not watch the kernel knows none of either.
    let unstamped = &trial["measured"]["unstamped"];
    for generation in event(trial)["generations"].as_array().into_iter().flatten() {
        let wait = &generation["accept_wait"];
        assert_eq!(wait.is_null(), unstamped.is_null(), "{}", event(trial));
        if !wait.is_null() {
            let (accepted, waits) = (number(&generation["accepted"]), number(&wait["count"]));
            assert!(waits <= accepted && accepted <= waits + number(unstamped), "{}", event(trial));
        }
    }
    let exits = trial["workers"].as_array().unwrap().iter().map(|row| &row["exit"]);
    assert!(exits.clone().all(|exit| exit == "ok"), "{}: {:?}", trial["cell"], exits.collect::<Vec<_>>());
}

/// The deviation of a share that chance exceeds once in a million, for so many draws.
fn deviation(draws: u64, probability: f64) -> f64 {
    4.9 * (probability * (1.0 - probability) / draws as f64).sqrt()
}

fn listeners_that_are_passed_on_lose_nothing() {
    let bench = waiting().event(reload("inherit")).each("server.strategy", replaceable()).bench();
    for trial in bench.trials(0) {
        assert_valid(&trial);
        assert_eq!((lost(&trial), accepted(&trial)), ([0; 3], vec![0, 2 * CLIENTS]), "{}", trial["cell"]);
        let event = event(&trial);
        assert!(event["queued"].is_null() && event["how"] == "inherit", "{event}");
    }
}

fn a_reopened_listener_loses_exactly_what_waited_in_the_old_one() {
    let bench = waiting()
        .event(reload("reopen"))
        .each("server.strategy", replaceable())
        .each("sysctl.tcp_migrate_req", [0, 1])
        .bench();
    for trial in bench.trials(0) {
        assert_valid(&trial);
        let (event, moves) = (event(&trial), trial["cell"]["tcp_migrate_req"] == 1);
        let queued = number(&event["queued"]);
        let migrated = ["success", "failure"].map(|outcome| number(&event["migrated"][outcome]));
        if moves {
            // A connection may have been moved to another old listener first, and then counted there again. If that one closes just after
            // it was chosen, its queue refuses the connection, which is reset (inet_csk_reqsk_queue_add): one at most, since a closed
            // listener is chosen no more, and only where there is another one.
            let [moved, reset] = migrated;
            assert!(queued >= CLIENTS && moved + reset >= queued, "{event}");
            let listens_alone =
                trial["cell"]["strategy"].as_str().is_some_and(|strategy| !strategy.starts_with("reuseport"));
            assert!(reset <= u64::from(!listens_alone), "{}: {event}", trial["cell"]);
            let served = vec![0, 2 * CLIENTS - reset];
            assert_eq!((lost(&trial), accepted(&trial)), ([reset, 0, 0], served), "{}", trial["cell"]);
            assert_eq!(errors(&trial, "receive", "ECONNRESET"), reset);
        } else {
            assert_eq!((queued, migrated), (CLIENTS, [0, 0]), "{event}");
            assert_eq!((lost(&trial), accepted(&trial)), ([CLIENTS, 0, 0], vec![0, CLIENTS]), "{}", trial["cell"]);
            assert_eq!(errors(&trial, "receive", "ECONNRESET"), CLIENTS);
        }
    }
}

/// The new listeners get what comes after the old ones, by the same rule.
fn steered_listeners_are_replaced_in_their_programs() {
    for how in ["reopen", "restart"] {
        let bench = scenario()
            .workers(2)
            .constant(200.0)
            .duration("2s")
            .event(json!({ "kind": "reload", "how": how, "at": "1s", "drain": "500ms" }))
            .strategy("reuseport-round-robin")
            .bench();
        let trial = &bench.trials(0)[0];
        assert_valid(trial);
        let by_worker = of_workers(trial, "accepted");
        for pair in by_worker.chunks(2) {
            // A few come between the opening of listeners and their program.
            assert!(pair[0] > 50 && pair[0].abs_diff(pair[1]) <= 20, "{how}: {by_worker:?}");
        }
    }
}

/// Bursts at 0, 2 and 4 s, and a gap from 1 to 3 s.
fn a_restart_refuses_exactly_what_comes_in_the_gap() {
    let bench = bursts(CLIENTS, 3)
        .workers(2)
        .event(json!({ "kind": "reload", "how": "restart", "at": "1s", "gap": "2s", "drain": "500ms" }))
        .each("server.strategy", ["shared-epoll", "reuseport"])
        .bench();
    for trial in bench.trials(0) {
        assert_valid(&trial);
        assert_eq!((lost(&trial), accepted(&trial)), ([0, CLIENTS, 0], vec![CLIENTS, CLIENTS]), "{}", trial["cell"]);
        assert_eq!(errors(&trial, "connect", "ECONNREFUSED"), CLIENTS);
        assert_eq!(number(&event(&trial)["queued"]), 0);
    }
}

/// Each connection asks five times, and each round of all takes the only worker 20 × 20 ms: when it is told to leave at once, all are
/// open. Its successor gets the next burst.
fn workers_that_are_cut_off_lose_exactly_what_they_have_open() {
    // A machine may stop the worker until it is told to leave.
    when_undisturbed(what_is_cut_off);
}

fn what_is_cut_off() {
    for drain in ["0s", "30s"] {
        let bench = bursts(20, 2)
            .workers(1)
            .set("load.requests", 5)
            .set("server.service_time", "20ms")
            .event(json!({ "kind": "reload", "at": "700ms", "drain": drain }))
            .bench();
        let trial = &bench.trials(0)[0];
        assert_valid(trial);
        let cut = if drain == "0s" { 20 } else { 0 };
        assert_eq!((lost(trial), accepted(trial)), ([0, 0, cut], vec![20, 20]), "{}", event(trial));
        assert_eq!(number(&event(trial)["open"]), 20);
        assert_eq!(number(&trial["connections"]["completed"]), 40 - cut);
    }
}

fn a_worker_that_leaves_serves_what_it_has_open() {
    // Those of the second burst come when it has gone: the load goes on until then.
    let bench = bursts(40, 2)
        .workers(2)
        .set("load.hold", "2s")
        .event(json!({ "kind": "leave", "worker": 1, "at": "1s", "drain": "60s" }))
        .each("server.strategy", ["shared-epoll", "reuseport"])
        .bench();
    for trial in bench.trials(0) {
        assert_valid(&trial);
        assert_eq!((lost(&trial), number(&trial["connections"]["completed"])), ([0; 3], 80), "{}", trial["cell"]);
        let event = event(&trial);
        assert_eq!((&event["kind"], &event["worker"]), (&json!("leave"), &json!(1)));
        assert_eq!(event["open"], trial["workers"][1]["accepted"], "{event}");
        let drains = number(&event["open"]) > 0;
        // It goes once its clients, who hold their connections for 2 s, have gone.
        assert!(!drains || event["drain_s"].as_f64().unwrap() > 0.5, "{event}");
    }
}

fn a_worker_that_joins_gets_its_part_of_new_tuples() {
    let bench = scenario()
        .workers(3)
        .strategy("reuseport")
        .poisson(1_500.0)
        .duration("2s")
        .event(json!({ "kind": "join", "at": "500ms" }))
        .bench();
    let trial = &bench.trials(0)[0];
    assert_valid(trial);
    let event = event(trial);
    assert_eq!((&event["worker"], trial["workers"].as_array().unwrap().len()), (&json!(3), 4));
    let (new, all) = (number(&event["accepted"]), number(&event["established"]));
    let share = new as f64 / all as f64;
    assert!((share - 0.25).abs() < deviation(all, 0.25), "{new} of {all}");
    assert_eq!(number(&event["generations"][1]["accepted"]), new);
}

/// The kernel scales the hash of a tuple to the number of sockets, and a closed socket's place is taken by the last one: what that
/// leaves where it was is a matter of arithmetic.
fn flows_move_as_the_kernel_selects() {
    for (workers, event, moved) in [
        // From 3 to 4 sockets: (3 + 2 + 1) of 12 stay.
        (3, json!({ "kind": "join", "at": "1s" }), 1.0 / 2.0),
        (4, json!({ "kind": "leave", "worker": 3, "at": "1s" }), 1.0 / 2.0),
        // The last takes the first one's place: of the second 1/6 of all flows stay, of the third 1/12.
        (4, json!({ "kind": "leave", "worker": 0, "at": "1s" }), 3.0 / 4.0),
        (2, json!({ "kind": "reload", "how": "reopen", "at": "1s" }), 1.0),
    ] {
        let bench = scenario()
            .workers(workers)
            .strategy("reuseport")
            .poisson(1_500.0)
            .duration("3s")
            .set("protocol", "udp")
            .set("sysctl.ip_local_port_range", "40000 40399")
            .set("load.reply_timeout", "500ms")
            .event(event.clone())
            .bench();
        let trial = &bench.trials(0)[0];
        assert_eq!(number(&trial["datagrams"]["unaccounted"]), 0, "{}", trial["datagrams"]);
        let flows = &trial["events"][0]["flows"];
        let known = number(&flows["known"]);
        let share = number(&flows["moved"]) as f64 / known as f64;
        assert!(known > 100 && (share - moved).abs() <= deviation(known, moved), "{event}: {flows}");
    }
}

fn every_strategy_balances_under_load() {
    let bench = scenario()
        .workers(2)
        .poisson(300.0)
        .duration("1500ms")
        .set("load.requests", 3)
        .event(json!({ "kind": "reload", "at": "300ms", "every": "500ms", "drain": "200ms", "gap": "50ms" }))
        .each("server.strategy", replaceable())
        .each("event.0.how", ["inherit", "reopen", "restart"])
        .bench();
    for trial in bench.trials(0) {
        assert_valid(&trial);
        assert_eq!(trial["events"].as_array().unwrap().len(), 3, "{}", trial["cell"]);
        let counted: u64 = accepted(&trial).iter().sum();
        assert_eq!(counted, number(&trial["connections"]["accepted"]));
        if trial["cell"]["how"] == "inherit" {
            let resets =
                trial["events"].as_array().unwrap().iter().map(|event| number(&event["lost"]["reset_in_queue"]));
            assert_eq!(resets.sum::<u64>(), 0, "{}", trial["events"]);
        }
    }
}

/// However late workers are on a busy machine, no change begins before the last one's workers accept.
fn changes_wait_for_the_one_before() {
    let bench = scenario()
        .workers(2)
        .constant(200.0)
        .duration("1500ms")
        .event(json!({ "kind": "reload", "at": "100ms", "every": "30ms", "drain": "5ms", "gap": "1ms" }))
        .each("server.strategy", ["shared-epoll", "reuseport"])
        .each("event.0.how", ["inherit", "reopen", "restart"])
        .bench();
    for trial in bench.trials(0) {
        assert_valid(&trial);
        let counted: u64 = accepted(&trial).iter().sum();
        assert_eq!(counted, number(&trial["connections"]["accepted"]), "{}", trial["cell"]);
        if trial["cell"]["how"] == "inherit" {
            assert_eq!(errors(&trial, "connect", "ECONNREFUSED"), 0, "{}", trial["connections"]);
        }
    }
}

fn changes_of_workers_that_cannot_be_are_refused() {
    let reload = "[[event]]\nkind = \"reload\"\nat = \"100ms\"\ndrain = \"10ms\"\n";
    let join = "[[event]]\nkind = \"join\"\nat = \"1ms\"\n";
    for (text, parts) in [
        (format!("server.strategy = \"dispatcher\"\n{reload}"), &["`event.0.kind`", "\"dispatcher\""][..]),
        (format!("{reload}{join}"), &["`event.1.kind`", "mixed with reloads"]),
        (format!("server.strategy = \"reuseport-cpu\"\n{join}"), &["`event.0.kind`", "\"reuseport-cpu\"", "hash"]),
        (format!("{reload}every = \"5ms\""), &["`event.0.at`", "before an earlier change"]),
        (format!("server.workers = 500\n{reload}every = \"300ms\""), &["`event.0.at`", "no more than 512"]),
        (format!("{reload}[[event]]\nkind = \"kill\"\nat = \"100ms\""), &["`event.1.at`", "first reload"]),
        (format!("{reload}gap = \"1ms\""), &["`event.0.gap`", "no effect"]),
        (format!("{join}drain = \"1ms\""), &["`event.0.drain`", "no effect"]),
    ] {
        let bench = Bench::new(&text);
        let output = bench.run(&[]);
        assert_code(&output, 2);
        let said = stderr(&output);
        for part in parts {
            assert!(said.contains(part), "{text:?}: {said:?} lacks {part:?}");
        }
    }
}
