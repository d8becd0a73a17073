//! Flows with connection ids: who gets them when their client's port changes, and in a reload.

use std::{
    io::Write,
    process::{Child, Command, Stdio},
};

use serde_json::{Value, json};

use crate::common::{
    Bench, Scenario, assert_balanced, assert_code, assert_datagrams_balanced, free_port, number, scenario, stderr,
    wait_until, when_undisturbed, words,
};

tests! {
    nothing [
        by_the_hash_a_flow_stays_by_chance_when_its_port_changes,
        a_shared_socket_is_everybodys_whatever_the_port,
        by_the_hash_no_flow_stays_in_a_reload,
        no_flow_stays_that_asks_all_through_a_reload,
        nothing_is_lost_uncounted_in_reloads,
        a_port_that_changes_is_another_ones_and_both_are_counted,
        what_no_flow_can_do_is_refused,
    ]
    root [
        by_its_id_every_flow_stays_when_its_port_changes,
        by_a_draw_per_datagram_a_flow_stays_by_chance,
        by_its_id_every_flow_stays_until_the_old_workers_leave,
        flows_outlive_the_old_workers_without_a_loss,
        a_dead_workers_flows_go_by_the_hash,
    ]
    socat [
        our_server_answers_another_programs_datagram,
    ]
}

const FLOWS: u64 = 1_000;
const WORKERS: u64 = 4;

/// Flows with two requests from one port and two from another.
fn rebinding() -> Scenario {
    flows().set("load.rebind_after", 2)
}

fn flows() -> Scenario {
    let flows = scenario().set("protocol", "udp").workers(WORKERS as usize).closed(16, FLOWS);
    flows.set("load.requests", 4)
}

fn followed(trial: &Value, change: &str) -> [u64; 2] {
    ["stayed", "moved"].map(|count| number(&trial["datagrams"][change][count]))
}

/// Everything is accounted for, and every flow has had another port.
fn assert_rebound(trial: &Value) {
    assert_balanced(trial);
    assert_datagrams_balanced(trial);
    assert_eq!(trial["outcome"], "valid", "{}: {}", trial["cell"], trial["verdicts"]);
    let datagrams = &trial["datagrams"];
    assert_eq!([&datagrams["sent"], &datagrams["replies"]], [&json!(4 * FLOWS); 2], "{datagrams}");
    assert_eq!([&datagrams["flows"], &datagrams["rebound_flows"]], [&json!(FLOWS); 2], "{datagrams}");
    // Each receipt has the 4-tuple of the port that the flow has now.
    assert_eq!(trial["connections"]["verified"], 4 * FLOWS);
}

/// Fails if so many of so many draws are further from what is to be expected than chance has it once in 10⁹ (Hoeffding, 1963: the
/// probability is at most 2 exp(−2 n d²) for a deviation of d).
fn assert_by_chance(hits: u64, draws: u64, probability: f64) {
    let deviation = ((2e9_f64).ln() / (2.0 * draws as f64)).sqrt();
    let share = hits as f64 / draws as f64;
    assert!((share - probability).abs() <= deviation, "{hits} of {draws}, not {probability} ± {deviation}");
}

fn by_the_hash_a_flow_stays_by_chance_when_its_port_changes() {
    for address in ["127.0.0.1", "::1"] {
        let trial = rebinding().strategy("reuseport").set("address", address).bench().trials(0).remove(0);
        assert_rebound(&trial);
        let [stayed, moved] = followed(&trial, "after_rebinding");
        assert_eq!(stayed + moved, FLOWS);
        assert_by_chance(stayed, FLOWS, 1.0 / WORKERS as f64);
        // What stays does so with both ports, and what moves does so with the port.
        assert_eq!(
            [number(&trial["datagrams"]["sticky_flows"]), number(&trial["datagrams"]["moved_flows"])],
            [stayed, moved]
        );
    }
    // Without another port, all stay, and nothing is said of those that have one.
    let trial = flows().strategy("reuseport").bench().trials(0).remove(0);
    let datagrams = &trial["datagrams"];
    assert_eq!([&datagrams["sticky_flows"], &datagrams["moved_flows"]], [&json!(FLOWS), &json!(0)], "{datagrams}");
    assert_eq!([&datagrams["rebound_flows"], &datagrams["after_rebinding"]], [&json!(0), &Value::Null], "{datagrams}");
    assert_eq!(datagrams["after_reload"], Value::Null);
}

