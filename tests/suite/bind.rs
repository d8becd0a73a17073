//! Servers that are bound to other addresses than the one that clients connect to: several, every one of a family, or of both.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{IpAddr, Ipv6Addr, SocketAddr, TcpStream},
    path::Path,
    process::Output,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};

use crate::common::{
    Bench, Scenario, assert_balanced, assert_code, assert_datagrams_balanced, free_port, number, scenario, stderr,
    strategies, strategies_without, verdicts, when_undisturbed, words,
};

tests! {
    nothing [
        every_strategy_listens_on_several_addresses,
        every_strategy_takes_ipv4_on_a_listener_for_both,
        replies_come_from_the_address_that_was_asked,
        datagrams_of_several_sockets_balance,
        all_listeners_of_a_worker_are_replaced,
        listeners_that_clients_would_not_find_are_refused,
        an_unknown_device_is_refused_with_those_that_exist,
        what_listeners_were_bound_to_is_recorded,
        public_clients_reach_every_address_of_serve,
        a_wildcard_is_said_to_be_reached_from_elsewhere,
        a_listener_at_a_nearer_address_is_foreign,
        options_of_serve_are_checked,
        a_crowd_of_listeners_needs_files,
    ]
    root [
        steered_groups_on_several_addresses_have_exact_waits,
        a_pair_of_devices_has_its_own,
    ]
    socat [
        a_command_may_listen_on_every_address,
    ]
    nginx [
        nginx_may_listen_for_both_families,
    ]
}

const SEVERAL: [&str; 2] = ["127.0.0.2", "127.0.0.1"];

fn load(connections: u64) -> Scenario {
    scenario().workers(3).closed(16, connections).set("load.loaders", 2)
}

/// Every connection was served by a worker that told the tuple as the client had it.
fn assert_served(trial: &Value, connections: u64) {
    assert_balanced(trial);
    assert_eq!(trial["outcome"], "valid", "{}: {} {}", trial["cell"], trial["verdicts"], trial["error"]);
    let counts = &trial["connections"];
    assert_eq!(number(&counts["completed"]), connections, "{}: {counts}", trial["cell"]);
    let wait = &trial["latency_ns"]["accept_wait"];
    assert_eq!(number(&wait["count"]), connections, "{}: {wait}", trial["cell"]);
    let limits = trial["workers"].as_array().unwrap().iter().map(|row| row["queue_limit"].as_u64());
    assert!(limits.clone().all(|limit| limit.is_some()), "a queue that nobody saw: {:?}", limits.collect::<Vec<_>>());
}

/// The first is not the one that clients connect to.
fn every_strategy_listens_on_several_addresses() {
    let bench = load(120)
        .set("server.bind", SEVERAL.to_vec())
        .each("server.strategy", strategies())
        .each("server.accept_batch", json!(["drain", 1]))
        .bench();
    for trial in bench.trials(0) {
        assert_served(&trial, 120);
    }
}

/// The kernel has these connections in an IPv6 socket.
fn every_strategy_takes_ipv4_on_a_listener_for_both() {
    let bench =
        load(120).set("server.bind", "::").set("server.v6only", false).each("server.strategy", strategies()).bench();
    for trial in bench.trials(0) {
        assert_served(&trial, 120);
        assert_eq!(trial["subject"]["bound"][0]["v6only"], false);
    }
}

/// Each steering and each way to be woken, with stamps, on two groups and on one for both families.
fn steered_groups_on_several_addresses_have_exact_waits() {
    let steerings: Vec<String> = strategies().into_iter().filter(|name| name.starts_with("reuseport")).collect();
    let bench = load(120)
        .set("stamps", "sock_ops")
        .set("server.listeners", 2)
        .each("server.bind", json!([["127.0.0.2", "127.0.0.1"], ["::"]]))
        .each("server.strategy", steerings)
        .bench();
    for trial in bench.trials(0) {
        assert_served(&trial, 120);
        assert_eq!(trial["latency_ns"]["accept_wait"]["method"], "sock_ops", "{}", trial["cell"]);
    }
    let turns = scenario()
        .strategy("reuseport-round-robin")
        .workers(3)
        .closed(1, 90)
        .set("server.bind", SEVERAL.to_vec())
        .bench();
    let accepted = crate::common::of_workers(&turns.trials(0)[0], "accepted");
    assert!(accepted.iter().max().unwrap() - accepted.iter().min().unwrap() <= 1, "{accepted:?}");
}

