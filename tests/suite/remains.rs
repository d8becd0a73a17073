//! What is left when processes are killed or stopped, at whatever moment: nothing that outlives them, and nobody who waits.

use std::{
    collections::BTreeSet,
    fs::{self, Permissions},
    os::unix::{fs::PermissionsExt, process::ExitStatusExt},
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
    thread,
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::common::{Bench, assert_code, free_port, read_trials, scenario, stderr, stdout, wait_until};

tests! {
    nothing [
        a_stopped_child_does_not_keep_a_run_from_its_end,
        a_stopped_rehearsal_has_a_time_limit,
        a_stopped_child_does_not_keep_calibrate_from_its_end,
        a_keeper_that_is_killed_or_stopped_leaves_neither_processes_nor_its_folder,
        a_trial_killed_beside_a_stopped_keeper_is_a_recorded_failure,
        a_stopped_worker_does_not_keep_serve_from_its_end,
        a_doctor_that_is_killed_leaves_nothing,
        what_is_left_of_trials_killed_as_a_whole_is_swept,
    ]
    root [
        no_kill_leaves_anything,
        no_kill_at_a_random_moment_leaves_anything,
        no_program_is_left_after_a_run,
        runs_in_two_process_namespaces_do_not_meet,
        stamps_need_a_cgroup_but_make_none,
    ]
}

/// Short trials with everything that a trial may make: two networks, exact stamps, a program that steers, one that times completions.
fn all() -> Bench {
    scenario()
        .set("network", "veth")
        .set("stamps", "sock_ops")
        .workers(2)
        .each("server.strategy", ["reuseport-round-robin", "shared-uring"])
        .closed(4, 500)
        .bench()
}

/// What a run's processes had: its traces on the machine.
#[derive(Default)]
struct Seen {
    programs: BTreeSet<u32>,
    maps: BTreeSet<u32>,
    links: BTreeSet<u32>,
    networks: BTreeSet<PathBuf>,
}

impl Seen {
    fn look(&mut self, bench: &Bench) {
        // Of version 2, whose line begins so.
        let cgroup = |pid: &str| {
            let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
            text.lines().find(|line| line.starts_with("0::")).unwrap_or("0::/").to_owned()
        };
        for pid in bench.processes() {
            // One that is about to end is in the root.
            let of_process = cgroup(&pid.to_string());
            assert!(of_process == cgroup("self") || of_process == "0::/", "a process has moved to {of_process}");
            self.networks.extend(fs::read_link(format!("/proc/{pid}/ns/net")));
            let entries = fs::read_dir(format!("/proc/{pid}/fdinfo")).into_iter().flatten().flatten();
            for text in entries.filter_map(|entry| fs::read_to_string(entry.path()).ok()) {
                for (key, ids) in
                    [("prog_id:", &mut self.programs), ("map_id:", &mut self.maps), ("link_id:", &mut self.links)]
                {
                    ids.extend(text.lines().find_map(|line| line.strip_prefix(key)?.trim().parse::<u32>().ok()));
                }
            }
        }
        self.networks.remove(&fs::read_link("/proc/self/ns/net").unwrap());
    }

    /// A program is freed with its last socket, a moment after the trial.
    fn demand_nothing_left(&self) {
        let programs = || aya::programs::loaded_programs().flatten().any(|found| self.programs.contains(&found.id()));
        wait_until("the run's programs to be gone", || !programs());
        let maps = || aya::maps::loaded_maps().flatten().any(|found| self.maps.contains(&found.id()));
        wait_until("the run's maps to be gone", || !maps());
        let links = || aya::programs::loaded_links().flatten().any(|found| self.links.contains(&found.id()));
        wait_until("the run's links to be gone", || !links());
        let in_use = || {
            let processes = fs::read_dir("/proc").unwrap().flatten();
            let networks = processes.filter_map(|process| fs::read_link(process.path().join("ns/net")).ok());
            networks.filter(|network| self.networks.contains(network)).count()
        };
        wait_until("the run's networks to be gone", || in_use() == 0);
    }
}

/// What can be seen of a run once it is over.
fn demand_nothing_left(bench: &Bench) {
    bench.demand_nothing_left();
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains("listenbench") && !mounts.contains(" nsfs "), "{mounts}");
    wait_until("the servers' folders to be gone", || folders(bench).is_empty());
}

