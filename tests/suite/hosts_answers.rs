//! Known answers of jobs over several hosts: every connection is accounted for to the unit, whoever made it and wherever.

use std::{collections::BTreeSet, fs, process::Child};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};

use crate::{
    common::{
        self, Scenario, assert_balanced, assert_code, assert_datagrams_balanced, number, of_workers, read_json,
        read_trials, scenario, stderr, stdout, wait_until, words,
    },
    hosts::{Hosts, address, name},
};

tests! {
    root_and_mpirun [
        twenty_thousand_connections_balance_to_the_unit,
        a_seed_plans_one_schedule_whatever_the_number_of_hosts,
        a_shifted_clock_is_an_offset_and_no_latency,
        every_strategy_balances_across_hosts,
        every_app_and_protocol_balances_across_hosts,
        populations_share_a_server_across_hosts,
        a_search_and_its_record_work_across_hosts,
        records_of_a_job_are_compared_and_reported,
        each_server_host_has_a_row,
        servers_are_bound_on_their_own_hosts,
        one_host_is_no_job,
        the_least_limit_of_all_hosts_counts,
        each_host_connects_from_addresses_of_its_own,
    ]
    root_and_mpirun_and_nginx [a_command_is_measured_across_hosts, a_running_server_is_measured_across_hosts]
}

const COUNTS: [&str; 4] = ["attempted", "established", "completed", "failed"];

/// The load hosts' entries of a trial, after what holds of every such trial.
fn load_hosts(trial: &Value) -> Vec<&Value> {
    let rows = trial["hosts"].as_array().unwrap_or_else(|| panic!("no hosts: {trial}"));
    for (rank, row) in rows.iter().enumerate() {
        assert_eq!((number(&row["rank"]), &row["name"]), (rank as u64, &Value::from(name(rank))), "{row}");
    }
    let (load, server): (Vec<&Value>, Vec<&Value>) = rows.iter().partition(|row| row["role"] == "load");
    assert_eq!(server.len(), 1, "{rows:?}");
    for count in COUNTS {
        let sum: u64 = load.iter().map(|row| number(&row[count])).sum();
        let whole = match count {
            "failed" => number(&trial["connections"]["attempted"]) - number(&trial["connections"]["completed"]),
            count => number(&trial["connections"][count]),
        };
        assert_eq!(sum, whole, "{count}: {rows:?}");
    }
    let loaders = trial["loaders"].as_array().unwrap();
    for row in &load {
        let own = loaders.iter().filter(|loader| loader["host"] == row["rank"]);
        assert_eq!(own.clone().count() as u64, number(&row["loaders"]), "{loaders:?}");
        assert_eq!(own.map(|loader| number(&loader["attempted"])).sum::<u64>(), number(&row["attempted"]));
    }
    load
}

