//! Machines that lack something, or have it in an unusual way: each in namespaces of its own.

use std::{
    path::Path,
    process::{Command, Output, Stdio},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

use crate::common::{Bench, assert_balanced, assert_code, scenario, stderr, stdout, words};

tests! {
    root [
        a_shifted_clock_leaves_upper_bounds_and_says_so,
        root_without_capabilities_is_told_what_is_missing,
        without_namespaces_doctor_list_and_run_agree,
        the_first_process_of_a_pid_namespace_ends_like_any_other,
        without_cgroups_or_sysfs_waits_are_upper_bounds,
        without_proc_every_command_says_so,
        hidden_processes_change_nothing,
    ]
    nothing [
        closed_standard_streams_cost_nothing_but_the_output,
        terminals_of_any_size_show_a_run,
    ]
}

/// Runs a line of shell in which LB is the binary, in the bench's folder.
fn shell(bench: &Bench, line: &str) -> Output {
    let mut command = Command::new("sh");
    command.args(["-c", &line.replace("LB", env!("CARGO_BIN_EXE_listenbench"))]);
    command.current_dir(bench.folder.path()).stdin(Stdio::null()).output().unwrap()
}

fn bench() -> Bench {
    scenario().closed(2, 20).bench()
}

fn only_trial(folder: &Path) -> Value {
    let trials = crate::common::read_trials(folder);
    assert_eq!(trials.len(), 1);
    trials.into_iter().next().unwrap()
}

fn method(trial: &Value) -> &Value {
    &trial["latency_ns"]["accept_wait"]["method"]
}

/// Doctor's checks as found by a line of shell that ends with its command line.
fn doctor(bench: &Bench, before: &str) -> Vec<Value> {
    let output = shell(bench, &format!("{before} LB doctor --json"));
    // 1 if the default run is impossible, or 3 at least: each of these machines lacks something.
    assert!(matches!(output.status.code(), Some(1 | 3)), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn status<'a>(checks: &'a [Value], name: &str) -> &'a Value {
    &checks.iter().find(|check| check["name"] == name).unwrap()["status"]
}

fn a_shifted_clock_leaves_upper_bounds_and_says_so() {
    let bench = bench();
    for (out, offset) in [("ahead", "1000"), ("behind", "-10")] {
        let shifted = format!("unshare -T --monotonic={offset} --");
        let output = shell(&bench, &format!("{shifted} LB run scenario.toml --out {out}"));
        assert_code(&output, 0);
        assert!(stderr(&output).contains("time namespace"), "{}", stderr(&output));
        let trial = only_trial(&bench.path(out));
        assert_eq!((&trial["outcome"], method(&trial)), (&"valid".into(), &"connect-call".into()), "{trial}");
        assert_balanced(&trial);
        assert_eq!(status(&doctor(&bench, &shifted), "accept waits"), "limited");
        let exact = shell(&bench, &format!("{shifted} LB run scenario.toml --out exact-{out} --set=stamps=sock_ops"));
        assert_code(&exact, 3);
        let error = only_trial(&bench.path(&format!("exact-{out}")))["error"].as_str().unwrap().to_owned();
        assert!(error.contains("CLOCK_MONOTONIC of this time namespace differs from the kernel's"), "{error}");
    }
}

fn root_without_capabilities_is_told_what_is_missing() {
    let bench = bench();
    let without = "setpriv --bounding-set=-all --inh-caps=-all --";
    assert_eq!(status(&doctor(&bench, without), "namespaces"), "missing");
    let list = shell(&bench, &format!("{without} LB run scenario.toml --list"));
    assert_code(&list, 1);
    let run = shell(&bench, &format!("{without} LB run scenario.toml --out out"));
    assert_code(&run, 1);
    for said in [stderr(&list), stderr(&run)] {
        assert!(said.contains("CAP_SETFCAP") && said.contains("network = \"host\""), "{said}");
    }
    // What is left works.
    let host = "--set=network=host --set=port=7301";
    let list = shell(&bench, &format!("{without} LB run scenario.toml {host} --list"));
    assert!(!stderr(&list).contains("cannot run here"), "{}", stderr(&list));
    assert_code(&shell(&bench, &format!("{without} LB run scenario.toml {host} --out host")), 0);

    // A user namespace is entered for the network, and with it goes what BPF requires, whatever this process may do outside.
    let without = "setpriv --bounding-set=-sys_admin --inh-caps=-sys_admin --";
    assert_eq!(status(&doctor(&bench, without), "accept waits"), "limited");
    assert_code(&shell(&bench, &format!("{without} LB run scenario.toml --out bounds")), 0);
    assert_eq!(method(&only_trial(&bench.path("bounds"))), "connect-call");
}

fn without_namespaces_doctor_list_and_run_agree() {
    let bench = bench();
    let none = |line: &str| {
        let none = "echo 0 >/proc/sys/user/max_user_namespaces; echo 0 >/proc/sys/user/max_net_namespaces";
        format!("unshare -Ur sh -c '{none}; exec setpriv --bounding-set=-all --inh-caps=-all -- {line}'")
    };
    let checks = shell(&bench, &none("LB doctor --json"));
    assert_code(&checks, 1);
    assert!(
        stderr(&checks).contains("`listenbench run` needs what is missing here: namespaces"),
        "{}",
        stderr(&checks)
    );
    let checks: Vec<Value> = serde_json::from_slice(&checks.stdout).unwrap();
    for name in ["namespaces", "veth"] {
        assert_eq!(status(&checks, name), "missing");
    }
    for network in ["netns", "veth"] {
        let list = shell(&bench, &none(&format!("LB run scenario.toml --set=network={network} --list")));
        assert_code(&list, 1);
        let run = shell(&bench, &none(&format!("LB run scenario.toml --set=network={network} --out {network}")));
        assert_code(&run, 1);
        for said in [stderr(&list), stderr(&run)] {
            assert!(said.contains("this user may not create a network namespace"), "{said}");
        }
        assert!(!bench.path(network).exists());
    }
    // There, strategies that require BPF are named by both.
    let sets = "--set=network=host --set=port=7302 --set=server.strategy=reuseport-random";
    let list = shell(&bench, &none(&format!("LB run scenario.toml {sets} --list")));
    let run = shell(&bench, &none(&format!("LB run scenario.toml {sets} --out random")));
    assert_code(&list, 0);
    assert_code(&run, 3);
    for said in [stderr(&list), stderr(&run)] {
        assert!(said.contains("strategy reuseport-random cannot run here"), "{said}");
    }
    let run = shell(&bench, &none("LB run scenario.toml --set=network=host --set=port=7302 --out host"));
    assert_code(&run, 0);
}

/// The kernel gives it no default action for any signal, and all orphans.
fn the_first_process_of_a_pid_namespace_ends_like_any_other() {
    let bench = bench();
    let first = "unshare -pf --kill-child --mount-proc --";
    assert_code(&shell(&bench, &format!("{first} LB run scenario.toml --out whole")), 0);
    assert_eq!(only_trial(&bench.path("whole"))["outcome"], "valid");

    let long = ["run", "scenario.toml", "--out", "cut", "--set=load.connections=", "--set=load.duration=60s"];
    let mut command = Command::new("unshare");
    command.args(["-pf", "--kill-child", "--mount-proc", "--", env!("CARGO_BIN_EXE_listenbench")]).args(long);
    let mut unshare = command.current_dir(bench.folder.path()).stdin(Stdio::null()).spawn().unwrap();
    let child = || {
        let children = format!("/proc/{0}/task/{0}/children", unshare.id());
        std::fs::read_to_string(children).unwrap_or_default().split_whitespace().next().map(str::to_owned)
    };
    crate::common::wait_until("a trial", || {
        let children = child().and_then(|pid| std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok());
        children.is_some_and(|children| {
            let mut children = children.split_whitespace();
            children
                .any(|pid| std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name == "lb:trial\n"))
        })
    });
    kill(Pid::from_raw(child().unwrap().parse().unwrap()), Signal::SIGTERM).unwrap();
    assert_eq!(unshare.wait().unwrap().code(), Some(130));
    assert!(bench.path("cut/summary.json").exists());
}

