//! What a job refuses: scenarios that mean one machine, strangers at the server and at the job's own port, a missing library.

use std::{
    collections::BTreeSet,
    fs,
    process::{Child, Command, Output, Stdio},
};

use crate::{
    common::{
        Bench, Scenario, assert_balanced, assert_code, number, scenario, stderr, stdout, verdicts, wait_until, words,
    },
    hosts::{Hosts, STRANGER, address},
};

tests! {
    root_and_mpirun [
        scenarios_of_one_machine_are_refused_by_line,
        only_the_server_host_needs_the_scenario,
        uninvited_clients_are_counted_and_refused,
        strangers_at_the_job_s_port_do_no_harm,
        a_missing_library_is_named_with_its_package,
        keys_of_hosts_are_refused_without_a_job,
    ]
}

/// Refused before any trial, by the server host alone, which names file, line and reason.
fn refused(hosts: &Hosts, output: &Output, parts: &[&str]) {
    assert_code(output, 2);
    let said = words(&stderr(output));
    for part in parts {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(!hosts.bench.path("out").exists(), "{parts:?}");
    hosts.bench.demand_nothing_left();
}

fn scenarios_of_one_machine_are_refused_by_line() {
    let hosts = Hosts::new(scenario());
    for (first, parts) in [
        ("network = \"netns\"", &["scenario.toml:1: `network`", "3 hosts"][..]),
        ("network = \"veth\"", &["scenario.toml:1: `network`"]),
        ("address = \"127.0.0.1\"", &["scenario.toml:1: `address`", "127.0.0.1", "loopback"]),
        ("address = \"198.51.100.8\"", &["scenario.toml:1: `address`"]),
        ("hosts.servers = 3", &["scenario.toml:1: `hosts.servers`", "3"]),
        ("stamps = \"connect-call\"", &["scenario.toml:1: `stamps`", "clock"]),
        ("event = [{ kind = \"stall\", at = \"1s\" }]", &["scenario.toml:1: `event.0.at`", "hosts"]),
        ("server.bind = \"198.18.7.9\"", &["scenario.toml:1: `server.bind`", "clients connect to 198.18.7.1"]),
        ("server.app = \"https\"", &["scenario.toml:1: `server.app`", "load.verify = false"]),
        ("server.device = \"lo\"", &["scenario.toml:1: `server.device`", "other hosts"]),
        (
            "server = { bind = \"198.18.7.1\" }\nhosts.servers = 2",
            &["scenario.toml:1: `server.bind`", "use 0.0.0.0 or ::"],
        ),
        // Host 2 has neither of these.
        ("load.source_addresses = \"198.18.7.2, 198.18.7.9\"", &["scenario.toml:1: `load.source_addresses`", "host2"]),
        ("kind = \"ports\"", &["scenario.toml:1: `kind`", "one machine"]),
    ] {
        let rest = match first.split_once(' ').unwrap().0 {
            "kind" => "",
            "load.source_addresses" => "load.source_ports = \"bind-no-port\"\nload.connections = 20",
            _ => "load.connections = 20",
        };
        fs::write(hosts.bench.path("scenario.toml"), format!("{first}\n{rest}\n")).unwrap();
        refused(&hosts, &hosts.run(3, &[]), parts);
    }
}

/// Other hosts read no file of theirs, whatever folder they are in.
fn only_the_server_host_needs_the_scenario() {
    let hosts = Hosts::new(scenario().closed(4, 100));
    let wrapper = hosts.wrapper("[ $PMIX_RANK = 0 ] || cd /; exec \"$@\"");
    let run = |more: &[&str]| {
        let arguments = [&[env!("CARGO_BIN_EXE_listenbench"), "run", "scenario.toml"], more].concat();
        let output = hosts.job(3, &[], wrapper.to_str().unwrap(), &arguments).output().unwrap();
        assert_code(&output, 0);
        output
    };
    // Without a trial, there is nothing for the others to do.
    let planned = stdout(&run(&["--dry-run"]));
    assert_eq!(planned.matches("trial ").count(), 1, "{planned}");
    // The others show no progress.
    let progress = stderr(&run(&["--progress", "plain", "--out", "out"]));
    assert_eq!(progress.matches("1 of 1").count(), 1, "{progress}");
    assert_balanced(&hosts.bench.read_trials()[0]);
}

/// Connects from the host outside the job, sends some bytes, and prints whatever comes back until the other side closes the connection.
fn stranger(hosts: &Hosts, port: u16, says: &str) -> Child {
    let script = format!("exec 3<>/dev/tcp/{}/{port}; printf '{says}' >&3; exec cat <&3", address(0));
    hosts.on(STRANGER, "bash", &["-c", &script]).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap()
}

/// The ports that a host's processes of this name listen on.
fn listening(hosts: &Hosts, process: &str) -> BTreeSet<u16> {
    let shown = hosts.on(0, "ss", &["-Htlnp"]).output().unwrap();
    let text = String::from_utf8(shown.stdout).unwrap();
    let lines = text.lines().filter(|line| line.contains(&format!("(\"{process}\",")));
    lines.filter_map(|line| line.split_whitespace().nth(3)?.rsplit(':').next()?.parse().ok()).collect()
}

fn start(hosts: &Hosts, more: &[&str]) -> Child {
    let arguments = [&["run", "scenario.toml", "--out", "out"], more].concat();
    let mut command: Command = hosts.listenbench(3, &[], &arguments);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn uninvited_clients_are_counted_and_refused() {
    for (admit, replies) in [("job", false), ("anyone", true)] {
        let load = scenario().constant(100.0).duration("2s").set("server.app", "http").strategy("reuseport");
        let hosts = Hosts::new(load.set("hosts.admit", admit));
        let job = start(&hosts, &[]);
        wait_until("the server to listen", || listening(&hosts, "lb:worker0").contains(&7_000));
        for _ in 0..3 {
            let client = stranger(&hosts, 7_000, "GET / HTTP/1.1\\r\\nConnection: close\\r\\n\\r\\n");
            let reply = client.wait_with_output().unwrap().stdout;
            assert_eq!(
                reply.starts_with(b"HTTP/1.1 200 OK\r\n"),
                replies,
                "{admit}: {}",
                String::from_utf8_lossy(&reply)
            );
            assert!(replies || reply.is_empty(), "{admit}: {}", String::from_utf8_lossy(&reply));
        }
        let output = job.wait_with_output().unwrap();
        let trial = &hosts.bench.read_trials()[0];
        assert_balanced(trial);
        assert_eq!(trial["connections"]["foreign"], 3, "{}", trial["connections"]);
        // Nobody takes a stranger's connection for one of the job's.
        let established = number(&trial["connections"]["established"]);
        assert_eq!(number(&trial["connections"]["accepted"]), established + 3, "{}", trial["connections"]);
        let by_hosts: u64 = trial["hosts"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|row| row["role"] == "load")
            .map(|row| number(&row["established"]))
            .sum();
        assert_eq!(by_hosts, established);
        // Strangers are part of what is measured only where they are admitted.
        let (code, verdict) = if replies { (0, "other-clients") } else { (3, "foreign-connections") };
        assert_code(&output, code);
        assert!(verdicts(trial).contains(&verdict), "{admit}: {}", trial["verdicts"]);
    }
}

/// Garbage, a frame without an end, and silence.
fn strangers_at_the_job_s_port_do_no_harm() {
    let hosts = Hosts::new(Scenario::repeated(2).constant(100.0).duration("1s"));
    let job = start(&hosts, &[]);
    wait_until("the server to listen", || !listening(&hosts, "lb:worker0").is_empty());
    let ports = listening(&hosts, "listenbench");
    assert_eq!(ports.len(), 1, "{ports:?}");
    let port = *ports.first().unwrap();
    let garbage = [
        "GET / HTTP/1.1\\r\\n\\r\\n",
        "\\377\\377\\377\\377\\377\\377\\377",
        "\\020\\000\\000\\000\\001{\"token\":\"\"}",
        "",
    ];
    let strangers: Vec<Child> = garbage.iter().map(|says| stranger(&hosts, port, says)).collect();
    let output = job.wait_with_output().unwrap();
    assert_code(&output, 0);
    for stranger in strangers {
        // Nothing is said to them.
        assert_eq!(stranger.wait_with_output().unwrap().stdout, b"");
    }
    hosts.bench.demand_nothing_left();
    for trial in hosts.bench.read_trials() {
        assert_balanced(&trial);
        assert_eq!((&trial["connections"]["foreign"], &trial["outcome"]), (&0.into(), &"valid".into()));
    }
}

/// The launcher has the library; its processes find none.
fn a_missing_library_is_named_with_its_package() {
    let hosts = Hosts::new(scenario().closed(4, 100));
    let hide = "for library in $(ldconfig -p | awk '/libpmix\\.so\\.2/ { print $NF }'); do\n\
        folder=$(dirname \"$(realpath \"$library\")\"); mount -t tmpfs hidden \"$folder\"; done";
    let wrapper =
        hosts.wrapper(&format!("exec unshare -m sh -c '{}; exec \"$@\"' sh \"$@\"", hide.replace('\'', "'\\''")));
    let arguments = [env!("CARGO_BIN_EXE_listenbench"), "run", "scenario.toml", "--out", "out"];
    let output = hosts.job(3, &[], wrapper.to_str().unwrap(), &arguments).output().unwrap();
    assert_code(&output, 1);
    let said = words(&stderr(&output));
    assert!(said.contains("libpmix.so.2") && said.contains("libpmix2"), "{said}");
    assert!(!hosts.bench.path("out").exists());
    hosts.bench.demand_nothing_left();
}

fn keys_of_hosts_are_refused_without_a_job() {
    let hosts = Hosts::of(Bench::new("hosts.servers = 2\nrepetitions = 1\n[load]\nconnections = 20\n"));
    let alone =
        hosts.on(0, env!("CARGO_BIN_EXE_listenbench"), &["run", "scenario.toml", "--out", "out"]).output().unwrap();
    refused(&hosts, &alone, &["scenario.toml:1: `hosts.servers`", "mpirun"]);
}