/// The folders of this bench's servers.
fn folders(bench: &Bench) -> Vec<PathBuf> {
    fs::read_dir(bench.path("folders")).into_iter().flatten().map(|entry| entry.unwrap().path()).collect()
}

/// Begins a command in the bench, with a place of its own for temporary folders.
fn begin(bench: &Bench, arguments: &[&str]) -> Child {
    fs::set_permissions(bench.folder.path(), Permissions::from_mode(0o755)).unwrap();
    let folders = bench.path("folders");
    if !folders.exists() {
        fs::create_dir(&folders).unwrap();
        fs::set_permissions(&folders, Permissions::from_mode(0o777)).unwrap();
    }
    let mut command = bench.command(arguments);
    command.env("TMPDIR", folders).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn descendants(pid: u32) -> Vec<u32> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let children: Vec<u32> = children.split_whitespace().map(|pid| pid.parse().unwrap()).collect();
    children.iter().copied().chain(children.iter().flat_map(|child| descendants(*child))).collect()
}

/// The first descendant of that name, or of that name and a number, as soon as it is there; `None` once the command has ended.
fn catch(command: &mut Child, name: &str) -> Option<u32> {
    let is_called = |pid: &u32| {
        let comm = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        comm.trim_end().strip_prefix(name).is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_digit()))
    };
    loop {
        if let Some(found) = descendants(command.id()).into_iter().find(is_called) {
            return Some(found);
        }
        if command.try_wait().unwrap().is_some() {
            return None;
        }
    }
}

/// A command in a bench of its own, and its descendant of that name. Some live for a moment only, and may be missed: others are begun.
fn begin_and_catch(bench: impl Fn() -> Bench, begin: impl Fn(&Bench) -> Child, name: &str) -> (Bench, Child, u32) {
    let caught = (0..20).find_map(|_| {
        let bench = bench();
        let mut command = begin(&bench);
        if let Some(victim) = catch(&mut command, name) {
            return Some((bench, command, victim));
        }
        end(command);
        None
    });
    caught.unwrap_or_else(|| panic!("no process is called {name}"))
}

/// The same of `run`.
fn run_and_catch(bench: impl Fn() -> Bench, name: &str) -> (Bench, Child, u32) {
    begin_and_catch(bench, |bench| begin(bench, &["run", "scenario.toml", "--out", "out"]), name)
}

fn signal(pid: u32, signal: Signal) {
    // Fails only if it has ended.
    let _ = kill(Pid::from_raw(pid as i32), signal);
}

/// Ends by itself, in one of the ways that are documented.
fn end(command: Child) -> Output {
    let output = command.wait_with_output().unwrap();
    let code = output.status.code();
    assert!(code.is_some_and(|code| (0..=4).contains(&code) || code == 130), "{code:?} {}", stderr(&output));
    output
}

/// Each kind of process is killed as soon as it is there; and the run itself, as soon as each of them is.
fn no_kill_leaves_anything() {
    for name in ["lb:rehearsal", "lb:probe", "lb:trial", "lb:loader", "lb:worker"] {
        for whole in [false, true] {
            let (bench, run, victim) = run_and_catch(all, name);
            let mut seen = Seen::default();
            signal(if whole { run.id() } else { victim }, Signal::SIGKILL);
            seen.look(&bench);
            if whole {
                assert_eq!(run.wait_with_output().unwrap().status.signal(), Some(Signal::SIGKILL as i32), "{name}");
            } else {
                // What had sent its report had done its work.
                end(run);
            }
            demand_nothing_left(&bench);
            seen.demand_nothing_left();
        }
    }
}

