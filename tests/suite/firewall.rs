//! Rules on the way to the server: demanded of the real binary.

use std::{fs, path::Path};

use serde_json::Value;

use crate::common::{
    Bench, assert_balanced, assert_code, errors, number, scenario, stderr, stdout, verdicts, when_undisturbed, words,
};

tests! {
    nothing [
        a_scenario_with_rules_needs_nft,
        rules_never_enter_the_machine_s_own_network,
        a_ruleset_that_includes_a_file_is_refused,
        a_server_in_the_foreground_says_that_it_loads_no_rules,
    ]
    nft [
        every_packet_passes_the_generated_rules,
        tracked_connections_pass_them_once,
        chains_grow_and_sets_do_not,
        outcomes_tell_what_clients_were_told,
        refused_datagrams_are_in_the_balance,
        a_ruleset_is_loaded_recorded_and_repeated_without_its_file,
        what_nft_complains_of_has_its_place,
        rules_are_gone_after_the_run,
        an_ordinary_user_s_trials_have_rules,
        the_doctor_tries_nft,
        the_server_sees_one_address_of_all_clients_behind_nat,
        a_range_of_ports_holds_as_many_connections_and_no_more,
    ]
}

fn passed(trial: &Value) -> u64 {
    number(&trial["firewall"]["passed"])
}

/// A closed connection of one request takes at least four packets to the server: SYN, ACK, request, and FIN or the ACK of one.
fn every_packet_passes_the_generated_rules() {
    let bench = scenario()
        .workers(2)
        .closed(8, 100)
        .each("network", ["netns", "veth"])
        .each("firewall.shape", ["chain", "set", "map"])
        .each("firewall.match", ["port", "address"])
        .set("firewall.count", 50)
        .bench();
    let trials = bench.trials(0);
    assert_eq!(trials.len(), 12);
    for trial in &trials {
        assert_balanced(trial);
        let firewall = &trial["firewall"];
        assert_eq!(number(&trial["connections"]["completed"]), 100, "{}", trial["connections"]);
        assert!(passed(trial) >= 400 && firewall["passed"] == firewall["arrived"], "{}: {firewall}", trial["cell"]);
        let (rules, elements) = if trial["cell"]["shape"] == "chain" { (52, 0) } else { (3, 50) };
        assert_eq!((number(&firewall["rules"]), number(&firewall["elements"])), (rules, elements), "{}", trial["cell"]);
        assert_eq!(number(&firewall["compared"]), 50);
        assert!(firewall["ruleset"].is_null() && firewall["counted"].is_null(), "{firewall}");
    }
    let html = fs::read_to_string(bench.path("out/report.html")).unwrap();
    assert!(html.contains("Firewall"), "the report has a section");
}

/// Behind `ct state established accept`, the rules see the first packet of each connection and no other.
fn tracked_connections_pass_them_once() {
    let bench = scenario()
        .workers(2)
        .closed(8, 100)
        .set("firewall.conntrack", true)
        .each("firewall.count", [0, 20])
        .each("network", ["netns", "veth"])
        .bench();
    for trial in bench.trials(0) {
        assert_balanced(&trial);
        // A SYN that was sent again passes again.
        let syns = 100 + number(&trial["connections"]["syn_retries"]);
        assert!((100..=syns).contains(&passed(&trial)), "{}: {}", trial["cell"], trial["firewall"]);
    }
}

/// 10,000 rules one after the other take far longer than one look into a set or a map of as many.
fn chains_grow_and_sets_do_not() {
    when_undisturbed(|| {
        let bench = scenario()
            .workers(2)
            .duration("400ms")
            .set("load.concurrency", 8)
            .set("load.warmup", "100ms")
            .each("firewall.shape", ["chain", "set", "map"])
            .each("firewall.count", [10, 10_000])
            .bench();
        let trials = bench.trials(0);
        let per_s = |shape: &str, count: u64| {
            let of = |trial: &&Value| trial["cell"]["shape"] == shape && trial["cell"]["count"] == count;
            trials.iter().find(of).unwrap()["rates"]["completed_per_s"].as_f64().unwrap()
        };
        assert!(per_s("chain", 10) > 3.0 * per_s("chain", 10_000));
        for flat in ["set", "map"] {
            assert!(per_s(flat, 10_000) > 2.0 * per_s("chain", 10_000), "{flat}");
        }
    });
}

