//! Records that come from others: whatever is in them, nothing is written outside, nothing hangs, memory stays bounded, and no text is
//! taken for anything but a text.

use std::{
    fs::{self, File},
    io::Write,
    os::unix::{fs::symlink, process::ExitStatusExt},
    path::{Path, PathBuf},
    process::{Command, Output},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use flate2::{Compression, write::ZlibEncoder};
use nix::{sys::stat::Mode, unistd::mkfifo};
use serde_json::{Value, json};

use crate::common::{Bench, assert_code, stderr, stdout, words};

tests! {
    nothing [
        no_link_in_a_record_is_written_through,
        no_link_below_out_is_written_through,
        a_link_that_the_user_names_is_followed,
        a_name_leads_nowhere_else,
        what_is_no_regular_file_is_refused_at_once,
        a_log_that_lacks_values_is_said_and_exits_3,
        what_a_file_claims_takes_no_memory,
        numbers_beyond_reason_end_nothing,
        texts_are_texts_in_every_output,
        damage_at_random_ends_in_an_exit_code,
    ]
}

/// What every record has before it is reported on.
const MEASURED: [&str; 4] = ["scenario.toml", "host.json", "trials.jsonl", "histograms.hlog"];

/// Trials of the reference record that are copied.
const TRIALS: usize = 3;

/// A copy of the reference record's measured files in `record`, with its first trials only.
fn record() -> Bench {
    let bench = Bench::new("repetitions = 1\nload.connections = 20\nload.concurrency = 2\n");
    fs::create_dir(bench.path("record")).unwrap();
    for name in MEASURED {
        let reference = Path::new(env!("CARGO_MANIFEST_DIR")).join("results/reference").join(name);
        let text = fs::read_to_string(reference).unwrap();
        let copied = |(number, line): &(usize, &str)| match name {
            "trials.jsonl" => *number < TRIALS,
            "histograms.hlog" => {
                let trial = line.strip_prefix("Tag=t").and_then(|tag| tag.split('.').next()?.parse::<usize>().ok());
                trial.is_none_or(|trial| trial < TRIALS)
            }
            _ => true,
        };
        let copy: String = text.split_inclusive('\n').enumerate().filter(copied).map(|(_, line)| line).collect();
        fs::write(bench.path("record").join(name), copy).unwrap();
    }
    bench
}

fn read(bench: &Bench, name: &str) -> String {
    fs::read_to_string(bench.path("record").join(name)).unwrap()
}

fn write(bench: &Bench, name: &str, contents: impl AsRef<[u8]>) {
    fs::write(bench.path("record").join(name), contents).unwrap();
}

/// The record's trials.
fn trials(bench: &Bench) -> Vec<Value> {
    read(bench, "trials.jsonl").lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn write_trials(bench: &Bench, trials: &[Value]) {
    write(bench, "trials.jsonl", trials.iter().map(|trial| format!("{trial}\n")).collect::<String>());
}

/// Makes a trial another than the reference's, so that the two can be compared.
fn make_distinct(trial: &mut Value) {
    trial["started_at"] = json!("2025-01-31T12:00:00Z");
}

/// Runs a command on the record with 2 GB of address space. It must end by itself, and not in a panic.
fn bounded(bench: &Bench, arguments: &[&str]) -> Output {
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -v 2000000; exec \"$@\"", "sh", env!("CARGO_BIN_EXE_listenbench")]).args(arguments);
    let output = command.current_dir(bench.folder.path()).output().unwrap();
    let ended = matches!(output.status.code(), Some(0..=3)) && output.status.signal().is_none();
    assert!(ended && !stderr(&output).contains("panicked"), "{:?}: {}", output.status, stderr(&output));
    output
}

fn report(bench: &Bench) -> Output {
    bench.command(&["report", "record"]).output().unwrap()
}

/// A folder with a file that must stay the only one and as it is.
struct Victim(PathBuf);