/// Any process at any moment, the first tenths of a second among them.
fn no_kill_at_a_random_moment_leaves_anything() {
    let mut random = ChaCha8Rng::seed_from_u64(16);
    for attempt in 0..24 {
        let (bench, mut seen) = (all(), Seen::default());
        let run = begin(&bench, &["run", "scenario.toml", "--out", "out"]);
        thread::sleep(Duration::from_millis(random.random_range(0..600)));
        let mut victims = descendants(run.id());
        victims.push(run.id());
        let victim = if attempt % 2 == 0 { run.id() } else { victims[random.random_range(0..victims.len())] };
        seen.look(&bench);
        signal(victim, Signal::SIGKILL);
        if victim == run.id() {
            run.wait_with_output().unwrap();
        } else {
            end(run);
        }
        demand_nothing_left(&bench);
        seen.demand_nothing_left();
    }
}

fn no_program_is_left_after_a_run() {
    let (bench, mut seen) = (all(), Seen::default());
    let mut run = begin(&bench, &["run", "scenario.toml", "--out", "out"]);
    wait_until("the run to end", || {
        seen.look(&bench);
        run.try_wait().unwrap().is_some()
    });
    assert_code(&run.wait_with_output().unwrap(), 0);
    assert!(!seen.programs.is_empty() && !seen.maps.is_empty() && !seen.networks.is_empty());
    demand_nothing_left(&bench);
    seen.demand_nothing_left();
}

/// Process ids are the same in both, and the hierarchy of cgroups is one.
fn runs_in_two_process_namespaces_do_not_meet() {
    let bench = scenario().set("stamps", "sock_ops").closed(4, 2_000).bench();
    let begin = |out: &str| {
        let run = bench.command(&["run", "scenario.toml", "--out", out]);
        let mut apart = Command::new("unshare");
        apart.args(["--pid", "--fork", "--mount-proc"]).arg(run.get_program()).args(run.get_args());
        apart.current_dir(bench.folder.path()).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        apart.spawn().unwrap()
    };
    for (run, out) in ["one", "other"].map(|out| (begin(out), out)) {
        assert_code(&run.wait_with_output().unwrap(), 0);
        for trial in read_trials(&bench.path(out)) {
            let wait = &trial["latency_ns"]["accept_wait"];
            assert_eq!((&wait["method"], &wait["count"]), (&"sock_ops".into(), &2_000.into()), "{wait}");
        }
    }
}

/// Where nobody may create a cgroup, connections are stamped all the same; where none can be found, the remedy is named.
fn stamps_need_a_cgroup_but_make_none() {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let mount = mounts.lines().find(|line| line.contains(" - cgroup2 ")).unwrap().split(' ').nth(4).unwrap();
    let bench = scenario().set("stamps", "sock_ops").closed(4, 200).bench();
    for (change, exit) in [("mount -o bind,remount,ro", 0), ("umount", 3)] {
        let run = bench.command(&["run", "scenario.toml", "--out", change.split(' ').next().unwrap()]);
        let mut apart = Command::new("unshare");
        apart.args(["--mount", "sh", "-c", &format!("{change} {mount} && exec \"$0\" \"$@\"")]);
        apart.arg(run.get_program()).args(run.get_args()).current_dir(bench.folder.path());
        let output = apart.stdin(Stdio::null()).output().unwrap();
        assert_code(&output, exit);
    }
    let trial = &read_trials(&bench.path("mount"))[0];
    assert_eq!(trial["latency_ns"]["accept_wait"]["method"], "sock_ops");
    let failed = &read_trials(&bench.path("umount"))[0]["error"];
    let remedy =
        "no cgroup version 2 hierarchy is mounted: run `mkdir -p /run/cgroup2 && mount -t cgroup2 none /run/cgroup2`";
    assert!(failed.as_str().unwrap().starts_with(remedy), "{failed}");
}