fn by_its_id_every_flow_stays_when_its_port_changes() {
    for (network, sources) in [("netns", "kernel"), ("veth", "explicit")] {
        let scenario = rebinding().strategy("reuseport-cid").set("load.source_ports", sources).set("network", network);
        let bench = scenario.each("server.listeners", json!(["per-worker", 2])).bench();
        for trial in bench.trials(0) {
            assert_rebound(&trial);
            let [stayed, moved] = followed(&trial, "after_rebinding");
            assert_eq!(stayed + moved, FLOWS);
            if trial["cell"]["listeners"] == "per-worker" {
                assert_eq!(moved, 0, "{}", trial["datagrams"]);
                assert_eq!(number(&trial["datagrams"]["sticky_flows"]), FLOWS);
                let spread = &trial["flow_distribution"];
                assert!(spread["p_value"].as_f64().unwrap() > 1e-9, "the hash spreads the first datagrams: {spread}");
            }
        }
    }
}

/// Each datagram is a draw of its own, whichever port it comes from.
fn by_a_draw_per_datagram_a_flow_stays_by_chance() {
    let trial = rebinding().strategy("reuseport-random").bench().trials(0).remove(0);
    assert_rebound(&trial);
    assert_by_chance(followed(&trial, "after_rebinding")[0], FLOWS, 1.0 / WORKERS as f64);
}

/// Whoever is awake takes a datagram of a shared socket, and one worker takes all.
fn a_shared_socket_is_everybodys_whatever_the_port() {
    for workers in [1, 3] {
        let bench = scenario().set("protocol", "udp").workers(workers).closed(16, FLOWS).strategy("shared-epoll");
        let trial = bench.set("load.requests", 4).set("load.rebind_after", 2).bench().trials(0).remove(0);
        assert_rebound(&trial);
        let [stayed, moved] = followed(&trial, "after_rebinding");
        assert_eq!((stayed + moved, moved == 0 || workers > 1), (FLOWS, true));
    }
}

const HELD: u64 = 60;

/// Flows that ask once at the start and once at 3 s, with an event in between.
fn asked_after(strategy: &str, event: Value) -> Value {
    let flows = scenario().set("protocol", "udp").workers(2).burst(HELD).strategy(strategy);
    let flows = flows.set("load.hold", "4s").set("load.follow_up", "3s").event(event);
    let trial = flows.bench().trials(0).remove(0);
    assert_datagrams_balanced(&trial);
    assert_eq!(number(&trial["datagrams"]["replies"]), 2 * HELD, "{}", trial["datagrams"]);
    trial
}

fn reload(how: &str, drain: &str) -> Value {
    json!({ "kind": "reload", "how": how, "at": "1s", "drain": drain })
}

fn restart() -> Value {
    json!({ "kind": "reload", "how": "restart", "at": "1s", "drain": "60s", "gap": "100ms" })
}

fn by_the_hash_no_flow_stays_in_a_reload() {
    when_undisturbed(|| {
        for event in [reload("inherit", "60s"), reload("reopen", "60s"), restart()] {
            let trial = asked_after("reuseport", event.clone());
            assert_eq!(followed(&trial, "after_reload"), [0, HELD], "{event}");
        }
    });
}

/// Flows that ask all the time until long after a reload, which is slow enough for new workers to answer them before they have taken over.
fn asked_all_the_time(strategy: &str, how: &str) -> [u64; 2] {
    const ASKING: u64 = 9;
    let flows = scenario().set("protocol", "udp").workers(3).burst(ASKING).strategy(strategy);
    let flows = flows.set("load.requests", 300).set("server.service_time", "2ms").set("load.reply_timeout", "60s");
    let event = json!({ "kind": "reload", "how": how, "at": "300ms", "drain": "100ms" });
    let trial = flows.event(event).bench().trials(0).remove(0);
    assert_datagrams_balanced(&trial);
    followed(&trial, "after_reload")
}

