//! nft(8), which loads rules into the calling process's network namespace and lists those that it has.

use std::{
    env,
    io::{self, Write},
    os::unix::{
        fs::PermissionsExt,
        process::{CommandExt, ExitStatusExt},
    },
    path::PathBuf,
    process::{Command, Output, Stdio},
};

use anyhow::{Context, Result, bail};
use nix::unistd::getpid;

use super::process;

/// Where administrators' programs are that an ordinary user's PATH may lack.
const OF_ADMINISTRATORS: [&str; 3] = ["/usr/local/sbin", "/usr/sbin", "/sbin"];

/// What nft calls the text that it reads from its standard input.
const STANDARD_INPUT: &str = "/dev/stdin";

/// How long it may take, less than whoever sets up a network has patience. It waits without end for what a text asks it to look up, such as
/// the address of a host's name.
const PATIENCE_S: libc::c_uint = 25;

/// More lines of complaints are left out.
const LINES_SHOWN: usize = 4;

/// The program; `None` if it is not installed.
pub fn program() -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = env::split_paths(&path).chain(OF_ADMINISTRATORS.map(PathBuf::from));
    let is_program =
        |file: &PathBuf| file.metadata().is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0);
    folders.map(|folder| folder.join("nft")).find(is_program)
}

/// Its version, as it prints it: `nftables v1.0.6 (Lester Gooch #5)`.
pub fn version() -> Result<String> {
    run(&["--version"], "").map(|text| text.trim().to_owned())
}

/// Loads a text of rules into the calling process's network namespace: all of it, or nothing. What nft complains of is in the error, with
/// `name` in place of a file's.
pub fn load(name: &str, text: &str) -> Result<()> {
    run(&["-f", "-"], text).map(drop).map_err(|error| anyhow::anyhow!(error.to_string().replace(STANDARD_INPUT, name)))
}

/// What the calling process's network namespace has, as JSON (libnftables-json(5)): `ruleset`, `counters` and so on.
pub fn list(what: &str) -> Result<String> {
    run(&["-j", "list", what], "")
}

fn run(arguments: &[&str], input: &str) -> Result<String> {
    let Some(program) = program() else {
        bail!("`nft` is not installed: install it (Debian, Ubuntu: apt install nftables)");
    };
    let Output { status, stdout, stderr } = started(&program, arguments, input)
        .with_context(|| format!("running {} {}", program.display(), arguments.join(" ")))?;
    if status.signal() == Some(libc::SIGALRM) {
        bail!(
            "nft was not done after {PATIENCE_S} s, and was ended: write addresses in place of names that it has to look up, or load fewer rules (large sets of ports take it long)"
        );
    }
    if !status.success() {
        bail!("nft: {}", complaint(&String::from_utf8_lossy(&stderr)).unwrap_or_else(|| status.to_string()));
    }
    Ok(String::from_utf8_lossy(&stdout).into_owned())
}

fn started(program: &PathBuf, arguments: &[&str], input: &str) -> io::Result<Output> {
    let parent = getpid();
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let prepare = move || {
        // The alarm outlives exec, and ends a program that does not catch it.
        // SAFETY: it has no preconditions.
        unsafe { libc::alarm(PATIENCE_S) };
        process::die_with(parent)
    };
    // SAFETY: between fork and exec, the closure makes system calls only.
    let mut child = unsafe { command.pre_exec(prepare) }.spawn()?;
    if let Some(mut to) = child.stdin.take() {
        // It reads all of it before it writes. If it ends early, it says why.
        let _ = to.write_all(input.as_bytes());
    }
    child.wait_with_output()
}

/// The lines that name what is wrong, without the text they point at.
fn complaint(printed: &str) -> Option<String> {
    let all = || printed.lines().map(str::trim).filter(|line| !line.is_empty());
    let mut lines: Vec<&str> = all().filter(|line| line.contains("Error:")).collect();
    if lines.is_empty() {
        lines = all().collect();
    }
    let others = lines.len().saturating_sub(LINES_SHOWN);
    lines.truncate(LINES_SHOWN);
    let others = if others > 0 { format!("; and {others} more") } else { String::new() };
    (!lines.is_empty()).then(|| format!("{}{others}", lines.join("; ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_complaint_has_the_place_and_what_is_wrong_there() {
        let printed = "/dev/stdin:2:4-4: Error: syntax error, unexpected '}'\n } }\n   ^\n";
        assert_eq!(complaint(printed).as_deref(), Some("/dev/stdin:2:4-4: Error: syntax error, unexpected '}'"));
        assert_eq!(complaint("Operation not permitted\n\n").as_deref(), Some("Operation not permitted"));
        assert_eq!(complaint(&"x: Error: y\n".repeat(6)).unwrap().matches("Error").count(), LINES_SHOWN);
        assert!(complaint(&"x: Error: y\n".repeat(6)).unwrap().ends_with("; and 2 more"));
        assert_eq!(complaint(""), None);
    }
}
