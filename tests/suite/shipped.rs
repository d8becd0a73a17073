//! Every shipped scenario, shortened: it answers its own question, in figures.

use std::{fs, path::Path};

use serde_json::Value;

use crate::common::{Bench, read_json, stderr, stdout};

tests! {
    nothing [
        quick, herd, tail, strategies, accept_order, shards, burst, burstiness, storm, tls_storm, stalled_worker, reload, udp_spread, backlog, stages,
        ports_fill, ports_sources, ports_recover, ports_churn, hold, million, sustain, ceiling, smoke,
        every_scenario_has_its_test, repetitions_suffice_to_show_something,
    ]
    nginx [nginx, nginx_reload, nginx_upstream, beside]
    haproxy [haproxy, haproxy_reload, haproxy_upstream]
    gunicorn [gunicorn]
    nft [firewall, filtered, nat, conntrack]
    root [quic_rebinding]
    redis [redis]
}

/// A scenario's name, what shortens it, and for each of its answers the metric and words of the sentence.
macro_rules! shipped {
    ($($test:ident $scenario:literal [$($set:literal)*] { $($metric:literal $words:literal)* })*) => {
        const TESTED: &[&str] = &[$($scenario),*];
        $(fn $test() {
            demand($scenario, &[$($set),*], &[$(($metric, $words)),*]);
        })*
    };
}

