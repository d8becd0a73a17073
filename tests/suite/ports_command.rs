//! `ports`: the numbers of /proc, and sockets that the test itself opens.

use std::{
    fs,
    net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket},
    process::{self, Command, Output},
    thread,
    time::Duration,
};

use crate::common::{Bench, assert_code, number, stderr, stdout, wait_until};
use nix::{
    sched::{CloneFlags, unshare},
    sys::socket::{setsockopt, sockopt::IpBindAddressNoPort},
};
use serde_json::Value;
use socket2::{Domain, Socket, Type};

tests! {
    nothing [
        the_range_is_that_of_proc,
        a_destination_has_the_connections_that_were_made,
        a_listener_is_found_with_process_queue_and_group,
        a_full_queue_and_its_drops_are_seen,
        a_socket_of_datagrams_is_found,
        ports_have_classes_and_privileges,
        wrong_usage_is_told_apart,
    ]
    a_namespace [
        a_namespace_of_its_own_has_its_own_ports,
    ]
    root [
        other_users_processes_are_said_to_be_unseen,
        the_severity_follows_the_fill_and_the_remedy_what_is_seen,
    ]
}

fn ports(arguments: &[&str]) -> Output {
    Bench::new("").command(&[&["ports"], arguments].concat()).output().unwrap()
}

/// The exit code follows the severity.
fn json(output: &Output) -> Value {
    let found: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", stdout(output)));
    assert_code(output, if found["diagnosis"]["severity"] == "ok" { 0 } else { 3 });
    found
}

fn port(port: u16) -> Value {
    json(&ports(&[&port.to_string(), "--json"]))
}

fn sysctl(name: &str) -> String {
    fs::read_to_string(format!("/proc/sys/net/ipv4/{name}")).unwrap().trim().to_owned()
}

/// A listener with SO_REUSEPORT and a backlog; port 0 is any.
fn listener(port: u16, backlog: i32) -> (Socket, SocketAddr) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_reuse_port(true).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], port)).into()).unwrap();
    socket.listen(backlog).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    (socket, address)
}

fn held_by_test(socket: &Value) -> bool {
    socket["processes"].as_array().unwrap().iter().any(|held| held["pid"] == process::id())
}

fn the_range_is_that_of_proc() {
    let report = json(&ports(&["--json"]));
    let ends: Vec<u64> = sysctl("ip_local_port_range").split_whitespace().map(|end| end.parse().unwrap()).collect();
    let range = &report["range"];
    assert_eq!((number(&range["low"]), number(&range["high"])), (ends[0], ends[1]));
    assert_eq!(number(&range["size"]), ends[1] - ends[0] + 1);
    assert_eq!(number(&range["usable"]), number(&range["size"]) - number(&range["reserved_inside"]));
    assert_eq!(report["capacity"]["per_tuple_group"], range["usable"]);
    let fill = &report["fill"];
    assert_eq!(number(&fill["used"]) + number(&fill["to_wall"]), number(&range["usable"]));
    let sysctls = report["sysctls"].as_array().unwrap();
    assert_eq!(sysctls.len(), 7);
    assert!(sysctls.iter().all(|row| !row["meaning"].as_str().unwrap().is_empty()), "{sysctls:?}");
    let reuse = sysctls.iter().find(|row| row["name"] == "tcp_tw_reuse").unwrap();
    assert_eq!(reuse["value"], sysctl("tcp_tw_reuse"));

    let text = stdout(&ports(&[]));
    for word in [
        "diagnosis",
        "range",
        "capacity",
        "in use",
        "processes",
        "fill ",
        "knee at ",
        "wall at ",
        "ip_local_reserved_ports",
    ] {
        assert!(text.contains(word), "{word}: {text}");
    }
    assert!(text.lines().all(|line| line.chars().count() <= 120), "{text}");
}

