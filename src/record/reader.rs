//! Reads a record back. Also the names of its files.

use std::{
    borrow::Cow,
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    fs::File,
    io,
    path::PathBuf,
};

use nix::errno::Errno;
use serde::Deserialize;
use serde_json::Value as Json;
use thiserror::Error;

use super::{
    LoadRow, SCHEMA, TrialRecord, bounds,
    contents::Contents,
    lines::{Line, Lines, read_bounded},
};
use crate::{
    format::{harmless, is_harmful},
    json,
    sys::{
        folder::{Folder, Refused},
        parallel,
    },
};

/// The effective scenario.
pub const SCENARIO: &str = "scenario.toml";
/// The machine it ran on.
pub const HOST: &str = "host.json";
/// The trials, one per line.
pub const TRIALS: &str = "trials.jsonl";
/// Every histogram.
pub const HISTOGRAMS: &str = "histograms.hlog";
/// The folder of what servers printed, a file per trial of a server that the trial started.
pub const OUTPUT: &str = "server-output";
/// The files that every run writes; those of the report are derived from these.
pub const FILES: [&str; 4] = [SCENARIO, HOST, TRIALS, HISTOGRAMS];

/// Characters of a population's name in an error's message.
const LONGEST_NAME: usize = 100;

/// Why a folder cannot be read as a record.
#[derive(Debug, Error)]
pub enum ReadError {
    /// A file cannot be read.
    #[error("{}: {error}{}", path.display(), unread(error))]
    File { path: PathBuf, error: io::Error },
    /// A file does not hold what it should. Lines count from 1.
    #[error("{}, line {line}: {error}", path.display())]
    Content { path: PathBuf, line: usize, error: serde_json::Error },
    /// A file has more of something than is read.
    #[error("{}, line {line}: more than {most}, which is beyond what is read of a record", path.display())]
    TooMuch { path: PathBuf, line: usize, most: String },
    /// The record was written by another version of the tool.
    #[error(
        "{}, line {line}: schema {schema} cannot be read, because this version reads only schema {SCHEMA}: \
         repeat the run with its `scenario.toml`, or read it with the version named in its `host.json`",
        path.display()
    )]
    Schema { path: PathBuf, line: usize, schema: u32 },
}

/// What to do about a file that cannot be read, where that is known.
fn unread(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotFound => "; is this the folder of a run?",
        _ if Refused::is(error) => "; put the record's own file in its place",
        _ => "",
    }
}

/// The contents of a record's folder.
#[derive(Debug, Default)]
pub struct RawRecord {
    /// `scenario.toml`, not parsed.
    pub scenario: String,
    /// `host.json`.
    pub host: Json,
    /// `trials.jsonl`, in order of execution.
    pub trials: Vec<TrialRecord>,
    /// What of `trials.jsonl` is missing or cannot be read, and was left out: a clause each.
    pub flaws: Vec<String>,
}

impl RawRecord {
    /// Reads a record's folder. Leaves out lines of `trials.jsonl` that cannot be read, like a last one that is incomplete because the
    /// run was killed.
    pub fn read(folder: &Folder) -> Result<Self, ReadError> {
        let host = text(folder, HOST)?;
        let host =
            serde_json::from_str(&harmless_texts(&host)).map_err(|error| content(folder, HOST, error.line(), error))?;
        // Decides for a record without trials.
        let versioned = Versioned::deserialize(&host).map_err(|error| content(folder, HOST, 1, error))?;
        versioned.check(folder, HOST, 1)?;
        let scenario = text(folder, SCENARIO)?;
        if scenario.trim().is_empty() {
            // One that says nothing is a scenario, too, but none that a run has written.
            return Err(unreadable(
                folder,
                SCENARIO,
                io::Error::other("it is empty; put the record's own file in its place"),
            ));
        }
        let mut record = Self { scenario, host, ..Self::default() };
        match file(folder, TRIALS)? {
            Some(file) => record.read_trials(folder, file)?,
            None => record.flaws.push(format!("{TRIALS} is missing")),
        }
        Ok(record)
    }

