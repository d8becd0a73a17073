//! What a run shows while it goes on, on a terminal and elsewhere.

use std::{
    fs::{self, File},
    io::{Read, Write},
    os::fd::OwnedFd,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex},
    thread,
};

use crate::common::{Bench, assert_code, stderr, stdout, verdicts, wait_until};
use nix::{
    pty::{Winsize, openpty},
    sys::{
        signal::{Signal, kill},
        termios::{Termios, tcgetattr},
    },
    unistd::Pid,
};

tests! {
    nothing [
        the_screen_shows_the_run_and_q_keeps_what_has_ended,
        a_signal_gives_the_terminal_back,
        a_run_on_the_screen_ends_by_itself,
        an_error_gives_the_terminal_back,
        a_small_terminal_is_told_what_the_view_needs,
        no_thread_runs_while_the_screen_is_up,
        plain_progress_is_lines_on_a_terminal_too,
        quiet_prints_the_record_s_folder_alone,
    ]
}

/// Enough trials that a run is under way whenever a test looks.
const LONG: &str =
    "repetitions = 200\n[load]\nconcurrency = 4\nclose_how = \"rst\"\nduration = \"200ms\"\n[server]\nworkers = 1";
const SHORT: &str =
    "name = \"short\"\nrepetitions = 2\n[load]\nconcurrency = 4\nclose_how = \"rst\"\nconnections = 300";

/// Taking the alternate screen, and leaving it.
const TAKEN: &str = "\u{1b}[?1049h";
const LEFT: &str = "\u{1b}[?1049l";

/// A program whose standard input and standard error are a pseudo-terminal.
pub struct OnTerminal {
    child: Child,
    master: File,
    slave: OwnedFd,
    before: Termios,
    /// What a terminal makes of what was written to it.
    shown: Arc<Mutex<vt100::Parser>>,
    /// All bytes that were written.
    bytes: Arc<Mutex<Vec<u8>>>,
}

impl OnTerminal {
    fn start(mut command: Command, columns: u16, rows: u16) -> Self {
        command.env("TERM", "xterm-256color");
        Self::start_as_is(command, columns, rows)
    }

    fn start_as_is(command: Command, columns: u16, rows: u16) -> Self {
        Self::spawn(command, columns, rows, false)
    }

    /// With standard output on the terminal, too.
    pub fn start_whole(mut command: Command, columns: u16, rows: u16) -> Self {
        command.env("TERM", "xterm-256color");
        Self::spawn(command, columns, rows, true)
    }

    fn spawn(mut command: Command, columns: u16, rows: u16, whole: bool) -> Self {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        let pair = openpty(&size, None).unwrap();
        let before = tcgetattr(&pair.slave).unwrap();
        let end = || Stdio::from(pair.slave.try_clone().unwrap());
        let output = if whole { end() } else { Stdio::piped() };
        let child = command.stdin(end()).stderr(end()).stdout(output).spawn().unwrap();
        let master = File::from(pair.master);
        let shown =
            Arc::new(Mutex::new(vt100::Parser::new(rows.try_into().unwrap(), columns.try_into().unwrap(), 100)));
        let bytes: Arc<Mutex<Vec<u8>>> = Arc::default();
        let (mut reading, screen, all) = (master.try_clone().unwrap(), Arc::clone(&shown), Arc::clone(&bytes));
        thread::spawn(move || {
            let mut chunk = [0; 4_096];
            while let Ok(length @ 1..) = reading.read(&mut chunk) {
                screen.lock().unwrap().process(&chunk[..length]);
                all.lock().unwrap().extend_from_slice(&chunk[..length]);
            }
        });
        Self { child, master, slave: pair.slave, before, shown, bytes }
    }

    pub fn shown(&self) -> String {
        self.shown.lock().unwrap().screen().contents()
    }

    pub fn wait_for(&self, texts: &[&str]) {
        for text in texts {
            wait_until(&format!("{text:?} on the terminal"), || self.shown().contains(text));
        }
    }

    pub fn written(&self) -> String {
        String::from_utf8_lossy(&self.bytes.lock().unwrap()).into_owned()
    }

    pub fn type_in(&mut self, keys: &[u8]) {
        self.master.write_all(keys).unwrap();
    }

    /// Waits for the end, and demands that the terminal is as it was.
    pub fn end(&mut self) -> ExitStatus {
        let status = self.child.wait().unwrap();
        assert_eq!(tcgetattr(&self.slave).unwrap(), self.before, "the terminal's modes");
        status
    }

    /// The screen was taken once and given back once, and what was on the terminal before is there again.
    fn demand_screen_given_back(&self) {
        self.demand_taken_once();
        let outline = self.shown();
        assert!(outline.contains("1 cell × "), "{outline}");
    }

    /// The screen was taken once and given back once.
    pub fn demand_taken_once(&self) {
        wait_until("the screen to be given back", || self.written().contains(LEFT));
        assert_eq!((self.written().matches(TAKEN).count(), self.written().matches(LEFT).count()), (1, 1));
        wait_until("the cursor to be shown", || !self.shown.lock().unwrap().screen().hide_cursor());
    }
}

fn run(bench: &Bench, more: &[&str]) -> Command {
    let mut arguments = vec!["run", "scenario.toml", "--out", "out"];
    arguments.extend(more);
    bench.command(&arguments)
}

fn wait_for_a_trial(bench: &Bench) {
    wait_until("a trial to end", || {
        fs::read_to_string(bench.path("out/trials.jsonl")).is_ok_and(|text| text.contains('\n'))
    });
}