fn twenty_thousand_connections_balance_to_the_unit() {
    let hosts = Hosts::new(scenario().closed(64, 20_000).workers(2).strategy("reuseport"));
    let trial = hosts.trial(3);
    assert_balanced(&trial);
    for count in ["attempted", "established", "accepted", "completed", "verified"] {
        assert_eq!(trial["connections"][count], 20_000, "{count}: {}", trial["connections"]);
    }
    let load = load_hosts(&trial);
    assert_eq!(load.len(), 2);
    // Each histogram has the values of the figure that it is part of, and each host's are its own.
    let latencies = &trial["latency_ns"];
    for latency in ["connect", "response", "send_lag"] {
        let of_hosts: u64 = load.iter().map(|row| number(&row["latency_ns"][latency]["count"])).sum();
        assert_eq!(number(&latencies[latency]["count"]), of_hosts, "{latency}: {latencies}");
    }
    assert_eq!(latencies["response"]["count"], trial["measured"]["completed"]);
    // The server's own clock stamps both ends of an accept wait.
    assert_eq!(latencies["accept_wait"]["method"], "sock_ops", "{latencies}");
    let log = fs::read_to_string(hosts.bench.path("out/histograms.hlog")).unwrap();
    for tag in ["Tag=t0.h1.connect,", "Tag=t0.h2.connect,", "Tag=t0.h2.response,", "Tag=t0.w0.accept_wait,"] {
        assert!(log.contains(tag), "{tag}");
    }
    // What the coordinators said to each other is stated, and is little.
    let gather = &trial["gather"];
    assert!(number(&gather["bytes"]) > 0 && number(&gather["gather_ns"]) > 0, "{gather}");
    let facts = read_json(&hosts.bench.path("out/host.json"));
    let names: Vec<&str> =
        facts["hosts"].as_array().unwrap().iter().map(|host| host["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["host0", "host1", "host2"]);
    assert!(facts["launcher"].is_string(), "{facts}");
    assert_code(&hosts.bench.command(&["report", "out"]).output().unwrap(), 0);
}

/// Over one load host, over two, over two that take part with two loaders each, and without a launcher.
fn a_seed_plans_one_schedule_whatever_the_number_of_hosts() {
    let hosts = Hosts::new(scenario().poisson(600.0).duration("500ms").set("load.warmup", "100ms").set("seed", 7));
    let run = |count: usize, more: &[&str], out: &str| {
        let arguments = [&["run", "scenario.toml", "--out", out], more].concat();
        let mut command = match count {
            1 => hosts.on(0, env!("CARGO_BIN_EXE_listenbench"), &arguments),
            count => hosts.listenbench(count, &[], &arguments),
        };
        assert_code(&command.output().unwrap(), 0);
        let trial = read_trials(&hosts.bench.path(out)).remove(0);
        assert_balanced(&trial);
        (trial["schedule"].clone(), number(&trial["connections"]["attempted"]))
    };
    let schedules =
        [run(1, &[], "alone"), run(2, &[], "one"), run(3, &[], "two"), run(3, &["--set=load.loaders=2"], "four")];
    assert!(schedules[0].0.is_string() && schedules[0].1 > 200, "{schedules:?}");
    assert!(schedules.iter().all(|schedule| *schedule == schedules[0]), "{schedules:?}");
    let other = run(3, &["--set=seed=8"], "other");
    assert_ne!(other.0, schedules[0].0);
    // Nothing of hosts is in the record of a machine alone.
    let alone = read_trials(&hosts.bench.path("alone")).remove(0);
    let facts = read_json(&hosts.bench.path("alone/host.json"));
    assert!(alone.get("hosts").is_none() && alone.get("gather").is_none() && facts.get("hosts").is_none(), "{facts}");
}

/// Host 1 is half a second ahead, host 2 is half a second behind; and they start when the others do.
fn a_shifted_clock_is_an_offset_and_no_latency() {
    let open = scenario().constant(400.0).duration("500ms");
    let hosts = Hosts::with_clocks(open.bench(), ["0 0", "0 500000000", "-1 500000000", "0 0"]);
    let trial = hosts.trial(3);
    assert_balanced(&trial);
    let load = load_hosts(&trial);
    for (row, shifted_ns) in load.iter().zip([500_000_000_i64, -500_000_000]) {
        let clock = &row["clock"];
        let (offset, bound) = (clock["offset_ns"].as_i64().unwrap(), number(&clock["bound_ns"]));
        assert!(offset.abs_diff(shifted_ns) <= bound, "{clock}");
        assert!(clock["drift_ns"].is_i64(), "{clock}");
        assert_eq!(number(&row["attempted"]), 100);
        // Half of a shift would be more than this.
        for latency in ["connect", "response", "send_lag"] {
            assert!(number(&row["latency_ns"][latency]["p50"]) < 200_000_000, "{latency}: {row}");
        }
    }
    assert!(number(&trial["latency_ns"]["accept_wait"]["p50"]) < 200_000_000, "{}", trial["latency_ns"]);
    // Each figure that would subtract two hosts' clocks is left out.
    for figure in ["accept_wait_bound", "receive_wait"] {
        assert!(trial["latency_ns"][figure].is_null(), "{figure}: {}", trial["latency_ns"]);
    }
    assert!(trial["stages_ns"].is_null(), "{}", trial["stages_ns"]);
    // A reader of the report meets offset and bound.
    let page = words(&fs::read_to_string(hosts.bench.path("out/summary.md")).unwrap());
    assert!(page.contains("host1") && page.contains("±"), "{page}");
}

fn every_strategy_balances_across_hosts() {
    let strategies = common::strategies();
    assert!(strategies.len() > 10, "{strategies:?}");
    let hosts = Hosts::new(scenario().workers(3).closed(8, 200).each("server.strategy", strategies.clone()));
    let trials = hosts.trials(3, 0);
    assert_eq!(trials.len(), strategies.len());
    for trial in trials {
        assert_balanced(&trial);
        assert_eq!(trial["connections"]["completed"], 200, "{}", trial["cell"]);
        load_hosts(&trial);
    }
}

fn every_app_and_protocol_balances_across_hosts() {
    let tcp = scenario().workers(2).closed(8, 200).each("server.app", ["echo", "http", "close"]);
    let udp = scenario().workers(2).closed(8, 200).set("load.requests", 3).each("protocol", ["udp", "tcp+udp"]);
    for scenario in [tcp, udp] {
        for trial in Hosts::new(scenario).trials(3, 0) {
            assert_balanced(&trial);
            assert_eq!(trial["connections"]["completed"], 200, "{}", trial["cell"]);
            load_hosts(&trial);
            if trial["cell"]["protocol"].is_string() {
                assert_datagrams_balanced(&trial);
            }
        }
    }
}

fn populations_share_a_server_across_hosts() {
    let scenario = "repetitions = 1\nseed = 5\nserver.workers = 2\n[[load]]\nname = \"kept\"\nmode = \"kept\"\n\
        arrivals = \"constant\"\nconcurrency = 4\nrequest_rate = 50.0\nduration = \"400ms\"\nwarmup = \"100ms\"\n\
        [[load]]\nname = \"storm\"\nmode = \"open\"\narrivals = \"constant\"\nrate = 300.0\n";
    let hosts = Hosts::of(common::Bench::new(scenario));
    let trial = hosts.trial(3);
    assert_balanced(&trial);
    load_hosts(&trial);
    let summary = read_json(&hosts.bench.path("out/summary.json"));
    let metrics = &summary["cells"][0]["metrics"];
    common::assert_kept_and_storm(metrics);
    let log = fs::read_to_string(hosts.bench.path("out/histograms.hlog")).unwrap();
    let hosts_of = |load: &str| (1..3).filter(|rank| log.contains(&format!("Tag=t0.{load}.h{rank}.response,"))).count();
    assert_eq!((hosts_of("kept"), hosts_of("storm")), (2, 2));
}

/// A limit that every rate keeps, up to the highest that is asked for.
fn a_search_and_its_record_work_across_hosts() {
    let search = scenario()
        .constant(50.0)
        .duration("200ms")
        .set("search.metric", "completed_share")
        .set("search.limit", 0.5)
        .set("search.highest", 200.0)
        .set("search.max_trials", 6);
    let hosts = Hosts::new(search);
    let trials = hosts.trials(3, 0);
    let rates: BTreeSet<String> = trials.iter().map(|trial| trial["cell"]["rate"].to_string()).collect();
    assert!(rates.len() > 1, "{rates:?}");
    for trial in &trials {
        assert_balanced(trial);
        load_hosts(trial);
        // The hosts plan the rate that is searched, not the scenario's.
        let due = trial["search"]["value"].as_f64().unwrap() * 0.2;
        assert!((number(&trial["connections"]["attempted"]) as f64 - due).abs() <= 1.0, "{trial}");
    }
    let searches = &read_json(&hosts.bench.path("out/summary.json"))["searches"];
    assert_eq!(searches.as_array().unwrap().len(), 1);
}

fn records_of_a_job_are_compared_and_reported() {
    let hosts = Hosts::new(Scenario::repeated(3).workers(2).closed(4, 100));
    let arguments = ["run", "--interleave", "scenario.toml", "scenario.toml", "--out", "out", "--quiet"];
    let output = hosts.listenbench(3, &[], &arguments).output().unwrap();
    assert_code(&output, 0);
    // Rank 0 alone prints.
    assert_eq!(stdout(&output), "out/scenario-1\nout/scenario-2\n");
    // The launcher itself may have something to say.
    assert!(stderr(&output).lines().all(|line| line.starts_with("[host0:")), "{}", stderr(&output));
    let folders = ["out/scenario-1", "out/scenario-2"];
    let bench = &hosts.bench;
    for folder in folders {
        let trials = read_trials(&bench.path(folder));
        assert_eq!(trials.len(), 3);
        for trial in &trials {
            assert_balanced(trial);
            load_hosts(trial);
        }
        let before = fs::read_to_string(bench.path(folder).join("summary.md")).unwrap();
        assert_code(&bench.command(&["report", folder]).output().unwrap(), 0);
        assert_eq!(fs::read_to_string(bench.path(folder).join("summary.md")).unwrap(), before);
        let page = fs::read_to_string(bench.path(folder).join("report.html")).unwrap();
        for host in 0..3 {
            assert!(page.contains(&name(host)), "{folder} does not name {}", name(host));
        }
    }
    let compared = bench.command(&["compare", folders[0], folders[1], "--json"]).output().unwrap();
    assert_code(&compared, 0);
    assert!(serde_json::from_slice::<Value>(&compared.stdout).unwrap()["cells"].is_array(), "{}", stdout(&compared));
    // What a record was run with repeats it.
    let again = hosts.listenbench(3, &[], &["run", "out/scenario-1/scenario.toml", "--out", "again"]).output().unwrap();
    assert_code(&again, 0);
    assert_eq!(read_trials(&bench.path("again")).len(), 3);
}

fn each_server_host_has_a_row() {
    let hosts = Hosts::new(Scenario::repeated(2).workers(2).closed(4, 100).set("hosts.servers", 2));
    let trials = hosts.trials(3, 0);
    assert_eq!(trials.len(), 4);
    let mut served = BTreeSet::new();
    for trial in &trials {
        assert_balanced(trial);
        let rows = trial["hosts"].as_array().unwrap();
        let server = rows.iter().find(|row| row["role"] == "server" && row["address"].is_string()).unwrap();
        served.insert((trial["cell"].to_string(), server["name"].to_string()));
        assert_eq!(rows.iter().filter(|row| row["role"] == "load").count(), 1, "{rows:?}");
    }
    assert_eq!(served.len(), 2, "{served:?}");
    let summary = read_json(&hosts.bench.path("out/summary.json"));
    assert_eq!(summary["cells"].as_array().unwrap().len(), 2);
}

/// To every address, for one family and for both, of one server host and of two in turn, and to the device through which others come.
fn servers_are_bound_on_their_own_hosts() {
    for (servers, bind, v6only) in
        [(1, json!("0.0.0.0"), None), (1, json!(["::", "0.0.0.0"]), Some(true)), (2, json!("::"), Some(false))]
    {
        let mut scenario = scenario().workers(2).strategy("reuseport").closed(4, 100).set("hosts.servers", servers);
        scenario = scenario.set("server.bind", bind.clone()).set("server.device", "eth0");
        if let Some(v6only) = v6only {
            scenario = scenario.set("server.v6only", v6only);
        }
        let hosts = Hosts::new(scenario);
        let trials = hosts.trials(3, 0);
        assert_eq!(trials.len(), servers);
        for trial in &trials {
            assert_balanced(trial);
            let completed = number(&trial["connections"]["completed"]);
            assert_eq!((completed, number(&trial["connections"]["foreign"])), (100, 0), "{bind}: {trial}");
            // IPv4 clients of a listener for both are told from strangers, and their waits are exact.
            assert_eq!(number(&trial["latency_ns"]["accept_wait"]["count"]), 100, "{bind}: {}", trial["latency_ns"]);
            assert_eq!(trial["subject"]["bound"][0]["device"], "eth0", "{}", trial["subject"]);
        }
    }
}

/// Two workers, each with a listener of its own.
const NGINX: &str = "worker_processes 2; pid nginx.pid; error_log stderr; events { worker_connections 512; }
http {
  access_log off;
  client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
  server { listen {address}:{port} reuseport; location / { return 200 \"hello\\n\"; } }
}
";

/// 300 connections of two requests each, over HTTP.
fn http(subject: &str) -> Scenario {
    let load = scenario().set("server.subject", subject).set("server.app", "http").closed(8, 300);
    load.set("load.requests", 2).set("load.close_how", "rst")
}

/// The members of another server accept what the load hosts established, and their waits are exact.
fn assert_members_accepted(trial: &Value) {
    assert_balanced(trial);
    load_hosts(trial);
    let counts = ["established", "accepted", "completed", "foreign"].map(|count| number(&trial["connections"][count]));
    assert_eq!(counts, [300, 300, 300, 0], "{}", trial["connections"]);
    assert_eq!(number(&trial["latency_ns"]["accept_wait"]["count"]), 300, "{}", trial["latency_ns"]);
    assert!(
        of_workers(trial, "accepted").iter().filter(|accepted| **accepted > 0).count() >= 2,
        "{}",
        trial["workers"]
    );
}

fn a_command_is_measured_across_hosts() {
    let command = "nginx -p {dir} -e stderr -c nginx.conf -g 'daemon off;'";
    let scenario = http("command").set("server.command", command).set("server.files.\"nginx.conf\"", NGINX);
    assert_members_accepted(&Hosts::new(scenario).trial(3));
}

/// It is started on the server host before the job, and stays.
fn a_running_server_is_measured_across_hosts() {
    let hosts = Hosts::new(http("running"));
    let folder = hosts.bench.path("nginx");
    fs::create_dir(&folder).unwrap();
    let configuration = NGINX.replace("{address}", &address(0)).replace("{port}", "7000");
    fs::write(folder.join("nginx.conf"), configuration).unwrap();
    let options = ["-p", folder.to_str().unwrap(), "-e", "stderr", "-c", "nginx.conf", "-g", "daemon off;"];
    let _nginx = Ended(hosts.on(0, "nginx", &options).spawn().unwrap());
    wait_until("nginx to listen", || {
        let listeners = hosts.on(0, "ss", &["-Htln", "sport = :7000"]).output().unwrap();
        !listeners.stdout.is_empty()
    });
    assert_code(&hosts.run(3, &[]), 0);
    assert_members_accepted(&hosts.bench.read_trials()[0]);
    let target = format!("http://{}:7000/", address(0));
    let load = ["load", "scenario.toml", &target, "--repetitions=1", "--out", "load"];
    assert_code(&hosts.listenbench(3, &[], &load).output().unwrap(), 0);
    assert_members_accepted(&read_trials(&hosts.bench.path("load"))[0]);
}

/// A process that is ended with its children, as nginx's master does it, before the folder goes.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = kill(Pid::from_raw(self.0.id().cast_signed()), Signal::SIGTERM);
        let _ = self.0.wait();
    }
}

fn one_host_is_no_job() {
    let hosts = Hosts::new(scenario().closed(4, 100));
    let trial = hosts.trial(1);
    assert_balanced(&trial);
    assert!(trial.get("hosts").is_none(), "{}", trial["hosts"]);
    let facts = read_json(&hosts.bench.path("out/host.json"));
    assert!(facts.get("hosts").is_none() && facts.get("launcher").is_none(), "{facts}");
}

/// 600 connections at once over two hosts are too many for one loader of 256 files, which host 2 allows.
fn the_least_limit_of_all_hosts_counts() {
    let hosts = Hosts::new(scenario().closed(600, 1_200).set("load.hold", "200ms"));
    let wrapper = hosts.wrapper("[ $PMIX_RANK != 2 ] || ulimit -n 256; exec \"$@\"");
    let arguments = [env!("CARGO_BIN_EXE_listenbench"), "run", "scenario.toml", "--out", "out"];
    assert_code(&hosts.job(3, &[], wrapper.to_str().unwrap(), &arguments).output().unwrap(), 0);
    let trial = &hosts.bench.read_trials()[0];
    assert_balanced(trial);
    assert_eq!(trial["connections"]["completed"], 1_200, "{}", trial["connections"]);
    let loaders: Vec<u64> = load_hosts(trial).iter().map(|row| number(&row["loaders"])).collect();
    assert!(loaders[0] == loaders[1] && loaders[0] > 1, "{loaders:?}");
    let limits: Vec<u64> = read_json(&hosts.bench.path("out/host.json"))["hosts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|host| number(&host["open_files"]["hard"]))
        .collect();
    assert!(limits[2] == 256 && limits[1] > 256, "{limits:?}");
}

/// Of a list of all hosts' addresses, each takes those that it has.
fn each_host_connects_from_addresses_of_its_own() {
    let own = scenario().closed(8, 400).set("load.source_ports", "bind-no-port");
    let load = own.set("load.source_addresses", "198.18.7.2-198.18.7.3, 198.18.7.9");
    let hosts = Hosts::new(load);
    let added = hosts.on(1, "ip", &["address", "add", "198.18.7.9/24", "dev", "eth0"]).status().unwrap();
    assert!(added.success());
    let trial = hosts.trial(3);
    assert_balanced(&trial);
    assert_eq!(trial["connections"]["completed"], 400, "{}", trial["connections"]);
    // No connection is taken for a stranger's.
    assert_eq!(trial["connections"]["foreign"], 0);
    load_hosts(&trial);
}