    /// Lines are read as bytes: one that is not text does not keep the others from being read. What a line by itself says, several
    /// threads find out; whether it goes with those before it, this one does.
    fn read_trials(&mut self, folder: &Folder, file: File) -> Result<(), ReadError> {
        let unreadable = |error| unreadable(folder, TRIALS, error);
        let mut lines = Lines::of(file, bounds::TRIALS_BYTES, bounds::TRIAL_BYTES).map_err(unreadable)?;
        let mut all = Contents::default();
        // The number of lines, the first of them, and what is wrong with it.
        let mut left_out: Option<(usize, usize, String)> = None;
        let mut known = HashSet::new();
        loop {
            let batch = lines.batch().map_err(unreadable)?;
            if batch.is_empty() {
                break;
            }
            let read = parallel::map(&batch, || (), |(), (_, line)| read(line));
            for ((number, line), read) in batch.iter().zip(read) {
                let Some((contents, trial)) = read else {
                    self.flaws.push(format!("the last line of {TRIALS} was cut off and is left out"));
                    continue;
                };
                // Of a trial that cannot be read, the version comes first: another one has other keys, and other limits.
                let versioned = || match serde_json::from_slice::<Versioned>(line.text()) {
                    Ok(versioned) => versioned.check(folder, TRIALS, *number),
                    Err(_) => Ok(()),
                };
                let with_this = all.and(contents);
                let excess = if *number > bounds::TRIALS {
                    Some(format!("{} lines", bounds::TRIALS))
                } else {
                    with_this.excess()
                };
                if let Some(most) = excess {
                    versioned()?;
                    return Err(ReadError::TooMuch { path: folder.path().join(TRIALS), line: *number, most });
                }
                let trial = trial.and_then(|trial| {
                    if known.contains(&trial.trial) {
                        return Err(format!("`trial`: {} has a line before it", trial.trial));
                    }
                    let mut with_this = with_this;
                    with_this.sum -= trial.never_added();
                    if with_this.sum > bounds::SUM {
                        // Those after it may still be added to those before.
                        return Err(too_large());
                    }
                    all = with_this;
                    known.insert(trial.trial);
                    Ok(trial)
                });
                if !trial.as_ref().is_ok_and(|trial| trial.schema == SCHEMA) {
                    versioned()?;
                }
                match (trial, &mut left_out) {
                    (Ok(trial), _) => self.trials.push(trial),
                    (Err(_), Some((count, ..))) => *count += 1,
                    (Err(cause), None) => left_out = Some((1, *number, cause)),
                }
            }
        }
        self.flaws.extend(one_index_each(&mut self.trials));
        match left_out {
            None => {}
            Some((1, number, cause)) => {
                self.flaws.push(format!("line {number} of {TRIALS} cannot be read and is left out ({cause})"));
            }
            Some((count, number, cause)) => self.flaws.push(format!(
                "{count} lines of {TRIALS} cannot be read and are left out, the first of them line {number} ({cause})"
            )),
        }
        Ok(())
    }
}

/// Gives the trials of a cell one index: the most frequent, if they have several, which is a flaw.
fn one_index_each(trials: &mut [TrialRecord]) -> Option<String> {
    let mut indices: HashMap<String, BTreeMap<usize, usize>> = HashMap::new();
    let name = |trial: &TrialRecord| Json::Object(trial.cell.clone()).to_string();
    for trial in trials.iter() {
        *indices.entry(name(trial)).or_default().entry(trial.cell_index).or_default() += 1;
    }
    indices.retain(|_, indices| indices.len() > 1);
    let (cell, of_it) = indices.iter().min()?;
    let several: Vec<String> = of_it.keys().map(usize::to_string).collect();
    let flaw =
        format!("trials of one cell in {TRIALS}, {cell}, have more than one `cell_index`: {}", several.join(", "));
    for trial in trials {
        let most = indices
            .get(&name(trial))
            .and_then(|of_it| of_it.iter().max_by_key(|(index, count)| (**count, Reverse(**index))));
        trial.cell_index = most.map_or(trial.cell_index, |(index, _)| *index);
    }
    Some(flaw)
}

