//! Drives the real binary as a user would.

use std::{
    fs,
    io::{BufRead, BufReader},
    net::TcpListener,
    os::unix::{fs::chown, process::CommandExt},
    panic::{self, AssertUnwindSafe},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::atomic::{AtomicU16, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;
use tempfile::TempDir;

use crate::requires;

/// Marks the processes of one run, so that their children can be told from other tests'.
const MARK: &str = "LISTENBENCH_TEST_RUN";

/// A folder of its own with a scenario in it.
pub struct Bench {
    pub folder: TempDir,
}

impl Bench {
    pub fn new(scenario: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("scenario.toml"), scenario).unwrap();
        Self { folder }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The binary, in this folder, with this run's mark in its environment.
    pub fn command(&self, arguments: &[&str]) -> Command {
        self.command_of(Path::new(env!("CARGO_BIN_EXE_listenbench")), arguments)
    }

    /// The same as an ordinary user: root becomes one, with a copy of the binary, since the clone may be closed to that user.
    pub fn command_as_ordinary_user(&self, arguments: &[&str]) -> Command {
        const NOBODY: u32 = 65_534;
        if !requires::root() {
            return self.command(arguments);
        }
        let binary = self.path("listenbench");
        // Copied by another process: while this one had the file open to write, a process that another test starts would have
        // it open as well, and nobody could execute it.
        assert!(Command::new("cp").arg(env!("CARGO_BIN_EXE_listenbench")).arg(&binary).status().unwrap().success());
        chown(self.folder.path(), Some(NOBODY), Some(NOBODY)).unwrap();
        let mut command = self.command_of(&binary, arguments);
        command.uid(NOBODY).gid(NOBODY);
        command
    }

    /// Another program, likewise.
    pub fn command_of(&self, binary: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary);
        command.args(arguments).current_dir(self.folder.path()).env(MARK, self.folder.path()).stdin(Stdio::null());
        command
    }

    /// `run scenario.toml --out out` with further arguments.
    pub fn run(&self, arguments: &[&str]) -> Output {
        let mut all = vec!["run", "scenario.toml", "--out", "out"];
        all.extend(arguments);
        self.command(&all).output().unwrap()
    }

    /// Runs the scenario, demands an exit code and returns the trials.
    pub fn trials(&self, code: i32) -> Vec<Value> {
        let output = self.run(&[]);
        assert_code(&output, code);
        self.read_trials()
    }

    pub fn run_as_ordinary_user(&self) -> Output {
        self.command_as_ordinary_user(&["run", "scenario.toml", "--out", "out"]).output().unwrap()
    }

    /// `load scenario.toml TARGET` with further arguments, one repetition, into a folder of its own; the exit code must be `code`.
    /// Returns its only trial.
    pub fn load(&self, target: &str, more: &[&str], code: i32) -> Value {
        let (trial, _) = self.load_and_report(target, more, code);
        trial
    }

    /// The same with what it prints.
    pub fn load_and_report(&self, target: &str, more: &[&str], code: i32) -> (Value, String) {
        let folder = (0..).map(|number| format!("load-{number}")).find(|name| !self.path(name).exists()).unwrap();
        let mut all = vec!["load", "scenario.toml", target, "--repetitions=1", "--out", &folder];
        all.extend(more);
        let output = self.command(&all).output().unwrap();
        assert_code(&output, code);
        let mut trials = read_trials(&self.path(&folder));
        assert_eq!(trials.len(), 1, "{}", stdout(&output));
        (trials.remove(0), stdout(&output))
    }

    pub fn read_trials(&self) -> Vec<Value> {
        read_trials(&self.path("out"))
    }

    pub fn spawn(&self, arguments: &[&str]) -> Child {
        self.command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// Processes of this run that still exist.
    pub fn processes(&self) -> Vec<u32> {
        let mark = format!("{MARK}={}", self.folder.path().display()).into_bytes();
        pids()
            .filter(|pid| {
                let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
                environment.split(|byte| *byte == 0).any(|entry| entry == mark) && !is_zombie(*pid)
            })
            .collect()
    }

    /// Processes of this run with a name, once there are `count` of them.
    pub fn wait_for(&self, name: &str, count: usize) -> Vec<u32> {
        let named = || -> Vec<u32> {
            let mut pids: Vec<u32> = self
                .processes()
                .into_iter()
                .filter(|pid| {
                    fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim().starts_with(name))
                })
                .collect();
            pids.sort_unstable();
            pids
        };
        wait_until(&format!("{count} processes named {name}"), || named().len() >= count);
        named()
    }

    /// Waits until so many connections have been accepted in a process's network.
    pub fn wait_for_connections(&self, pid: u32, count: u64) {
        wait_until(&format!("{count} connections"), || passive_opens(pid).is_some_and(|opened| opened >= count));
    }

    pub fn demand_nothing_left(&self) {
        wait_until("all processes of the run to be gone", || self.processes().is_empty());
    }
}

/// A scenario of one repetition.
pub fn scenario() -> Scenario {
    Scenario::repeated(1)
}

/// A scenario under way: each method adds to it, and `bench` puts it into a folder.
pub struct Scenario {
    keys: String,
    events: String,
}

impl Scenario {
    pub fn repeated(repetitions: usize) -> Self {
        Self { keys: format!("repetitions = {repetitions}\n"), events: String::new() }
    }

    pub fn bench(self) -> Bench {
        Bench::new(&(self.keys + &self.events))
    }

    /// A key with its whole name, such as `load.hold`.
    pub fn set(mut self, key: &str, value: impl Into<Value>) -> Self {
        // Of numbers, texts and lists, JSON is TOML.
        self.keys += &format!("{key} = {}\n", value.into());
        self
    }

    /// A key that takes each of these values in turn: a dimension of the matrix.
    pub fn each(self, key: &str, values: impl Into<Value>) -> Self {
        self.set(&format!("matrix.{key}"), values)
    }

    pub fn event(mut self, event: Value) -> Self {
        self.events += "[[event]]\n";
        for (key, value) in event.as_object().unwrap() {
            self.events += &format!("{key} = {value}\n");
        }
        self
    }

    pub fn strategy(self, name: &str) -> Self {
        self.set("server.strategy", name)
    }

    pub fn workers(self, count: usize) -> Self {
        self.set("server.workers", count)
    }

    pub fn connections(self, count: u64) -> Self {
        self.set("load.connections", count)
    }

    pub fn duration(self, duration: &str) -> Self {
        self.set("load.duration", duration)
    }

    pub fn closed(self, concurrency: usize, connections: u64) -> Self {
        self.set("load.concurrency", concurrency).connections(connections)
    }

    /// An open loop at a constant rate.
    pub fn constant(self, rate: f64) -> Self {
        self.poisson(rate).set("load.arrivals", "constant")
    }

    /// An open loop whose starts come by chance.
    pub fn poisson(self, rate: f64) -> Self {
        self.set("load.mode", "open").set("load.rate", rate)
    }

    /// All connections at once.
    pub fn burst(self, connections: u64) -> Self {
        let burst = self.set("load.mode", "open").set("load.arrivals", "burst").set("load.burst_every", "10s");
        burst.set("load.burst_size", connections).connections(connections)
    }
}

/// Connections that the kernel has established for listeners in a process's network.
pub fn passive_opens(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/net/snmp")).ok()?;
    let mut rows = text.lines().filter(|line| line.starts_with("Tcp:")).map(str::split_whitespace);
    let (mut names, mut values) = (rows.next()?, rows.next()?);
    values.nth(names.position(|name| name == "PassiveOpens")?)?.parse().ok()
}

/// The trials of a record.
pub fn read_trials(folder: &Path) -> Vec<Value> {
    let text = fs::read_to_string(folder.join("trials.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn pids() -> impl Iterator<Item = u32> {
    fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

fn is_zombie(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('Z')))
}

/// Whether a process runs, or could.
pub fn exists(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists() && !is_zombie(pid)
}

/// Waits for something that comes sooner or later; the limit only ends a test that would hang.
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let patience = Instant::now() + Duration::from_secs(180);
    while !condition() {
        assert!(Instant::now() < patience, "gave up after three minutes waiting for {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// For what holds only while every process gets a processor when it wants one: on a busy machine the check may fail, but not
/// time and again.
pub fn when_undisturbed(check: impl Fn()) {
    let attempt = || panic::catch_unwind(AssertUnwindSafe(&check)).is_ok();
    if !(0..4).any(|_| attempt()) {
        check();
    }
}

/// Two populations that start 200 and 300 connections a second: each has metrics of its own, and together they make the whole.
pub fn assert_kept_and_storm(metrics: &Value) {
    assert_eq!(metrics["kept.offered_per_s"]["median"], 200.0);
    assert_eq!(metrics["storm.offered_per_s"]["median"], 300.0);
    let attempts = |name: &str| number(&metrics[name]["attempts"]["due"]);
    let of_both = attempts("kept.response_p99_ns") + attempts("storm.response_p99_ns");
    assert_eq!(of_both, attempts("response_p99_ns"), "each response is some population's");
}

pub fn assert_code(output: &Output, code: i32) {
    assert_eq!(output.status.code(), Some(code), "{}{}", stdout(output), stderr(output));
}

pub fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The text on one line, however it was wrapped.
pub fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

pub fn read_json(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

pub fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("{value} is no whole number"))
}

/// The truths that hold in every trial that ran: the balance, and one end for every attempt.
pub fn assert_balanced(trial: &Value) {
    let connections = &trial["connections"];
    let count = |name: &str| number(&connections[name]);
    assert_eq!(connections["unaccounted"], 0, "{connections}");
    assert_eq!(connections["misdelivered"], 0, "{connections}");
    let came = count("established") - count("self_connected") + count("cookies") + count("foreign");
    assert_eq!(came, count("accepted") + count("left_in_queue") + count("aborted"), "{connections}");
    let workers: u64 = trial["workers"].as_array().unwrap().iter().map(|worker| number(&worker["accepted"])).sum();
    // The process or thread that accepts for the workers may have closed some at once.
    let own = trial["subject"]["kind"] == "own";
    let by_helper = trial["helper"]["shed"].as_u64().filter(|_| own).unwrap_or(0);
    assert_eq!(count("accepted"), workers + by_helper);
    let failed: u64 = connections["errors"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|error| !["accept", "serve"].contains(&error["phase"].as_str().unwrap()))
        .map(|error| number(&error["count"]))
        .sum();
    assert_eq!(count("attempted"), count("completed") + failed, "{connections}");
}

/// The balance of datagrams.
pub fn assert_datagrams_balanced(trial: &Value) {
    let datagrams = &trial["datagrams"];
    let count = |name: &str| number(&datagrams[name]);
    assert_eq!(datagrams["unaccounted"], 0, "{}: {datagrams}", trial["cell"]);
    let known = count("received") + count("left_in_queue") + count("lost") + count("refused") + count("aborted");
    assert_eq!(count("sent"), known, "{}: {datagrams}", trial["cell"]);
    assert_eq!(count("received"), of_workers(trial, "datagrams").iter().sum::<u64>());
}

/// A count of each worker.
pub fn of_workers(trial: &Value, name: &str) -> Vec<u64> {
    trial["workers"].as_array().unwrap().iter().map(|worker| number(&worker[name])).collect()
}

/// The strategies that this user can run and whose limits do not contain a text. They are read from the
/// documentation's table, which a unit test compares with the list in the source.
pub fn strategies_without(limit: &str) -> Vec<String> {
    let readme = include_str!("../../bench-configs/README.md");
    let (_, section) = readme.split_once("\n## The strategies\n").unwrap();
    let rows = section.lines().skip_while(|line| !line.starts_with("| `")).take_while(|line| line.starts_with("| `"));
    let names = rows.filter_map(|row| {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        let [name, _, limits] = cells[..] else { panic!("{row}") };
        // A strategy for datagrams alone is not for tests that ask for connections, as most do.
        let other = if limit == "connections only" { limit } else { "datagrams only" };
        let runs = [limit, other].iter().all(|limit| !limits.contains(limit));
        let runs = runs && (requires::root() || !limits.contains("requires root"));
        runs.then(|| name.replace('`', ""))
    });
    names.collect()
}

/// All strategies that this user can run.
pub fn strategies() -> Vec<String> {
    strategies_without("no such limit")
}

/// How often an error was counted.
pub fn errors(trial: &Value, phase: &str, errno: &str) -> u64 {
    let errors = trial["connections"]["errors"].as_array().unwrap();
    errors.iter().filter(|e| e["phase"] == phase && e["errno"] == errno).map(|e| number(&e["count"])).sum()
}

pub fn verdicts(trial: &Value) -> Vec<&str> {
    trial["verdicts"].as_array().unwrap().iter().map(|verdict| verdict["name"].as_str().unwrap()).collect()
}

/// A port of this machine that nobody uses now, and no other test is given. It lies below those that the kernel gives to clients:
/// one of theirs might be taken before a server listens there.
pub fn free_port() -> u16 {
    const LOWEST: u16 = 10_240;
    static GIVEN: AtomicU16 = AtomicU16::new(0);
    let range = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap();
    let clients: u16 = range.split_whitespace().next().unwrap().parse().unwrap();
    let count = clients.checked_sub(LOWEST).filter(|count| *count > 0).unwrap_or(u16::MAX - LOWEST);
    // Other runs of the suite, at the same time, begin elsewhere.
    let first = u64::from(std::process::id()) * 997;
    let mut candidates =
        (0..count).map(|_| LOWEST + ((first + u64::from(GIVEN.fetch_add(1, Relaxed))) % u64::from(count)) as u16);
    candidates.find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()).expect("a port is free")
}

/// `listenbench serve`, ended when dropped.
pub struct Server {
    pub child: Child,
    pub port: u16,
}

impl Server {
    pub fn start(bench: &Bench, sets: &[&str]) -> Self {
        Self::start_with(bench, sets, &[])
    }

    /// The same with further options.
    pub fn start_with(bench: &Bench, sets: &[&str], options: &[&str]) -> Self {
        let port = free_port();
        let mut arguments = vec!["serve".to_owned(), "scenario.toml".to_owned(), format!("--set=port={port}")];
        arguments.extend(sets.iter().map(|set| format!("--set={set}")));
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).chain(options.iter().copied()).collect();
        let mut child = bench.spawn(&arguments);
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        assert!(line.starts_with("listening on"), "{line}");
        Self { child, port }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
