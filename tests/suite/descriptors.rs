//! Servers whose limit of open files is lower than their load: what becomes of the connections that they have no descriptor for.

use std::process::Command;

use serde_json::{Value, json};

use crate::common::{
    Bench, Scenario, assert_balanced, assert_code, errors, number, of_workers, scenario, stderr, strategies_without,
    verdicts, when_undisturbed,
};

tests! {
    nothing [
        a_worker_that_pauses_holds_as_many_as_it_has_descriptors_for,
        a_worker_that_spins_fails_again_and_again,
        a_worker_with_a_spare_descriptor_closes_what_it_cannot_hold,
        what_is_closed_at_the_limit_is_not_lost_to_a_reload,
        threads_share_the_limit_of_their_process,
        what_a_dispatcher_hands_over_waits_is_closed_or_lost,
        workers_that_balance_stay_within_their_limits,
        a_limit_that_cannot_be_is_refused,
        a_limit_has_no_effect_where_it_has_no_meaning,
        a_command_has_the_limit,
    ]
    root_and_nginx [nginx_at_its_limit_is_seen_to_be]
}

const LIMIT: u64 = 128;
/// More than workers can hold.
const CLIENTS: u64 = 300;

/// Workers begin to accept once all clients are in the queue.
fn limited(at_open_files: &str) -> Scenario {
    scenario()
        .closed(CLIENTS as usize, CLIENTS)
        .set("server.backlog", 4_096)
        .set("sysctl.somaxconn", 4_096)
        .set("server.open_files", LIMIT)
        .set("server.at_open_files", at_open_files)
        .set("server.accept_delay", "500ms")
        .set("load.loaders", 1)
        .set("load.hold", "1s")
        .set("load.reply_timeout", "60s")
        .set("answers", vec!["lost_connections_share"])
}

/// The strategies whose workers accept themselves, each a process.
fn accepting() -> Vec<String> {
    let all = strategies_without("root").into_iter();
    all.filter(|name| name != "dispatcher" && name != "shared-threads").collect()
}

/// How many connections a member can hold.
fn capacity(member: &Value) -> u64 {
    let descriptors = &member["descriptors"];
    assert_eq!(descriptors["limit"], LIMIT, "{member}");
    number(&descriptors["limit"]) - number(&descriptors["before"])
}

fn worker(trial: &Value) -> &Value {
    &trial["workers"][0]
}

/// The accepts that failed, which are counted as errors too.
fn refused(trial: &Value) -> u64 {
    let of = |row: &Value| row["emfile"].as_u64().unwrap_or(0);
    let refused = trial["workers"].as_array().unwrap().iter().map(of).sum::<u64>() + of(&trial["helper"]);
    assert_eq!(refused, errors(trial, "accept", "EMFILE"), "{}", trial["connections"]);
    assert_eq!(verdicts(trial).contains(&"descriptors-used-up"), refused > 0, "{}", trial["verdicts"]);
    refused
}

/// As many as it can hold, and the others when these close: each failure was followed by a close.
fn a_worker_that_pauses_holds_as_many_as_it_has_descriptors_for() {
    // `auto`: a ring wherever the strategy allows it.
    let bench = limited("pause").workers(1).each("server.strategy", accepting());
    for trial in bench.each("server.engine", ["mio", "auto"]).bench().trials(0) {
        assert_balanced(&trial);
        let (cell, count) = (&trial["cell"], |name: &str| number(&trial["connections"][name]));
        assert_eq!(worker(&trial)["open_peak"], capacity(worker(&trial)), "{cell}: {}", worker(&trial));
        assert_eq!([count("accepted"), count("completed"), count("shed")], [CLIENTS, CLIENTS, 0], "{cell}");
        assert!((1..=CLIENTS + 1).contains(&refused(&trial)), "{cell}: {}", worker(&trial));
    }
}

/// A queue that is not empty wakes it at once, as long as its connections are held.
fn a_worker_that_spins_fails_again_and_again() {
    let bench = limited("spin").workers(1).each("server.strategy", accepting()).bench();
    for trial in bench.trials(0) {
        assert_balanced(&trial);
        let (cell, count) = (&trial["cell"], |name: &str| number(&trial["connections"][name]));
        assert_eq!(worker(&trial)["open_peak"], capacity(worker(&trial)), "{cell}: {}", worker(&trial));
        assert_eq!([count("accepted"), count("completed"), count("shed")], [CLIENTS, CLIENTS, 0], "{cell}");
        // One that pauses never fails more often than connections close.
        assert!(refused(&trial) > CLIENTS + 1, "{cell}: {}", worker(&trial));
    }
}

fn a_worker_with_a_spare_descriptor_closes_what_it_cannot_hold() {
    when_undisturbed(|| {
        let bench = limited("reserve").workers(1).each("server.strategy", accepting()).bench();
        for trial in bench.trials(0) {
            assert_shed(&trial, capacity(worker(&trial)));
            assert_eq!(worker(&trial)["open_peak"], capacity(worker(&trial)), "{}: {}", trial["cell"], worker(&trial));
        }
    });
}