/// A client takes no reply from another address, and the kernel would choose 127.0.0.1.
fn replies_come_from_the_address_that_was_asked() {
    for (address, bind) in [
        ("127.0.0.5", json!("0.0.0.0")),
        ("127.0.0.5", json!("::")),
        ("::1", json!("::")),
        ("127.0.0.5", json!(["::1", "127.0.0.5"])),
    ] {
        let bench = scenario()
            .set("protocol", "udp")
            .workers(2)
            .closed(8, 100)
            .set("address", address)
            .set("server.bind", bind)
            .each("server.strategy", ["shared-epoll", "reuseport"])
            .bench();
        for trial in bench.trials(0) {
            assert_datagrams_balanced(&trial);
            let answered = (number(&trial["datagrams"]["received"]), number(&trial["connections"]["completed"]));
            assert_eq!(answered, (100, 100), "{address} {}: {}", trial["cell"], trial["connections"]);
        }
    }
}

fn datagrams_of_several_sockets_balance() {
    let bench = scenario()
        .set("protocol", "tcp+udp")
        .workers(3)
        .closed(8, 200)
        .set("server.bind", SEVERAL.to_vec())
        .each("server.strategy", ["shared-epoll", "shared-epoll-edge", "shared-epoll-exclusive", "reuseport"])
        .bench();
    for trial in bench.trials(0) {
        assert_balanced(&trial);
        assert_datagrams_balanced(&trial);
        assert_eq!(trial["outcome"], "valid", "{}: {}", trial["cell"], trial["verdicts"]);
    }
}

/// Reloads in every way, a join and a leave, of which none loses a client that nobody was told to cut off: only a restart has a gap.
fn all_listeners_of_a_worker_are_replaced() {
    when_undisturbed(|| {
        let strategies = strategies_without("workers cannot change");
        for how in ["inherit", "reopen", "restart"] {
            let bench = scenario()
                .workers(2)
                .constant(100.0)
                .duration("1500ms")
                .set("load.reply_timeout", "20s")
                .set("server.bind", SEVERAL.to_vec())
                .event(json!({ "kind": "reload", "how": how, "at": "500ms", "drain": "5s" }))
                .each("server.strategy", strategies.clone())
                .bench();
            for trial in bench.trials(0) {
                assert_balanced(&trial);
                let second = trial["workers"].as_array().unwrap().iter().filter(|row| row["generation"] == 1);
                let accepted: u64 = second.map(|row| number(&row["accepted"])).sum();
                assert!(accepted > 0, "{how} {}: {}", trial["cell"], trial["connections"]);
            }
        }
        let bench = scenario()
            .workers(2)
            .constant(100.0)
            .duration("1500ms")
            .set("server.bind", SEVERAL.to_vec())
            .event(json!({ "kind": "join", "at": "300ms" }))
            .event(json!({ "kind": "leave", "worker": 0, "at": "800ms", "drain": "5s" }))
            .each("server.strategy", ["shared-epoll", "reuseport"])
            .bench();
        for trial in bench.trials(0) {
            assert_balanced(&trial);
        }
    });
}

/// What `run` says about settings that it refuses.
fn refused(settings: &[&str]) -> String {
    let bench = load(1).bench();
    let arguments: Vec<&str> = settings.iter().flat_map(|set| ["--set", set]).collect();
    let output = bench.run(&arguments);
    assert_code(&output, 2);
    stderr(&output)
}

