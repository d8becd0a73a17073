//! Several hosts on one machine: network namespaces on a bridge, each with a name of its own, and a launcher that starts a process in
//! each, as it would over ssh.
//!
//! The bridge is in a namespace as well. Nothing of this is in the machine's own network, so that any number of tests have the same
//! addresses at once, and all of it goes with the processes that hold the namespaces: they end when their standard input does.

use std::{
    fs::{self, Permissions},
    io::{BufRead, BufReader},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    thread,
};

use nix::{
    sched::{CloneFlags, unshare},
    sys::signal::{Signal, kill},
    unistd::{Pid, gettid},
};
use serde_json::Value;

use crate::common::{Bench, Scenario, assert_code, exists, scenario, stderr, stdout, wait_until};

tests! {
    root_and_mpirun [each_host_has_a_name_a_network_and_a_process, a_panic_leaves_nothing]
}

/// Stands in for ssh: the first argument is a host's address, the others are a command for its shell. The `exec` replaces the
/// shell, so that a signal to the process reaches the command.
const AGENT: &str = r#"#!/bin/sh
pid=$(cat "$(dirname "$0")/host-$1") || exit
shift
exec nsenter --net --uts --time --target "$pid" sh -c "$*"
"#;

/// In a host's shell: `$1` is its name, `$2` its address, `$3` the process that holds the bridge's network.
const HOST: &str = r#"set -e
hostname "$1"
ip link set lo up
ip link add eth0 type veth peer name "$1" netns "$3"
ip address add "$2/24" dev eth0
ip link set eth0 up
nsenter --net --target "$3" sh -c "ip link set $1 master bridge && ip link set $1 up"
echo up
exec cat
"#;

const BRIDGE: &str = "set -e; ip link add bridge type bridge; ip link set bridge up; echo up; exec cat";

/// Not in nix's list.
const NEW_TIME: CloneFlags = CloneFlags::from_bits_retain(libc::CLONE_NEWTIME);

/// The hosts of a network. Those of a job are the first ones.
const HOSTS: usize = 4;

/// One that belongs to no job of three.
pub const STRANGER: usize = 3;

/// A network of hosts, the scenario of host 0, and what a job leaves.
pub struct Hosts {
    pub bench: Bench,
    hosts: Vec<Holder>,
    _bridge: Holder,
}

impl Hosts {
    pub fn new(scenario: Scenario) -> Self {
        Self::of(scenario.bench())
    }

    pub fn of(bench: Bench) -> Self {
        Self::with_clocks(bench, ["0 0"; HOSTS])
    }

    /// Hosts whose monotonic clocks are ahead of the machine's by so many seconds and nanoseconds.
    pub fn with_clocks(bench: Bench, ahead: [&str; HOSTS]) -> Self {
        // The folders of servers are only made where every user may pass.
        fs::set_permissions(bench.folder.path(), Permissions::from_mode(0o755)).unwrap();
        executable(&bench.path("agent"), AGENT);
        let bridge = Holder::new(BRIDGE, &[], "0 0");
        let hosts = ahead.iter().enumerate().map(|(host, ahead)| {
            let (name, address) = (name(host), address(host));
            let holder = Holder::new(HOST, &[&name, &address, &bridge.pid()], ahead);
            fs::write(bench.path(&format!("host-{address}")), holder.pid()).unwrap();
            holder
        });
        Self { hosts: hosts.collect(), bench, _bridge: bridge }
    }

    /// A program on a host, outside any job.
    pub fn on(&self, host: usize, program: &str, arguments: &[&str]) -> Command {
        let mut command = self.bench.command_of(Path::new("nsenter"), &["--net", "--uts", "--time", "--target"]);
        command.arg(self.hosts[host].pid()).arg(program).args(arguments);
        command
    }

    /// `mpirun` on host 0, with these options, over what stands in for ssh.
    pub fn mpirun(&self, options: &[&str], program: &str, arguments: &[&str]) -> Command {
        let agent = self.bench.path("agent");
        let mut command = self.on(0, "mpirun", &["--mca", "plm_rsh_agent", agent.to_str().unwrap()]);
        command.args(options).arg(program).args(arguments);
        // Its own files go with the test's.
        command.env("TMPDIR", self.bench.folder.path());
        command.env("OMPI_ALLOW_RUN_AS_ROOT", "1").env("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1");
        command
    }

    /// A job of the first `count` hosts, with further options. Open MPI would bind each process to one processor, and every host
    /// takes the machine's first for its own.
    pub fn job(&self, count: usize, options: &[&str], program: &str, arguments: &[&str]) -> Command {
        let hosts: Vec<String> = (0..count).map(|host| format!("{}:1", address(host))).collect();
        let (hosts, count) = (hosts.join(","), count.to_string());
        let all = [&["--bind-to", "none", "--host", &hosts, "-np", &count], options].concat();
        self.mpirun(&all, program, arguments)
    }

    /// `listenbench` as the job, with further options of the launcher.
    pub fn listenbench(&self, count: usize, options: &[&str], arguments: &[&str]) -> Command {
        self.job(count, options, env!("CARGO_BIN_EXE_listenbench"), arguments)
    }

    /// `run scenario.toml --out out` as a job of the first `count` hosts.
    pub fn run(&self, count: usize, more: &[&str]) -> Output {
        let arguments = [&["run", "scenario.toml", "--out", "out"], more].concat();
        self.listenbench(count, &[], &arguments).output().unwrap()
    }

    /// The same, with an exit code to be demanded; returns the trials. Nothing of the job may be left.
    pub fn trials(&self, count: usize, code: i32) -> Vec<Value> {
        let output = self.run(count, &[]);
        assert_code(&output, code);
        self.bench.demand_nothing_left();
        self.bench.read_trials()
    }