/// In a namespace of its own nobody else is there to be counted.
fn a_namespace_of_its_own_has_its_own_ports() {
    let bench = Bench::new("");
    let inside = |script: &str| {
        let script = format!("{script}; exec \"$0\" ports --json");
        let binary = env!("CARGO_BIN_EXE_listenbench");
        Command::new("unshare").args(["-rn", "sh", "-ec", &script, binary]).current_dir(bench.folder.path()).output()
    };
    let report = json(
        &inside(
            "cd /proc/sys/net/ipv4; echo 40000 40099 >ip_local_port_range; echo 80,40000-40009,40050 >ip_local_reserved_ports; \
             echo 0 >tcp_tw_reuse",
        )
        .unwrap(),
    );
    let range = &report["range"];
    assert_eq!((number(&range["size"]), number(&range["reserved_inside"]), number(&range["usable"])), (100, 11, 89));
    // Of 50 even ports six are reserved.
    let fill = &report["fill"];
    assert_eq!((number(&fill["used"]), number(&fill["knee"]), number(&fill["to_knee"])), (0, 44, 44));
    assert_eq!((number(&report["in_use"]["sockets"]), number(&report["tuple_groups_count"])), (0, 0));
    let meaning = report["sysctls"][0]["meaning"].as_str().unwrap();
    assert!(meaning.contains("at most 1.48/s"), "89 ports in 60 s: {meaning}");
}

/// In a network of a hundred ports, one more connection decides.
fn the_severity_follows_the_fill_and_the_remedy_what_is_seen() {
    // The network is the thread's own, and other tests may follow on this one.
    let in_a_network = || {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        assert!(Command::new("ip").args(["link", "set", "lo", "up"]).status().unwrap().success());
        fs::write("/proc/sys/net/ipv4/ip_local_port_range", "40000 40099").unwrap();
        let diagnosis = || json(&ports(&["--json"]))["diagnosis"].clone();
        let first = |diagnosis: &Value| diagnosis["remedies"][0].as_str().unwrap_or_default().to_owned();
        assert_eq!((&diagnosis()["severity"], first(&diagnosis())), (&"ok".into(), String::new()));

        let server = TcpListener::bind("127.0.0.1:7000").unwrap();
        let to = server.local_addr().unwrap();
        let mut held = Vec::new();
        let mut fill = |up_to: usize| {
            while held.len() < up_to {
                held.push((TcpStream::connect(to).unwrap(), server.accept().unwrap().0));
            }
        };
        // Of 50 even ports, 40 are 80 %.
        for (connections, severity, words) in [
            (39, "ok", "after 11 more"),
            (40, "warning", "after 10 more"),
            (50, "warning", "connect() is slow"),
            (99, "warning", "1 port is left"),
            (100, "critical", "EADDRNOTAVAIL"),
        ] {
            fill(connections);
            let found = diagnosis();
            assert_eq!(found["severity"], severity, "{found}");
            assert!(found["finding"].as_str().unwrap().contains(words), "{found}");
        }
        assert!(first(&diagnosis()).starts_with("widen the range"), "{}", diagnosis());
        let text = stdout(&ports(&[]));
        assert!(text.contains("critical: connections from 127.0.0.1 to 127.0.0.1:7000"), "{text}");
        assert_eq!(TcpStream::connect(to).unwrap_err().raw_os_error(), Some(nix::libc::EADDRNOTAVAIL));

        // The clients close first: all ports are in TIME_WAIT, and on loopback they are soon free for connect().
        for (client, accepted) in std::mem::take(&mut held) {
            client.shutdown(Shutdown::Write).unwrap();
            accepted.shutdown(Shutdown::Write).unwrap();
        }
        wait_until("TIME_WAIT", || number(&json(&ports(&["--json"]))["in_use"]["time_wait"]) == 100);
        assert_eq!(diagnosis()["severity"], "ok", "{}", diagnosis());
        fs::write("/proc/sys/net/ipv4/tcp_tw_reuse", "0").unwrap();
        assert_eq!(diagnosis()["severity"], "critical", "{}", diagnosis());
        fs::write("/proc/sys/net/ipv4/ip_local_port_range", "32768 60999").unwrap();
        assert_eq!(diagnosis()["severity"], "ok", "{}", diagnosis());
    };
    thread::spawn(in_a_network).join().unwrap();
    let bound = || {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        assert!(Command::new("ip").args(["link", "set", "lo", "up"]).status().unwrap().success());
        fs::write("/proc/sys/net/ipv4/ip_local_port_range", "40000 40099").unwrap();
        let servers: Vec<TcpListener> =
            (1..=10).map(|n| TcpListener::bind((format!("127.0.1.{n}"), 7_000)).unwrap()).collect();
        let connect = |late: bool| -> Vec<Socket> {
            let clients = (0..50).map(|n| {
                let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
                if late {
                    setsockopt(&socket, IpBindAddressNoPort, &true).unwrap();
                }
                socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
                socket.connect(&servers[n % 10].local_addr().unwrap().into()).unwrap();
                socket
            });
            clients.collect()
        };
        let held = connect(false);
        let found = json(&ports(&["--json"]))["diagnosis"].clone();
        assert_eq!(found["severity"], "warning", "{found}");
        assert!(found["remedies"][0].as_str().unwrap().starts_with("set IP_BIND_ADDRESS_NO_PORT"), "{found}");
        // Closed by reset, they leave nothing.
        for socket in &held {
            socket.set_linger(Some(Duration::ZERO)).unwrap();
        }
        drop(held);
        let _held = connect(true);
        let found = json(&ports(&["--json"]));
        assert_eq!(
            (&found["diagnosis"]["severity"], number(&found["tuple_groups_count"])),
            (&"ok".into(), 10),
            "{found}"
        );
    };
    thread::spawn(bound).join().unwrap();
}