fn no_flow_stays_that_asks_all_through_a_reload() {
    when_undisturbed(|| {
        for how in ["inherit", "reopen"] {
            let [stayed, moved] = asked_all_the_time("reuseport", how);
            assert!(stayed == 0 && moved > 0, "{how}: {stayed} stayed, {moved} moved");
        }
    });
}

/// What comes to a socket as its worker closes it is counted, however often that happens, and whoever shares it.
fn nothing_is_lost_uncounted_in_reloads() {
    for strategy in ["reuseport", "shared-epoll"] {
        let flows = scenario().set("protocol", "udp").workers(3).burst(64).strategy(strategy);
        let flows = flows.set("load.requests", 2_000).set("load.reply_timeout", "50ms");
        let reload = |at: &str| json!({ "kind": "reload", "how": "reopen", "at": at, "drain": "5ms" });
        let flows = ["50ms", "100ms", "150ms", "200ms"].iter().fold(flows, |flows, at| flows.event(reload(at)));
        assert_datagrams_balanced(&flows.bench().trials(0).remove(0));
    }
}

/// Sockets that are inherited, or closed before the new ones open, are not what an id names any more.
fn by_its_id_every_flow_stays_until_the_old_workers_leave() {
    when_undisturbed(|| {
        for (event, expected) in [
            (reload("reopen", "60s"), [HELD, 0]),
            (reload("reopen", "300ms"), [0, HELD]),
            (reload("inherit", "60s"), [0, HELD]),
            (restart(), [0, HELD]),
        ] {
            let trial = asked_after("reuseport-cid", event.clone());
            assert_eq!(followed(&trial, "after_reload"), expected, "{event}");
        }
    });
}

/// Flows that ask all the time, for a second or longer: each request burns 5 ms of its worker's time. They stay as long as the old workers do, and
/// then move; what has arrived by then is answered.
fn flows_outlive_the_old_workers_without_a_loss() {
    when_undisturbed(|| {
        let flows = scenario().set("protocol", "udp").workers(2).burst(3).strategy("reuseport-cid");
        let flows = flows.set("load.requests", 200).set("server.service_time", "5ms").set("load.reply_timeout", "60s");
        // Or a worker would look at its orders after 64 datagrams only.
        let flows = flows.set("server.accept_batch", 1);
        let event = json!({ "kind": "reload", "how": "reopen", "at": "300ms", "drain": "300ms" });
        let trial = flows.event(event).bench().trials(0).remove(0);
        assert_datagrams_balanced(&trial);
        let datagrams = &trial["datagrams"];
        assert_eq!([&datagrams["replies"], &datagrams["aborted"]], [&json!(600), &json!(0)], "{datagrams}");
        assert_eq!(followed(&trial, "after_reload"), [3, 0], "{datagrams}");
        assert_eq!(number(&datagrams["moved_flows"]), 3, "{datagrams}");
    });
}

/// Flows that ask before their worker dies and after: the ids of the dead one name no socket, and the other answers them.
fn a_dead_workers_flows_go_by_the_hash() {
    when_undisturbed(|| {
        let kill = json!({ "kind": "kill", "worker": 0, "at": "1s" });
        let trial = asked_after("reuseport-cid", kill);
        let [dead, other] = [0, 1].map(|worker| number(&trial["workers"][worker]["datagrams"]));
        assert!((1..HELD).contains(&dead), "the hash spreads the first datagrams: {}", trial["workers"]);
        assert_eq!(dead + other, 2 * HELD, "each worker got its flows' first datagrams, and the living one all others");
        assert_eq!(number(&trial["datagrams"]["moved_flows"]), dead, "{}", trial["datagrams"]);
    });
}