fn the_screen_shows_the_run_and_q_keeps_what_has_ended() {
    // Ctrl-C is a key like any other on the screen, and means the same.
    for key in [b"q", b"\x03"] {
        let bench = Bench::new(LONG);
        let mut terminal = OnTerminal::start(run(&bench, &[]), 80, 24);
        // Blanks are not written, so that only words can be looked for.
        terminal.wait_for(&[
            "listenbench  scenario",
            "accepts/s",
            "worker",
            "share",
            "p99",
            "q quits and keeps finished trials",
        ]);
        terminal.wait_for(&["measuring", "100.0 %"]);
        wait_for_a_trial(&bench);
        terminal.type_in(key);
        assert_eq!(terminal.end().code(), Some(130));
        terminal.demand_screen_given_back();
        let trials = bench.read_trials();
        assert!(trials.iter().any(|trial| trial["outcome"] != "failed"), "{trials:?}");
        assert!(trials.len() < 200);
        let last = trials.last().unwrap();
        // A trial keeps what it has measured, if it has begun to.
        let interrupted = last["error"] == "interrupted" || verdicts(last).contains(&"interrupted");
        assert!(last["outcome"] == "valid" || interrupted, "{last}");
        assert!(bench.path("out/summary.json").exists());
        bench.demand_nothing_left();
        // What went wrong remains when the screen has gone.
        if interrupted {
            terminal.wait_for(&["interrupted"]);
        }
    }
}

fn a_signal_gives_the_terminal_back() {
    let bench = Bench::new(LONG);
    let mut terminal = OnTerminal::start(run(&bench, &[]), 80, 24);
    terminal.wait_for(&["measuring"]);
    wait_for_a_trial(&bench);
    kill(Pid::from_raw(terminal.child.id().cast_signed()), Signal::SIGTERM).unwrap();
    assert_eq!(terminal.end().code(), Some(130));
    terminal.demand_screen_given_back();
    bench.demand_nothing_left();
}

fn a_run_on_the_screen_ends_by_itself() {
    let bench = Bench::new(SHORT);
    let mut terminal = OnTerminal::start(run(&bench, &[]), 120, 40);
    assert_eq!(terminal.end().code(), Some(0));
    terminal.demand_screen_given_back();
    assert_eq!(bench.read_trials().len(), 2);
}

fn an_error_gives_the_terminal_back() {
    let bench = Bench::new(LONG);
    let mut terminal = OnTerminal::start(run(&bench, &[]), 80, 24);
    terminal.wait_for(&["measuring"]);
    wait_for_a_trial(&bench);
    // Summing the record up fails.
    fs::remove_file(bench.path("out/host.json")).unwrap();
    terminal.type_in(b"q");
    assert_eq!(terminal.end().code(), Some(1));
    terminal.demand_screen_given_back();
    terminal.wait_for(&["host.json"]);
}

fn a_small_terminal_is_told_what_the_view_needs() {
    let bench = Bench::new(LONG);
    let mut terminal = OnTerminal::start(run(&bench, &[]), 60, 10);
    terminal.wait_for(&["needs 80×24", "is 60×10"]);
    wait_for_a_trial(&bench);
    terminal.type_in(b"q");
    assert_eq!(terminal.end().code(), Some(130));
    terminal.demand_screen_given_back();
}

fn no_thread_runs_while_the_screen_is_up() {
    let bench = Bench::new(LONG);
    let mut terminal = OnTerminal::start(run(&bench, &[]), 80, 24);
    let threads = |pid: u32| fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count);
    terminal.wait_for(&["measuring"]);
    for _ in 0..20 {
        assert_eq!(threads(terminal.child.id()), 1);
        for pid in bench.processes() {
            assert!(threads(pid) <= 1, "process {pid} has several threads");
        }
    }
    wait_for_a_trial(&bench);
    assert_eq!(threads(terminal.child.id()), 1);
    terminal.type_in(b"q");
    assert_eq!(terminal.end().code(), Some(130));
}

fn plain_progress_is_lines_on_a_terminal_too() {
    for (term, arguments) in [("xterm", &["--progress", "plain"][..]), ("dumb", &[])] {
        let bench = Bench::new(SHORT);
        let mut command = run(&bench, arguments);
        command.env("TERM", term);
        let mut terminal = OnTerminal::start_as_is(command, 80, 24);
        assert_eq!(terminal.end().code(), Some(0));
        terminal.wait_for(&["1 of 2", "trial 0, repetition 0: (one cell)", "2 of 2", "trial 1, repetition 1"]);
        assert!(!terminal.written().contains('\u{1b}'), "{}", terminal.shown());
    }
}

fn quiet_prints_the_record_s_folder_alone() {
    let bench = Bench::new(SHORT);
    fs::write(bench.path("other.toml"), SHORT.replace("short", "other")).unwrap();
    let output = bench.command(&["run", "scenario.toml", "--quiet"]).output().unwrap();
    assert_code(&output, 0);
    assert_eq!(stderr(&output), "");
    let folder = stdout(&output);
    assert!(folder.starts_with("results/") && folder.ends_with("-short\n"), "{folder:?}");
    assert!(bench.path(folder.trim()).join("summary.json").exists());

    let output = bench.command(&["run", "scenario.toml", "other.toml", "--quiet", "--out", "both"]).output().unwrap();
    assert_code(&output, 0);
    assert_eq!((stdout(&output).as_str(), stderr(&output).as_str()), ("both/short\nboth/other\n", ""));

    // Errors are still said.
    let output = bench.command(&["run", "scenario.toml", "--quiet", "--out", "both/short"]).output().unwrap();
    assert_code(&output, 2);
    assert!(stderr(&output).contains("both/short") && stdout(&output).is_empty());
    let output = bench.command(&["run", "scenario.toml", "--quiet", "--progress", "plain"]).output().unwrap();
    assert_code(&output, 2);
}