fn a_destination_has_the_connections_that_were_made() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = server.local_addr().unwrap();
    let mut clients: Vec<TcpStream> = (0..5).map(|_| TcpStream::connect(to).unwrap()).collect();
    let accepted = server.accept().unwrap().0;
    let ask = || json(&ports(&["--to", &to.to_string(), "--json"]));
    let report = ask();
    assert_eq!(report["to"], to.to_string());
    assert_eq!(number(&report["in_use"]["by_state"]["ESTABLISHED"]), 5, "{report}");
    assert_eq!((number(&report["in_use"]["sockets"]), number(&report["in_use"]["ports"])), (5, 5));
    let group = &report["tuple_groups"][0];
    assert_eq!((&group["source"], &group["destination"]), (&"127.0.0.1".into(), &to.to_string().into()));
    assert_eq!(number(&group["connections"]), 5);
    assert_eq!(number(&group["fill"]["used"]), 5 + number(&report["in_use"]["barred"]));
    assert_eq!(group["fill"], report["fill"]);
    // A process that another test starts just now has copies until its exec, and is in the list too.
    let processes = &report["processes"];
    let own = processes["most"].as_array().unwrap().iter().find(|row| row["pid"] == process::id()).unwrap();
    assert_eq!((number(&own["sockets"]), number(&processes["unseen"])), (5, 0), "{report}");

    // The client whose connection was accepted closes first, and is left in TIME_WAIT, without a process.
    let peer = accepted.peer_addr().unwrap();
    let first = clients.iter().position(|client| client.local_addr().unwrap() == peer).unwrap();
    // Not by drop alone, because of those copies.
    for end in [clients.swap_remove(first), accepted] {
        end.shutdown(Shutdown::Write).unwrap();
    }
    wait_until("the TIME_WAIT", || number(&ask()["in_use"]["time_wait"]) == 1);
    let report = ask();
    let group = &report["tuple_groups"][0];
    assert_eq!((number(&group["connections"]), number(&group["time_wait"])), (5, 1), "{report}");
    assert_eq!(number(&report["processes"]["without_process"]), 1);
}

fn a_listener_is_found_with_process_queue_and_group() {
    let (_first, address) = listener(0, 7);
    let found = port(address.port());
    let listeners = found["tcp"].as_array().unwrap();
    assert_eq!(listeners.len(), 1, "{found}");
    assert_eq!(listeners[0]["address"], address.to_string());
    assert!(held_by_test(&listeners[0]), "{found}");
    assert_eq!((number(&listeners[0]["queue"]["limit"]), number(&listeners[0]["queue"]["length"])), (7, 0));
    assert_eq!((number(&listeners[0]["group"]), &listeners[0]["full"]), (1, &false.into()));
    // Chosen from the range, and so a client's to take.
    assert_eq!((&found["in_range"], &found["reserved"]), (&true.into(), &false.into()));
    assert!(found["remedy"].as_str().unwrap().ends_with(&address.port().to_string()), "{found}");

    let _clients: Vec<TcpStream> = (0..2).map(|_| TcpStream::connect(address).unwrap()).collect();
    let found = port(address.port());
    assert_eq!(number(&found["tcp"][0]["queue"]["length"]), 2, "{found}");
    // Not yet accepted, but established.
    assert_eq!(number(&found["connections"]["ESTABLISHED"]), 2);

    let _second = listener(address.port(), 3);
    let found = port(address.port());
    let listeners = found["tcp"].as_array().unwrap();
    assert_eq!(listeners.len(), 2, "{found}");
    assert!(listeners.iter().all(|listener| number(&listener["group"]) == 2 && held_by_test(listener)), "{found}");
    let text = stdout(&ports(&[&address.port().to_string()]));
    assert!(text.contains("SO_REUSEPORT group") && text.contains("(backlog 7)"), "{text}");
    assert!(text.contains("ip_local_reserved_ports") && text.contains(&process::id().to_string()), "{text}");
}