fn a_stopped_child_does_not_keep_a_run_from_its_end() {
    for name in ["lb:rehearsal", "lb:probe", "lb:trial", "lb:loader", "lb:worker"] {
        let bench = || scenario().workers(2).set("load.concurrency", 4).duration("20s").bench();
        let (bench, run, victim) = run_and_catch(bench, name);
        signal(victim, Signal::SIGSTOP);
        signal(run.id(), Signal::SIGINT);
        assert_code(&end(run), 130);
        demand_nothing_left(&bench);
    }
}

fn a_stopped_rehearsal_has_a_time_limit() {
    let attempt = || {
        let (bench, run, rehearsal) = run_and_catch(|| scenario().closed(4, 500).bench(), "lb:rehearsal");
        signal(rehearsal, Signal::SIGSTOP);
        let output = end(run);
        demand_nothing_left(&bench);
        output
    };
    // One that was stopped only after it had sent its report is not missed.
    let late = |output: &Output| output.status.code() == Some(1) && stderr(output).contains("gave up after 30s");
    let outputs: Vec<Output> = (0..5).map(|_| attempt()).take_while(|output| !late(output)).collect();
    assert!(outputs.len() < 5, "{outputs:?}");
}

fn a_stopped_child_does_not_keep_calibrate_from_its_end() {
    for name in ["lb:rehearsal", "lb:pieces", "lb:echo", "lb:bare", "lb:bareclient", "lb:bareserver"] {
        // The first round is followed by others, so that it has not ended before it is told to.
        let calibrate = |bench: &Bench| begin(bench, &["calibrate", "--rounds", "5", "--seconds", "0.2"]);
        let (bench, calibrate, victim) = begin_and_catch(|| scenario().bench(), calibrate, name);
        signal(victim, Signal::SIGSTOP);
        signal(calibrate.id(), Signal::SIGINT);
        assert_code(&end(calibrate), 130);
        demand_nothing_left(&bench);
    }
}

/// A server that leaves a process of its session, and one of another, which both write into its folder.
const LEAVING: &str = "#!/bin/sh\n\
    ./writer & setsid ./writer &\n\
    exec LISTENBENCH serve own.toml --set=address={address} --set=port={port}\n";

fn serving() -> Bench {
    scenario()
        .set("load.concurrency", 4)
        .duration("20s")
        .set("network", "host")
        .set("port", free_port())
        .set("server.subject", "command")
        .set("server.command", "./start")
        .set("server.files.start", LEAVING.replace("LISTENBENCH", env!("CARGO_BIN_EXE_listenbench")))
        .set("server.files.writer", "#!/bin/sh\nwhile true; do echo x > file-$$; sleep 0.01; done\n")
        .set("server.files.\"own.toml\"", "network = \"host\"\nserver.strategy = \"shared-epoll\"\n")
        .bench()
}

/// Waits until the server's two processes have been left and write.
fn wait_for_writers(bench: &Bench) {
    bench.wait_for("writer", 2);
    let has_written = || {
        let files = folders(bench).into_iter().flat_map(|folder| fs::read_dir(folder).into_iter().flatten().flatten());
        files.filter(|file| file.file_name().to_string_lossy().starts_with("file-")).count() >= 2
    };
    wait_until("both to write", has_written);
}

fn a_keeper_that_is_killed_or_stopped_leaves_neither_processes_nor_its_folder() {
    for stopped in [false, true] {
        let bench = serving();
        let mut run = begin(&bench, &["run", "scenario.toml", "--out", "out"]);
        let keeper = catch(&mut run, "lb:keeper").unwrap();
        wait_for_writers(&bench);
        if stopped {
            signal(keeper, Signal::SIGSTOP);
            signal(run.id(), Signal::SIGINT);
        } else {
            signal(keeper, Signal::SIGKILL);
        }
        let output = end(run);
        assert_code(&output, if stopped { 130 } else { 3 });
        demand_nothing_left(&bench);
    }
}

