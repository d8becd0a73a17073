//! `doctor`: what it says of this machine, and of networks with other settings.

use std::{
    fs,
    net::SocketAddr,
    process::{Command, Output},
    thread,
};

use nix::sched::{CloneFlags, unshare};
use serde_json::Value;
use socket2::{Domain, Socket, Type};

use crate::common::{Bench, assert_code, stdout, wait_until};

tests! {
    nothing [
        the_doctor_has_a_remedy_in_every_line,
        the_doctor_knows_launchers,
    ]
    root [
        the_doctor_sees_what_the_network_has_been_through,
    ]
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", stdout(output)))
}

/// What the doctor says of the host is true in a network with other settings, of which this thread makes one.
fn the_doctor_sees_what_the_network_has_been_through() {
    let in_a_network = || {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        assert!(Command::new("ip").args(["link", "set", "lo", "up"]).status().unwrap().success());
        let write = |name: &str, value: &str| fs::write(format!("/proc/sys/net/{name}"), value).unwrap();
        let bench = Bench::new("");
        let check = |name: &str| {
            let checks = json(&bench.command(&["doctor", "--json"]).output().unwrap());
            let found = checks.as_array().unwrap().iter().find(|check| check["name"] == name);
            found.unwrap_or_else(|| panic!("no check {name}: {checks}")).clone()
        };
        assert_eq!(check("accept queues")["status"], "ok");
        assert_eq!(check("handshakes")["status"], "ok");
        write("ipv4/tcp_syncookies", "0");
        write("ipv4/tcp_max_syn_backlog", "64");
        let found = check("handshakes");
        assert!(found["status"] == "limited" && found["advice"].as_str().unwrap().contains("about 48"), "{found}");
        write("core/somaxconn", "128");
        let found = check("longest accept queue");
        assert!(found["status"] == "limited" && found["found"] == "net.core.somaxconn 128", "{found}");

        // A backlog of 1 holds two connections; the third SYN is dropped.
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        listener.bind(&SocketAddr::from(([127, 0, 0, 1], 7_000)).into()).unwrap();
        listener.listen(1).unwrap();
        let address = listener.local_addr().unwrap();
        let clients: Vec<Socket> = (0..3).map(|_| Socket::new(Domain::IPV4, Type::STREAM, None).unwrap()).collect();
        for client in &clients {
            client.set_nonblocking(true).unwrap();
            let _ = client.connect(&address);
        }
        wait_until("an overflow", || check("accept queues")["status"] == "limited");
        let found = check("accept queues");
        assert!(found["advice"].as_str().unwrap().contains("queues were full"), "{found}");

        // The connections, established or not, took ports of the range.
        assert_eq!(check("ports in use")["status"], "ok");
        let range = |client: &Socket| client.local_addr().unwrap().as_socket().unwrap().port();
        let (low, high) = (clients.iter().map(range).min().unwrap(), clients.iter().map(range).max().unwrap());
        write("ipv4/ip_local_port_range", &format!("{low} {high}"));
        write("ipv4/ip_local_reserved_ports", &format!("{low}-{high}"));
        assert_eq!(check("ports in use")["status"], "limited");
        write("ipv4/tcp_max_tw_buckets", "7");
        assert!(check("TIME_WAIT")["found"].as_str().unwrap().contains("at most 7 sockets"));
    };
    thread::spawn(in_a_network).join().unwrap();
}

/// Environments as launchers make them.
fn the_doctor_knows_launchers() {
    const VARIABLES: [&str; 7] = [
        "PMIX_NAMESPACE",
        "PMIX_RANK",
        "OMPI_COMM_WORLD_SIZE",
        "PRTE_LAUNCHED",
        "SLURM_STEP_ID",
        "SLURM_STEP_NUM_TASKS",
        "PMI_SIZE",
    ];
    let bench = Bench::new("");
    let launcher = |variables: &[(&str, &str)]| {
        let mut command = bench.command(&["doctor", "--json"]);
        VARIABLES.iter().for_each(|name| {
            command.env_remove(name);
        });
        let output = command.envs(variables.iter().copied()).output().unwrap();
        let checks = json(&output).as_array().unwrap().clone();
        checks.into_iter().find(|check| check["name"] == "launcher").unwrap()
    };
    assert!(launcher(&[])["found"].as_str().unwrap().starts_with("none"));
    let pmix = [("PMIX_NAMESPACE", "job"), ("PMIX_RANK", "2")];
    let found = |variables: &[(&str, &str)]| launcher(&[&pmix, variables].concat())["found"].clone();
    assert_eq!(found(&[("OMPI_COMM_WORLD_SIZE", "3")]), "Open MPI started this as rank 2 of 3");
    assert_eq!(found(&[("PRTE_LAUNCHED", "1")]), "PRRTE started this as rank 2");
    assert_eq!(found(&[("SLURM_STEP_ID", "0"), ("SLURM_STEP_NUM_TASKS", "4")]), "Slurm started this as rank 2 of 4");
    let alone = launcher(&[("SLURM_STEP_ID", "0"), ("SLURM_STEP_NUM_TASKS", "4")]);
    assert_eq!(alone["status"], "missing");
    assert!(alone["advice"].as_str().unwrap().contains("srun --mpi=pmix"), "{alone}");
}

fn the_doctor_has_a_remedy_in_every_line() {
    let bench = Bench::new("");
    let output = bench.command(&["doctor", "--json"]).output().unwrap();
    let checks = json(&output);
    let all_is_well = checks.as_array().unwrap().iter().all(|check| check["status"] == "ok");
    assert_code(&output, if all_is_well { 0 } else { 3 });
    let names: Vec<&str> = checks.as_array().unwrap().iter().map(|check| check["name"].as_str().unwrap()).collect();
    for name in [
        "kernel",
        "namespaces",
        "cores",
        "open files",
        "port range",
        "backlog cap",
        "launcher",
        "accept queues",
        "longest accept queue",
        "handshakes",
        "ports in use",
        "TIME_WAIT",
        "connection tracking",
        "received packets",
        "open files of all",
        "control group",
        "frequency governor",
    ] {
        assert!(names.contains(&name), "{names:?}");
    }
    for check in checks.as_array().unwrap() {
        assert!(["host", "trials"].contains(&check["about"].as_str().unwrap()), "{check}");
    }
    let strategies = names.iter().filter(|name| **name == "strategy").count();
    assert_eq!(strategies, 17, "{names:?}");
    for check in checks.as_array().unwrap() {
        assert!(["ok", "limited", "missing"].contains(&check["status"].as_str().unwrap()));
        assert!(
            !check["found"].as_str().unwrap().is_empty() && !check["advice"].as_str().unwrap().is_empty(),
            "{check}"
        );
    }
    let lines = stdout(&bench.command(&["doctor"]).output().unwrap());
    assert!(names.iter().all(|name| lines.contains(name)), "{lines}");
}