shipped! {
    quick "quick" ["load.duration=200ms" "load.warmup=50ms"] {
        "accepted_per_s" "ccepts"
        "accept_wait_p99_ns" "ccept wait p99"
    }
    herd "herd" ["load.duration=200ms" "load.warmup=50ms" "server.workers=[1,4]"] {
        "voluntary_switches_per_accept" "leeps per accept"
        "empty_wakeups_per_accept" "mpty wake-ups per accept"
    }
    tail "tail" ["load.duration=200ms" "load.warmup=50ms"] {
        "response_p99_ns" "esponse p99"
        "accept_wait_p99_ns" "ccept wait p99"
    }
    strategies "strategies" ["load.duration=200ms" "load.warmup=50ms" "server.strategy=[shared-blocking,dispatcher,reuseport]"] {
        "response_p99_ns" "esponse p99"
        "accept_wait_p99_ns" "ccept wait p99"
    }
    accept_order "accept-order" ["load.connections=10"] {
        "first_registered_share" "hare of the worker registered first"
    }
    burst "burst" ["load.connections=40" "load.hold=300ms" "load.follow_up=200ms"] {
        "follow_up_max_ns" "ongest follow-up"
    }
    burstiness "burstiness" ["load.duration=200ms" "load.warmup=50ms"] {
        "response_p99_ns" "esponse p99"
        "accept_wait_p99_ns" "ccept wait p99"
    }
    shards "shards" ["load.duration=200ms" "load.warmup=50ms" "server.service_time=[0us]" "server.listeners=[1,4]"] {
        "response_p99_ns" "esponse p99"
        "voluntary_switches_per_accept" "leeps per accept"
    }
    storm "storm" [
        "load.duration=600ms" "load.warmup=50ms" "load.storm.burst_size=20" "load.storm.burst_every=200ms" "server.strategy=[shared-epoll,reuseport]"
    ] {
        "kept.response_p99_ns" "esponse p99 of kept"
        "storm.response_p99_ns" "esponse p99 of storm"
    }
    tls_storm "tls-storm" ["load.duration=600ms" "load.warmup=50ms" "load.storm.burst_every=200ms"] {
        "kept.response_p99_ns" "esponse p99 of kept"
        "storm.tls_p99_ns" "p99 of storm"
    }
    stalled_worker "stalled-worker" [
        "load.connections=200" "event.0.at=50ms" "event.0.for=100ms" "event.0.kind=[stall,kill]" "server.strategy=[shared-epoll,reuseport]"
    ] {
        "event_not_accepted" "onnections not accepted during the event"
        "stranded" "onnections stranded"
    }
    udp_spread "udp-spread" ["load.duration=200ms" "server.strategy=[shared-epoll,reuseport]"] {
        "flow_imbalance" "mbalance of flows"
        "sticky_share" "hare of sticky flows"
        "receive_wait_p99_ns" "eceive wait p99"
    }
    quic_rebinding "quic-rebinding" ["load.duration=200ms"] {
        "rebound_stay_share" "hare of flows that keep their worker with another port"
        "response_p99_ns" "esponse p99"
    }
    backlog "backlog" [
        "load.connect_timeout=1500ms" "server.strategy=reuseport" "server.backlog=[16,1024]" "load.burst_size=[50,200]"
    ] {
        "lost_connections_share" "hare of connections lost"
        "response_p99_ns" "esponse p99"
    }
    firewall "firewall" ["load.duration=200ms" "load.warmup=50ms" "firewall.count=[0,10,1000]" "firewall.shape=[chain,map]"] {
        "completed_per_s" "onnections completed"
        "connect_p50_ns" "onnect p50"
    }
    filtered "filtered" ["load.connections=10" "load.connect_timeout=300ms"] {
        "failed_connect_p50_ns" "ailed connect p50"
        "connect_p50_ns" "onnect p50"
    }
    nat "nat" ["load.burst_size=120" "load.connections=120" "load.hold=2s" "load.connect_timeout=1500ms" "nat.port_count=[100,1000]" "nat.ports=[kept,random]"] {
        "nat_ports_peak" "orts that NAT had taken at once"
        "lost_connections_share" "hare of connections lost"
        "failed_connect_p50_ns" "ailed connect p50"
    }
    conntrack "conntrack" ["load.connections=[200,400]" "load.concurrency=20"] {
        "conntrack_drops" "ackets that connection tracking dropped"
        "lost_connections_share" "hare of connections lost"
        "connect_p50_ns" "onnect p50"
        "conntrack_fill" "ill of the table"
    }
    stages "stages" ["load.duration=200ms" "load.warmup=50ms" "load.rate=[200.0,2000.0]"] {
        "response_p99_ns" "esponse p99"
        "accept_wait_p99_ns" "ccept wait p99"
    }
    ports_fill "ports-fill" ["sysctl.ip_local_port_range=40000 40199"] {
        "connect_p50_ns_at_75" "onnect p50 at 75 %"
        "connect_p50_ns_at_25" "onnect p50 at 25 %"
        "ports_knee" "nee"
        "ports_wall" "Wall: 200 in all 5 cells."
    }
    ports_sources "ports-sources" ["sysctl.ip_local_port_range=40000 40099"] {
        "ports_knee" "nee"
        "ports_wall" "Wall: from 100 ("
    }
    ports_recover "ports-recover" ["sysctl.ip_local_port_range=40000 40099" "ports.recover_within=1500ms"] {
        "recovered_after_s" "ime until the ports recovered"
    }
    ports_churn "ports-churn" ["sysctl.ip_local_port_range=40000 40299" "load.duration=300ms"] {
        "ports_sustainable_per_s" " to 5/s (tcp_tw_reuse = 0, close_by = client and close_how = fin)"
        "ports_ceiling_per_s" "5/s (tcp_tw_reuse = 0, close_by = client and close_how = fin); no figure for 9 cells: "
    }
    hold "hold" ["server.workers=2" "load.connections=2000" "load.hold=5s"] {
        "open_peak" "Connections held: 2,000."
        "held_share" "he share of the connections held at once is 100.0 %."
        "bytes_per_connection" "he memory per connection is "
        "ramp_cpu_ratio" "ast tenth ÷ first"
        "ramp_rate_ratio" "ast tenth ÷ first"
    }
    million "million" ["server.workers=2" "load.connections=2000" "load.hold=6s" "load.follow_up=4s"] {
        "open_peak" "Connections held: 2,000."
        "held_share" "he share of the connections held at once is 100.0 %."
        "bytes_per_connection" "he memory per connection is "
        "ramp_cpu_ratio" "ast tenth ÷ first"
        "ramp_rate_ratio" "ast tenth ÷ first"
    }
    sustain "sustain" ["load.duration=200ms" "load.warmup=50ms" "search.max_trials=4" "server.strategy=[dispatcher,reuseport]"] {
        "load.rate" "The highest load.rate that keeps response p99 within 20.0 ms: "
    }
    ceiling "ceiling" ["load.duration=200ms" "load.warmup=50ms"] {
        "accepted_per_s" "ccepts"
    }
    nginx "nginx" ["load.duration=200ms" "load.warmup=50ms" "load.rate=400.0"] {
        "response_p99_ns" "esponse p99"
        "accept_wait_p99_ns" "ccept wait p99"
    }
    haproxy "haproxy" ["load.duration=200ms" "load.warmup=50ms" "server.workers=2"] {
        "response_p99_ns" "esponse p99"
        "accept_wait_p99_ns" "ccept wait p99"
    }
    reload "reload" ["load.duration=800ms"] {
        "event_lost" "eload"
        "response_p99_ns" "esponse p99"
    }
    nginx_reload "nginx-reload" ["load.duration=800ms"] {
        "event_lost" "lose"
        "response_p99_ns" "esponse p99"
    }
    haproxy_reload "haproxy-reload" ["load.duration=800ms"] {
        "event_lost" "lose"
        "response_p99_ns" "esponse p99"
    }
    nginx_upstream "nginx-upstream" ["load.duration=200ms" "load.rate=400.0"] {
        "upstream_ports_fill_peak" "eak fill of the proxy's ports"
        "response_p99_ns" "esponse p99"
    }
    haproxy_upstream "haproxy-upstream" ["load.duration=200ms" "load.rate=400.0"] {
        "response_p99_ns" "esponse p99"
        "upstream_connections_per_s" "onnections to the upstream"
    }
    gunicorn "gunicorn" ["load.duration=200ms" "load.warmup=50ms"] {
        "response_p99_ns" "esponse p99"
        "accept_wait_p99_ns" "ccept wait p99"
    }
    redis "redis" ["load.duration=200ms" "load.warmup=50ms"] {
        "response_p50_ns" "esponse p50"
        "response_p99_ns" "esponse p99"
    }
    beside "beside" ["load.duration=200ms" "load.warmup=50ms"] {
        "completed_per_s" "onnections completed"
        "response_p99_ns" "esponse p99"
    }
    smoke "smoke" ["load.connections=20" "server.strategy=[shared-epoll,reuseport]"] {
        "valid_share" "All 10 cells are valid, in 10 trials."
    }
}