/// Listeners are inherited and old workers may drain, so the reload loses nothing, whatever new workers have no descriptor for.
fn what_is_closed_at_the_limit_is_not_lost_to_a_reload() {
    let reload = json!({ "kind": "reload", "how": "inherit", "at": "300ms", "drain": "60s" });
    let bench = scenario().workers(2).set("load.concurrency", 100).duration("1s").set("load.hold", "200ms");
    let bench = bench.set("server.open_files", 40).set("server.at_open_files", "reserve").event(reload);
    let bench = bench.each("server.strategy", vec!["reuseport", "shared-epoll", "reuseport-uring"]);
    for trial in bench.bench().trials(0) {
        assert_balanced(&trial);
        assert!(number(&trial["connections"]["shed"]) > 0, "{}", trial["connections"]);
        let lost = &trial["events"][0]["lost"];
        assert_eq!(*lost, json!({ "reset_in_queue": 0, "refused": 0, "cut": 0 }), "{}", trial["cell"]);
    }
}

/// So many connections are held and served, and the clients of all others see theirs closed.
fn assert_shed(trial: &Value, held: u64) {
    let (cell, connections) = (&trial["cell"], &trial["connections"]);
    assert_balanced(trial);
    let count = |name: &str| number(&connections[name]);
    assert_eq!([count("accepted"), count("shed")], [CLIENTS, CLIENTS - held], "{cell}: {connections}");
    assert_eq!([count("completed"), count("verified")], [held, held], "{cell}: {connections}");
    assert_eq!(count("established"), held + count("shed"), "{cell}");
    let seen: u64 = connections["errors"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|error| error["phase"] != "accept")
        .map(|error| number(&error["count"]))
        .sum();
    assert_eq!(seen, count("shed"), "{cell}: {connections}");
    assert!(refused(trial) >= 1, "{cell}");
}

/// The limit is one of the process: its threads together hold what one worker would.
fn threads_share_the_limit_of_their_process() {
    let of = |at_open_files: &str| limited(at_open_files).workers(3).strategy("shared-threads").bench();
    let trial = &of("pause").trials(0)[0];
    assert_balanced(trial);
    let (members, capacity) = (trial["workers"].as_array().unwrap(), capacity(worker(trial)));
    assert!(members.iter().all(|member| member["descriptors"] == worker(trial)["descriptors"]), "{members:?}");
    assert_eq!(trial["helper"]["descriptors"], worker(trial)["descriptors"]);
    assert!(of_workers(trial, "open_peak").iter().sum::<u64>() >= capacity, "{members:?}");
    assert!((1..=CLIENTS + 1).contains(&refused(trial)), "{}", trial["helper"]);
    assert_eq!(number(&trial["connections"]["completed"]), CLIENTS);
    when_undisturbed(|| {
        let trial = &of("reserve").trials(0)[0];
        assert_shed(trial, self::capacity(worker(trial)));
        assert_eq!(trial["helper"]["shed"], trial["connections"]["shed"], "the thread that accepts closes them");
    });
    let trial = &of("spin").trials(0)[0];
    assert_balanced(trial);
    assert!(refused(trial) > CLIENTS + 1, "{}", trial["helper"]);
}

/// A worker that cannot receive leaves what was handed over to it in its channel, or closes it; or loses it.
fn what_a_dispatcher_hands_over_waits_is_closed_or_lost() {
    let of = |at_open_files: &str| limited(at_open_files).workers(1).strategy("dispatcher").bench();
    let trial = &of("pause").trials(0)[0];
    assert_balanced(trial);
    assert_eq!(worker(trial)["open_peak"], capacity(worker(trial)), "{}", worker(trial));
    assert_eq!(number(&trial["connections"]["completed"]), CLIENTS);
    assert!((1..=CLIENTS + 1).contains(&refused(trial)), "{}", worker(trial));
    when_undisturbed(|| {
        let trial = &of("reserve").trials(0)[0];
        assert_shed(trial, capacity(worker(trial)));
        let trial = &of("spin").trials(0)[0];
        assert_balanced(trial);
        let (held, count) = (capacity(worker(trial)), |name: &str| number(&trial["connections"][name]));
        assert_eq!([count("accepted"), count("aborted")], [held, CLIENTS - held], "{}", trial["connections"]);
        assert_eq!([count("completed"), refused(trial)], [held, CLIENTS - held], "{}", trial["connections"]);
    });
}

fn workers_that_balance_stay_within_their_limits() {
    let of = |at_open_files: &str| {
        limited(at_open_files).workers(2).strategy("shared-epoll").set("server.balance", "least").bench()
    };
    let trial = &of("pause").trials(0)[0];
    assert_balanced(trial);
    assert_eq!(number(&trial["connections"]["completed"]), CLIENTS, "{}", trial["connections"]);
    for member in trial["workers"].as_array().unwrap() {
        assert_eq!(member["open_peak"], capacity(member), "{member}");
    }
    refused(trial);
    when_undisturbed(|| {
        let trial = &of("reserve").trials(0)[0];
        assert_shed(trial, trial["workers"].as_array().unwrap().iter().map(capacity).sum());
    });
}