/// 30 flows at once need 60 ports, and 20 all that there are, which are then used again and again.
fn a_port_that_changes_is_another_ones_and_both_are_counted() {
    let bench = |concurrency| {
        let flows = scenario().set("protocol", "udp").workers(1).closed(concurrency, 100).set("load.requests", 2);
        let flows = flows.set("load.rebind_after", 1).set("sysctl.ip_local_port_range", "40000 40039");
        flows.set("load.source_ports", "explicit").bench()
    };
    let output = bench(30).run(&[]);
    assert_code(&output, 2);
    let said = words(&stderr(&output));
    assert!(said.contains("60 source ports (two for each flow, as it changes its port) of 40"), "{said}");
    let trial = bench(20).trials(0).remove(0);
    assert_datagrams_balanced(&trial);
    assert_eq!(trial["connections"]["completed"], 100, "{}", trial["connections"]);
    assert_eq!(trial["datagrams"]["rebound_flows"], 100);
}

fn what_no_flow_can_do_is_refused() {
    for (text, parts) in [
        (
            "server.strategy = \"reuseport-cid\"",
            &["`server.strategy`", "protocol = \"udp\"", "connections (`protocol`) have none"][..],
        ),
        ("protocol = \"tcp+udp\"\nserver.strategy = \"reuseport-cid\"", &["`server.strategy`", "have none"]),
        ("load.requests = 2\nload.rebind_after = 1", &["`load.rebind_after`", "no effect", "protocol"]),
        (
            "protocol = \"udp\"\nload.rebind_after = 1",
            &["`load.rebind_after`", "must be less than load.requests, 1, not 1"],
        ),
        (
            "protocol = \"udp\"\nserver.strategy = \"reuseport-cid\"\nserver.request_bytes = 11",
            &["`server.request_bytes`", "at least 12", "reuseport-cid"],
        ),
        (
            "protocol = \"udp\"\nserver.strategy = \"reuseport-cid\"\nserver.reply_bytes = 59\nserver.request_bytes = 60",
            &["`server.reply_bytes`", "at least 60"],
        ),
    ] {
        let bench = Bench::new(text);
        let output = bench.run(&[]);
        assert_code(&output, 2);
        let said = stderr(&output);
        for part in parts {
            assert!(said.contains(part), "{text:?}: {said:?} lacks {part:?}");
        }
    }
}

/// A program that is ended with the test.
struct Beside(Child);

impl Drop for Beside {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Whether a UDP socket is bound to this port.
fn is_bound(port: u16) -> bool {
    let sockets = std::fs::read_to_string("/proc/net/udp").unwrap();
    sockets.lines().any(|line| line.contains(&format!(":{port:04X} ")))
}

fn our_server_answers_another_programs_datagram() {
    let port = free_port();
    let bench = scenario().set("protocol", "udp").set("network", "host").set("port", port).bench();
    let _server = Beside(bench.spawn(&["serve", "scenario.toml"]));
    wait_until("the server to be bound", || is_bound(port));
    let socat = Command::new("socat")
        .args(["-T5", "-b65536", "-", &format!("UDP4:127.0.0.1:{port}")])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let mut socat = socat.unwrap();
    // A nonce, and behind it the random id of a client.
    let mut request = [0_u8; 64];
    request[..12].copy_from_slice(&[1, 2, 3, 4, 0xe7, 9, 9, 9, 9, 5, 6, 7]);
    socat.stdin.as_mut().unwrap().write_all(&request).unwrap();
    let mut reply = [0_u8; 64];
    std::io::Read::read_exact(socat.stdout.as_mut().unwrap(), &mut reply).unwrap();
    let _ = socat.kill();
    let _ = socat.wait();
    assert_eq!(reply[2..6], [1, 2, 3, 4], "the nonce in its receipt");
    // The worker's own id: routable, of one of two sockets, with the client's port and the rest of its nonce.
    assert_eq!((reply[52], reply[53], reply[54] < 2), (7, 0, true), "{reply:?}");
    assert_eq!(reply[55..57], [reply[33], reply[32]], "the port in its receipt is little endian");
    assert_eq!(reply[57..60], [5, 6, 7]);
}