fn demand(scenario: &str, settings: &[&str], expected: &[(&str, &str)]) {
    let bench = Bench::new("");
    let mut arguments = vec!["run", scenario, "--out", "out", "--set", "repetitions=1"];
    arguments.extend(settings.iter().flat_map(|setting| ["--set", setting]));
    let output = bench.command(&arguments).output().unwrap();
    // On a crowded machine a trial may be invalid, and the others still answer.
    assert!(matches!(output.status.code(), Some(0 | 3)), "{scenario}: {}{}", stdout(&output), stderr(&output));
    let summary = read_json(&bench.path("out/summary.json"));
    let answers = summary["answers"].as_array().unwrap();
    let metrics: Vec<&str> = answers.iter().map(|answer| answer["metric"].as_str().unwrap()).collect();
    assert_eq!(metrics, expected.iter().map(|(metric, _)| *metric).collect::<Vec<_>>(), "{scenario}");
    let [html, markdown] =
        ["report.html", "summary.md"].map(|name| fs::read_to_string(bench.path("out").join(name)).unwrap());
    let text = plain(&stdout(&output));
    for (answer, (_, words)) in answers.iter().zip(expected) {
        let sentence = answer["sentence"].as_str().unwrap();
        assert!(sentence.contains(words), "{scenario}: {sentence:?} lacks {words:?}");
        let reason = [" is unknown", " are unknown", ": none; "].iter().any(|reason| sentence.contains(reason));
        assert!(reason || sentence.chars().any(|c| c.is_ascii_digit()), "{scenario}: no figure in {sentence:?}");
        assert!(
            text.contains(&plain(sentence)) && plain(&markdown).contains(&plain(sentence)),
            "{scenario}: {sentence}"
        );
        assert!(plain(&html).contains(&plain(sentence)), "{scenario}: {sentence}");
        demand_evidence(scenario, answer, reason);
    }
}

fn demand_evidence(scenario: &str, answer: &Value, reason: bool) {
    let lines = |key: &str| {
        answer[key].as_array().unwrap().iter().all(|line| line.as_str().is_some_and(|line| !line.is_empty()))
    };
    assert!(lines("evidence") && lines("verdicts"), "{scenario}: {answer}");
    let bare = answer["metric"] == "valid_share";
    assert!(reason || bare || !answer["evidence"].as_array().unwrap().is_empty(), "{scenario}: {answer}");
}

/// A text without what its form adds: elements, line breaks, non-breaking spaces, entities.
fn plain(text: &str) -> String {
    let text: String = text.split('<').map(|part| part.split_once('>').map_or(part, |(_, rest)| rest)).collect();
    let text = text.replace('\u{a0}', " ").replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&");
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn every_scenario_has_its_test() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("bench-configs");
    let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.filter_map(|name| Some(name.strip_suffix(".toml")?.to_owned())).collect();
    names.sort_unstable();
    let mut tested = TESTED.to_vec();
    tested.sort_unstable();
    assert_eq!(names, tested);
}

/// A scenario that repeats its trials does so often enough for its comparisons.
fn repetitions_suffice_to_show_something() {
    let bench = Bench::new("");
    for scenario in TESTED {
        let output = bench.command(&["run", scenario, "--list"]).output().unwrap();
        assert!(!stdout(&output).contains("cannot show a difference"), "{scenario}: {}", stdout(&output));
    }
}
