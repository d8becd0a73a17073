//! Whether the programs exist that a scenario's trials are to start.

use std::{
    env,
    ffi::OsStr,
    fs, iter,
    os::unix::fs::PermissionsExt,
    path::{Component, Path, PathBuf},
};

use anyhow::bail;
use indexmap::IndexSet;

use crate::{
    scenario::{
        Act, Plan, ServerFile, UnderTest,
        keys::{self, AnyKey},
    },
    sys::nft,
};

/// Programs, and the packages of Debian and Ubuntu that contain them.
const PACKAGES: [(&str, &str); 12] = [
    ("nginx", "nginx"),
    ("haproxy", "haproxy"),
    ("gunicorn", "gunicorn"),
    ("node", "nodejs"),
    ("python3", "python3"),
    ("apache2", "apache2"),
    ("lighttpd", "lighttpd"),
    ("varnishd", "varnish"),
    ("redis-server", "redis-server"),
    ("memcached", "memcached"),
    ("socat", "socat"),
    (NFT, "nftables"),
];

/// Loads the rules of `firewall`.
const NFT: &str = "nft";

/// Refuses commands that cannot be started, because their program does not exist or cannot be executed.
pub(super) fn exist(plan: &Plan) -> anyhow::Result<()> {
    let path = env::var_os("PATH").unwrap_or_default();
    let mut last = None;
    for cell in &plan.cells {
        let behind_nat = cell.scenario.nat.map(|_| keys::NAT_CLIENTS as &dyn AnyKey);
        if let Some(key) = cell.scenario.firewall.key().or(behind_nat)
            && nft::program().is_none()
        {
            bail!(plan.wrong_in(
                cell,
                key,
                format_args!("requires `{NFT}`, which is not in PATH ({}): {}", path.display(), install(NFT))
            ));
        }
        let UnderTest::Command(command) = &cell.scenario.subject else { continue };
        let events = &cell.scenario.events;
        if last.replace((command, events)) == Some((command, events)) {
            continue;
        }
        if let Some(problem) = missing(&command.words, &command.files, &path) {
            bail!(plan.wrong_in(cell, keys::SERVER_COMMAND, problem));
        }
        // The occurrences of a periodic event are alike.
        for event in events.iter().filter(|event| event.occurrence == 0) {
            let Act::Exec { words } = &event.act else { continue };
            if let Some(problem) = missing(words, &command.files, &path) {
                bail!(plan.wrong_in_event(cell, event.number, keys::EVENT_COMMAND, problem));
            }
        }
    }
    Ok(())
}

/// The programs that the commands of a plan start and that must be installed: what is neither among the files of the server's folder
/// nor named by its path.
pub(in crate::commands) fn named(plan: &Plan) -> IndexSet<String> {
    let mut programs = IndexSet::new();
    for cell in &plan.cells {
        if cell.scenario.firewall.any() || cell.scenario.nat.is_some() {
            programs.insert(NFT.to_owned());
        }
        let UnderTest::Command(command) = &cell.scenario.subject else { continue };
        let commands = cell.scenario.events.iter().filter_map(|event| match &event.act {
            Act::Exec { words } => Some(words),
            _ => None,
        });
        let all = iter::once(&command.words).chain(commands).map(|words| started(words));
        programs.extend(all.filter(|program| !program.contains(['/', '{'])).map(str::to_owned));
    }
    programs
}

/// Why a command cannot be started, if it cannot.
fn missing(words: &[String], files: &[ServerFile], path: &OsStr) -> Option<String> {
    let program = started(words);
    if !program.contains('/') {
        let found = env::split_paths(path).any(|folder| is_executable(&folder.join(program)));
        return (!found).then(|| {
            format!("`{program}` is not in PATH ({}): {} or write its whole path", path.display(), install(program))
        });
    }
    if let Some(name) = inside(program) {
        let file = files.iter().find(|file| Path::new(&file.name) == name);
        return match file {
            Some(file) if file.contents.starts_with("#!") => None,
            Some(file) => Some(format!("`{}` cannot be executed: begin it with a line such as #!/bin/sh", file.name)),
            None => Some(format!("`server.files` has no `{}`", name.display())),
        };
    }
    match Path::new(program) {
        // A name that other values are put into.
        _ if program.contains('{') => None,
        program if is_executable(program) => None,
        program if program.exists() => Some(format!("{} cannot be executed by this user", program.display())),
        _ => Some(format!("{program} does not exist")),
    }
}

/// The program that a command starts: its first word, or the one that env(1) starts with variables of its own.
fn started(words: &[String]) -> &str {
    let of_env = || words[1..].iter().find(|word| !word.contains('=')).filter(|word| !word.starts_with('-'));
    if words[0] == "env" { of_env().unwrap_or(&words[0]) } else { &words[0] }
}

/// The path of a program below the server's folder, where commands start.
fn inside(program: &str) -> Option<PathBuf> {
    let below = program.strip_prefix("{dir}/").or_else(|| (!program.starts_with(['/', '{'])).then_some(program))?;
    Some(Path::new(below).components().filter(|part| *part != Component::CurDir).collect())
}

fn install(program: &str) -> String {
    match PACKAGES.iter().find(|(known, _)| *known == program) {
        Some((_, package)) => format!("install it (Debian, Ubuntu: apt install {package})"),
        None => "install it".to_owned(),
    }
}

fn is_executable(program: &Path) -> bool {
    fs::metadata(program).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::Source;

    fn problem(command: &str, path: &str) -> Option<String> {
        let text = format!(
            "server.subject = \"command\"\nserver.command = \"{command}\"\n[server.files]\nscript = \"#!/bin/sh\"\ndata = \"x\"\n\
             \"bin/deep\" = \"#!/bin/sh\""
        );
        let plan = Plan::read(&Source { name: "test.toml", text: &text }, &[]).unwrap();
        let UnderTest::Command(command) = &plan.cells[0].scenario.subject else { panic!("{plan:?}") };
        missing(&command.words, &command.files, OsStr::new(path))
    }

    #[test]
    fn a_program_is_found_where_it_would_be_started() {
        for command in [
            "sh -c true",
            "/bin/sh",
            "{dir}/script",
            "./script",
            "{dir}/./script",
            "bin/deep",
            "{dir}/bin/deep",
            "/srv/{port}/server",
        ] {
            assert_eq!(problem(command, "/nowhere:/bin"), None, "{command}");
        }
    }

    #[test]
    fn a_missing_program_is_named_with_a_remedy() {
        for (command, expected) in [
            (
                "nginx -p {dir}",
                "`nginx` is not in PATH (/nowhere): install it (Debian, Ubuntu: apt install nginx) or write its whole path",
            ),
            ("env A=1 my-server x", "`my-server` is not in PATH (/nowhere): install it or write its whole path"),
            ("my-server", "`my-server` is not in PATH (/nowhere): install it or write its whole path"),
            ("{dir}/data", "`data` cannot be executed: begin it with a line such as #!/bin/sh"),
            ("{dir}/other", "`server.files` has no `other`"),
            ("bin/other", "`server.files` has no `bin/other`"),
            ("/nowhere/server", "/nowhere/server does not exist"),
            ("/etc/passwd", "/etc/passwd cannot be executed by this user"),
        ] {
            assert_eq!(problem(command, "/nowhere").as_deref(), Some(expected));
        }
        // A file of that name that is not a program.
        assert!(problem("passwd", "/etc").is_some());
    }
}