impl Victim {
    fn of(bench: &Bench) -> Self {
        fs::create_dir(bench.path("outside")).unwrap();
        fs::write(bench.path("outside/victim"), "precious").unwrap();
        Self(bench.path("outside"))
    }

    fn file(&self) -> PathBuf {
        self.0.join("victim")
    }

    fn demand_untouched(&self) {
        assert_eq!(fs::read_to_string(self.file()).unwrap(), "precious");
        assert_eq!(fs::read_dir(&self.0).unwrap().count(), 1);
    }
}

fn no_link_in_a_record_is_written_through() {
    let bench = record();
    let victim = Victim::of(&bench);
    assert_code(&report(&bench), 0);
    let written: Vec<PathBuf> =
        fs::read_dir(bench.path("record")).unwrap().map(|entry| entry.unwrap().path()).collect();
    let derived = |path: &&PathBuf| !MEASURED.contains(&path.file_name().unwrap().to_str().unwrap());
    let derived: Vec<&PathBuf> = written.iter().filter(derived).collect();
    assert!(derived.len() >= 7, "{derived:?}");
    for path in derived {
        let kept = bench.path("kept");
        fs::rename(path, &kept).unwrap();
        for target in [victim.file(), victim.0.clone(), victim.0.join("new")] {
            symlink(target, path).unwrap();
            let output = report(&bench);
            assert_code(&output, 1);
            assert!(stderr(&output).contains("a symbolic link"), "{}", stderr(&output));
            let remedy = "; move it away, then run `listenbench report";
            assert!(stderr(&output).contains(remedy), "{}", stderr(&output));
            assert!(stderr(&output).contains(path.file_name().unwrap().to_str().unwrap()), "{}", stderr(&output));
            victim.demand_untouched();
            fs::remove_file(path).unwrap();
        }
        fs::rename(&kept, path).unwrap();
    }
    // What an earlier version wrote through, and any other name it could guess.
    symlink(victim.file(), bench.path("record/summary.new")).unwrap();
    symlink(victim.file(), bench.path("record/.listenbench-0123456789abcdef.new")).unwrap();
    assert_code(&report(&bench), 0);
    victim.demand_untouched();
    // Nor is anything read through one.
    for name in MEASURED {
        let path = bench.path("record").join(name);
        fs::rename(&path, bench.path("kept")).unwrap();
        symlink(bench.path("kept"), &path).unwrap();
        let output = report(&bench);
        assert_code(&output, 1);
        assert!(stderr(&output).contains(&format!("{name}: it is a symbolic link")), "{}", stderr(&output));
        fs::rename(bench.path("kept"), &path).unwrap();
    }
}

fn no_link_below_out_is_written_through() {
    let bench = record();
    let victim = Victim::of(&bench);
    for name in ["one", "two"] {
        fs::copy(bench.path("scenario.toml"), bench.path(&format!("{name}.toml"))).unwrap();
    }
    fs::create_dir(bench.path("out")).unwrap();
    symlink(&victim.0, bench.path("out/two")).unwrap();
    let output = bench.command(&["run", "one.toml", "two.toml", "--out", "out"]).output().unwrap();
    assert_code(&output, 1);
    assert!(stderr(&output).contains("out/two: it is a symbolic link"), "{}", stderr(&output));
    assert!(!bench.path("out/one").exists(), "refused before anything was measured");
    for name in ["trials.jsonl", "report.html", "percentiles"] {
        let folder = bench.path(&format!("new-{name}"));
        fs::create_dir(&folder).unwrap();
        symlink(victim.0.join("new"), folder.join(name)).unwrap();
        let output = bench.command(&["run", "one.toml", "--out", folder.to_str().unwrap()]).output().unwrap();
        assert_code(&output, 2);
        assert!(stderr(&output).contains("already holds a record"), "{}", stderr(&output));
    }
    victim.demand_untouched();
}