fn outcomes_tell_what_clients_were_told() {
    for (address, prohibited) in [("127.0.0.1", ("unreachable", "EHOSTUNREACH")), ("::1", ("prohibited", "EACCES"))] {
        let bench = scenario()
            .workers(1)
            .closed(5, 10)
            .set("address", address)
            .set("load.connect_timeout", "2500ms")
            .each("firewall.action", ["accept", "reset", "reject", "prohibit", "drop"])
            .bench();
        let trials = bench.trials(0);
        assert_eq!(trials.len(), 5);
        for trial in &trials {
            assert_balanced(trial);
            let action = trial["cell"]["action"].as_str().unwrap();
            let (outcome, errno) = match action {
                "accept" => ("open", ""),
                "reset" | "reject" => ("closed", "ECONNREFUSED"),
                "prohibit" => prohibited,
                _ => ("filtered", "ETIMEDOUT"),
            };
            assert_eq!(number(&trial["connections"]["outcomes"][outcome]), 10, "{action}: {}", trial["connections"]);
            let failed = if action == "accept" { 0 } else { 10 };
            assert_eq!(errors(trial, "connect", errno), failed, "{action}: {}", trial["connections"]["errors"]);
            assert_eq!(trial["latency_ns"]["failed_connect"]["count"].as_u64().unwrap_or(0), failed, "{action}");
            // What the errno does not say, the kernel's counters do.
            let icmp = number(&trial["kernel"]["IcmpDestUnreachs"]);
            let resets = number(&trial["kernel"]["OutRsts"]);
            let by_icmp = ["reject", "prohibit"].contains(&action);
            assert_eq!(icmp >= 10, by_icmp, "{action}: {icmp} messages");
            assert!(by_icmp || icmp == 0, "{action}: {icmp} messages");
            assert!(action == "reset" || action == "accept" || resets == 0, "{action}: {resets} resets");
            assert!(action == "accept" || passed(trial) >= 10);
            let names = verdicts(trial);
            assert!(!names.contains(&"nothing-measured") && !names.contains(&"syn-retries"), "{names:?}");
        }
        let text = fs::read_to_string(bench.path("out/summary.md")).unwrap();
        assert!(text.contains("Answers to connects"), "{text}");
    }
}

/// Datagrams have no connection that would tell, so a rule counts them.
fn refused_datagrams_are_in_the_balance() {
    for (protocol, address) in [("udp", "127.0.0.1"), ("udp", "::1"), ("tcp+udp", "127.0.0.1")] {
        let load = scenario()
            .workers(1)
            .closed(5, 40)
            .set("protocol", protocol)
            .set("address", address)
            .set("load.reply_timeout", "500ms")
            .each("firewall.action", ["accept", "reject", "prohibit", "drop"])
            .each("firewall.conntrack", [false, true]);
        let has_connections = protocol != "udp";
        let load = if has_connections { load.set("load.connect_timeout", "500ms") } else { load };
        let bench = load.bench();
        let trials = bench.trials(0);
        assert_eq!(trials.len(), 8);
        for trial in &trials {
            assert_balanced(trial);
            let (datagrams, is_open) = (&trial["datagrams"], trial["cell"]["action"] == "accept");
            let [sent, filtered] = ["sent", "filtered"].map(|name| number(&datagrams[name]));
            assert!(sent > 0, "{datagrams}");
            assert_eq!(datagrams["unaccounted"], 0, "{protocol} {}: {datagrams}", trial["cell"]);
            assert_eq!(filtered, if is_open { 0 } else { sent }, "{protocol} {}: {datagrams}", trial["cell"]);
            let names = verdicts(trial);
            let of_failures = ["nothing-measured", "failures", "errors", "syn-retries"];
            assert!(!of_failures.iter().any(|name| names.contains(name)), "{}: {names:?}", trial["cell"]);
        }
    }
}

const RULESET: &str = "table inet mine {\n\tchain input {\n\t\ttype filter hook input priority -5; policy accept;\n\
                       \t\ttcp dport 7000 counter accept\n\t}\n}\n";

