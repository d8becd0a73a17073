//! Help, completions and manual pages.

use std::{env, fs, os::unix::fs::symlink, path::Path, process::Command};

use crate::{
    common::{Bench, assert_code, stderr, stdout},
    live::OnTerminal,
    requires::on_path,
};

tests! {
    nothing [
        every_command_s_help_has_examples,
        bash_completes,
        other_shells_have_scripts_too,
        pages_are_printed_and_written,
    ]
    zsh [zsh_completes]
    fish [fish_completes]
    a_formatter [formatters_take_every_page]
}

/// The commands, as the help lists them.
pub fn commands(bench: &Bench) -> Vec<String> {
    let help = stdout(&bench.command(&["--help"]).output().unwrap());
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    listed
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .map(str::to_owned)
        .collect()
}

fn every_command_s_help_has_examples() {
    let bench = Bench::new("");
    let commands = commands(&bench);
    assert!(["run", "doctor", "completions", "man"].iter().all(|name| commands.iter().any(|known| known == name)));
    for command in commands {
        let output = bench.command(&[&command, "--help"]).output().unwrap();
        assert_code(&output, 0);
        let help = stdout(&output);
        let examples = help.split_once("Example").map_or("", |(_, examples)| examples);
        assert!(examples.contains(&format!("listenbench {command}")), "{command}: {help}");
    }
}

/// A file and records, for completion to find.
fn bench_with_records() -> Bench {
    let bench = Bench::new("");
    for record in ["results/one", "results/two", "odd/a b;c$d'e"] {
        fs::create_dir_all(bench.path(record)).unwrap();
        fs::write(bench.path(record).join("trials.jsonl"), "").unwrap();
    }
    for file in ["star*one.toml", "star-one.toml"] {
        fs::write(bench.path(file), "").unwrap();
    }
    fs::create_dir(bench.path("bin")).unwrap();
    symlink(env!("CARGO_BIN_EXE_listenbench"), bench.path("bin/listenbench")).unwrap();
    bench
}

/// A shell that finds listenbench, and nothing of the user's.
fn shell(bench: &Bench, program: &str, arguments: &[&str]) -> Command {
    let mut shell = bench.command_of(Path::new(program), arguments);
    let path = format!("{}:{}", bench.path("bin").display(), env::var("PATH").unwrap());
    shell.env("PATH", path).env("HOME", bench.folder.path()).env("PS1", "$ ").env_remove("ZDOTDIR");
    shell
}

/// What is typed before the tabulator, and what is on the line, or below it, afterwards.
const COMPLETED: &[(&str, &str)] = &[
    ("listenbench doc", "listenbench doctor"),
    ("listenbench run stall", "listenbench run stalled-worker"),
    ("listenbench run scen", "listenbench run scenario.toml"),
    ("listenbench run --dry", "listenbench run --dry-run"),
    ("listenbench run --set load.conc", "listenbench run --set load.concurrency="),
    ("listenbench trace scen", "listenbench trace scenario.toml"),
    ("listenbench trace x --format access", "listenbench trace x --format access-log"),
    ("listenbench run --set server.strategy=reuseport-h", "listenbench run --set server.strategy=reuseport-hermes"),
    ("listenbench run --strategy shared-epoll,reuseport-h", "listenbench run --strategy shared-epoll,reuseport-hermes"),
    ("listenbench run -s load.arrivals=po", "listenbench run -s load.arrivals=poisson"),
    ("listenbench compare results/o", "listenbench compare results/one"),
    ("listenbench compare a -- results/t", "listenbench compare a -- results/two"),
    ("listenbench compare a b --metric listen_d", "listenbench compare a b --metric listen_drops"),
    ("listenbench compare a b --fail-if 'listen_d", "listenbench compare a b --fail-if 'listen_drops"),
    ("listenbench explain loader-s", "listenbench explain loader-saturated"),
    ("listenbench completions fi", "listenbench completions fish"),
];