fn a_link_that_the_user_names_is_followed() {
    let bench = record();
    fs::create_dir(bench.path("elsewhere")).unwrap();
    symlink(bench.path("elsewhere"), bench.path("out")).unwrap();
    assert_code(&bench.run(&[]), 0);
    assert!(bench.path("elsewhere/report.html").is_file());
    symlink(bench.path("record"), bench.path("linked")).unwrap();
    assert_code(&bench.command(&["report", "linked"]).output().unwrap(), 0);
    assert!(bench.path("record/report.html").is_file());
    symlink(bench.path("elsewhere"), bench.path("pages")).unwrap();
    assert_code(&bench.command(&["man", "--dir", "pages"]).output().unwrap(), 0);
    assert!(bench.path("elsewhere/man1/listenbench.1").is_file());
}

fn a_name_leads_nowhere_else() {
    for name in ["..", ".", "../x", "/tmp/x", "-rf", ".hidden", "a b", "", &"x".repeat(200)] {
        let bench = Bench::new(&format!("name = \"{name}\"\n"));
        let output = bench.command(&["run", "scenario.toml", "--list"]).output().unwrap();
        assert_code(&output, 2);
        assert!(stderr(&output).contains("scenario.toml:1: `name`: must"), "{}", stderr(&output));
    }
    // A file's name is made to fit.
    for file in ["..toml", "--.toml", "-x.toml", "a b\nc.toml", &format!("{}.toml", "x".repeat(200))] {
        let bench = Bench::new("");
        fs::write(bench.path(file), "load.connections = 20\nload.concurrency = 2\nrepetitions = 1\n").unwrap();
        let output = bench.command(&["run", "--", &format!("./{file}")]).output().unwrap();
        assert_code(&output, 0);
        let folders: Vec<_> = fs::read_dir(bench.path("results")).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert_eq!(folders.len(), 1, "{folders:?}");
        // Its scenario can be run again, and its record reported on.
        let again = folders[0].join("scenario.toml");
        assert_code(&bench.command(&["run", again.to_str().unwrap(), "--list"]).output().unwrap(), 0);
        assert_code(&bench.command(&["report", folders[0].to_str().unwrap()]).output().unwrap(), 0);
    }
}

fn what_is_no_regular_file_is_refused_at_once() {
    for name in MEASURED {
        let bench = record();
        let path = bench.path("record").join(name);
        fs::remove_file(&path).unwrap();
        // Whoever opened it to read would wait for a writer.
        mkfifo(&path, Mode::S_IRWXU).unwrap();
        let reference = concat!(env!("CARGO_MANIFEST_DIR"), "/results/reference");
        for command in [&["report", "record"][..], &["compare", "record", reference]] {
            let output = bench.command(command).output().unwrap();
            assert_code(&output, 1);
            let said = format!("{name}: it is not a regular file; put the record's own file in its place");
            assert!(stderr(&output).contains(&said), "{}", stderr(&output));
        }
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        let output = report(&bench);
        assert_code(&output, 1);
        assert!(stderr(&output).contains(&format!("{name}: it is a folder")), "{}{}", stdout(&output), stderr(&output));
    }
}