fn a_ruleset_is_loaded_recorded_and_repeated_without_its_file() {
    let bench = scenario().workers(1).closed(4, 50).each("firewall.rules", ["mine.nft", "none.nft"]).bench();
    fs::write(bench.path("mine.nft"), RULESET).unwrap();
    fs::write(bench.path("none.nft"), "").unwrap();
    let demand = |trials: Vec<Value>| {
        assert_eq!(trials.len(), 2);
        for trial in trials {
            assert_balanced(&trial);
            let firewall = &trial["firewall"];
            assert_eq!(firewall["ruleset"], trial["cell"]["rules"]);
            if trial["cell"]["rules"] == "mine.nft" {
                assert!(number(&firewall["counted"]) >= 200 && firewall["rules"] == 1, "{firewall}");
            } else {
                assert!(firewall["counted"].is_null() && firewall["rules"] == 0, "{firewall}");
            }
            assert!(firewall["passed"].is_null(), "{firewall}");
        }
    };
    demand(bench.trials(0));
    let text = fs::read_to_string(bench.path("out/scenario.toml")).unwrap();
    let again = Bench::new(&text);
    demand(again.trials(0));
    // A ruleset of one's own before generated rules.
    let both = scenario().workers(1).closed(4, 50).set("firewall.rules", "mine.nft").set("firewall.count", 5).bench();
    fs::write(both.path("mine.nft"), RULESET).unwrap();
    let trial = &both.trials(0)[0];
    assert_eq!(number(&trial["firewall"]["rules"]), 1 + 7);
    assert!(trial["firewall"]["counted"].as_u64() >= trial["firewall"]["passed"].as_u64(), "{}", trial["firewall"]);
}

fn what_nft_complains_of_has_its_place() {
    let bench = Bench::new("firewall.rules = \"bad.nft\"\nload.connections = 5\n");
    fs::write(bench.path("bad.nft"), "table inet x {\n\tchain y { tcp dort 80 accept }\n}\n").unwrap();
    let output = bench.run(&[]);
    assert_code(&output, 2);
    let message = words(&stderr(&output));
    assert!(message.contains("scenario.toml:1: `firewall.rules`: nft: bad.nft:2:"), "{message}");
    assert!(message.contains("Error: ") && !bench.path("out").exists(), "{message}");
    let missing = Bench::new("firewall.rules = \"no.nft\"\n");
    let output = missing.run(&[]);
    assert_code(&output, 2);
    assert!(stderr(&output).contains("`firewall.rules`: no.nft: No such file"), "{}", stderr(&output));
}

fn a_ruleset_that_includes_a_file_is_refused() {
    let bench = Bench::new("firewall.rules = \"my.nft\"\nload.connections = 5\n");
    fs::write(bench.path("my.nft"), "# all of it\ninclude \"/dev/stdin\"\n").unwrap();
    let output = bench.run(&[]);
    assert_code(&output, 2);
    let message = words(&stderr(&output));
    assert!(message.contains("scenario.toml:1: `firewall.rules`: my.nft: line 2 includes another file"), "{message}");
}

fn a_server_in_the_foreground_says_that_it_loads_no_rules() {
    let bench = Bench::new("[firewall]\ncount = 5\n");
    // An address that this machine does not have ends it after it has said that.
    let output = bench.command(&["serve", "scenario.toml", "--bind", "203.0.113.77"]).output().unwrap();
    let message = words(&stderr(&output));
    assert!(message.contains("loads no rules there, and ignores `firewall.count`"), "{message}");
}

fn a_scenario_with_rules_needs_nft() {
    let bench = Bench::new("[firewall]\ncount = 5\n");
    let listed = bench.command(&["list"]).output().unwrap();
    assert!(words(&stdout(&listed)).contains("nft"), "{}", stdout(&listed));
    let administrators = ["/usr/local/sbin/nft", "/usr/sbin/nft", "/sbin/nft"];
    if administrators.iter().any(|program| Path::new(program).exists()) {
        // It is found where an ordinary user's PATH does not lead.
        let output = bench.command(&["run", "scenario.toml", "--list"]).env("PATH", "/nowhere").output().unwrap();
        assert!(!stderr(&output).contains("requires `nft`"), "{}", stderr(&output));
        return;
    }
    let output = bench.command(&["run", "scenario.toml", "--out", "out"]).env("PATH", "/nowhere").output().unwrap();
    assert_code(&output, 2);
    let message = words(&stderr(&output));
    assert!(message.contains("scenario.toml:2: `firewall.count`: requires `nft`, which is not in PATH"), "{message}");
    assert!(message.contains("apt install nftables"), "{message}");
}