/// What a line holds, and the trial, or what is wrong with it; `None` of one that was cut off.
fn read(line: &Line) -> Option<(Contents, Result<TrialRecord, String>)> {
    let text = match line {
        Line::Whole(text) => text,
        Line::CutOff => return None,
        Line::TooLong => {
            return Some((Contents::default(), Err(format!("it is longer than {} bytes", bounds::TRIAL_BYTES))));
        }
    };
    let contents = Contents::of(text);
    // Nothing is allocated for what is refused.
    let trial = contents.excess().map_or_else(|| parse(text), Err);
    Some((contents, trial))
}

/// Reads a trial from its line, or says what is wrong with which key.
fn parse(line: &[u8]) -> Result<TrialRecord, String> {
    let line = std::str::from_utf8(line).map_err(|_| "it is not text (UTF-8)".to_owned())?;
    let line = harmless_texts(line);
    let trial: TrialRecord = json::read(line.as_bytes()).map_err(|error| error.to_string())?;
    if trial.trial >= bounds::TRIALS {
        return Err(format!("`trial`: {} is beyond the {} trials that are read", trial.trial, bounds::TRIALS));
    }
    if let Some((rate, _)) = trial.rates.named().into_iter().find(|(_, rate)| rate.is_some_and(|rate| rate < 0.0)) {
        return Err(format!("`rates.{rate}` is negative"));
    }
    if trial.loads.len() > bounds::POPULATIONS {
        return Err(format!("`loads`: more than the {} populations that are read", bounds::POPULATIONS));
    }
    if let Some(load) = trial.loads.iter().find(|load| !LoadRow::may_be_called(&load.name)) {
        let name: String = load.name.chars().take(LONGEST_NAME).collect();
        return Err(format!("`loads`: \"{name}\" is not the name of a population"));
    }
    if trial.hosts.len() > bounds::HOSTS {
        return Err(format!("`hosts`: more than the {} hosts that are read", bounds::HOSTS));
    }
    let ranks = || trial.hosts.iter().map(|row| row.rank);
    let on_hosts = trial.loaders.iter().filter_map(|row| row.host).max();
    for (key, highest) in [("hosts", ranks().max()), ("loaders", on_hosts)] {
        if let Some(rank) = highest.filter(|rank| *rank >= bounds::HOSTS) {
            return Err(format!("`{key}`: rank {rank} is beyond the {} hosts that are read", bounds::HOSTS));
        }
    }
    if ranks().collect::<BTreeSet<_>>().len() < trial.hosts.len() {
        return Err("`hosts`: two hosts have the same rank".to_owned());
    }
    let in_receipts = trial.receipts.iter().flat_map(|receipts| &receipts.workers).map(|share| share.worker).max();
    let in_rows = trial.workers.iter().map(|row| row.member).max();
    for (key, highest) in [("receipts.workers", in_receipts), ("workers", in_rows)] {
        if let Some(member) = highest.filter(|member| *member >= bounds::MEMBERS) {
            return Err(format!("`{key}`: {member} is beyond the {} members that are read", bounds::MEMBERS));
        }
    }
    Ok(trial)
}

/// JSON with a visible sign in place of each harmful character of its texts, escaped or not: whatever is derived from a record has
/// none.
fn harmless_texts(json: &str) -> Cow<'_, str> {
    let harmless = harmless(json);
    if !harmless.contains('\\') {
        return harmless;
    }
    let mut text = String::with_capacity(harmless.len());
    let mut rest = &*harmless;
    while let Some((before, escape)) = rest.split_once('\\') {
        text.push_str(before);
        let hex = escape.strip_prefix('u').and_then(|hex| hex.get(..4));
        let code = hex.and_then(|hex| u32::from_str_radix(hex, 16).ok());
        // Invisible tags are the only ones beyond the first plane, and need two escapes, which begin like this.
        let is_tag = |code| code == 0xdb40;
        let length = match (escape.chars().next(), code) {
            (Some('b' | 'f' | 'r'), _) => 1,
            (_, Some(code)) if is_tag(code) => escape.strip_prefix("udb40\\ud").map_or(5, |_| 11),
            (_, Some(code)) if char::from_u32(code).is_some_and(is_harmful) => 5,
            (first, _) => {
                let length = first.map_or(0, char::len_utf8);
                text.push('\\');
                text.push_str(&escape[..length]);
                rest = &escape[length..];
                continue;
            }
        };
        text.push(char::REPLACEMENT_CHARACTER);
        rest = escape.get(length..).unwrap_or_default();
    }
    (text + rest).into()
}