fn a_log_that_lacks_values_is_said_and_exits_3() {
    let bench = record();
    let log = read(&bench, "histograms.hlog");
    let lines: Vec<&str> = log.split_inclusive('\n').collect();
    let half_of_lines = lines[..lines.len() / 2].concat();
    for (kept, said) in [
        // Cut within a line, as by a full disk.
        (&log[..log.len() / 2], "histograms.hlog: 1 line cannot be read"),
        (&half_of_lines, "histograms.hlog has nothing of trial 2"),
        (&half_of_lines, "values of `t1."),
        ("", "histograms.hlog has nothing of trials 0, 1 and 2"),
    ] {
        write(&bench, "histograms.hlog", kept);
        let output = report(&bench);
        assert_code(&output, 3);
        assert!(words(&stdout(&output)).contains(said), "{}", stdout(&output));
        assert!(read(&bench, "report.html").contains(said));
        assert!(words(&stdout(&output)).contains("the figures of trials.jsonl stand"), "{}", stdout(&output));
    }
    // One line less, of one worker: its values are missing from the trial's sum, too.
    let of_worker = lines.iter().position(|line| line.starts_with("Tag=t1.w0.accept_wait,")).unwrap();
    write(&bench, "histograms.hlog", [&lines[..of_worker], &lines[of_worker + 1..]].concat().concat());
    let output = report(&bench);
    assert_code(&output, 3);
    assert!(stdout(&output).contains("`t1.w0.accept_wait`"), "{}", stdout(&output));
    let reference = concat!(env!("CARGO_MANIFEST_DIR"), "/results/reference");
    let output = bench.command(&["compare", "record", reference]).output().unwrap();
    assert_code(&output, 2);
    assert!(stderr(&output).contains("hold the same trials"), "{}", stderr(&output));
}

/// A line of the log whose histogram is this payload, compressed.
fn line_of(tag: &str, plain: &[u8]) -> String {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(plain).unwrap();
    let deflated = encoder.finish().unwrap();
    let head = [0x1c84_9314_u32.to_be_bytes(), (deflated.len() as u32).to_be_bytes()].concat();
    format!("Tag={tag},0.000,1.000,1.000,{}\n", STANDARD.encode([head, deflated].concat()))
}

/// An uncompressed histogram with such a header.
fn histogram(length: u32, digits: u32, highest: u64, counts: &[u8]) -> Vec<u8> {
    let words = [0x1c84_9313, length, 0, digits].map(u32::to_be_bytes).concat();
    let longs = [1, highest, 1.0_f64.to_bits()].map(u64::to_be_bytes).concat();
    [words, longs, counts.to_vec()].concat()
}

fn what_a_file_claims_takes_no_memory() {
    let bench = record();
    // Files with holes: a terabyte that takes no room on the disk.
    for name in MEASURED {
        let before = read(&bench, name);
        let file = File::options().write(true).open(bench.path("record").join(name)).unwrap();
        file.set_len(1 << 40).unwrap();
        let output = bounded(&bench, &["report", "record"]);
        assert_code(&output, 1);
        assert!(stderr(&output).contains(&format!("{name}: it is larger than")), "{}", stderr(&output));
        write(&bench, name, before);
    }
    let log = read(&bench, "histograms.hlog");
    let minute = 60_000_000_000;
    for bomb in [
        histogram(u32::MAX, 3, minute, &[0; 9]),
        histogram(9, 5, u64::MAX, &[0; 9]),
        histogram(9, u32::MAX, minute, &[0; 9]),
        histogram(9, 3, u64::MAX, &[0; 9]),
        histogram(64 << 20, 3, minute, &vec![0; 64 << 20]),
        // Counts that overflow, and a run of empty buckets that does.
        histogram(18, 3, minute, &[0xfe; 18]),
        histogram(9, 3, minute, &[0xff; 9]),
        Vec::new(),
    ] {
        write(&bench, "histograms.hlog", format!("{log}{}", line_of("t1.w0.accept_wait", &bomb)));
        let output = bounded(&bench, &["report", "record"]);
        assert_code(&output, 3);
        assert!(words(&stdout(&output)).contains("histograms.hlog: 1 line cannot be read"), "{}", stdout(&output));
    }
    write(&bench, "histograms.hlog", log);
    let lines = read(&bench, "trials.jsonl");
    for (more, said) in [
        (format!("{{\"schema\":2,\"cell\":{{\"x\":{}", "[".repeat(10_000_000)), "recursion limit exceeded"),
        ("[".repeat(10_000_000), "left out"),
        (format!("\"{}", "x".repeat(70 << 20)), "it is longer than 67108864 bytes"),
        (format!("{{\"schema\":2,\"workers\":[{}", "{".repeat(100_000)), "left out"),
    ] {
        write(&bench, "trials.jsonl", format!("{lines}{more}\n"));
        let output = bounded(&bench, &["report", "record"]);
        assert_code(&output, 3);
        assert!(words(&stdout(&output)).contains(said), "{}", stdout(&output));
    }
    write(&bench, "trials.jsonl", format!("{lines}{}\n", "{".repeat((1 << 23) + 1)));
    let output = bounded(&bench, &["report", "record"]);
    assert_code(&output, 1);
    let said = "trials.jsonl, line 4: more than 8388608 JSON objects, which is beyond what is read of a record";
    assert!(stderr(&output).contains(said), "{}", stderr(&output));
}

