//! No command sends a packet to another machine unasked: a sniffer on "the LAN" watches the real binary.

use std::{
    fs,
    io::{BufRead, BufReader, ErrorKind, Read},
    net::UdpSocket,
    process::{Child, Command, Output, Stdio},
    thread,
    time::Duration,
};

use nix::{
    sched::{CloneFlags, unshare},
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};
use socket2::{Domain, Protocol, Socket, Type};

use crate::common::{Bench, assert_code, stderr, words};

tests! {
    root [
        addresses_of_other_machines_are_refused_before_any_packet,
        rules_that_lead_local_addresses_astray_are_noticed,
        routes_of_every_type_are_told_apart,
        routes_are_asked_again_right_before_the_load,
        a_route_that_changes_during_the_load_ends_it,
        each_address_of_a_name_is_checked,
        commands_without_a_destination_send_nothing,
        a_loopback_device_that_is_down_leads_nowhere,
        a_server_beyond_loopback_says_so_and_never_amplifies,
    ]
}

/// Open loops of 100 ms in the network of the caller.
const LOAD: &str = "network = \"host\"\nrepetitions = 1\n[server]\nworkers = 1\n[load]\nmode = \"open\"\nrate = 50.0\n\
                    duration = \"100ms\"\nreply_timeout = \"100ms\"\n";

/// A network of the calling thread's own, with a default route to a LAN on which every packet is seen.
struct Lan {
    sniffer: Socket,
    /// Keeps the LAN's network namespace.
    neighbour: Child,
}

impl Lan {
    fn new() -> Self {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        let every = Protocol::from(i32::from((libc::ETH_P_ALL as u16).to_be()));
        let sniffer = Socket::new(Domain::PACKET, Type::RAW.nonblocking(), Some(every)).unwrap();
        let neighbour = Command::new("sleep").arg("600").stdout(Stdio::null()).spawn().unwrap();
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        let lan = Self { sniffer, neighbour };
        let pid = lan.neighbour.id().to_string();
        let there = |command: &str| shell(&format!("nsenter -t {pid} -n {command}"));
        shell("ip link set lo up");
        shell(&format!("ip link add v0 type veth peer name v1 netns {pid}"));
        shell("ip addr add 198.18.9.1/24 brd + dev v0");
        shell("ip addr add 2001:db8:9::1/64 dev v0 nodad");
        shell("ip link set v0 up");
        there("ip addr add 198.18.9.2/24 dev v1");
        there("ip addr add 2001:db8:9::2/64 dev v1 nodad");
        there("ip link set v1 up");
        shell("ip route add default via 198.18.9.2");
        shell("ip -6 route add default via 2001:db8:9::2");
        // With these, a program can listen on, and connect from, any address.
        shell("sysctl -qw net.ipv4.ip_nonlocal_bind=1 net.ipv6.ip_nonlocal_bind=1");
        lan
    }

    /// How many TCP, UDP and ARP packets have arrived since the last call.
    fn packets(&self) -> usize {
        thread::sleep(Duration::from_millis(50));
        let mut count = 0;
        let mut frame = [0; 2_048];
        loop {
            let length = match (&self.sniffer).read(&mut frame) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => return count,
                length => length.unwrap(),
            };
            // The type of an Ethernet frame, then the protocol of an IPv4 or IPv6 header.
            let protocol = match frame[..length] {
                [_, _, _, _, _, _, _, _, _, _, _, _, 0x08, 0x00, ref packet @ ..] => packet[9],
                [_, _, _, _, _, _, _, _, _, _, _, _, 0x86, 0xdd, ref packet @ ..] => packet[6],
                // Who has this address: the question that precedes a packet.
                [_, _, _, _, _, _, _, _, _, _, _, _, 0x08, 0x06, ..] => {
                    count += 1;
                    continue;
                }
                _ => continue,
            };
            count += usize::from(matches!(i32::from(protocol), libc::IPPROTO_TCP | libc::IPPROTO_UDP));
        }
    }
}

