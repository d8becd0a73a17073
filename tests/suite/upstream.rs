//! Proxies: what they do towards an upstream of ours, counted to the unit.

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};

use crate::common::{Bench, assert_balanced, assert_code, number, stderr, stdout, verdicts};

tests! {
    nothing [
        a_backend_is_for_commands_that_name_it,
    ]
    root_and_nginx [
        who_closes_first_and_what_is_kept_alive_decides_on_ports,
        a_proxy_out_of_ports_is_named_and_more_sources_help,
        an_upstream_is_reached_across_a_veth_pair,
        whoever_dies_the_figures_stay,
    ]
    root_and_haproxy [
        connections_through_haproxy_are_carried_one_by_one,
        sources_are_known_of_connections_that_no_sample_sees,
    ]
}

/// One worker that passes everything on. What differs is in `proxy.conf`.
const NGINX: &str = r#"
    [server]
    subject = "command"
    command = "nginx -p {dir} -e stderr -c nginx.conf"
    app = "http"
    backend = true

    [server.files]
    "nginx.conf" = """
    daemon off; worker_processes 1; pid nginx.pid; error_log stderr;
    events { worker_connections 4096; }
    http {
      access_log off;
      client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
      upstream backend { server {backend}; include keepalive.conf; }
      split_clients $connection $source { 50% 127.0.0.2; * 127.0.0.3; }
      server { listen {address}:{port}; location / { proxy_pass http://backend; include proxy.conf; } }
    }
    """
    "keepalive.conf" = "KEEPALIVE"
    "proxy.conf" = "PROXY"
"#;

/// nginx leaves the close to itself: it asks for a connection that stays open, and closes it.
const NGINX_CLOSES: &str = r#"proxy_http_version 1.1; proxy_set_header Connection '';"#;

fn nginx(load: &str, keepalive: &str, proxy: &str) -> Bench {
    let server = NGINX.replace("KEEPALIVE", keepalive).replace("PROXY", proxy);
    Bench::new(&format!("repetitions = 1\nload.concurrency = 4\nload.close_how = \"rst\"\n{load}\n{server}"))
}

fn only_trial(bench: &Bench, code: i32) -> Value {
    let output = bench.run(&[]);
    assert_code(&output, code);
    bench.read_trials().pop().unwrap()
}

fn who_closes_first_and_what_is_kept_alive_decides_on_ports() {
    const COUNT: u64 = 300;
    let of = |keepalive: &str, proxy: &str| {
        let trial = only_trial(&nginx(&format!("load.connections = {COUNT}"), keepalive, proxy), 0);
        assert_balanced(&trial);
        let connections = &trial["connections"];
        for count in ["established", "accepted", "completed", "proxied"] {
            assert_eq!(connections[count], COUNT, "{trial}");
        }
        let upstream = trial["upstream"].clone();
        assert_eq!(upstream["address"], "127.0.0.1:7001");
        assert_eq!((&upstream["requests"], &upstream["left_in_queue"]), (&json!(COUNT), &json!(0)), "{upstream}");
        let wait = &upstream["accept_wait"];
        assert_eq!((&wait["method"], &wait["ends"]), (&json!("sock_ops"), &json!("serving")));
        assert_eq!((&wait["count"], &upstream["unstamped"]), (&upstream["connections"], &json!(0)), "{upstream}");
        assert_eq!(upstream["ports"]["sources"], json!(["127.0.0.1"]));
        // The proxy's ports are not the loaders'.
        assert!(number(&trial["ports_peak"]) <= 4, "{trial}");
        upstream
    };
    let upstream_closes = of("", "");
    assert_eq!(upstream_closes["connections"], COUNT);
    assert!(number(&upstream_closes["ports"]["upstream_time_wait_peak"]) > 0, "{upstream_closes}");

    let nginx_closes = of("", NGINX_CLOSES);
    assert_eq!(nginx_closes["connections"], COUNT);
    assert_eq!(nginx_closes["ports"]["taken_peak"], COUNT, "{nginx_closes}");
    assert_eq!(nginx_closes["ports"]["upstream_time_wait_peak"], 0, "{nginx_closes}");
    assert_eq!(nginx_closes["ports"]["capacity"], 28_232);

    let kept_alive = of("keepalive 8;", NGINX_CLOSES);
    let connections = number(&kept_alive["connections"]);
    assert!((1..=8).contains(&connections), "{kept_alive}");
    assert_eq!(kept_alive["requests_per_connection"].as_f64().unwrap(), COUNT as f64 / connections as f64);
    assert_eq!(kept_alive["ports"]["time_wait_peak"], 0, "{kept_alive}");
}

fn a_proxy_out_of_ports_is_named_and_more_sources_help() {
    const RANGE: &str = "sysctl.tcp_tw_reuse = 0\nsysctl.ip_local_port_range = \"40000 40099\"";
    let load = format!("load.connections = 600\nanswers = [\"upstream_ports_fill_peak\"]\n{RANGE}");
    for (bind, sources, ports) in
        [("", json!(["127.0.0.1"]), 100), (" proxy_bind $source;", json!(["127.0.0.2", "127.0.0.3"]), 200)]
    {
        let bench = nginx(&load, "", &format!("{NGINX_CLOSES}{bind}"));
        let output = bench.run(&[]);
        assert_code(&output, 0);
        let trial = bench.read_trials().pop().unwrap();
        let upstream = &trial["upstream"];
        assert_eq!(upstream["connections"], ports, "{trial}");
        assert_eq!(trial["connections"]["statuses"], json!({"2xx": ports, "3xx": 0, "4xx": 0, "5xx": 600 - ports}));
        let seen = &upstream["ports"];
        assert_eq!((&seen["sources"], &seen["capacity"]), (&sources, &json!(ports)), "{seen}");
        assert_eq!((&seen["taken_peak"], &seen["usable"], &seen["knee"]), (&json!(100), &json!(100), &json!(50)));
        assert_eq!((&seen["fill_peak"], &seen["past_knee"]), (&json!(1.0), &json!(true)));
        assert!(seen["exhausted_after_s"].is_f64(), "{seen}");
        assert!(verdicts(&trial).contains(&"upstream-ports-exhausted"), "{trial}");
        assert!(stdout(&output).contains("Towards the upstream"), "{}", stdout(&output));
    }
}