fn numbers_beyond_reason_end_nothing() {
    let bench = record();
    let sound = trials(&bench);
    let largest = json!(u64::MAX);
    let every_number = |change: &dyn Fn(&Value) -> Value| -> Vec<Value> {
        fn within(value: &mut Value, change: &dyn Fn(&Value) -> Value) {
            match value {
                Value::Number(_) => *value = change(value),
                Value::Array(all) => all.iter_mut().for_each(|one| within(one, change)),
                Value::Object(all) => {
                    all.iter_mut().filter(|(key, _)| *key != "schema").for_each(|(_, one)| within(one, change));
                }
                _ => {}
            }
        }
        let mut trials = sound.clone();
        trials.iter_mut().for_each(|trial| within(trial, change));
        trials
    };
    for changed in [
        every_number(&|number| if number.is_u64() { largest.clone() } else { number.clone() }),
        every_number(&|number| if number.is_f64() { json!(1e308) } else { number.clone() }),
        every_number(&|number| if number.is_f64() { json!(-1e308) } else { number.clone() }),
        every_number(&|number| if number.is_u64() { json!(0) } else { json!(0.0) }),
        every_number(&|_| json!(-1)),
        every_number(&|_| json!("NaN")),
    ] {
        write_trials(&bench, &changed);
        bounded(&bench, &["report", "record"]);
    }
    for (path, value, said) in [
        ("/trial", largest.clone(), "`trial`: 18446744073709551615 is beyond the 1048576 trials"),
        ("/trial", json!(1_000_000), "trials.jsonl has no line for trials 2, 3, 4, 5, 6, 7 and"),
        ("/connections/attempted", largest.clone(), "add up to more than 4611686018427387904"),
        ("/workers/0/pid", json!(1e308), "`workers[0].pid`: invalid type: floating point"),
        ("/workers/0/accepted", json!("NaN"), "left out"),
        ("/seed", json!(-1), "`seed`: invalid value: integer `-1`"),
    ] {
        let mut changed = sound.clone();
        *changed[2].pointer_mut(path).unwrap() = value;
        write_trials(&bench, &changed);
        let output = bounded(&bench, &["report", "record"]);
        assert_code(&output, 3);
        assert!(words(&stdout(&output)).contains(said), "{said}: {}", words(&stdout(&output)));
    }
    let mut changed = sound.clone();
    changed[2]["receipts"] = json!({"workers": [{"worker": 1_000_000_000, "connections": 1}]});
    write_trials(&bench, &changed);
    assert!(words(&stdout(&bounded(&bench, &["report", "record"]))).contains("1000000000 is beyond the 65536 members"));
    changed[2] = sound[2].clone();
    changed[2]["workers"][0]["member"] = json!(1_u64 << 53);
    write_trials(&bench, &changed);
    let said = "`workers`: 9007199254740992 is beyond the 65536 members";
    assert!(words(&stdout(&bounded(&bench, &["report", "record"]))).contains(said));
    changed[2]["workers"][0]["member"] = json!(65_535);
    write_trials(&bench, &changed);
    bounded(&bench, &["report", "record"]);
    changed[2] = sound[2].clone();
    // A key that stands there twice.
    let twice = changed[2].to_string().replacen("{", "{\"trial\":2,", 1);
    write(&bench, "trials.jsonl", format!("{}\n{}\n{twice}\n", changed[0], changed[1]));
    assert!(words(&stdout(&bounded(&bench, &["report", "record"]))).contains("duplicate field `trial`"));
}

