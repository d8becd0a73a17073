//! Help, completions and manual pages.

use std::{fs, process::Command};

use crate::common::{Bench, assert_code, stderr, stdout};

tests! {
    nothing [
        every_command_s_help_has_examples,
        bash_completes_commands_options_and_scenarios,
        pages_are_printed_and_written,
    ]
}

/// The commands, as the help lists them.
fn commands(bench: &Bench) -> Vec<String> {
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

/// Fills in what bash would, were these the words of the command line so far.
fn complete(bench: &Bench, words: &[&str]) -> Vec<String> {
    let quoted: Vec<String> = words.iter().map(|word| format!("'{word}'")).collect();
    let script = format!(
        "source <('{}' completions bash)\n\
         COMP_WORDS=({}) COMP_CWORD={}\n\
         _listenbench listenbench '{}' '{}'\n\
         printf '%s\\n' \"${{COMPREPLY[@]}}\"",
        env!("CARGO_BIN_EXE_listenbench"),
        quoted.join(" "),
        words.len() - 1,
        words[words.len() - 1],
        words[words.len() - 2],
    );
    let output =
        Command::new("bash").args(["--norc", "-c", &script]).current_dir(bench.folder.path()).output().unwrap();
    assert!(output.stderr.is_empty(), "{}", stderr(&output));
    stdout(&output).lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

fn bash_completes_commands_options_and_scenarios() {
    let bench = Bench::new("");
    assert_eq!(complete(&bench, &["listenbench", "doc"]), ["doctor"]);
    assert_eq!(complete(&bench, &["listenbench", "run", "stall"]), ["stalled-worker"]);
    assert_eq!(complete(&bench, &["listenbench", "run", "--li"]), ["--list"]);
    assert_eq!(complete(&bench, &["listenbench", "completions", "fi"]), ["fish"]);
    // Then the script has nothing to say, and bash offers the files.
    assert_eq!(complete(&bench, &["listenbench", "run", "my-own"]), Vec::<String>::new());
    for shell in ["zsh", "fish", "elvish", "powershell"] {
        let output = bench.command(&["completions", shell]).output().unwrap();
        assert_code(&output, 0);
        assert!(stdout(&output).contains("doctor"), "{shell}");
    }
    assert_code(&bench.command(&["completions", "tcsh"]).output().unwrap(), 2);
}

fn pages_are_printed_and_written() {
    let bench = Bench::new("");
    let main = stdout(&bench.command(&["man"]).output().unwrap());
    assert!(main.contains(".TH listenbench 1") && main.contains("EXIT CODES"), "{main}");
    let output = bench.command(&["man", "--dir", "pages/man1"]).output().unwrap();
    assert_code(&output, 0);
    for command in commands(&bench) {
        let page = fs::read_to_string(bench.path(&format!("pages/man1/listenbench-{command}.1"))).unwrap();
        assert_eq!(page, stdout(&bench.command(&["man", &command]).output().unwrap()), "{command}");
    }
    assert_eq!(fs::read_to_string(bench.path("pages/man1/listenbench.1")).unwrap(), main);
    let output = bench.command(&["man", "nonsense"]).output().unwrap();
    assert_code(&output, 2);
    assert!(stderr(&output).contains("doctor"), "{}", stderr(&output));
}