fn an_upstream_is_reached_across_a_veth_pair() {
    let bench = nginx("network = \"veth\"\nload.connections = 50", "", NGINX_CLOSES);
    let trial = only_trial(&bench, 0);
    assert_eq!(trial["upstream"]["address"], "198.18.0.1:7001");
    assert_eq!(trial["upstream"]["connections"], 50);
    assert_eq!(trial["upstream"]["ports"]["sources"], json!(["198.18.0.1"]));
}

fn connections_through_haproxy_are_carried_one_by_one() {
    let bench = Bench::new(
        r#"
        repetitions = 1
        address = "::1"
        load.connections = 200
        load.requests = 3
        [server]
        subject = "command"
        command = "haproxy -W -f {dir}/haproxy.cfg"
        workers = 2
        backend = true
        backend_workers = 3
        strategy = "shared-uring"
        [server.files]
        "haproxy.cfg" = """
        global
          nbthread {workers}
        defaults
          mode tcp
          timeout connect 5s
          timeout client 5s
          timeout server 5s
        frontend front
          bind {address}:{port}
          default_backend back
        backend back
          server own {backend}
"""
    "#,
    );
    let trial = only_trial(&bench, 0);
    assert_balanced(&trial);
    let upstream = &trial["upstream"];
    assert_eq!((&upstream["address"], &upstream["workers"]), (&json!("[::1]:7001"), &json!(3)), "{trial}");
    assert_eq!((&upstream["connections"], &upstream["requests"]), (&json!(200), &json!(600)), "{upstream}");
    assert_eq!(upstream["ports"]["sources"], json!(["::1"]));
    assert_eq!(trial["connections"]["proxied"], trial["connections"]["replies"], "{trial}");
}

/// The server behind a proxy, and the keeper of the proxy.
fn whoever_dies_the_figures_stay() {
    for (victim, said) in [("lb:backend", "backend 0"), ("lb:keeper", "the server's keeper")] {
        let server = NGINX.replace("KEEPALIVE", "").replace("PROXY", "");
        let load = "mode = \"open\"\nrate = 200.0\nduration = \"4s\"";
        let bench = Bench::new(&format!("repetitions = 1\n[load]\n{load}\n{server}"));
        let run = bench.spawn(&["run", "scenario.toml", "--out", "out"]);
        let victim = bench.wait_for(victim, 1)[0];
        bench.wait_for_connections(victim, 100);
        kill(Pid::from_raw(victim as i32), Signal::SIGKILL).unwrap();
        assert_code(&run.wait_with_output().unwrap(), 3);
        let trial = &bench.read_trials()[0];
        assert_eq!(trial["outcome"], "invalid", "{trial}");
        let died = trial["verdicts"].as_array().unwrap().iter().find(|verdict| verdict["name"] == "process-died");
        assert_eq!(died.unwrap()["detail"], format!("{said} (pid {victim}): killed by SIGKILL"));
        for (part, count) in [("connections", "accepted"), ("connections", "replies"), ("upstream", "connections")] {
            assert!(number(&trial[part][count]) > 0, "{part}.{count} of {trial}");
        }
        assert!(number(&trial["latency_ns"]["response"]["count"]) > 0, "{trial}");
        bench.demand_nothing_left();
    }
}

/// HAProxy resets what it does not reuse, and a port is free at once.
fn sources_are_known_of_connections_that_no_sample_sees() {
    let bench = Bench::new(
        r#"
        repetitions = 1
        load.connections = 40
        [server]
        subject = "command"
        command = "haproxy -W -f {dir}/haproxy.cfg"
        app = "http"
        backend = true
        [server.files]
        "haproxy.cfg" = """
        defaults
          mode http
          timeout connect 5s
          timeout client 5s
          timeout server 5s
        frontend front
          bind {address}:{port}
          default_backend back
        backend back
          http-reuse never
          balance roundrobin
          server one {backend} source 127.0.0.2
          server two {backend} source 127.0.0.3
"""
    "#,
    );
    let trial = only_trial(&bench, 0);
    let upstream = &trial["upstream"];
    assert_eq!(upstream["ports"]["sources"], json!(["127.0.0.2", "127.0.0.3"]), "{upstream}");
    assert_eq!(upstream["ports"]["capacity"], 2 * number(&upstream["ports"]["usable"]), "{upstream}");
}

fn a_backend_is_for_commands_that_name_it() {
    let refused = |server: &str, expected: &str| {
        let bench = Bench::new(&format!("[server]\n{server}"));
        let output = bench.command(&["run", "scenario.toml", "--list"]).output().unwrap();
        assert_code(&output, 2);
        assert!(stderr(&output).contains(expected), "{}", stderr(&output));
    };
    refused("backend = true", "`server.backend` has no effect with `server.subject = \"own\"`");
    let command = "subject = \"command\"\ncommand = \"proxy {dir}\"\n";
    refused(&format!("{command}backend = true"), "neither server.command nor a file of server.files says {backend}");
    refused(
        &format!("{command}backend_workers = 2"),
        "`server.backend_workers` has no effect with `server.backend = false`; set `server.backend = true`",
    );
}