/// What terminals, spreadsheets, Markdown, HTML and OpenMetrics take for more than text.
const NASTY: &str = "=1+1\u{1b}[2J\u{9b}31m\u{202e}|`x`[y](z)<script>alert(1)</script>\"&lt;\r\n# h\\";

fn demand_harmless(what: &str, text: &str) {
    let harmful = |c: char| (c.is_control() && c != '\n' && c != '\t') || c == '\u{202e}';
    assert!(!text.contains(harmful), "{what}: {:?}", text.lines().find(|line| line.contains(harmful)));
}

fn texts_are_texts_in_every_output() {
    let bench = record();
    let mut changed = trials(&bench);
    for trial in &mut changed {
        trial["scenario"] = json!(NASTY);
        trial["cell"]["strategy"] = json!(NASTY);
        trial["workers"][0]["comm"] = json!(NASTY);
        trial["subject"]["version"] = json!(NASTY);
        trial["subject"]["name"] = json!(NASTY);
        trial["verdicts"] = json!([{"name": "cpu-steal", "detail": NASTY, "invalidates": false}]);
    }
    changed[2]["outcome"] = json!("failed");
    changed[2]["error"] = json!(NASTY);
    write_trials(&bench, &changed);
    let mut host: Value = serde_json::from_str(&read(&bench, "host.json")).unwrap();
    for key in ["kernel", "host", "cpu", "revision"] {
        host[key] = json!(NASTY);
    }
    write(&bench, "host.json", host.to_string());
    let question = "question = \"\\u001b[2J<script>alert(1)</script>\\u202E [y](z)\"\n";
    let scenario: String = read(&bench, "scenario.toml")
        .lines()
        .map(|line| if line.starts_with("question") { question.to_owned() } else { format!("{line}\n") })
        .collect();
    write(&bench, "scenario.toml", scenario);
    let output = bench.command(&["report", "record"]).output().unwrap();
    assert!(matches!(output.status.code(), Some(0 | 3)), "{}", stderr(&output));
    demand_harmless("standard output", &stdout(&output));
    demand_harmless("standard error", &stderr(&output));
    for name in ["summary.json", "summary.md", "cells.csv", "trials.csv", "metrics.txt", "report.html"] {
        demand_harmless(name, &read(&bench, name));
    }
    let page = read(&bench, "report.html");
    assert!(page.contains("&lt;script&gt;alert(1)") && !page.contains("<script>alert"));
    let markdown = read(&bench, "summary.md");
    assert!(
        markdown.contains("\\[y\\](z)") && !markdown.contains("[y](z)") && !markdown.contains(" <script"),
        "{markdown}"
    );
    assert!(!markdown.lines().any(|line| line.starts_with("# h")), "{markdown}");
    for name in ["cells.csv", "trials.csv"] {
        let table = read(&bench, name);
        assert!(table.contains("'=1+1") && !table.contains(",=1+1") && !table.contains("\"=1+1"), "{table}");
        assert!(!table.starts_with("=1+1") && !table.contains("\n=1+1"), "{table}");
    }
    for line in read(&bench, "metrics.txt").lines().filter(|line| line.contains("alert(1)")) {
        // One sample a line, its label closed: the quotation mark and the line break in it are escaped.
        assert!(line.starts_with("listenbench_") && line.contains("\\\"&lt;") && line.contains("\\n# h"), "{line}");
    }
    for entry in fs::read_dir(bench.path("record/percentiles")).unwrap() {
        demand_harmless("a file's name", entry.unwrap().file_name().to_str().unwrap());
    }
    // In a message, and as JSON.
    let mut changed = trials(&bench);
    changed.iter_mut().for_each(make_distinct);
    changed[1]["outcome"] = json!(NASTY);
    write_trials(&bench, &changed);
    demand_harmless("the cause of a flaw", &stdout(&bounded(&bench, &["report", "record"])));
    let reference = concat!(env!("CARGO_MANIFEST_DIR"), "/results/reference");
    for style in [&["--json"][..], &["--markdown"], &[]] {
        let output = bounded(&bench, &[&["compare", reference, "record"], style].concat());
        demand_harmless("a comparison", &stdout(&output));
        demand_harmless("a comparison", &stderr(&output));
    }
    let name = "a\u{1b}[2J\u{9b}b";
    for arguments in [&["report", name][..], &["run", name], &["compare", name, "record"]] {
        let output = bounded(&bench, arguments);
        demand_harmless("an error", &stderr(&output));
        assert!(stderr(&output).contains("a\u{fffd}[2J\u{fffd}b"), "{}", stderr(&output));
    }
}