/// What is wrong with a line after which sums could overflow.
pub(super) fn too_large() -> String {
    format!("its numbers and those before add up to more than {}", bounds::SUM)
}

#[derive(Deserialize)]
struct Versioned {
    schema: u32,
}

impl Versioned {
    fn check(&self, folder: &Folder, name: &str, line: usize) -> Result<(), ReadError> {
        match self.schema {
            SCHEMA => Ok(()),
            schema => Err(ReadError::Schema { path: folder.path().join(name), line, schema }),
        }
    }
}

fn text(folder: &Folder, name: &str) -> Result<String, ReadError> {
    let file = file(folder, name)?.ok_or_else(|| unreadable(folder, name, Errno::ENOENT.into()))?;
    let bytes = read_bounded(file, bounds::TEXT_BYTES).map_err(|error| unreadable(folder, name, error))?;
    String::from_utf8(bytes).map_err(|_| unreadable(folder, name, io::Error::other("it is not text (UTF-8)")))
}

/// A file of a record; `None` if it does not exist.
pub(super) fn file(folder: &Folder, name: &str) -> Result<Option<File>, ReadError> {
    folder.file(name).map_err(|error| unreadable(folder, name, error))
}

pub(super) fn unreadable(folder: &Folder, name: &str, error: io::Error) -> ReadError {
    ReadError::File { path: folder.path().join(name), error }
}

