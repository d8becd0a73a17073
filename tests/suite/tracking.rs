//! Connection tracking and packet filters: what records and commands say of them is what the kernel's own tools say.
//!
//! Each test has a network of its own, which one of its threads makes: rules are never loaded into the machine's.

use std::{
    collections::BTreeMap,
    fs,
    io::Write,
    net::TcpListener,
    process::{Command, Stdio},
    thread,
};

use netlink_sys::{Socket as Netlink, SocketAddr as NetlinkAddr, protocols::NETLINK_NETFILTER};
use nix::sched::{CloneFlags, unshare};
use serde_json::Value;

use crate::common::{Bench, assert_balanced, assert_code, number, read_json, scenario, stdout};

tests! {
    root [
        without_rules_nothing_is_tracked,
    ]
    nft_and_conntrack [
        counts_and_states_are_the_kernels,
        what_watches_the_network_names_its_rules,
    ]
    a_small_table [
        a_full_table_is_named,
    ]
}

const RULES: &str = "table inet f {\n chain in {\n  type filter hook input priority 0; policy accept;\n  ct state established,related accept\n  \
                     tcp dport 9 drop\n }\n chain more {\n  counter\n }\n}\n";

/// Runs `body` in a network of its own with these rules.
fn in_a_network<T: Send>(rules: &str, body: impl FnOnce() -> T + Send) -> T {
    let within = || {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        assert!(Command::new("ip").args(["link", "set", "lo", "up"]).status().unwrap().success());
        if !rules.is_empty() {
            let mut nft = Command::new("nft").args(["-f", "-"]).stdin(Stdio::piped()).spawn().unwrap();
            nft.stdin.take().unwrap().write_all(rules.as_bytes()).unwrap();
            assert!(nft.wait().unwrap().success());
        }
        body()
    };
    thread::scope(|scope| scope.spawn(within).join().unwrap())
}

fn write(name: &str, value: &str) {
    // Of this thread's network: /proc/sys/net is that of whoever opens a file.
    fs::write(format!("/proc/sys/net/netfilter/nf_conntrack_{name}"), value).unwrap();
}

fn limit() -> u64 {
    fs::read_to_string("/proc/sys/net/netfilter/nf_conntrack_max").unwrap().trim().parse().unwrap()
}

/// What `conntrack` prints in this thread's network.
fn conntrack(arguments: &[&str]) -> String {
    let output = Command::new("conntrack").args(arguments).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    stdout(&output)
}

/// TCP entries by state, as `conntrack -L` lists them.
fn listed() -> BTreeMap<String, u64> {
    let mut states = BTreeMap::new();
    for line in conntrack(&["-L", "-p", "tcp"]).lines() {
        let state = line.split_whitespace().nth(3).unwrap();
        *states.entry(state.to_owned()).or_default() += 1;
    }
    states
}

fn verdicts(trial: &Value) -> Vec<&str> {
    trial["verdicts"].as_array().unwrap().iter().map(|verdict| verdict["name"].as_str().unwrap()).collect()
}

/// Each connection has one entry for as long as its timeout, so that the table at the end has all of them.
fn counts_and_states_are_the_kernels() {
    in_a_network(RULES, || {
        for name in ["tcp_timeout_time_wait", "tcp_timeout_close", "tcp_timeout_last_ack", "tcp_timeout_fin_wait"] {
            write(name, "600");
        }
        let bench = scenario()
            .set("network", "host")
            .workers(2)
            .closed(8, 500)
            .set("load.source_addresses", "127.0.0.2")
            .set("load.source_ports", "explicit")
            .bench();
        let output = bench.run(&[]);
        assert_code(&output, 0);
        let trial = &bench.read_trials()[0];
        assert_balanced(trial);
        let [table] = &trial["conntrack"].as_array().unwrap()[..] else { panic!("{}", trial["conntrack"]) };
        // What `run` tries out before the first trial is tracked, too.
        let before = number(&table["before"]);
        assert!(table["network"] == "shared" && before < 10, "{table}");
        assert_eq!((number(&table["peak"]), number(&table["after"])), (before + 500, before + 500), "{table}");
        assert_eq!(number(&table["after"]).to_string(), conntrack(&["-C"]).trim());
        assert_eq!((number(&table["limit"]), number(&table["time_wait_s"])), (limit(), 600));
        assert_eq!(table["counts"], serde_json::json!({ "insert_failed": 0, "drop": 0, "early_drop": 0 }));
        let states: BTreeMap<String, u64> = serde_json::from_value(table["tcp_states"].clone()).unwrap();
        assert_eq!((&states, number(&table["other_protocols"])), (&listed(), 0));
        assert!(!verdicts(trial).iter().any(|name| name.starts_with("conntrack")), "{trial}");

        let [rules] = &trial["rules"].as_array().unwrap()[..] else { panic!("{}", trial["rules"]) };
        let chain = serde_json::json!({ "family": "inet", "table": "f", "chain": "in", "hook": "input", "rules": 2, "drops": false });
        assert_eq!(rules["rules"]["chains"], Value::Array(vec![chain]), "{rules}");
        assert_eq!((number(&rules["rules"]["called"]), number(&rules["rules"]["tracking"])), (1, 1));
        let netfilter = &read_json(&bench.path("out/host.json"))["netfilter"];
        assert_eq!(netfilter["rules"], rules["rules"]);
        assert_eq!(
            (number(&netfilter["conntrack"]["entries"]), number(&netfilter["conntrack"]["limit"])),
            (0, limit())
        );

        let markdown = fs::read_to_string(bench.path("out/summary.md")).unwrap();
        for words in [
            "Connection tracking",
            "packet filter: 2 rules of nftables in base chains at input (and 1 in chains that these may call); 1 of them tracks connections",
            "kept for 600 s",
        ] {
            assert!(markdown.contains(words), "no {words:?} in {markdown}");
        }
    });
}