/// A sequence of numbers that looks random and is the same every time (splitmix64).
struct Dice(u64);

impl Dice {
    fn below(&mut self, most: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % most as u64) as usize
    }
}

/// Changes a value at random, or something in it.
fn damage(value: &mut Value, dice: &mut Dice) {
    let inside = dice.below(8) > 0;
    match value {
        Value::Object(all) if inside && !all.is_empty() => {
            let place = dice.below(all.len());
            let key = all.keys().nth(place).unwrap().clone();
            if dice.below(12) == 0 {
                all.remove(&key);
            } else {
                damage(&mut all[&key], dice);
            }
        }
        Value::Array(all) if inside && !all.is_empty() => {
            let place = dice.below(all.len());
            match dice.below(6) {
                0 => drop(all.remove(place)),
                1 => all.truncate(place),
                2 => all.extend(all.clone()),
                _ => damage(&mut all[place], dice),
            }
        }
        value => {
            let other = [
                json!(0),
                json!(-1),
                json!(1_u64 << 32),
                json!(1_u64 << 53),
                json!(1_u64 << 61),
                json!(u64::MAX),
                json!(1e308),
                json!(-1e308),
                json!(5e-324),
                json!(null),
                json!(true),
                json!(""),
                json!(NASTY),
                json!([]),
                json!({}),
                json!([[]]),
            ];
            *value = other[dice.below(other.len())].clone();
        }
    }
}

fn damage_at_random_ends_in_an_exit_code() {
    let bench = record();
    let sound: Vec<String> = MEASURED.iter().map(|name| read(&bench, name)).collect();
    fs::create_dir(bench.path("base")).unwrap();
    MEASURED.iter().zip(&sound).for_each(|(name, text)| fs::write(bench.path("base").join(name), text).unwrap());
    let mut dice = Dice(1);
    for round in 0..40 {
        MEASURED.iter().zip(&sound).for_each(|(name, text)| write(&bench, name, text));
        let mut changed = trials(&bench);
        changed.iter_mut().for_each(make_distinct);
        for _ in 0..=dice.below(3) {
            let place = dice.below(changed.len());
            damage(&mut changed[place], &mut dice);
        }
        write_trials(&bench, &changed);
        if round % 3 == 0 {
            let name = MEASURED[dice.below(MEASURED.len())];
            let mut bytes = read(&bench, name).into_bytes();
            let (from, length) = (dice.below(bytes.len()), dice.below(2_000));
            match dice.below(3) {
                0 => bytes.truncate(from),
                1 => drop(bytes.drain(from..bytes.len().min(from + length))),
                _ => bytes[from] = dice.below(256) as u8,
            }
            write(&bench, name, bytes);
        }
        for arguments in [&["report", "record"][..], &["compare", "base", "record", "--metric", "response_p99"]] {
            let output = bounded(&bench, arguments);
            demand_harmless("standard output", &stdout(&output));
            demand_harmless("standard error", &stderr(&output));
        }
    }
}