/// A keeper that cannot end the server any more does not keep the run waiting for the dead trial.
fn a_trial_killed_beside_a_stopped_keeper_is_a_recorded_failure() {
    let bench = serving();
    let mut run = begin(&bench, &["run", "scenario.toml", "--out", "out"]);
    let keeper = catch(&mut run, "lb:keeper").unwrap();
    wait_for_writers(&bench);
    signal(keeper, Signal::SIGSTOP);
    signal(catch(&mut run, "lb:trial").unwrap(), Signal::SIGKILL);
    assert_code(&end(run), 3);
    assert!(bench.read_trials()[0]["error"].as_str().unwrap().contains("SIGKILL"));
    demand_nothing_left(&bench);
}

fn a_stopped_worker_does_not_keep_serve_from_its_end() {
    let bench = scenario().workers(2).set("network", "host").bench();
    let port = format!("--set=port={}", free_port());
    let serve = begin(&bench, &["serve", "scenario.toml", &port]);
    let worker = bench.wait_for("lb:worker", 2)[0];
    signal(worker, Signal::SIGSTOP);
    signal(serve.id(), Signal::SIGINT);
    end(serve);
    demand_nothing_left(&bench);
}

/// SIGINT ends a doctor at once, as it ends most programs, and what it tries out with it.
fn a_doctor_that_is_killed_leaves_nothing() {
    for event in [Signal::SIGINT, Signal::SIGKILL] {
        for ordinary in [false, true] {
            let begin = |bench: &Bench| {
                let mut doctor = match ordinary {
                    false => bench.command(&["doctor"]),
                    true => bench.command_as_ordinary_user(&["doctor"]),
                };
                doctor.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
            };
            let (bench, mut doctor, victim) = begin_and_catch(|| scenario().bench(), begin, "lb:doctor");
            signal(victim, Signal::SIGSTOP);
            signal(doctor.id(), event);
            doctor.wait().unwrap();
            demand_nothing_left(&bench);
        }
    }
}

/// Nobody of ours is left who could end the server, or remove its folder: the next command does, whichever.
fn what_is_left_of_trials_killed_as_a_whole_is_swept() {
    for next in [&["doctor"][..], &["run", "quick", "--out", "next", "--set=load.connections=1", "--set=repetitions=1"]]
    {
        let bench = serving();
        let mut run = begin(&bench, &["run", "scenario.toml", "--out", "out"]);
        let keeper = catch(&mut run, "lb:keeper").unwrap();
        wait_for_writers(&bench);
        let [folder] = &folders(&bench)[..] else { panic!("{:?}", folders(&bench)) };
        let trial = catch(&mut run, "lb:trial").unwrap();
        // While its trial lives, nobody touches it.
        let other = begin(&bench, &["doctor"]).wait_with_output().unwrap();
        assert!(folder.exists() && !stdout(&other).contains(folder.to_str().unwrap()), "{}", stdout(&other));
        let all = [run.id(), trial, keeper];
        all.iter().for_each(|pid| signal(*pid, Signal::SIGSTOP));
        all.iter().for_each(|pid| signal(*pid, Signal::SIGKILL));
        run.wait().unwrap();
        wait_until("only the writers to be left", || bench.processes().len() <= 4);
        assert!(folder.exists());
        let next = begin(&bench, next).wait_with_output().unwrap();
        let said = stdout(&next) + &stderr(&next);
        let said: String = said.chars().filter(|c| !c.is_whitespace()).collect();
        assert!(said.contains("removed") && said.contains(folder.to_str().unwrap()), "{said}");
        assert!(said.contains("killed") && said.contains("writer(pid"), "{said}");
        demand_nothing_left(&bench);
    }
}