fn refusal(bench: &Bench, sets: &[&str]) -> String {
    let output = bench.run(sets);
    assert_code(&output, 2);
    stderr(&output)
}

fn a_limit_that_cannot_be_is_refused() {
    let bench = scenario().connections(5).bench();
    // No worker can do with so few.
    let few = refusal(&bench, &["--set=server.open_files=7"]);
    assert!(few.contains("`server.open_files`") && few.contains("8 to "), "{few}");
    let script = "ulimit -n 1000; exec \"$0\" run scenario.toml --out out --set server.open_files=1001";
    let mut command = Command::new("bash");
    command.args(["-c", script, env!("CARGO_BIN_EXE_listenbench")]).current_dir(bench.folder.path());
    let output = command.output().unwrap();
    assert_code(&output, 2);
    let above = stderr(&output);
    assert!(
        above.contains("`server.open_files`") && above.contains("above the hard limit of open files here, 1000"),
        "{above}"
    );
    // What is just too low is found by the worker itself, which knows what it needs.
    let failed = bench.run(&["--set=server.open_files=8"]);
    assert_code(&failed, 3);
    let (problem, limit) =
        ("`server.open_files`: 8 leaves a worker no descriptor for a connection", "--set=server.open_files=8");
    assert!(stderr(&failed).contains(problem), "{}", stderr(&failed));
    let served = bench.command(&["serve", "scenario.toml", limit]).output().unwrap();
    assert!(!served.status.success() && stderr(&served).contains(problem), "{}", stderr(&served));
    // A load that the limit has no room for is allowed, and said to be.
    let bench = limited("reserve").workers(1).bench();
    let said = stderr(&bench.run(&[]));
    let expected = format!("fewer than {LIMIT} (1 worker, `server.open_files` = {LIMIT}): ");
    assert!(said.contains(&expected) && said.contains("the others are accepted and closed"), "{said}");
}

fn a_limit_has_no_effect_where_it_has_no_meaning() {
    let bench = Bench::new("protocol = \"udp\"\nload.connections = 5");
    for set in ["--set=server.open_files=64", "--set=server.at_open_files=spin"] {
        let idle = refusal(&bench, &[set]);
        assert!(idle.contains("has no effect with `protocol = \"udp\"`"), "{idle}");
    }
    let bench = Bench::new("network = \"host\"\nserver.subject = \"running\"\nport = 9");
    for set in ["--set=server.open_files=64", "--set=server.at_open_files=spin"] {
        let idle = refusal(&bench, &[set]);
        assert!(idle.contains("has no effect with `server.subject = \"running\"`"), "{idle}");
    }
    let bench = Bench::new("server.subject = \"command\"\nserver.command = \"true {port}\"");
    let idle = refusal(&bench, &["--set=server.at_open_files=spin"]);
    assert!(idle.contains("`server.at_open_files` has no effect"), "{idle}");
}

/// Both limits, and those of everything that it starts.
fn a_command_has_the_limit() {
    let bench = scenario()
        .connections(5)
        .set("server.subject", "command")
        .set("server.command", "sh -c 'echo limits $(ulimit -Sn) $(ulimit -Hn); exit 1'")
        .set("server.open_files", 77)
        .bench();
    let trial = &bench.trials(3)[0];
    assert!(trial["error"].as_str().unwrap().contains("limits 77 77"), "{}", trial["error"]);
}

/// nginx says so in its log, its clients wait, and the probe counts its failed accepts.
fn nginx_at_its_limit_is_seen_to_be() {
    const CONFIGURATION: &str = "daemon off; worker_processes 1; pid nginx.pid; error_log stderr;
events { worker_connections 4096; accept_mutex off; }
http {
  access_log off;
  client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
  server { listen {address}:{port} backlog=4096; location / { return 200 \"hello\\n\"; } }
}
";
    let bench = scenario()
        .closed(200, 200)
        .set("server.subject", "command")
        .set("server.command", "nginx -p {dir} -e stderr -c nginx.conf")
        .set("server.files.\"nginx.conf\"", CONFIGURATION)
        .set("server.open_files", 64)
        .set("server.app", "http")
        .set("sysctl.somaxconn", 4_096)
        .set("load.hold", "300ms")
        .bench();
    let trial = &bench.trials(0)[0];
    assert_eq!(trial["connections"]["completed"], 200, "{}", trial["connections"]);
    let open = of_workers(trial, "open_peak");
    assert!(open.iter().all(|open| *open < 64), "{open:?}");
    assert!(of_workers(trial, "emfile").iter().sum::<u64>() > 0, "{}", trial["workers"]);
    assert!(verdicts(trial).contains(&"descriptors-used-up"), "{}", trial["verdicts"]);
    assert!(trial["connections"]["shed"].is_null(), "nobody can know");
}