fn rules_never_enter_the_machine_s_own_network() {
    for (key, value) in [("count", "5"), ("conntrack", "true"), ("action", "\"drop\"")] {
        let bench = Bench::new(&format!("network = \"host\"\n[firewall]\n{key} = {value}\n"));
        let output = bench.run(&[]);
        assert_code(&output, 2);
        let message = words(&stderr(&output));
        assert!(
            message.contains(&format!("scenario.toml:3: `firewall.{key}`: network = \"host\" loads no rules")),
            "{message}"
        );
    }
}

fn own_rules() -> String {
    let output = std::process::Command::new("nft").args(["list", "tables"]).output();
    output.map_or_else(|_| String::new(), |output| stdout(&output))
}

fn rules_are_gone_after_the_run() {
    let bench = scenario().closed(2, 10).set("firewall.count", 3).bench();
    let trial = &bench.trials(0)[0];
    assert!(passed(trial) > 0 && !own_rules().contains("listenbench"));
    bench.demand_nothing_left();
}

fn an_ordinary_user_s_trials_have_rules() {
    let bench = scenario().closed(2, 20).set("firewall.count", 3).set("firewall.conntrack", true).bench();
    assert_code(&bench.run_as_ordinary_user(), 0);
    let trial = &bench.read_trials()[0];
    assert_balanced(trial);
    assert!(passed(trial) >= 20, "{}", trial["firewall"]);
}

fn the_doctor_tries_nft() {
    let bench = Bench::new("");
    let output = bench.command(&["doctor", "--json"]).output().unwrap();
    let checks: Value = serde_json::from_slice(&output.stdout).unwrap();
    let found = checks.as_array().unwrap().iter().find(|check| check["name"] == "nft").unwrap();
    assert!(found["status"] == "ok" && found["found"].as_str().unwrap().contains("nftables"), "{found}");
    // Without rules, the record says nothing of them.
    let bare = scenario().closed(2, 4).bench();
    assert_eq!(bare.trials(0)[0].get("firewall"), None);
}

fn behind_nat(clients: u32) -> crate::common::Scenario {
    scenario().set("network", "veth").set("load.source_ports", "bind-no-port").set("nat.clients", clients)
}

fn the_server_sees_one_address_of_all_clients_behind_nat() {
    let bench = behind_nat(10)
        .workers(2)
        .closed(20, 200)
        .each("address", ["198.18.0.1", "2001:2::1"])
        .each("nat.ports", ["kept", "random", "fully-random"])
        .bench();
    let trials = bench.trials(0);
    assert_eq!(trials.len(), 6);
    for trial in trials {
        assert_balanced(&trial);
        let connections = &trial["connections"];
        assert_eq!((number(&connections["completed"]), number(&connections["proxied"])), (200, 200), "{connections}");
        // Each connection comes to the rule once, unless its SYN was sent again.
        assert!(number(&trial["nat"]["begun"]) >= 200, "{}", trial["nat"]);
        assert_eq!((number(&trial["nat"]["clients"]), &trial["nat"]["ports"]), (10, &Value::Null));
    }
}

/// Of up to 128 ports, the kernel tries each.
fn a_range_of_ports_holds_as_many_connections_and_no_more() {
    let bench = behind_nat(20)
        .workers(2)
        .burst(150)
        .set("load.hold", "3s")
        .set("load.connect_timeout", "2500ms")
        .set("answers", serde_json::json!(["lost_connections_share"]))
        .each("nat.ports", ["kept", "random", "fully-random"])
        .each("nat.port_count", [40, 128])
        .bench();
    let trials = bench.trials(0);
    assert_eq!(trials.len(), 6);
    for trial in trials {
        assert_balanced(&trial);
        let ports = number(&trial["cell"]["port_count"]);
        let outcomes = &trial["connections"]["outcomes"];
        assert_eq!(
            (number(&outcomes["open"]), number(&outcomes["filtered"])),
            (ports, 150 - ports),
            "{}: {outcomes}",
            trial["cell"]
        );
        let tables = trial["conntrack"].as_array().unwrap();
        let translating = tables.iter().find(|table| table["network"] == "loaders").unwrap();
        assert!(number(&translating["counts"]["insert_failed"]) >= 150 - ports, "{translating}");
        assert_eq!(number(&trial["nat"]["ports"]), ports);
        let names = verdicts(&trial);
        assert_eq!(names.contains(&"nat-ports-short"), ports < 150, "{names:?}");
        assert!(!names.contains(&"syn-retries"), "{names:?}");
    }
}