fn without_cgroups_or_sysfs_waits_are_upper_bounds() {
    let bench = bench();
    for (out, without) in [("cgroups", "umount -l /sys/fs/cgroup"), ("sysfs", "mount -t tmpfs none /sys")] {
        let inside = |line: &str| shell(&bench, &format!("unshare -m sh -c '{without}; exec {line}'"));
        let run = inside(&format!("LB run scenario.toml --out {out}"));
        assert_code(&run, 0);
        assert!(words(&stderr(&run)).contains("exact stamps are not available"), "{}", stderr(&run));
        assert_eq!(method(&only_trial(&bench.path(out))), "connect-call");
        let checks = inside("LB doctor --json");
        let checks: Vec<Value> = serde_json::from_slice(&checks.stdout).unwrap();
        assert_eq!(status(&checks, "accept waits"), "limited");
        assert!(checks.iter().all(|check| check["found"] != ""), "{checks:?}");
        // The kernel was not asked where its types are not to be seen.
        let accepts = checks.iter().find(|check| check["name"] == "accepts of any server").unwrap();
        let says_mount = accepts.to_string().contains("/sys is not mounted: run `mount -t sysfs none /sys`");
        assert_eq!(says_mount, out == "sysfs", "{accepts}");
        // Without kernel type information (BTF), accepts are still counted.
        assert_code(&inside("LB observe --for 200ms --interval 100ms --json"), 0);
    }
}

