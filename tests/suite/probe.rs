//! The probe beside our own workers, which count themselves: what is seen from outside is what they say.

use std::{
    collections::BTreeSet,
    fs,
    net::{TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use serde_json::{Value, json};

use crate::common::{
    self, Bench, Scenario, assert_balanced, assert_code, free_port, number, of_workers, scenario, stdout, verdicts,
    when_undisturbed,
};

tests! {
    root [
        every_level_counts_what_the_workers_count,
        accepts_by_ring_are_unknown_without_btf,
        waits_agree_with_the_workers_own,
        both_families_are_counted,
        a_hundred_members_at_full_rate_lose_nothing,
        more_members_than_there_is_room_for_are_lost_events,
        other_clients_waits_are_not_the_loaders,
        the_probe_leaves_nothing_behind,
        the_doctor_counts_an_accept,
        what_a_closed_listener_resets_is_told_from_what_clients_give_up,
    ]
    nothing [
        a_level_that_cannot_be_had_is_an_error,
    ]
}

/// Strategies whose workers accept from an epoll loop, in a thread that blocks, through a helper process, and by io_uring.
const STRATEGIES: [&str; 5] = ["shared-epoll", "reuseport", "shared-blocking", "dispatcher", "shared-uring"];

/// On a port of its own: at the level `tracepoints`, a connection of another test with the same addresses and ports takes a stamp, in
/// whichever network it is.
fn probed(level: &str) -> Scenario {
    scenario().workers(2).set("port", free_port()).set("stamps", "sock_ops").set("probe", level)
}

fn members(trial: &Value) -> &Vec<Value> {
    assert_eq!(trial["probe"]["lost_events"], 0, "{}", trial["probe"]);
    assert_eq!(trial["probe"]["aged_out"], 0, "{}", trial["probe"]);
    trial["probe"]["members"].as_array().unwrap_or_else(|| panic!("{}", trial["probe"]))
}

fn of_members(trial: &Value, name: &str) -> Vec<u64> {
    members(trial).iter().map(|member| number(&member[name])).collect()
}

/// What the probe counted for each worker is what the worker counted; a helper accepts for all of them.
fn demand_equal_counts(trial: &Value) {
    assert_balanced(trial);
    let (cell, accepted) = (&trial["cell"], of_workers(trial, "accepted"));
    let seen = of_members(trial, "accepted");
    if trial["helper"].is_null() {
        assert_eq!(seen, accepted, "{cell}");
        assert_eq!(of_members(trial, "accept_eagain"), of_workers(trial, "accept_eagain"), "{cell}");
    } else {
        assert_eq!(seen, [0, 0, accepted.iter().sum()], "{cell}");
        assert!(members(trial)[2]["member"].is_null());
        assert_eq!(members(trial)[2]["pid"], trial["helper"]["pid"]);
    }
    assert_eq!(number(&trial["probe"]["accepts"]), accepted.iter().sum::<u64>());
}

fn every_level_counts_what_the_workers_count() {
    for level in ["btf", "tracepoints", "counts"] {
        // Of a busy machine's connections, `tracepoints` may miss when some were established.
        when_undisturbed(|| a_level_counts_what_the_workers_count(level));
    }
}

fn a_level_counts_what_the_workers_count(level: &str) {
    // Only BTF shows what a ring accepts.
    let strategies = if level == "btf" { &STRATEGIES[..] } else { &STRATEGIES[..4] };
    let bench = probed(level).closed(40, 600).each("server.strategy", strategies).bench();
    for trial in bench.trials(0) {
        demand_equal_counts(&trial);
        let probe = &trial["probe"];
        assert_eq!((&probe["level"], probe["missing"].is_null()), (&level.into(), level == "btf"), "{probe}");
        if level == "counts" {
            assert!(probe["unstamped"].is_null(), "{probe}");
            assert!(members(&trial).iter().all(|member| member["accept_wait"].is_null()), "{probe}");
        } else {
            let waits: u64 = members(&trial).iter().map(|member| number(&member["accept_wait"]["count"])).sum();
            assert_eq!((&probe["unstamped"], waits), (&0.into(), 600), "{}: {probe}", trial["cell"]);
        }
    }
}

/// What a level does not see is unknown, not 0.
fn accepts_by_ring_are_unknown_without_btf() {
    let bench =
        scenario().workers(2).closed(10, 100).each("probe", ["tracepoints", "counts"]).strategy("shared-uring").bench();
    for trial in bench.trials(0) {
        assert_balanced(&trial);
        let probe = &trial["probe"];
        assert!(probe["accepts"].is_null() && probe["unstamped"].is_null(), "{probe}");
        for member in members(&trial) {
            for figure in ["accepted", "accept_eagain", "open_peak", "accept_wait"] {
                assert!(member[figure].is_null(), "{figure}: {member}");
            }
        }
    }
}

/// Connections wait for workers that sleep at first, or are served at once. Each worker's waits are those by its own stamps, less what
/// comes after accept's return or the ring's completion; the probe's are shorter, since they begin later and end earlier.
fn waits_agree_with_the_workers_own() {
    for level in ["btf", "tracepoints"] {
        // Of a busy machine's connections, `tracepoints` may miss when some were established.
        when_undisturbed(|| waits_of_a_level_agree(level));
    }
}

fn waits_of_a_level_agree(level: &str) {
    let strategies = if level == "btf" { &STRATEGIES[..] } else { &STRATEGIES[..4] };
    let bench =
        probed(level).closed(100, 500).set("server.accept_delay", "1s").each("server.strategy", strategies).bench();
    for trial in bench.trials(0) {
        let cell = &trial["cell"];
        let (own, hand_over) = (&trial["latency_ns"]["accept_wait"], &trial["latency_ns"]["hand_over"]);
        let total = |row: &Value| number(&row["count"]) * number(&row["mean"]);
        let seen: u64 = members(&trial).iter().map(|member| total(&member["accept_wait"])).sum();
        let handed_over = if hand_over.is_null() { 0 } else { total(hand_over) };
        let until_accept = total(own) - handed_over;
        assert!(seen <= until_accept, "{cell}: {seen} ns seen, {own} less {hand_over}");
        // The rest is the way from accept(2)'s return to the worker's own stamp, which may be long on a busy machine. A hundred
        // have waited for a second, less what they took to connect, and were seen to.
        assert!(seen >= 50_000_000_000, "{cell}: {seen} ns seen, {own} less {hand_over}");
        let ends = if cell["strategy"] == "shared-uring" { "completion" } else { "accept" };
        for member in members(&trial).iter().filter(|member| number(&member["accepted"]) > 0) {
            assert_eq!(member["accept_wait"]["ends"], ends, "{cell}");
        }
        // Where workers accept themselves, this holds for each of them.
        if !hand_over.is_null() {
            continue;
        }
        for (member, worker) in members(&trial).iter().zip(trial["workers"].as_array().unwrap()) {
            let (seen, own) = (&member["accept_wait"], &worker["accept_wait"]);
            assert_eq!(seen["count"], own["count"], "{cell}");
            assert_eq!(member["open_peak"], worker["open_peak"], "{cell}");
            for figure in ["min", "max"] {
                assert!(number(&seen[figure]) <= number(&own[figure]), "{cell} {figure}: {seen} {own}");
            }
        }
    }
}

fn both_families_are_counted() {
    for level in ["btf", "tracepoints"] {
        // Of a busy machine's connections, `tracepoints` may miss when some were established.
        when_undisturbed(|| a_level_counts_both_families(level));
    }
}

fn a_level_counts_both_families(level: &str) {
    let bench = probed(level).closed(10, 200).each("address", ["127.0.0.1", "::1"]).bench();
    for trial in bench.trials(0) {
        demand_equal_counts(&trial);
        assert_eq!(trial["probe"]["unstamped"], 0, "{}", trial["cell"]);
    }
}

fn a_hundred_members_at_full_rate_lose_nothing() {
    let bench = scenario().workers(100).set("probe", "btf").strategy("reuseport").closed(64, 20_000).bench();
    let trial = &bench.trials(0)[0];
    demand_equal_counts(trial);
    assert_eq!(members(trial).len(), 100);
    assert_eq!(trial["probe"]["unstamped"], 0);
}

/// Each connection is accepted by a thread of its own, and there are more of those than the probe's tables have room for.
fn more_members_than_there_is_room_for_are_lost_events() {
    const ROOM: u64 = 1_024;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let connections = ROOM + 76;
    let accepting = thread::spawn(move || {
        for _ in 0..connections {
            let listener = listener.try_clone().unwrap();
            thread::spawn(move || drop(listener.accept().unwrap())).join().unwrap();
        }
    });
    let bench = scenario()
        .closed(1, connections)
        .set("server.subject", "running")
        .set("server.app", "close")
        .set("network", "host")
        .set("port", port)
        .bench();
    let trial = &bench.trials(3)[0];
    assert_eq!(trial["probe"]["lost_events"], connections - ROOM, "{}", trial["probe"]);
    assert_eq!(trial["probe"]["accepts"], ROOM);
    for verdict in ["probe-lost-events", "unaccounted"] {
        assert!(verdicts(trial).contains(&verdict), "{:?}", verdicts(trial));
    }
    accepting.join().unwrap();
}

/// The server's other clients count as accepts, and their waits as nobody's.
fn other_clients_waits_are_not_the_loaders() {
    for level in ["btf", "tracepoints"] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let is_over = Arc::new(AtomicBool::new(false));
        let (accepting, connecting) = (Arc::clone(&is_over), Arc::clone(&is_over));
        let server = thread::spawn(move || {
            while !accepting.load(Relaxed) {
                drop(listener.accept().unwrap());
            }
        });
        let others = thread::spawn(move || {
            while !connecting.load(Relaxed) {
                drop(TcpStream::connect(address));
                thread::sleep(Duration::from_millis(1));
            }
            // For the server that waits for another.
            drop(TcpStream::connect(address));
        });
        let bench = scenario()
            .closed(2, 300)
            .set("server.subject", "running")
            .set("server.app", "close")
            .set("network", "host")
            .set("port", address.port())
            .set("probe", level)
            .bench();
        let trial = &bench.trials(0)[0];
        is_over.store(true, Relaxed);
        others.join().unwrap();
        server.join().unwrap();
        let (connections, waits) = (&trial["connections"], &trial["latency_ns"]["accept_wait"]);
        assert!(number(&connections["foreign"]) > 0, "{connections}");
        assert_eq!((&waits["count"], &waits["due"]), (&300.into(), &300.into()), "{level}: {waits}");
        assert!(verdicts(trial).contains(&"other-clients"), "{:?}", verdicts(trial));
    }
}

/// The BPF objects that the processes of a run hold.
#[derive(Default)]
struct Held {
    programs: BTreeSet<u32>,
    maps: BTreeSet<u32>,
    links: BTreeSet<u32>,
}

impl Held {
    fn look(&mut self, bench: &Bench) {
        for pid in bench.processes() {
            let entries = fs::read_dir(format!("/proc/{pid}/fdinfo")).into_iter().flatten().flatten();
            for text in entries.filter_map(|entry| fs::read_to_string(entry.path()).ok()) {
                let id = |key| {
                    text.lines().find_map(|line| line.strip_prefix(key)).and_then(|id| id.trim().parse::<u32>().ok())
                };
                self.links.extend(id("link_id:"));
                self.maps.extend(id("map_id:"));
                // A link's entry names its program, too.
                self.programs.extend(id("prog_id:"));
            }
        }
    }

    fn demand_nothing_left(&self) {
        assert!(!self.programs.is_empty() && !self.maps.is_empty() && !self.links.is_empty());
        common::wait_until("the run's BPF objects to be gone", || {
            let programs = aya::programs::loaded_programs().flatten().any(|one| self.programs.contains(&one.id()));
            let maps = aya::maps::loaded_maps().flatten().any(|one| self.maps.contains(&one.id()));
            let links = aya::programs::loaded_links().flatten().any(|one| self.links.contains(&one.id()));
            !programs && !maps && !links
        });
    }
}

/// Neither after the end, nor when the run is killed: no program, no map, no link, no mount.
fn the_probe_leaves_nothing_behind() {
    let mounts = || fs::read_to_string("/proc/self/mounts").unwrap().matches("tracefs").count();
    let before = mounts();
    for level in ["btf", "tracepoints"] {
        for is_killed in [false, true] {
            let bench = probed(level).duration("2s").bench();
            let mut held = Held::default();
            let mut run = bench.spawn(&["run", "scenario.toml", "--out", "out"]);
            common::wait_until("the probe to be in use", || {
                held.look(&bench);
                !held.links.is_empty()
            });
            if is_killed {
                run.kill().unwrap();
            }
            let output = run.wait_with_output().unwrap();
            assert_eq!(output.status.success(), !is_killed, "{}", common::stderr(&output));
            bench.demand_nothing_left();
            held.demand_nothing_left();
        }
    }
    assert_eq!(mounts(), before);
}

fn the_doctor_counts_an_accept() {
    let checks = stdout(&Bench::new("").command(&["doctor", "--json"]).output().unwrap());
    let checks: Vec<Value> = serde_json::from_str(&checks).unwrap();
    let check = checks.iter().find(|check| check["name"] == "accepts of any server").unwrap();
    assert_eq!(check["found"], "counted by thread, with their exact waits (probe = \"btf\")", "{check}");
}

/// Without privilege, a level that the scenario demands is an error with a remedy; `auto` leaves our own server alone.
fn a_level_that_cannot_be_had_is_an_error() {
    let bench = scenario().workers(1).closed(1, 10).set("probe", "btf").bench();
    let output = bench.run_as_ordinary_user();
    assert_code(&output, 3);
    let error = bench.read_trials()[0]["error"].as_str().unwrap().to_owned();
    assert!(error.starts_with("`probe`: loading BPF programs is not permitted: run as root"), "{error}");
    let bench = scenario().workers(1).closed(1, 10).bench();
    assert_code(&bench.run_as_ordinary_user(), 0);
    assert!(bench.read_trials()[0]["probe"].is_null());
}

/// 40 connections wait over two listeners, one of which dies with its worker. The clients of the others give up before the other worker
/// wakes: their resets are theirs.
fn what_a_closed_listener_resets_is_told_from_what_clients_give_up() {
    for (level, is_known) in [("btf", true), ("tracepoints", false), ("counts", false)] {
        let bench = probed(level)
            .strategy("reuseport")
            .burst(40)
            .set("server.accept_delay", "3s")
            .set("load.close_how", "rst")
            .set("load.reply_timeout", "2s")
            .event(json!({ "kind": "kill", "worker": 1, "at": "1s" }))
            .bench();
        let trial = &bench.trials(3)[0];
        let (probe, stranded) = (&trial["probe"], &trial["events"][0]["stranded"]);
        assert!(number(stranded) > 0 && number(stranded) < 40, "{}", trial["events"]);
        let reset = &probe["reset_in_queue"];
        assert!(if is_known { reset == stranded } else { reset.is_null() }, "{stranded}: {probe}");
    }
}