/// The same in bash, which leaves quoting to its scripts.
const QUOTED: &[(&str, &str)] = &[
    ("listenbench report odd/a", r"listenbench report odd/a\ b\;c\$d\'e"),
    (r"listenbench report odd/a\ b", r"listenbench report odd/a\ b\;c\$d\'e"),
    ("listenbench report \"odd/a", r#"listenbench report "odd/a b;c\$d'e""#),
    ("listenbench report 'odd/a", r"listenbench report 'odd/a b;c$d'\''e'"),
    (r"listenbench run star\*", r"listenbench run star\*one.toml"),
    ("listenbench compare a b --fail-if listen_drops", r"listenbench compare a b --fail-if listen_drops\ worse\ than"),
];

/// Types each line at a shell's prompt.
fn complete_on_terminal(program: &str, arguments: &[&str], setup: &str, lines: &[(&str, &str)]) {
    let bench = bench_with_records();
    let mut terminal = OnTerminal::start_whole(shell(&bench, program, arguments), 200, 50);
    terminal.type_in(format!("{setup}; echo re''ady\n").as_bytes());
    terminal.wait_for(&["\nready"]);
    for (number, (typed, expected)) in lines.iter().enumerate() {
        // Whatever the shell has shown before is gone with the screen.
        terminal.type_in(format!("clear; echo line-''{number}\n").as_bytes());
        terminal.wait_for(&[&format!("line-{number}\n")]);
        terminal.type_in(format!("{typed}\t").as_bytes());
        terminal.wait_for(&[expected]);
        // Ctrl-U empties the line.
        terminal.type_in(b"\x15");
    }
    terminal.type_in(b"exit\n");
}

fn bash_completes() {
    let setup = "source <(listenbench completions bash)";
    complete_on_terminal("bash", &["--norc", "-i"], setup, COMPLETED);
    complete_on_terminal("bash", &["--norc", "-i"], setup, QUOTED);
}

fn zsh_completes() {
    let setup = "autoload -U compinit; compinit -D -u; source <(listenbench completions zsh)";
    complete_on_terminal("zsh", &["-f", "-i"], setup, COMPLETED);
}

fn fish_completes() {
    let bench = bench_with_records();
    for (typed, expected) in COMPLETED {
        let script = "source (listenbench completions fish | psub); complete -C $argv[1]";
        let output = shell(&bench, "fish", &["--no-config", "-c", script, typed]).output().unwrap();
        assert_code(&output, 0);
        let expected = expected.rsplit([' ', '\'']).next().unwrap();
        let shown = stdout(&output);
        let candidates: Vec<&str> = shown.lines().filter_map(|line| line.split('\t').next()).collect();
        assert!(candidates.contains(&expected), "{typed}: {candidates:?} {}", stderr(&output));
    }
}

/// Scripts of shells that do not ask listenbench know its commands; all others are refused.
fn other_shells_have_scripts_too() {
    let bench = Bench::new("");
    for shell in ["elvish", "powershell"] {
        let output = bench.command(&["completions", shell]).output().unwrap();
        assert_code(&output, 0);
        assert!(stdout(&output).contains("doctor"), "{shell}");
    }
    assert_code(&bench.command(&["completions", "tcsh"]).output().unwrap(), 2);
}

fn pages_are_printed_and_written() {
    let bench = Bench::new("");
    let main = stdout(&bench.command(&["man"]).output().unwrap());
    assert!(main.contains(".TH \"LISTENBENCH\" 1 ") && main.contains("EXIT CODES"), "{main}");
    assert!(!main.contains("listenbench\\-complete("), "a command for scripts alone");
    let output = bench.command(&["man", "--dir", "pages"]).output().unwrap();
    assert_code(&output, 0);
    for command in commands(&bench) {
        let page = fs::read_to_string(bench.path(&format!("pages/man1/listenbench-{command}.1"))).unwrap();
        assert_eq!(page, stdout(&bench.command(&["man", &command]).output().unwrap()), "{command}");
    }
    assert_eq!(fs::read_to_string(bench.path("pages/man1/listenbench.1")).unwrap(), main);
    let scenario = fs::read_to_string(bench.path("pages/man5/listenbench-scenario.5")).unwrap();
    assert_eq!(scenario, stdout(&bench.command(&["man", "scenario"]).output().unwrap()));
    assert!(scenario.contains("\\fBload.rate\\fR") && scenario.contains("reuseport\\-hermes"), "{scenario}");
    // A near match, else all names.
    for (name, said) in
        [("complare", "unknown page \"complare\"; did you mean \"compare\"?"), ("zzz", "; pages: run, ")]
    {
        let output = bench.command(&["man", name]).output().unwrap();
        assert_code(&output, 2);
        assert!(stderr(&output).contains(said), "{}", stderr(&output));
    }
}

/// Whatever formatter is installed takes every page without a warning.
fn formatters_take_every_page() {
    let bench = Bench::new("");
    assert_code(&bench.command(&["man", "--dir", "pages"]).output().unwrap(), 0);
    let pages = ["pages/man1", "pages/man5"].map(|folder| bench.path(folder));
    let pages = pages.iter().flat_map(|folder| fs::read_dir(folder).unwrap()).map(|entry| entry.unwrap().path());
    for page in pages {
        let page = page.to_str().unwrap();
        for (formatter, arguments) in
            [("groff", &["-man", "-ww", "-Tutf8", page][..]), ("mandoc", &["-T", "lint", "-W", "warning", page])]
        {
            if !on_path(formatter) {
                continue;
            }
            let output = Command::new(formatter).args(arguments).output().unwrap();
            let said = if formatter == "mandoc" { stdout(&output) } else { String::new() } + &stderr(&output);
            assert!(said.is_empty(), "{formatter}: {said}");
        }
    }
}