fn without_proc_every_command_says_so() {
    let bench = bench();
    for line in [
        "run scenario.toml --out out",
        "run scenario.toml --list",
        "load scenario.toml 7000",
        "serve scenario.toml",
        "observe --for 100ms",
        "ports",
        "ports 80",
        "doctor",
        "calibrate",
    ] {
        let output = shell(&bench, &format!("unshare -m sh -c 'mount -t tmpfs none /proc; exec LB {line}'"));
        assert_code(&output, 1);
        assert!(stderr(&output).contains("mount -t proc proc /proc"), "{line}: {}", stderr(&output));
    }
    assert_code(&shell(&bench, "unshare -m sh -c 'mount -t tmpfs none /proc; exec LB man'"), 0);
}

fn hidden_processes_change_nothing() {
    let bench = bench();
    assert_code(
        &shell(
            &bench,
            "chmod 777 . && unshare -m sh -c 'mount -t proc -o hidepid=2 none /proc; exec LB run scenario.toml --out out'",
        ),
        0,
    );
    let user = "setpriv --reuid=65534 --regid=65534 --clear-groups --";
    // The clone may be closed to an ordinary user.
    let copied = format!(
        "cp LB ./copy && unshare -m sh -c \"mount -t proc -o hidepid=2 none /proc; exec {user} ./copy run scenario.toml --out user\""
    );
    assert_code(&shell(&bench, &copied), 0);
    assert_eq!(only_trial(&bench.path("user"))["outcome"], "valid");
}

fn closed_standard_streams_cost_nothing_but_the_output() {
    let bench = bench();
    for (number, closed) in ["<&-", ">&-", "2>&-", "<&- >&-", "<&- >&- 2>&-"].into_iter().enumerate() {
        let output = shell(&bench, &format!("LB run scenario.toml --out out{number} {closed}"));
        assert_code(&output, 0);
        let trial = only_trial(&bench.path(&format!("out{number}")));
        assert_eq!(trial["outcome"], "valid");
        assert_balanced(&trial);
        for line in ["ports", "run scenario.toml --list", "observe --for 200ms --interval 100ms --json"] {
            assert_code(&shell(&bench, &format!("LB {line} {closed}")), 0);
        }
        // What this machine limits, doctor says by its exit code.
        let code = shell(&bench, &format!("LB doctor {closed}")).status.code();
        assert!(matches!(code, Some(0 | 3)), "{code:?}");
        // No file of the record took the place of a stream.
        for entry in std::fs::read_dir(bench.path(&format!("out{number}"))).unwrap() {
            let path = entry.unwrap().path();
            let said =
                path.is_file() && std::fs::read_to_string(&path).is_ok_and(|text| text.contains("1 of 1: trial 0"));
            assert!(!said, "{}", path.display());
        }
    }
}

fn terminals_of_any_size_show_a_run() {
    let bench = bench();
    for (number, (rows, columns)) in
        [(0, 0), (1, 1), (24, 80), (65_535, 65_535), (65_535, 1), (1, 65_535)].into_iter().enumerate()
    {
        for (command, term) in [
            (format!("LB run scenario.toml --out out{number}"), "xterm"),
            (format!("LB run scenario.toml --out bare{number}"), ""),
            ("LB observe --for 300ms --interval 100ms".to_owned(), "xterm"),
            ("LB doctor".to_owned(), "xterm"),
            ("LB ports".to_owned(), "xterm"),
        ] {
            let term = if term.is_empty() { "unset TERM".to_owned() } else { format!("export TERM={term}") };
            let inside = format!("stty rows {rows} cols {columns}; {term}; {command}");
            let output = shell(&bench, &format!("script -qec \"{inside}\" /dev/null"));
            // 3: this machine limits something, which doctor says.
            let fits = output.status.code() == Some(0) || command == "LB doctor" && output.status.code() == Some(3);
            assert!(fits, "{rows}×{columns}: {command}: {}", stdout(&output));
        }
    }
}