fn a_full_queue_and_its_drops_are_seen() {
    let (_server, address) = listener(0, 1);
    let _held: Vec<TcpStream> = (0..2).map(|_| TcpStream::connect(address).unwrap()).collect();
    // A third SYN is dropped.
    let third = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    third.set_nonblocking(true).unwrap();
    let _ = third.connect(&address.into());
    wait_until("a drop", || number(&port(address.port())["tcp"][0]["queue"]["drops"]) >= 1);
    let found = port(address.port());
    assert_eq!((number(&found["tcp"][0]["queue"]["length"]), &found["tcp"][0]["full"]), (2, &true.into()), "{found}");
}

fn a_socket_of_datagrams_is_found() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    UdpSocket::bind("127.0.0.1:0").unwrap().send_to(&[7; 100], address).unwrap();
    let found = port(address.port());
    let sockets = found["udp"].as_array().unwrap();
    assert_eq!(sockets.len(), 1, "{found}");
    assert_eq!((&sockets[0]["address"], &sockets[0]["peer"]), (&address.to_string().into(), &Value::Null));
    assert!(held_by_test(&sockets[0]), "{found}");
    assert!((100..=number(&sockets[0]["limit"])).contains(&number(&sockets[0]["bytes"])), "{found}");
}

fn ports_have_classes_and_privileges() {
    let start: u64 = sysctl("ip_unprivileged_port_start").parse().unwrap();
    for (number, class) in [(80, "well-known"), (8_080, "registered"), (50_000, "dynamic")] {
        let found = port(number);
        assert_eq!(found["class"], class);
        assert_eq!(found["privileged"], u64::from(number) < start);
        assert_eq!(found["unprivileged_from"], start);
        let text = stdout(&ports(&[&number.to_string()]));
        assert!(text.contains(&format!("{number}: {class}")), "{text}");
    }
    let services = fs::read_to_string("/etc/services").unwrap_or_default();
    let has_http = services.lines().any(|line| line.starts_with("http\t") && line.contains("80/tcp"));
    assert_eq!(port(80)["service"]["tcp"] == "http", has_http);
}

fn other_users_processes_are_said_to_be_unseen() {
    let (_server, address) = listener(0, 7);
    let _client = TcpStream::connect(address).unwrap();
    let ask = |arguments: &[&str]| {
        let arguments = [&["ports", "--json"], arguments].concat();
        json(&Bench::new("").command_as_ordinary_user(&arguments).output().unwrap())
    };
    let found = ask(&[&address.port().to_string()]);
    assert!(found["tcp"][0]["processes"].as_array().unwrap().is_empty(), "{found}");
    let report = ask(&["--to", &address.to_string()]);
    assert_eq!((number(&report["processes"]["count"]), number(&report["processes"]["unseen"])), (0, 1), "{report}");
}

fn wrong_usage_is_told_apart() {
    for arguments in [
        &["0"][..],
        &["65536"],
        &["http"],
        &["--to", "localhost"],
        &["--to", "127.0.0.1"],
        &["--to", "127.0.0.1:0"],
        &["80", "--to", "127.0.0.1:80"],
    ] {
        let output = ports(arguments);
        assert_code(&output, 2);
        assert!(!stderr(&output).is_empty() && stdout(&output).is_empty(), "{arguments:?}");
    }
    let help = stdout(&ports(&["--help"]));
    assert!(help.contains("Examples:") && help.contains("listenbench ports --to"), "{help}");
}