/// A network whose rules do not ask for it tracks nothing, and its records say nothing of it.
fn without_rules_nothing_is_tracked() {
    let bench = scenario().workers(1).closed(2, 20).bench();
    let trial = &bench.trials(0)[0];
    assert!(trial.get("conntrack").is_none() && trial.get("rules").is_none(), "{trial}");
    let netfilter = &read_json(&bench.path("out/host.json"))["netfilter"];
    assert_eq!(netfilter["rules"]["chains"], Value::Array(Vec::new()));
    assert!(!fs::read_to_string(bench.path("out/summary.md")).unwrap().contains("Connection tracking"));
}

fn json(bench: &Bench, arguments: &[&str]) -> Value {
    let output = bench.command(arguments).output().unwrap();
    let text = stdout(&output);
    serde_json::from_str(&text).or_else(|_| serde_json::from_str(text.lines().next().unwrap_or_default())).unwrap()
}

fn check(checks: &Value, name: &str) -> Value {
    let found = checks.as_array().unwrap().iter().find(|check| check["name"] == name);
    found.unwrap_or_else(|| panic!("no check {name}: {checks}")).clone()
}

fn what_watches_the_network_names_its_rules() {
    in_a_network(RULES, || {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let _clients: Vec<_> = (0..3).map(|_| std::net::TcpStream::connect(address).unwrap()).collect();
        let bench = Bench::new("");
        let look = json(&bench, &["observe", "--for", "300ms", "--json"]);
        let rules = "2 rules of nftables in base chains at input";
        assert!(look["packet_filter"].as_str().unwrap().starts_with(rules), "{look}");
        assert_eq!((number(&look["conntrack"]["entries"]), number(&look["conntrack"]["limit"])), (3, limit()));
        let lines = stdout(&bench.command(&["observe", "--for", "300ms"]).output().unwrap());
        assert!(
            lines.contains("packet filter: 2 rules") && lines.contains("connection tracking: 3 of at most "),
            "{lines}"
        );

        let watched = bench.command(&["observe", "--for", "300ms", "--metrics", "metrics.prom"]).output().unwrap();
        assert_code(&watched, 0);
        let metrics = fs::read_to_string(bench.path("metrics.prom")).unwrap();
        for line in [
            "listenbench_conntrack_entries 3".to_owned(),
            format!("listenbench_conntrack_limit_entries {}", limit()),
            "listenbench_conntrack_drops_total 0".to_owned(),
            "listenbench_conntrack_early_drops_total 0".to_owned(),
            "listenbench_conntrack_insert_failed_total 0".to_owned(),
        ] {
            assert!(metrics.lines().any(|known| known == line), "no {line:?} in {metrics}");
        }

        let checks = json(&bench, &["doctor", "--json"]);
        assert!(check(&checks, "packet filter")["found"].as_str().unwrap().starts_with(rules), "{checks}");
        let tracked = check(&checks, "connection tracking");
        assert!(
            tracked["found"].as_str().unwrap().starts_with("3 of at most ") && tracked["status"] == "ok",
            "{tracked}"
        );

        let ports = json(&bench, &["ports", "--json"]);
        let table = &ports["conntrack"];
        // `doctor` has made connections of its own.
        assert_eq!(number(&table["entries"]).to_string(), conntrack(&["-C"]).trim(), "{ports}");
        assert_eq!(number(&table["limit"]), limit());
        let tuples = number(&ports["tuple_groups_count"]).max(1) * number(&ports["range"]["usable"]);
        assert_eq!(table["usable_tuples"], tuples);
        assert_eq!(table["ends_first"], limit() < tuples);

        // Without root, rules are unknown rather than absent.
        let output = bench.command_as_ordinary_user(&["doctor", "--json"]).output().unwrap();
        let found = check(&serde_json::from_str(&stdout(&output)).unwrap(), "packet filter");
        assert_eq!(
            (&found["found"], &found["advice"]),
            (&"unknown".into(), &"only root may read the rules of this network".into())
        );
    });
}