fn listeners_that_clients_would_not_find_are_refused() {
    for (settings, expected) in [
        (&["server.bind=\"::\"", "server.v6only=true"][..], "`server.v6only`: clients connect to 127.0.0.1"),
        (&["server.bind=\"::1\""], "`server.bind`: clients connect to 127.0.0.1, and no listener on ::1 takes that"),
        (&["server.bind=[\"0.0.0.0\", \"127.0.0.1\"]"], "0.0.0.0 includes 127.0.0.1"),
        (&["server.bind=[\"0.0.0.0\", \"::\"]"], "set server.v6only = true"),
        (&["server.bind=\"192.0.2.1\""], "is not a loopback address"),
        (&["server.bind=\"here\""], "must be an IP address"),
        (&["server.bind=[]"], "must be an IP address"),
        (&["server.bind=[\"::1\", \"::1\"]"], "lists ::1 twice"),
        (&["server.device=\"veth0\""], "`server.device`: with network = \"netns\", what clients send arrives at `lo`"),
        (&["server.device=\"a name that is too long\""], "must be the name of a network device"),
        (&["server.v6only=true"], "`server.v6only` has no effect"),
        (
            &["server.bind=\"0.0.0.0\"", "server.subject=\"command\"", "server.command=\"true\""],
            "`server.bind` has no effect",
        ),
        (&["server.bind=\"::\"", "sysctl.net.ipv6.bindv6only=1"], "sysctl net.ipv6.bindv6only"),
    ] {
        let said = refused(settings);
        assert!(said.contains(expected), "{settings:?}: {said}");
    }
}

fn an_unknown_device_is_refused_with_those_that_exist() {
    let said = refused(&["network=host", "server.device=\"nosuch0\""]);
    assert!(said.contains("`server.device`: ") && said.contains("No such device"), "{said}");
    assert!(said.contains("the devices here are") && said.contains("lo"), "{said}");
}

fn what_listeners_were_bound_to_is_recorded() {
    let bench = load(20)
        .set("server.bind", vec!["127.0.0.1", "::"])
        .set("server.v6only", true)
        .set("server.device", "lo")
        .bench();
    let trial = &bench.trials(0)[0];
    assert_served(trial, 20);
    let port = trial["subject"]["bound"][0]["address"].as_str().unwrap().rsplit_once(':').unwrap().1;
    let expected = json!([
        { "address": format!("127.0.0.1:{port}"), "device": "lo" },
        { "address": format!("[::]:{port}"), "v6only": true, "device": "lo" },
    ]);
    assert_eq!(trial["subject"]["bound"], expected);
    let report = std::fs::read_to_string(bench.path("out/summary.md")).unwrap().replace('\\', "");
    assert!(report.contains(&format!("bound to 127.0.0.1:{port} on lo, [::]:{port} (IPv6 only) on lo")), "{report}");
    // Without any of it, that is where clients connect to.
    let plain = load(20).bench().trials(0).remove(0);
    assert_eq!(plain["subject"]["bound"].as_array().unwrap().len(), 1, "{}", plain["subject"]);
}