fn content(folder: &Folder, name: &str, line: usize, error: serde_json::Error) -> ReadError {
    ReadError::Content { path: folder.path().join(name), line, error }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{
        super::{HostClock, HostRow, MemberRow},
        *,
    };

    fn read(folder: &tempfile::TempDir) -> Result<RawRecord, ReadError> {
        RawRecord::read(&Folder::open(folder.path()).unwrap())
    }

    fn folder_of(trials: Option<&[u8]>) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(HOST), format!("{{\"schema\":{SCHEMA}}}")).unwrap();
        fs::write(folder.path().join(SCENARIO), "name = \"x\"\n").unwrap();
        if let Some(trials) = trials {
            fs::write(folder.path().join(TRIALS), trials).unwrap();
        }
        folder
    }

    #[test]
    fn what_can_be_read_is_read_and_the_rest_is_named() {
        let line = |number| {
            let trial = TrialRecord { schema: SCHEMA, trial: number, ..TrialRecord::default() };
            serde_json::to_string(&trial).unwrap() + "\n"
        };
        let read = |trials: Option<&[u8]>| {
            let record = super::tests::read(&folder_of(trials)).unwrap();
            (record.trials.iter().map(|trial| trial.trial).collect::<Vec<_>>(), record.flaws)
        };
        let whole = line(0) + &line(1);
        assert_eq!(read(Some(whole.as_bytes())), (vec![0, 1], vec![]));
        let cut = "the last line of trials.jsonl was cut off and is left out".to_owned();
        assert_eq!(read(Some(&whole.as_bytes()[..whole.len() - 1])), (vec![0], vec![cut.clone()]));
        let garbage = [line(0).as_bytes(), b"\xff\xfe\n", line(2).as_bytes()].concat();
        let one = "line 2 of trials.jsonl cannot be read and is left out (it is not text (UTF-8))".to_owned();
        assert_eq!(read(Some(&garbage)), (vec![0, 2], vec![one]));
        let more = [&garbage[..], b"{}\n{"].concat();
        let two = "2 lines of trials.jsonl cannot be read and are left out, the first of them line 2 (it is not text (UTF-8))";
        assert_eq!(read(Some(&more)), (vec![0, 2], vec![cut, two.to_owned()]));
        assert_eq!(read(None), (vec![], vec!["trials.jsonl is missing".to_owned()]));
        let twice = line(0) + &line(1) + &line(0);
        let once = "line 3 of trials.jsonl cannot be read and is left out (`trial`: 0 has a line before it)".to_owned();
        assert_eq!(read(Some(twice.as_bytes())), (vec![0, 1], vec![once]));
    }

    #[test]
    fn texts_of_a_record_are_harmless() {
        for (json, clean) in [
            (r#""a\u001b[31m\u009Bb""#, "a\u{fffd}[31m\u{fffd}b"),
            (r#""\\u001b \\\u001b""#, "\\u001b \\\u{fffd}"),
            (r#""\b\f\r\n\t\"\\\/""#, "\u{fffd}\u{fffd}\u{fffd}\n\t\"\\/"),
            (r#""\u202e\u00e9\ud83d\ude00\udb40\udc41""#, "\u{fffd}é😀\u{fffd}"),
            ("\"a\u{9b}b\u{202e}é\u{7f}\"", "a\u{fffd}b\u{fffd}é\u{fffd}"),
        ] {
            assert_eq!(serde_json::from_str::<String>(&harmless_texts(json)).unwrap(), clean, "{json}");
        }
        // What is no JSON stays none, and whatever it is, it ends somewhere.
        for json in [r#""\u00"#, r#""\"#, r#""\é"#, r#""\udb40\ud"#, "\\u001b\\"] {
            assert!(serde_json::from_str::<String>(&harmless_texts(json)).is_err(), "{json}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_with_its_key() {
        let trial = TrialRecord { schema: SCHEMA, workers: vec![MemberRow::default(); 2], ..TrialRecord::default() };
        let flaw = |change: &dyn Fn(&mut Json)| {
            let mut json = serde_json::to_value(&trial).unwrap();
            change(&mut json);
            let record = super::tests::read(&folder_of(Some(format!("{json}\n").as_bytes()))).unwrap();
            record.flaws.first().cloned().unwrap_or_default()
        };
        assert_eq!(flaw(&|_| {}), "");
        let line = |cause: &str| format!("line 1 of trials.jsonl cannot be read and is left out ({cause})");
        let pid = line("`workers[1].pid`: invalid value: integer `99999999999`, expected i32");
        assert_eq!(flaw(&|json| json["workers"][1]["pid"] = 99_999_999_999_u64.into()), pid);
        let seed = line("`seed`: invalid type: string \"1\", expected u64");
        assert_eq!(flaw(&|json| json["seed"] = "1".into()), seed);
        let beyond = line("`trial`: 1048576 is beyond the 1048576 trials that are read");
        assert_eq!(flaw(&|json| json["trial"] = bounds::TRIALS.into()), beyond);
        assert_eq!(flaw(&|json| json["trial"] = (bounds::TRIALS - 1).into()), "");
        let loads = |count: usize, name: &str| {
            let row = serde_json::to_value(LoadRow { name: name.to_owned(), ..LoadRow::default() }).unwrap();
            flaw(&|json| json["loads"] = vec![row.clone(); count].into())
        };
        assert_eq!(loads(bounds::POPULATIONS, "kept"), "");
        assert_eq!(loads(bounds::POPULATIONS + 1, "kept"), line("`loads`: more than the 64 populations that are read"));
        assert_eq!(loads(2, "../x"), line("`loads`: \"../x\" is not the name of a population"));
        let hosts = |ranks: &[usize]| {
            let row = |rank: &usize| HostRow { rank: *rank, ..HostRow::default() };
            let rows: Vec<HostRow> = ranks.iter().map(row).collect();
            flaw(&|json| json["hosts"] = serde_json::to_value(&rows).unwrap())
        };
        assert_eq!(hosts(&[0, 2, bounds::HOSTS - 1]), "");
        assert_eq!(hosts(&[0, bounds::HOSTS]), line("`hosts`: rank 4096 is beyond the 4096 hosts that are read"));
        assert_eq!(hosts(&[1, 1]), line("`hosts`: two hosts have the same rank"));
        let half = bounds::SUM as u64 / 2;
        assert_eq!(flaw(&|json| json["connections"]["attempted"] = half.into()), "");
        assert_eq!(flaw(&|json| json["seed"] = u64::MAX.into()), "", "seeds are not added up");
        let far = HostClock { offset_ns: i64::MIN, ..HostClock::default() };
        let apart = serde_json::to_value(vec![HostRow { clock: Some(far), ..HostRow::default() }]).unwrap();
        assert_eq!(flaw(&|json| json["hosts"] = apart.clone()), "", "nor are clocks");
        assert_eq!(flaw(&|json| json["rates"]["drain_s"] = (-0.5).into()), line("`rates.drain_s` is negative"));
        let sum = line("its numbers and those before add up to more than 4611686018427387904");
        let large = |json: &mut Json| {
            json["connections"]["attempted"] = half.into();
            json["connections"]["established"] = half.into();
        };
        assert_eq!(flaw(&large), sum);
        let deep = format!("{{\"schema\":{SCHEMA},\"cell\":{{\"x\":{}\n", "[".repeat(100_000));
        let record = super::tests::read(&folder_of(Some(deep.as_bytes()))).unwrap();
        let flaw = &record.flaws[0];
        assert!(flaw.ends_with("recursion limit exceeded)") && flaw.len() < 300, "{flaw}");
    }

    #[test]
    fn one_line_that_is_too_large_leaves_the_others() {
        let line = |number, attempted| {
            let mut trial = TrialRecord { schema: SCHEMA, trial: number, ..TrialRecord::default() };
            trial.connections.attempted = attempted;
            serde_json::to_string(&trial).unwrap() + "\n"
        };
        let text =
            [line(0, 1), line(1, u64::MAX), line(2, 1), line(3, 1).replace("\"drain_s\":null", "\"drain_s\":1e308")]
                .concat();
        let record = super::tests::read(&folder_of(Some(text.as_bytes()))).unwrap();
        assert_eq!(record.trials.iter().map(|trial| trial.trial).collect::<Vec<_>>(), [0, 2]);
        assert!(record.flaws[0].starts_with("2 lines of trials.jsonl cannot be read"), "{:?}", record.flaws);
    }

    #[test]
    fn a_cell_has_one_index() {
        let trial = |number, cell: &str, index| TrialRecord {
            schema: SCHEMA,
            trial: number,
            cell: [("strategy".to_owned(), cell.into())].into_iter().collect(),
            cell_index: index,
            ..TrialRecord::default()
        };
        let trials = [trial(0, "one", 99), trial(1, "other", 1), trial(2, "one", 0), trial(3, "one", 0)];
        let lines: String = trials.iter().map(|trial| serde_json::to_string(trial).unwrap() + "\n").collect();
        let record = super::tests::read(&folder_of(Some(lines.as_bytes()))).unwrap();
        assert_eq!(record.trials.iter().map(|trial| trial.cell_index).collect::<Vec<_>>(), [0, 1, 0, 0]);
        let flaw = "trials of one cell in trials.jsonl, {\"strategy\":\"one\"}, have more than one `cell_index`: 0, 99";
        assert_eq!(record.flaws, [flaw]);
    }

    #[test]
    fn another_schema_and_a_folder_of_no_run_are_refused() {
        let other = folder_of(Some(b"{\"schema\":1}\n"));
        let error = read(&other).unwrap_err().to_string();
        assert!(error.contains("trials.jsonl, line 1: schema 1"), "{error}");
        let error = read(&tempfile::tempdir().unwrap()).unwrap_err().to_string();
        assert!(error.contains("is this the folder of a run?"), "{error}");
    }
}