/// Entries of made-up connections that are established and answered, as many as asked for: the kernel removes none of these for another.
fn fill(count: u32) {
    fn attribute(kind: u16, content: &[u8]) -> Vec<u8> {
        let length = 4 + content.len() as u16;
        let mut bytes = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
        bytes.extend(content);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }
    let nested = |kind: u16, parts: &[Vec<u8>]| attribute(kind | 0x8000, &parts.concat());
    let tuple = |kind, [from, to]: [[u8; 4]; 2], [from_port, to_port]: [u16; 2]| {
        let addresses = nested(1, &[attribute(1, &from), attribute(2, &to)]);
        let ports = [attribute(1, &[6]), attribute(2, &from_port.to_be_bytes()), attribute(3, &to_port.to_be_bytes())];
        nested(kind, &[addresses, nested(2, &ports)])
    };
    let entry = |number: u32| {
        let [_, high, middle, low] = (number >> 12).to_be_bytes();
        let (client, server) = ([10 + high, middle, low, 1], [10, 255, 255, 2]);
        let port = 1_024 + (number & 0xfff) as u16;
        let parts = [
            tuple(1, [client, server], [port, 80]),
            tuple(2, [server, client], [80, port]),
            // Confirmed, assured, and a reply was seen.
            attribute(3, &14_u32.to_be_bytes()),
            attribute(7, &600_u32.to_be_bytes()),
            // ESTABLISHED.
            nested(4, &[nested(1, &[attribute(1, &[3])])]),
        ];
        let body = [vec![2, 0, 0, 0], parts.concat()].concat();
        // IPCTNL_MSG_CT_NEW with NLM_F_REQUEST, NLM_F_CREATE and NLM_F_EXCL.
        let mut message = (16 + body.len() as u32).to_ne_bytes().to_vec();
        message.extend([0x0100_u16.to_ne_bytes(), 0x0601_u16.to_ne_bytes()].concat());
        message.resize(16, 0);
        message.extend(body);
        message
    };
    let mut socket = Netlink::new(NETLINK_NETFILTER).unwrap();
    socket.bind_auto().unwrap();
    socket.connect(&NetlinkAddr::new(0, 0)).unwrap();
    let numbers: Vec<u32> = (0..count).collect();
    for some in numbers.chunks(250) {
        let batch: Vec<u8> = some.iter().flat_map(|number| entry(*number)).collect();
        socket.send(&batch, 0).unwrap();
    }
}

/// Of 30 clients, those for whom the table has room are served; the others' SYNs are dropped without an error.
fn a_full_table_is_named() {
    in_a_network(RULES, || {
        fill(u32::try_from(limit()).unwrap() - 10);
        let bench = scenario()
            .set("network", "host")
            .workers(1)
            .closed(30, 30)
            .set("load.hold", "3s")
            .set("load.connect_timeout", "2s")
            .bench();
        let trial = &bench.trials(3)[0];
        let table = &trial["conntrack"][0];
        // What `run` tries out before the first trial has taken some of the room.
        let room = limit() - number(&table["before"]);
        assert!((1..=10).contains(&room), "{table}");
        let connections = &trial["connections"];
        assert_eq!(
            (number(&connections["attempted"]), number(&connections["established"])),
            (30, room),
            "{connections}"
        );
        let errors = connections["errors"].as_array().unwrap();
        let timeouts = errors.iter().find(|error| error["phase"] == "connect" && error["errno"] == "ETIMEDOUT");
        assert_eq!(timeouts.map(|error| number(&error["count"])), Some(30 - room), "{connections}");
        assert_eq!((number(&table["peak"]), number(&table["limit"])), (limit(), limit()));
        assert!(number(&table["counts"]["drop"]) >= 20 && table["counts"]["early_drop"] == 0, "{table}");
        let states: BTreeMap<String, u64> = serde_json::from_value(table["tcp_states"].clone()).unwrap();
        assert!(states["ESTABLISHED"] >= limit() - 10, "{states:?}");
        let names = verdicts(trial);
        assert!(names.contains(&"conntrack-full") && !names.contains(&"conntrack-near"), "{names:?}");

        let found = json(&bench, &["ports", "--json"])["diagnosis"].clone();
        assert!(
            found["severity"] != "ok" && found["finding"].as_str().unwrap().contains("connection tracking has filled"),
            "{found}"
        );
        let checks = json(&bench, &["doctor", "--json"]);
        let found = check(&checks, "connection tracking");
        assert!(
            found["status"] == "limited" && found["advice"].as_str().unwrap().contains("nf_conntrack_max"),
            "{found}"
        );
    });
}