/// Serves HTTP with these options until the clients have been there. Returns what they got, and what the server said.
fn serve(options: &[&str], clients: &[IpAddr]) -> (Vec<String>, Output) {
    let bench = Bench::new("[server]\napp = \"http\"\nworkers = 2\n");
    let port = free_port();
    let port_set = format!("--set=port={port}");
    let mut child = bench.spawn(&[&["serve", "scenario.toml", &port_set][..], options].concat());
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut said = String::new();
    stdout.read_line(&mut said).unwrap();
    assert!(said.starts_with("listening on"), "{said}");
    let replies = clients.iter().map(|ip| {
        let mut client = TcpStream::connect((*ip, port)).unwrap();
        client.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        let mut reply = String::new();
        client.read_to_string(&mut reply).unwrap();
        reply
    });
    let replies = replies.collect();
    kill(Pid::from_raw(child.id() as i32), Signal::SIGTERM).unwrap();
    stdout.read_to_string(&mut said).unwrap();
    let output = child.wait_with_output().unwrap();
    (replies, Output { stdout: said.into_bytes(), ..output })
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn public_clients_reach_every_address_of_serve() {
    let clients: [IpAddr; 3] = [[127, 0, 0, 1].into(), Ipv6Addr::LOCALHOST.into(), [127, 0, 0, 1].into()];
    for strategy in ["shared-epoll", "shared-blocking", "dispatcher", "reuseport"] {
        let set = format!("--set=server.strategy={strategy}");
        let (replies, output) = serve(&["--bind", "127.0.0.1", "--bind", "::1", &set], &clients);
        assert!(replies.iter().all(|reply| reply.starts_with("HTTP/1.1 200")), "{replies:?}");
        let said = said(&output);
        assert!(
            said.starts_with("listening on 127.0.0.1:") && said.lines().next().unwrap().contains(", [::1]:"),
            "{said}"
        );
        let rows = said.lines().filter_map(|line| {
            let mut words = line.split_whitespace();
            words.next()?.parse::<usize>().ok()?;
            words.next()?.parse::<u64>().ok()
        });
        assert_eq!(rows.sum::<u64>(), 3, "{said}");
        assert_eq!(stderr(&output), "", "both are loopback addresses");
    }
}

fn a_wildcard_is_said_to_be_reached_from_elsewhere() {
    let clients: [IpAddr; 2] = [[127, 0, 0, 1].into(), Ipv6Addr::LOCALHOST.into()];
    let (replies, output) = serve(&["--bind", "::", "--v6only", "false"], &clients);
    assert!(replies.iter().all(|reply| reply.starts_with("HTTP/1.1 200")), "{replies:?}");
    assert!(said(&output).contains("(IPv4 too)"), "{}", said(&output));
    assert!(stderr(&output).contains("other machines may reach this server"), "{}", stderr(&output));
    // What others send does not arrive there.
    let (_, output) = serve(&["--bind", "0.0.0.0", "--device", "lo"], &clients[..1]);
    assert!(said(&output).contains(" on lo"), "{}", said(&output));
    assert_eq!(stderr(&output), "");
    let bench = load(20).set("network", "host").set("port", free_port()).set("server.bind", "0.0.0.0").bench();
    let output = bench.run(&[]);
    assert_code(&output, 0);
    assert!(stderr(&output).contains("their server listens on 0.0.0.0:"), "{}", stderr(&output));
}

fn options_of_serve_are_checked() {
    let bench = Bench::new("");
    for (options, expected) in [
        (&["--bind", "0.0.0.0", "--bind", "127.0.0.1"][..], "0.0.0.0 includes 127.0.0.1"),
        (&["--bind", "::1", "--bind", "::1"], "named twice"),
        (&["--v6only", "true"], "so it has no effect"),
        (&["--bind", "nowhere"], "invalid value 'nowhere'"),
    ] {
        let output = bench.command(&[&["serve", "scenario.toml"][..], options].concat()).output().unwrap();
        assert_code(&output, 2);
        assert!(stderr(&output).contains(expected), "{options:?}: {}", stderr(&output));
    }
}

/// One process opens all of them: as many as its hard limit allows.
fn a_crowd_of_listeners_needs_files() {
    let bench = scenario()
        .strategy("reuseport")
        .workers(60)
        .closed(4, 20)
        .set("server.bind", vec!["127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.4"])
        .bench();
    let run = |limit: &str| {
        let script = format!("ulimit {limit} 256 && exec \"$0\" run scenario.toml --out out");
        bench.command_of(Path::new("sh"), &["-c", &script, env!("CARGO_BIN_EXE_listenbench")]).output().unwrap()
    };
    let output = run("-n");
    assert_code(&output, 2);
    let said = words(&stderr(&output));
    let expected = "240 listeners and their workers need 332 open files in one process, of which the limit allows 256";
    assert!(said.contains(expected) && said.contains("`ulimit -Hn`"), "{said}");
    assert!(said.contains("list fewer addresses in `server.bind`") && !bench.path("out").exists(), "{said}");
    assert_code(&run("-Sn"), 0);
    assert_served(&bench.read_trials()[0], 20);
}

/// The kernel prefers the listener of the very address, so a server on all of them gets nothing that is sent there.
fn a_listener_at_a_nearer_address_is_foreign() {
    when_undisturbed(|| {
        let port = free_port();
        let bench = scenario()
            .strategy("reuseport")
            .workers(2)
            .set("load.concurrency", 4)
            .duration("3s")
            .set("load.reply_timeout", "300ms")
            .set("network", "host")
            .set("port", port)
            .set("server.bind", "0.0.0.0")
            .bench();
        let run = bench.spawn(&["run", "scenario.toml", "--out", "out", "--quiet"]);
        bench.wait_for("lb:worker", 2);
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let nearer = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        nearer.set_reuse_port(true).unwrap();
        nearer.bind(&address.into()).unwrap();
        nearer.listen(1_024).unwrap();
        let output = run.wait_with_output().unwrap();
        assert_code(&output, 3);
        let trial = bench.read_trials().remove(0);
        assert!(verdicts(&trial).contains(&"foreign-members"), "{}", trial["verdicts"]);
        assert_eq!(trial["connections"]["foreign_members"][0]["pid"], std::process::id());
    });
}

fn a_pair_of_devices_has_its_own() {
    let bench = load(60)
        .set("network", "veth")
        .set("server.device", "veth0")
        .each("server.bind", json!([["0.0.0.0"], ["::"], ["198.18.0.1", "127.0.0.1"]]))
        .bench();
    for trial in bench.trials(0) {
        assert_served(&trial, 60);
    }
}

/// Another's server that listens on every address, as most do, while clients connect to one.
fn a_command_may_listen_on_every_address() {
    for listen in ["TCP4-LISTEN:{port}", "TCP6-LISTEN:{port},ipv6only=0"] {
        let bench = scenario()
            .closed(2, 20)
            .set("server.subject", "command")
            .set("server.command", format!("socat {listen},reuseaddr,fork,backlog=64 EXEC:cat"))
            .bench();
        let trial = bench.trials(0).remove(0);
        assert_eq!(trial["outcome"], "valid", "{listen}: {} {}", trial["verdicts"], trial["error"]);
        assert_eq!(number(&trial["connections"]["completed"]), 20, "{listen}: {}", trial["connections"]);
        assert_eq!(trial["listeners"].as_array().map(Vec::len), Some(1), "{listen}: {}", trial["listeners"]);
        // Its backlog tells that it is the right one.
        assert_eq!(number(&trial["listeners"][0]["queue_limit"]), 64, "{listen}: {}", trial["listeners"]);
    }
}

fn nginx_may_listen_for_both_families() {
    for listen in ["{port}", "[::]:{port} ipv6only=off"] {
        let configuration = format!(
            "daemon off;\nworker_processes 2;\npid {{dir}}/pid;\nerror_log {{dir}}/errors;\nevents {{}}\n\
             http {{\n  access_log off;\n  client_body_temp_path {{dir}}/b;\n  proxy_temp_path {{dir}}/p;\n  \
             fastcgi_temp_path {{dir}}/f;\n  uwsgi_temp_path {{dir}}/u;\n  scgi_temp_path {{dir}}/s;\n  \
             server {{ listen {listen}; return 200; }}\n}}\n"
        );
        let bench = scenario()
            .closed(8, 100)
            .set("server.app", "http")
            .set("server.subject", "command")
            .set("server.command", "nginx -p {dir} -c nginx.conf")
            .set("server.files.\"nginx.conf\"", configuration)
            .bench();
        let trial = bench.trials(0).remove(0);
        assert_eq!(trial["outcome"], "valid", "{listen}: {} {}", trial["verdicts"], trial["error"]);
        assert_eq!(number(&trial["connections"]["completed"]), 100, "{listen}: {}", trial["connections"]);
        assert_eq!(trial["listeners"].as_array().map(Vec::len), Some(1), "{listen}: {}", trial["listeners"]);
        if crate::requires::root() && trial["probe"].is_object() {
            let accepted: u64 = crate::common::of_workers(&trial, "accepted").iter().sum();
            assert_eq!(accepted, 100, "{listen}: {}", trial["probe"]);
        }
    }
}
