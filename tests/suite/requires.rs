//! What a test may require of the user and the machine.

use std::{env, path::Path, process::Command};

use nix::{
    sched::{CpuSet, sched_getaffinity},
    unistd::Pid,
};
use socket2::{Domain, Protocol, Socket, Type};

pub fn nothing() -> bool {
    true
}

pub fn root() -> bool {
    nix::unistd::geteuid().is_root()
}

pub fn two_processors() -> bool {
    processors() >= 2
}

/// The processors that this process may run on. The standard library takes a share of their time for fewer of them.
pub fn processors() -> usize {
    let allowed = sched_getaffinity(Pid::from_raw(0)).unwrap();
    (0..CpuSet::count()).filter(|cpu| allowed.is_set(*cpu).unwrap()).count()
}

/// A network namespace of one's own.
pub fn a_namespace() -> bool {
    Command::new("unshare").args(["-rn", "true"]).output().is_ok_and(|output| output.status.success())
}

/// nft, and a network namespace to load its rules into.
pub fn nft() -> bool {
    let is_there = on_path("nft")
        || ["/usr/local/sbin", "/usr/sbin", "/sbin"].iter().any(|one| Path::new(one).join("nft").is_file());
    is_there && a_namespace()
}

pub fn zsh() -> bool {
    on_path("zsh")
}

pub fn fish() -> bool {
    on_path("fish")
}

/// One that renders manual pages.
pub fn a_formatter() -> bool {
    on_path("groff") || on_path("mandoc")
}

pub fn python() -> bool {
    on_path("python3")
}

pub fn git() -> bool {
    on_path("git")
}

/// The cargo and the compiler that built the tests, and git: another user may not reach them.
pub fn cargo() -> bool {
    let answers =
        |program: &str| Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success());
    git() && answers(env!("CARGO")) && answers("rustc")
}

/// Root, with the tools that load rules and list what is tracked.
pub fn nft_and_conntrack() -> bool {
    root() && on_path("nft") && on_path("conntrack")
}

/// A table of tracked connections that can be filled in seconds, and the tool that has connections tracked.
pub fn a_small_table() -> bool {
    let limit = std::fs::read_to_string("/proc/sys/net/netfilter/nf_conntrack_max");
    let limit = limit.ok().and_then(|limit| limit.trim().parse::<u64>().ok());
    root() && on_path("nft") && limit.is_some_and(|limit| (1_000..=300_000).contains(&limit))
}

pub fn curl() -> bool {
    on_path("curl")
}

pub fn nginx() -> bool {
    on_path("nginx")
}

pub fn haproxy() -> bool {
    on_path("haproxy")
}

pub fn openssl() -> bool {
    on_path("openssl")
}

pub fn openssl_and_python() -> bool {
    openssl() && python()
}

pub fn socat() -> bool {
    on_path("socat")
}

pub fn gunicorn() -> bool {
    on_path("gunicorn")
}

pub fn node() -> bool {
    on_path("node")
}

pub fn redis() -> bool {
    on_path("redis-server")
}

pub fn memcached() -> bool {
    on_path("memcached")
}

/// A kernel with MPTCP, switched on.
pub fn mptcp() -> bool {
    Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::MPTCP)).is_ok()
}

pub fn mptcp_and_socat() -> bool {
    mptcp() && socat()
}

pub fn mptcp_and_nginx() -> bool {
    mptcp() && nginx()
}

pub fn root_and_mptcp() -> bool {
    root() && mptcp()
}

pub fn root_and_redis() -> bool {
    root() && redis()
}

pub fn root_and_nginx() -> bool {
    root() && nginx()
}

pub fn root_and_haproxy() -> bool {
    root() && haproxy()
}

pub fn root_and_python() -> bool {
    root() && python()
}

pub fn root_and_gunicorn() -> bool {
    root() && gunicorn()
}

pub fn root_and_node() -> bool {
    root() && node()
}

/// Namespaces as hosts, and a launcher that starts a process in each.
pub fn root_and_mpirun() -> bool {
    root() && on_path("mpirun")
}

pub fn root_and_mpirun_and_nginx() -> bool {
    root_and_mpirun() && nginx()
}

/// Captures are made by root.
pub fn root_and_tcpdump() -> bool {
    root() && on_path("tcpdump")
}

/// A program that somebody has installed.
pub fn on_path(program: &str) -> bool {
    env::var_os("PATH").is_some_and(|path| env::split_paths(&path).any(|folder| folder.join(program).is_file()))
}