    /// The same for a single trial of which nothing is wrong.
    pub fn trial(&self, count: usize) -> Value {
        let mut trials = self.trials(count, 0);
        assert_eq!(trials.len(), 1);
        trials.remove(0)
    }

    /// A script that stands before the program of a job: `"$@"` in it.
    pub fn wrapper(&self, script: &str) -> PathBuf {
        let path = self.bench.path("wrapper");
        executable(&path, &format!("#!/bin/sh\n{script}\n"));
        path
    }

    /// The process that the launcher started on a host, once there is one.
    pub fn coordinator(&self, host: usize) -> u32 {
        let rank = format!("PMIX_RANK={host}").into_bytes();
        let started = || {
            let mut pids = self.bench.processes().into_iter();
            pids.find(|pid| {
                let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
                environment.split(|byte| *byte == 0).any(|entry| entry == rank)
                    && comm(*pid).as_deref() == Some("listenbench")
                    && parent(*pid).and_then(comm).as_deref() != Some("listenbench")
            })
        };
        wait_until(&format!("the coordinator of {}", name(host)), || started().is_some());
        started().unwrap()
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        // Those of a job that is over in time have ended by now; each has this test's mark, and nobody else's processes do.
        for pid in self.bench.processes() {
            let _ = kill(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL);
        }
    }
}

pub fn name(host: usize) -> String {
    format!("host{host}")
}

/// Of those that RFC 2544 sets aside for benchmarks.
pub fn address(host: usize) -> String {
    format!("198.18.7.{}", host + 1)
}

pub fn executable(path: &Path, script: &str) {
    fs::write(path, script).unwrap();
    fs::set_permissions(path, Permissions::from_mode(0o755)).unwrap();
}

pub fn comm(pid: u32) -> Option<String> {
    fs::read_to_string(format!("/proc/{pid}/comm")).ok().map(|comm| comm.trim().to_owned())
}

fn parent(pid: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim().parse().ok()
}

/// A process that keeps namespaces, until it is dropped or this process is gone.
struct Holder {
    child: Child,
}

impl Holder {
    /// Runs a script in a network of its own, until it prints a line.
    fn new(script: &str, arguments: &[&str], ahead: &str) -> Self {
        let mut command = Command::new("unshare");
        command.args(["--net", "--uts", "sh", "-c", script, "sh"]).args(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        // The time of a thread's children can be set as long as it has none.
        let spawned = thread::scope(|scope| {
            let thread = scope.spawn(|| {
                unshare(NEW_TIME).unwrap();
                fs::write(format!("/proc/{}/timens_offsets", gettid()), format!("monotonic {ahead}")).unwrap();
                command.spawn().unwrap()
            });
            thread.join().unwrap()
        });
        let mut holder = Self { child: spawned };
        let mut line = String::new();
        BufReader::new(holder.child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "up\n");
        holder
    }

    fn pid(&self) -> String {
        self.child.id().to_string()
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

fn each_host_has_a_name_a_network_and_a_process() {
    let hosts = Hosts::with_clocks(scenario().bench(), ["0 0", "100000 0", "0 0", "0 0"]);
    let script =
        "hostname; ip -brief -4 address show eth0 | awk '{ print $3 }'; readlink /proc/self/ns/net /proc/self/ns/time";
    let output = hosts.job(3, &["--tag-output"], "sh", &["-c", script]).output().unwrap();
    assert_code(&output, 0);
    let shown = stdout(&output);
    for host in 0..3 {
        let lines: Vec<&str> = shown.lines().filter(|line| line.contains(&format!(",{host}]<stdout>:"))).collect();
        let lines: Vec<&str> = lines.into_iter().map(|line| line.split_once(">:").unwrap().1).collect();
        let of_holder = |namespace| {
            let link = fs::read_link(format!("/proc/{}/ns/{namespace}", hosts.hosts[host].pid())).unwrap();
            link.into_os_string().into_string().unwrap()
        };
        assert_eq!(
            lines,
            [name(host), format!("{}/24", address(host)), of_holder("net"), of_holder("time")],
            "{shown}"
        );
    }
    // Any program runs on any host, and hosts reach each other: nobody refuses a connection where there is nobody.
    let refused = hosts.on(1, "bash", &["-c", "exec 3<>/dev/tcp/198.18.7.4/9"]).output().unwrap();
    assert!(stderr(&refused).contains("refused"), "{}", stderr(&refused));
    hosts.bench.demand_nothing_left();
}

fn a_panic_leaves_nothing() {
    let (sender, receiver) = std::sync::mpsc::channel();
    let panicked = thread::spawn(move || {
        let hosts = Hosts::new(scenario());
        let holders: Vec<u32> = hosts.hosts.iter().chain([&hosts._bridge]).map(|holder| holder.child.id()).collect();
        let job = hosts.job(3, &[], "sleep", &["600"]).spawn().unwrap();
        let sleeping = || hosts.bench.processes().into_iter().filter(|pid| comm(*pid).as_deref() == Some("sleep"));
        wait_until("three processes", || sleeping().count() == 3);
        sender.send((job, hosts.bench.processes(), holders)).unwrap();
        std::panic::resume_unwind(Box::new("as a failed test would"));
    });
    let (mut job, processes, holders) = receiver.recv().unwrap();
    assert!(panicked.join().is_err());
    job.wait().unwrap();
    assert!(processes.len() > 5, "{processes:?}");
    for pid in processes.into_iter().chain(holders) {
        wait_until("a process to be gone", || !exists(pid));
    }
}