impl Lan {
    /// The binary refuses to run, says so, and sends nothing.
    fn refuses(&self, bench: &Bench, arguments: &[&str], says: &str) {
        let output = bench.command(arguments).output().unwrap();
        assert_code(&output, 2);
        assert!(stderr(&output).contains(says), "{arguments:?}: {}", stderr(&output));
        assert_eq!(self.packets(), 0, "{arguments:?}");
    }
}

impl Drop for Lan {
    fn drop(&mut self) {
        let _ = self.neighbour.kill();
        let _ = self.neighbour.wait();
    }
}

fn shell(command: &str) {
    assert!(Command::new("sh").args(["-c", command]).status().unwrap().success(), "{command}");
}

/// Its accepts cannot be seen, and nothing is claimed of them.
fn a_server_elsewhere_is_measured_from_here(lan: &Lan) {
    let bench = Bench::new("[load]\nconnections = 20\nconcurrency = 2\nrequests = 2");
    let pid = lan.neighbour.id().to_string();
    let serve =
        ["-t", &pid, "-n", env!("CARGO_BIN_EXE_listenbench"), "serve", "quick", "--set=server.strategy=reuseport"];
    let at = ["--set=network=host", "--set=address=198.18.9.2", "--set=port=7100"];
    let mut server = Command::new("nsenter").args(serve).args(at).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(server.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    assert!(line.starts_with("listening on 198.18.9.2:7100"), "{line}");
    let (trial, shown) = bench.load_and_report("198.18.9.2:7100", &["--allow-remote"], 0);
    let connections = &trial["connections"];
    for (name, count) in [("completed", 20), ("replies", 40), ("verified", 40), ("misdelivered", 0)] {
        assert_eq!(connections[name], count, "{name}: {connections}");
    }
    for unknown in
        [&connections["accepted"], &connections["aborted"], &trial["measured"]["accepted"], &trial["receipts"]]
    {
        assert_eq!(*unknown, Value::Null, "{trial}");
    }
    assert_eq!((&trial["workers"], &trial["probe"]["level"]), (&json!([]), &"off".into()));
    assert!(words(&shown).contains("the server is not in this machine's network"), "{shown}");
    server.kill().unwrap();
    server.wait().unwrap();
}

/// Runs a test's body in a LAN of its own: the network is the thread's, and other tests may follow on this one.
fn on_a_lan(body: fn(&Lan)) {
    thread::spawn(move || body(&Lan::new())).join().unwrap();
}

fn addresses_of_other_machines_are_refused_before_any_packet() {
    on_a_lan(watch);
}

fn watch(lan: &Lan) {
    let bench = Bench::new(LOAD);
    let refused = |arguments: &[&str], says: &str| lan.refuses(&bench, arguments, says);
    let run = ["run", "scenario.toml", "--out", "out"];
    let remote = ["198.18.9.2", "198.51.100.8", "2001:db8:9::2", "2001:db8:8::1", "::ffff:198.51.100.8"];
    let many = ["239.1.1.1", "ff0e::1", "198.18.9.255", "255.255.255.255"];
    for protocol in ["--set=protocol=tcp", "--set=protocol=udp"] {
        for address in remote.into_iter().chain(many).chain(["0.0.0.0", "::"]) {
            refused(&[&run[..], &[protocol, &format!("--set=address={address}")]].concat(), "`address`");
            let target = if address.contains(':') { format!("[{address}]:7000") } else { format!("{address}:7000") };
            let load = ["load", "scenario.toml", protocol, &target];
            refused(&load, &target);
            if !remote.contains(&address) {
                refused(&[&load[..], &["--allow-remote"]].concat(), &target);
            }
        }
        // The answers to these would go to another machine.
        for (own, source) in [("198.18.9.1", "198.51.100.9"), ("::1", "2001:db8:8::2")] {
            let sources = format!("--set=load.source_addresses={source}");
            let sources = [protocol, &sources, "--set=load.source_ports=bind-no-port"];
            refused(&[&run[..], &sources, &[&format!("--set=address={own}")]].concat(), "`load.source_addresses`");
            if protocol == "--set=protocol=tcp" {
                let target = if own.contains(':') { format!("[{own}]:7000") } else { format!("{own}:7000") };
                refused(&[&["load", "scenario.toml", &target], &sources[..]].concat(), "`load.source_addresses`");
            }
        }
    }
    let calibrate = ["calibrate", "scenario.toml", "--set=load.mode=closed", "--set=load.rate="];
    refused(&[&calibrate[..], &["--set=address=198.51.100.8"]].concat(), "`address`");
    // In a trial's namespace of its own, whose addresses differ.
    refused(&[&run[..], &["--set=network=netns", "--set=address=127.255.255.255"]].concat(), "`address`");
    std::fs::write(bench.path("ports.toml"), "kind = \"ports\"\n[ports]\ndestination_addresses = \"198.51.100.8\"")
        .unwrap();
    refused(&["run", "ports.toml", "--out", "ports"], "ports.toml:3: `ports.destination_addresses`");

    // A running server elsewhere is `run`'s to refuse too.
    let running = ["--set=server.subject=running", "--set=server.workers=", "--set=address=198.18.9.2"];
    refused(&[&run[..], &running].concat(), "add --allow-remote");
    let own = ["--allow-remote", "--set=address=198.18.9.2"];
    refused(&[&run[..], &own].concat(), "`address`");

    // What may be sent is seen, so the sniffer works.
    let output = bench
        .command(&["load", "scenario.toml", "198.18.9.2:7000", "--allow-remote", "--set=load.connect_timeout=100ms"])
        .output()
        .unwrap();
    assert_code(&output, 1);
    assert!(lan.packets() > 0);
    a_server_elsewhere_is_measured_from_here(lan);
    lan.packets();
    assert_code(&bench.run(&["--set=address=198.18.9.1"]), 0);
    assert_eq!(lan.packets(), 0);
}

fn rules_that_lead_local_addresses_astray_are_noticed() {
    on_a_lan(|lan| {
        let bench = Bench::new(LOAD);
        shell("ip route add default via 198.18.9.2 table 100; ip -6 route add default via 2001:db8:9::2 table 100");
        for family in ["-4", "-6"] {
            shell(&format!("ip {family} rule add pref 100 lookup local; ip {family} rule del pref 0"));
        }
        let run = |sets: &[&str]| {
            let _ = fs::remove_dir_all(bench.path("out"));
            let mut arguments = vec!["run", "scenario.toml", "--out", "out"];
            arguments.extend(sets);
            bench.command(&arguments).output().unwrap()
        };
        let (v4, v6) = ("--set=address=198.18.9.1", "--set=address=2001:db8:9::1");
        for address in [v4, v6] {
            for protocol in ["--set=protocol=tcp", "--set=protocol=udp"] {
                assert_code(&run(&[address, protocol]), 0);
            }
        }
        // The server listens on port 7000; its clients' ports are ephemeral.
        for (family, address, rule) in [
            ("-4", v4, "to 198.18.9.1"),
            ("-4", v4, "from 198.18.9.1"),
            ("-4", v4, "dport 7000"),
            ("-4", v4, "sport 7000"),
            ("-4", v4, "sport 50000-50100"),
            ("-4", v4, "dport 50000-50100"),
            ("-4", v4, "ipproto udp to 198.18.9.1 sport 50000"),
            ("-6", v6, "from 2001:db8:9::1"),
            ("-6", v6, "sport 50000-60000"),
            ("-6", v6, "dport 50000"),
            ("-6", v6, "ipproto udp dport 7000"),
        ] {
            shell(&format!("ip {family} rule add pref 50 {rule} lookup 100"));
            for protocol in ["--set=protocol=tcp", "--set=protocol=udp"] {
                let output = run(&[address, protocol]);
                if protocol == "--set=protocol=tcp" && rule.contains("ipproto udp") {
                    assert_code(&output, 0);
                } else {
                    assert_code(&output, 2);
                    assert!(stderr(&output).contains("`address`"), "{rule}: {}", stderr(&output));
                }
                assert_eq!(lan.packets(), 0, "{rule}, {protocol}");
            }
            shell(&format!("ip {family} rule del pref 50"));
        }
        // Ports that nobody uses here.
        shell("ip rule add pref 50 dport 7005-7009 lookup 100");
        let output =
            run(&[v4, "--set=load.source_ports=range-window", "--set=load.connections=1", "--set=load.duration="]);
        assert_code(&output, 2);
    });
}

fn routes_of_every_type_are_told_apart() {
    on_a_lan(|lan| {
        let bench = Bench::new(LOAD);
        for (kind, code) in [("blackhole", 2), ("unreachable", 2), ("prohibit", 2), ("throw", 2), ("local", 0)] {
            let device = if kind == "local" { "dev lo" } else { "" };
            shell(&format!("ip route replace {kind} 198.51.100.0/24 {device}"));
            shell(&format!("ip -6 route replace {kind} 2001:db8:7::/64 {device}"));
            for (address, protocol) in
                [("198.51.100.8", "tcp"), ("198.51.100.8", "udp"), ("2001:db8:7::8", "tcp"), ("2001:db8:7::8", "udp")]
            {
                let _ = fs::remove_dir_all(bench.path("out"));
                let sets = [format!("--set=address={address}"), format!("--set=protocol={protocol}")];
                let output = bench.run(&[&sets[0], &sets[1]]);
                assert_code(&output, code);
                assert_eq!(lan.packets(), 0, "{kind} {address}");
            }
            shell(&format!("ip route del {kind} 198.51.100.0/24; ip -6 route del {kind} 2001:db8:7::/64 {device}"));
        }
    });
}

/// A scenario about a server that is started by a script, which may do anything before that.
fn started_by(script: &str) -> Bench {
    let serve = format!("{} serve quick --set=server.strategy=reuseport", env!("CARGO_BIN_EXE_listenbench"));
    let script =
        format!("#!/bin/sh\n{script}\nexec {serve} --set=network=host --set=address={{address}} --set=port={{port}}\n");
    let server = json!({"subject": "command", "command": "./start", "files": {"start": script}});
    // Longer than anybody takes to change the routes, which ends it.
    let load = json!({"mode": "open", "rate": 50.0, "duration": "60s", "reply_timeout": "100ms"});
    let scenario = json!({
        "network": "host", "address": "198.18.9.1", "port": 7_100, "repetitions": 1, "server": server, "load": load,
    });
    Bench::new(&toml::to_string(&scenario).unwrap())
}

fn routes_are_asked_again_right_before_the_load() {
    on_a_lan(|lan| {
        // The server can listen all the same, as net.ipv4.ip_nonlocal_bind is set.
        let bench = started_by(
            "ip addr del 198.18.9.1/24 dev v0 && ip addr add 198.18.9.7/24 dev v0 && ip route add default via 198.18.9.2",
        );
        assert_code(&bench.run(&[]), 3);
        let trial = &bench.read_trials()[0];
        assert_eq!(trial["outcome"], "failed", "{trial}");
        let error = trial["error"].as_str().unwrap();
        assert!(error.starts_with("`address`: 198.18.9.1 is not local by the routes"), "{error}");
        assert_eq!(lan.packets(), 0);
    });
}

fn a_route_that_changes_during_the_load_ends_it() {
    on_a_lan(|_| {
        let bench = started_by("sleep 0");
        let mut run = bench.spawn(&["run", "scenario.toml", "--out", "out"]);
        // Counted, since a look might miss what is over in a moment.
        bench.wait_for_connections(run.id(), 10);
        shell("ip rule add pref 100 lookup local; ip rule del pref 0; ip route add default via 198.18.9.2 table 100");
        shell("ip rule add pref 50 to 198.18.9.1 dport 7100 lookup 100");
        assert_eq!(run.wait().unwrap().code(), Some(3));
        let trial = &bench.read_trials()[0];
        assert_eq!((&trial["outcome"], &trial["error"]), (&"invalid".into(), &Value::Null), "{trial}");
        let verdicts = trial["verdicts"].as_array().unwrap();
        let verdict =
            verdicts.iter().find(|verdict| verdict["name"] == "routing-changed").unwrap_or_else(|| panic!("{trial}"));
        let detail = verdict["detail"].as_str().unwrap();
        assert!(detail.contains("198.18.9.1 is not local by the routes"), "{detail}");
        assert!(verdicts.iter().all(|verdict| verdict["name"] != "interrupted"), "{trial}");
        // What was measured is kept.
        let completed = trial["connections"]["completed"].as_u64().unwrap();
        assert!(completed > 0 && detail.contains(&format!("{completed} connection")), "{trial}");
        assert!(trial["duration_s"].as_f64().unwrap() > 0.0, "{trial}");
        assert_eq!(trial["subject"]["kind"], "command");
        assert!(trial["latency_ns"]["response"]["count"].as_u64().unwrap() > 0, "{trial}");
        assert!(fs::read_to_string(bench.path("out/histograms.hlog")).unwrap().contains(".response"));
        bench.demand_nothing_left();
    });
}

fn each_address_of_a_name_is_checked() {
    on_a_lan(|lan| {
        let bench = Bench::new(LOAD);
        let hosts = [
            ("127.0.0.1", "here.test"),
            ("127.0.0.1", "mixed.test"),
            ("198.51.100.8", "mixed.test"),
            ("239.1.1.1", "many.test"),
            ("fe80::1", "scoped.test"),
            ("0.0.0.0", "any.test"),
            ("::ffff:198.51.100.8", "mapped.test"),
        ];
        fs::write(bench.path("hosts"), hosts.map(|(address, name)| format!("{address} {name}\n")).concat()).unwrap();
        // A file of its own for the resolver, which then asks nobody else.
        let with_names = |target: &str, more: &str| -> Output {
            let command = format!(
                "mount --bind hosts /etc/hosts && exec {} load scenario.toml {target} --out out {more}",
                env!("CARGO_BIN_EXE_listenbench")
            );
            let mut unshared = Command::new("unshare");
            unshared.args(["-m", "sh", "-c", &command]).current_dir(bench.folder.path()).stdin(Stdio::null());
            unshared.output().unwrap()
        };
        for (name, says, even_if_remote) in [
            ("mixed.test", "198.51.100.8", false),
            ("many.test", "239.1.1.1", true),
            ("scoped.test", "fe80::1 is a link-local address", true),
            ("any.test", "0.0.0.0 is the wildcard address, which is not that of a host", true),
            ("mapped.test", "198.51.100.8", false),
        ] {
            for target in [format!("{name}:7000"), format!("http://{name}/")] {
                let options: &[&str] = if even_if_remote { &["", "--allow-remote"] } else { &[""] };
                for option in options {
                    let output = with_names(&target, option);
                    assert_code(&output, 2);
                    assert!(stderr(&output).contains(says), "{target}: {}", stderr(&output));
                    assert_eq!(lan.packets(), 0, "{target}");
                }
            }
        }
        let output = with_names("here.test:7000", "");
        assert_code(&output, 1);
        assert!(stderr(&output).contains("nothing listens at 127.0.0.1:7000"), "{}", stderr(&output));
    });
}

fn commands_without_a_destination_send_nothing() {
    on_a_lan(|lan| {
        let bench = Bench::new(LOAD);
        for arguments in [
            &["doctor"][..],
            &["doctor", "--json"],
            &["observe", "--for", "200ms", "--interval", "100ms", "--json"],
            &["observe", "198.51.100.8:80", "--for", "200ms", "--interval", "100ms", "--json"],
            &["ports"],
            &["ports", "7000"],
            &["ports", "--to", "198.51.100.8:80"],
            &["run", "scenario.toml", "--list", "--set=address=198.51.100.8"],
            &["calibrate", "--rounds", "1", "--seconds", "0.01"],
        ] {
            let output = bench.command(arguments).output().unwrap();
            assert_ne!(output.status.code(), None, "{arguments:?}");
            assert_eq!(lan.packets(), 0, "{arguments:?}: {}", stderr(&output));
        }
    });
}

/// Then even 127.0.0.1 has no route but the default one.
fn a_loopback_device_that_is_down_leads_nowhere() {
    on_a_lan(|lan| {
        shell("ip link set lo down");
        let bench = Bench::new(LOAD);
        for arguments in [
            &["doctor"][..],
            &["observe", "--for", "200ms", "--interval", "100ms", "--json"],
            &["run", "scenario.toml", "--out", "tcp"],
            &["run", "scenario.toml", "--out", "udp", "--set=protocol=udp"],
            &["run", "scenario.toml", "--out", "six", "--set=address=::1"],
            &["load", "scenario.toml", "127.0.0.1:7000"],
            &["calibrate", "--rounds", "1", "--seconds", "0.01"],
        ] {
            let output = bench.command(arguments).output().unwrap();
            assert_ne!(output.status.code(), None, "{arguments:?}");
            assert_eq!(lan.packets(), 0, "{arguments:?}: {}", stderr(&output));
        }
    });
}

fn a_server_beyond_loopback_says_so_and_never_amplifies() {
    on_a_lan(|lan| {
        let bench = Bench::new("protocol = \"udp\"\nnetwork = \"host\"\nport = 7200\n[server]\nworkers = 1");
        for address in ["198.18.9.1", "0.0.0.0", "::", "::ffff:198.18.9.1"] {
            let set = format!("--set=address={address}");
            let larger = ["serve", "scenario.toml", &set, "--set=server.reply_bytes=65"];
            lan.refuses(&bench, &larger, "server.larger_datagrams = true");
            let run = ["run", "scenario.toml", "--out", "out", &set, "--set=server.reply_bytes=65"];
            lan.refuses(&bench, &run, "server.larger_datagrams = true");
        }
        for (sets, from_afar) in [
            (&["--set=address=0.0.0.0"][..], true),
            (&["--set=address=0.0.0.0", "--set=server.reply_bytes=65", "--set=server.larger_datagrams=true"], true),
            (&["--set=address=127.0.0.1", "--set=server.reply_bytes=65"], false),
        ] {
            let mut server = bench.command(&[&["serve", "scenario.toml"], sets].concat());
            let mut server = server.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
            let mut line = String::new();
            BufReader::new(server.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
            assert!(line.starts_with("listening on"), "{line}");
            let to = if from_afar { "198.18.9.1:7200" } else { "127.0.0.1:7200" };
            for request in [0, 1, 63, 64, 65, 1_000] {
                let reply = reply_to(request, from_afar.then_some(&lan.neighbour), to);
                assert!(reply.is_none_or(|reply| reply <= request || sets.len() > 1), "{sets:?}: {request}, {reply:?}");
                assert_eq!(reply.is_some(), request == 64, "{sets:?}: {request}");
            }
            kill(Pid::from_raw(server.id() as i32), Signal::SIGINT).unwrap();
            let output = server.wait_with_output().unwrap();
            assert_code(&output, 0);
            let warns = stderr(&output).contains(
                "0.0.0.0:7200 stands for every address of this machine: other machines may reach this server",
            );
            assert_eq!(warns, from_afar, "{}", stderr(&output));
        }
    });
}

/// The length of the reply to so many bytes, sent from a process's network; `None` without one.
fn reply_to(request: usize, from: Option<&Child>, to: &str) -> Option<usize> {
    let network = from.map(|process| fs::File::open(format!("/proc/{}/ns/net", process.id())).unwrap());
    let to = to.to_owned();
    let asked = thread::spawn(move || {
        if let Some(network) = network {
            nix::sched::setns(network, CloneFlags::CLONE_NEWNET).unwrap();
        }
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        // An expected reply may be slow. If none is expected, a short wait is enough.
        let patience = Duration::from_millis(if request == 64 { 30_000 } else { 300 });
        socket.set_read_timeout(Some(patience)).unwrap();
        socket.send_to(&vec![0; request], to).unwrap();
        socket.recv(&mut [0; 2_000]).ok()
    });
    asked.join().unwrap()
}
