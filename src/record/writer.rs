//! Writes a record, a line per trial as it ends, so that what was measured survives whatever comes after.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    fs::File,
    io::{self, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result, bail};
use base64::{Engine, engine::general_purpose::STANDARD};
use hdrhistogram::serialization::{V2DeflateSerializer, interval_log::IntervalLogWriterBuilder};
use serde::Serialize;
use thiserror::Error;

use super::{
    Counts, TrialRecord,
    histograms::{ALL, Name},
    reader, v2,
};
use crate::{
    format::counted,
    json,
    sys::{
        clock,
        folder::{self, Folder, Refused},
    },
};

/// The folder already holds a record.
#[derive(Debug, Error)]
#[error(
    "{} already holds a record ({found}), and records are never overwritten: choose another folder with --out",
    folder.display()
)]
pub struct RecordExists {
    folder: PathBuf,
    found: String,
}

/// The folders of one name that are tried in turn.
const NUMBERS: usize = 1_000;

/// Where a record goes: into a folder that the user names, or one below that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destination {
    /// As the user names it: it may be a link.
    named: PathBuf,
    /// A folder below it, which may not.
    below: Option<String>,
    /// Whether that folder must be new: if there is one of its name, the next number is added to it.
    numbered: bool,
}

impl Destination {
    /// The folder that the user names.
    pub fn named(named: &Path) -> Self {
        Self { named: named.to_owned(), below: None, numbered: false }
    }

    /// The folder of a name below the one that the user names.
    pub fn below(named: &Path, name: String) -> Self {
        Self { named: named.to_owned(), below: Some(name), numbered: false }
    }

    /// The same, but a new one: if there is a folder of that name, a number is added to it.
    pub fn new_below(named: &Path, name: String) -> Self {
        Self { numbered: true, ..Self::below(named, name) }
    }

    /// The folder's path.
    pub fn path(&self) -> PathBuf {
        self.below.as_ref().map_or_else(|| self.named.clone(), |name| self.named.join(name))
    }

    /// Fails if the folder exists and holds any part of a record, `derived` files included, or if it cannot be made.
    pub fn check(&self, derived: impl Iterator<Item = &'static str>) -> Result<()> {
        folder::may_write(&self.path()).with_context(|| self.cannot_make())?;
        if self.numbered {
            return Ok(());
        }
        match self.existing() {
            Ok(Some(folder)) => check(&folder, derived),
            Ok(None) => Ok(()),
            Err(error) => Err(error).with_context(|| self.path().display().to_string()),
        }
    }

    fn existing(&self) -> io::Result<Option<Folder>> {
        let named = match Folder::open(&self.named) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened?,
        };
        match &self.below {
            None => Ok(Some(named)),
            Some(name) => named.below(name),
        }
    }

    /// Creates the folder if it does not exist.
    pub fn make(&self) -> Result<Folder> {
        let made = Folder::create(&self.named).and_then(|named| match &self.below {
            None => Ok(named),
            Some(name) => {
                let below = if self.numbered { first_free(&named, name) } else { named.make(name) };
                Ok(below?.with(named))
            }
        });
        made.with_context(|| self.cannot_make())
    }

    fn cannot_make(&self) -> String {
        format!("creating the folder {} (choose another with --out)", self.path().display())
    }
}

/// A new folder of this name, or with the first free number after it. Creating it settles a race between runs that begin together.
fn first_free(named: &Folder, name: &str) -> io::Result<Folder> {
    let numbered = |number: usize| if number == 1 { name.to_owned() } else { format!("{name}-{number}") };
    let made = (1..=NUMBERS).map(numbered).find_map(|name| named.make_new(&name).transpose());
    made.unwrap_or_else(|| Err(io::Error::other(format!("{NUMBERS} folders of that name exist"))))
}

/// Something that could not be written, what that means for the record, and what to do about it.
#[derive(Debug, Error)]
#[error("writing {}: {error}: {consequence}", path.display())]
pub struct Unwritten {
    path: PathBuf,
    error: io::Error,
    consequence: String,
}

impl Unwritten {
    /// `consequence` says what is kept and what is lost, given what makes writing possible again.
    fn new(folder: &Folder, name: &str, error: io::Error, consequence: impl FnOnce(&str) -> String) -> Self {
        let consequence = consequence(remedy(&error));
        Self { path: folder.path().join(name), error, consequence }
    }

    /// A file that a record has before its first trial.
    fn at_first(folder: &Folder, name: &str, error: io::Error) -> Self {
        Self::new(folder, name, error, |remedy| {
            format!("nothing has run; {remedy}, or choose another folder with --out, then run it again")
        })
    }

    /// A file that is derived from the record and can be derived again.
    pub fn derived(folder: &Folder, name: &str, error: io::Error) -> Self {
        let path = folder.path().display();
        Self::new(folder, name, error, |remedy| {
            format!(
                "the record's trials are all kept, and only files derived from them are missing or out of date; {remedy}, then run \
                 `listenbench report {path}`"
            )
        })
    }
}

/// What makes it possible again to write.
pub fn remedy(error: &io::Error) -> &'static str {
    if Refused::is(error) {
        return "move it away";
    }
    match error.raw_os_error() {
        Some(libc::ENOSPC) => "make space on its file system",
        Some(libc::EDQUOT) => "make space within your quota",
        Some(libc::EFBIG) => "raise the limit of a file's size (`ulimit -f`)",
        Some(libc::EROFS) => "mount its file system for writing",
        Some(libc::EIO) => "see to its device, whose errors `dmesg` shows",
        Some(libc::EACCES | libc::EPERM) => "let this user write there",
        Some(libc::EMFILE) => "raise the limit of open files (`ulimit -n`)",
        Some(libc::ENFILE) => "raise the machine's limit of open files (`sysctl fs.file-max`)",
        Some(libc::ENOENT | libc::ESTALE) => "find out who removed its folder",
        _ => "remove the cause",
    }
}

/// A record being written.
#[derive(Debug)]
pub struct Writer {
    folder: Folder,
    trials: Lines,
    histograms: Lines,
    began: SystemTime,
    /// The trials on disk.
    kept: usize,
}

/// A file that grows by whole pieces.
#[derive(Debug)]
struct Lines {
    name: &'static str,
    file: File,
    /// The bytes of its pieces.
    length: u64,
}

impl Lines {
    fn create(folder: &Folder, name: &'static str) -> Result<Self> {
        Ok(Self { name, file: create_new(folder, name)?, length: 0 })
    }

    /// Appends a piece, which survives a power failure from then on. After an error the file is as before.
    fn append(&mut self, piece: &[u8]) -> io::Result<()> {
        let appended = self.file.write_all(piece).and_then(|()| self.file.sync_data());
        match &appended {
            Ok(()) => self.length += piece.len() as u64,
            Err(_) => self.cut(self.length),
        }
        appended
    }

    /// Takes what follows so many bytes away again. Where even that fails, readers recognize a piece that was cut off.
    fn cut(&mut self, length: u64) {
        let _ = self.file.set_len(length).and_then(|()| self.file.seek(SeekFrom::Start(length)));
        self.length = length;
    }
}

impl Writer {
    /// Begins a record in a folder. Fails if the folder holds any part of a record, `derived` files included; then, and if anything
    /// cannot be written, it leaves nothing of its own there.
    pub fn create(
        folder: Folder,
        derived: impl Iterator<Item = &'static str>,
        scenario_toml: &str,
        host: &impl Serialize,
    ) -> Result<Self> {
        check(&folder, derived)?;
        folder.sweep();
        // Creating them settles a race between two runs with the same folder.
        let trials = Lines::create(&folder, reader::TRIALS)?;
        let began = clock::wall();
        match Self::fill(&folder, scenario_toml, host, began) {
            Ok(histograms) => Ok(Self { folder, trials, histograms, began, kept: 0 }),
            Err(error) => {
                for name in reader::FILES {
                    let _ = folder.remove(name);
                }
                Err(error)
            }
        }
    }

    /// Writes all that a record has before its first trial, but for the list of trials.
    fn fill(folder: &Folder, scenario_toml: &str, host: &impl Serialize, began: SystemTime) -> Result<Lines> {
        let mut histograms = Lines::create(folder, reader::HISTOGRAMS)?;
        let mut serializer = V2DeflateSerializer::new();
        let mut header = Vec::new();
        IntervalLogWriterBuilder::new()
            .add_comment(
                "Logged by listenbench; values in ns; tags t<trial>.w<worker>.<metric>, t<trial>.l<loader>.<metric>, of several \
                 hosts t<trial>.h<rank>.<metric> in its place, with several populations t<trial>.<population>.l<loader>.<metric>; t<trial>.all.<metric> is the sum of all others of its trial \
                 and metric: leave it out when adding up",
            )
            .with_start_time(began)
            .with_base_time(began)
            .begin_log_with(&mut header, &mut serializer)
            .context("encoding the header of the histogram log")?;
        histograms.append(&header).map_err(|error| Unwritten::at_first(folder, reader::HISTOGRAMS, error))?;
        let mut host = json::lines(host)?;
        host.push('\n');
        for (name, text) in [(reader::SCENARIO, scenario_toml), (reader::HOST, &host)] {
            folder.replace_durably(name, text.as_bytes()).map_err(|error| Unwritten::at_first(folder, name, error))?;
        }
        Ok(histograms)
    }

    /// The record's folder.
    pub fn folder(&self) -> &Folder {
        &self.folder
    }

    /// The trials on disk.
    pub fn kept(&self) -> usize {
        self.kept
    }

    /// Writes a trial that has ended: what its server printed, then its histograms, then its line, which completes it. If any of these
    /// cannot be written, the others are all the same, but for histograms without a line.
    pub fn trial(
        &mut self,
        mut record: TrialRecord,
        histograms: &BTreeMap<String, Counts>,
        output: Option<&str>,
    ) -> Result<TrialRecord> {
        let number = record.trial;
        let mut first = None;
        if let Some(output) = output {
            let name = format!("{}/t{number}.log", reader::OUTPUT);
            match self.folder.replace(&name, output.as_bytes()) {
                Ok(()) => record.subject.output = Some(name),
                Err(error) => first = Some((name, error)),
            }
        }
        let sums = sums(histograms);
        let all = histograms.iter().chain(&sums).filter(|(_, values)| !values.is_empty());
        let mut encoder = v2::encoder();
        let interval = |(name, values): (&String, &Counts)| {
            self.interval(name, &record, values.max(), &v2::compressed(values, &mut encoder))
        };
        let log: String = all.map(interval).collect::<Result<_>>()?;
        let line = json::line(&record)? + "\n";
        let before = self.histograms.length;
        let appended =
            self.histograms.append(log.as_bytes()).map_err(|error| (self.histograms.name, error)).and_then(|()| {
                self.trials.append(line.as_bytes()).map_err(|error| {
                    self.histograms.cut(before);
                    (self.trials.name, error)
                })
            });
        let is_kept = appended.is_ok();
        self.kept += usize::from(is_kept);
        first = first.or(appended.err().map(|(name, error)| (name.to_owned(), error)));
        match first {
            None => Ok(record),
            Some((name, error)) => Err(self.unwritten(number, is_kept, &name, error).into()),
        }
    }

    fn unwritten(&self, trial: usize, is_kept: bool, name: &str, error: io::Error) -> Unwritten {
        let path = self.folder.path().display();
        let lost = match is_kept {
            true => format!("what the server of trial {trial} printed is lost"),
            false => format!("trial {trial} is lost"),
        };
        Unwritten::new(&self.folder, name, error, |remedy| match self.kept {
            0 => format!("{lost}, and no trial is kept; {remedy}, then run it again with another --out"),
            kept => format!(
                "{lost}, and no later trial has run; {} kept in {path}; {remedy}, then `listenbench report {path}` reports on what is kept",
                counted(kept as u64, "trial is", "trials are"),
            ),
        })
    }

    /// The line of the log for a histogram: its tag, when its trial began and how long it lasted, in seconds, and its highest value.
    fn interval(&self, name: &str, record: &TrialRecord, max: u64, encoded: &[u8]) -> Result<String> {
        if name.contains([',', ' ', '\r', '\n']) {
            bail!("histogram {name:?}: a tag may not hold a comma, a space or a line break");
        }
        let started = humantime::parse_rfc3339(&record.started_at).unwrap_or(UNIX_EPOCH);
        let since_s = started.duration_since(self.began).unwrap_or_default().as_secs_f64();
        let (length_s, max) = (record.duration_s.max(0.0), max as f64);
        let encoded = STANDARD.encode(encoded);
        Ok(format!("Tag=t{}.{name},{since_s:.3},{length_s:.3},{max:.3},{encoded}\n", record.trial))
    }
}

/// The sum of a trial's histograms for each metric, for readers that show one histogram at a time.
fn sums(histograms: &BTreeMap<String, Counts>) -> BTreeMap<String, Counts> {
    let mut sums: BTreeMap<String, Counts> = BTreeMap::new();
    for (name, part) in histograms {
        let Some(Name { metric, .. }) = Name::parse(name) else { continue };
        match sums.entry(format!("{ALL}.{metric}")) {
            Entry::Vacant(entry) => drop(entry.insert(part.clone())),
            Entry::Occupied(mut entry) => entry.get_mut().add(part),
        }
    }
    sums
}

/// Fails if a folder holds any part of a record.
fn check(folder: &Folder, derived: impl Iterator<Item = &'static str>) -> Result<()> {
    for name in reader::FILES.into_iter().chain(derived) {
        if folder.holds(name).with_context(|| folder.path().join(name).display().to_string())? {
            bail!(RecordExists { folder: folder.path().to_owned(), found: name.to_owned() });
        }
    }
    Ok(())
}

fn create_new(folder: &Folder, name: &str) -> Result<File> {
    folder.create_new(name).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => {
            anyhow::Error::new(RecordExists { folder: folder.path().to_owned(), found: name.to_owned() })
        }
        _ => Unwritten::at_first(folder, name, error).into(),
    })
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    #[test]
    fn a_piece_that_cannot_be_written_leaves_the_pieces_before_it() {
        let temporary = tempfile::tempdir().unwrap();
        let folder = Folder::open(temporary.path()).unwrap();
        let mut lines = Lines::create(&folder, reader::TRIALS).unwrap();
        lines.append(b"one\n").unwrap();
        lines.append(b"two\n").unwrap();
        lines.cut(4);
        lines.append(b"three\n").unwrap();
        assert_eq!(fs::read_to_string(temporary.path().join(reader::TRIALS)).unwrap(), "one\nthree\n");
        let mut full = Lines { name: "full", file: File::options().write(true).open("/dev/full").unwrap(), length: 4 };
        assert_eq!(full.append(b"two\n").unwrap_err().raw_os_error(), Some(libc::ENOSPC));
        assert_eq!(full.length, 4);
    }

    #[test]
    fn what_cannot_be_written_is_said_with_what_is_kept_and_what_to_do() {
        let temporary = tempfile::tempdir().unwrap();
        let folder = || Folder::open(temporary.path()).unwrap();
        let mut writer = Writer::create(folder(), std::iter::empty(), "", &()).unwrap();
        let path = temporary.path().display();
        let of = |writer: &Writer, is_kept, errno| {
            writer.unwritten(3, is_kept, "trials.jsonl", io::Error::from_raw_os_error(errno)).to_string()
        };
        assert_eq!(
            of(&writer, false, libc::EDQUOT),
            format!(
                "writing {path}/trials.jsonl: Disk quota exceeded (os error 122): trial 3 is lost, and no trial is kept; make space within \
                 your quota, then run it again with another --out"
            )
        );
        for number in 0..2 {
            writer.trial(TrialRecord { trial: number, ..TrialRecord::default() }, &BTreeMap::new(), None).unwrap();
        }
        assert!(of(&writer, false, libc::ENOSPC).ends_with(&format!(
            "(os error 28): trial 3 is lost, and no later trial has run; 2 trials are kept in {path}; make space on its file system, then \
             `listenbench report {path}` reports on what is kept"
        )));
        assert!(of(&writer, true, libc::EIO).contains("what the server of trial 3 printed is lost, and no later"));
        // A folder in place of the file: the trial is kept without it.
        fs::create_dir(temporary.path().join("server-output")).unwrap();
        fs::create_dir(temporary.path().join("server-output/t2.log")).unwrap();
        let third = TrialRecord { trial: 2, ..TrialRecord::default() };
        let error = writer.trial(third, &BTreeMap::new(), Some("text")).unwrap_err().to_string();
        assert!(
            error.contains("what the server of trial 2 printed is lost") && error.contains("3 trials are kept"),
            "{error}"
        );
        let lines = fs::read_to_string(temporary.path().join(reader::TRIALS)).unwrap();
        assert_eq!(lines.lines().count(), 3);
    }

    #[test]
    fn a_record_that_cannot_begin_leaves_nothing() {
        let temporary = tempfile::tempdir().unwrap();
        let folder = Folder::open(temporary.path()).unwrap();
        let unserializable = BTreeMap::from([((1, 2), 3)]);
        assert!(Writer::create(folder, std::iter::empty(), "", &unserializable).is_err());
        assert_eq!(fs::read_dir(temporary.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_trial_has_a_sum_for_each_metric() {
        let of = |name: &str, count: u64| {
            let mut values = Counts::new(1, 60_000_000_000, 3).unwrap();
            values.extend((count > 0).then_some((1_000 * count, count)).into_iter());
            (name.to_owned(), values)
        };
        let parts =
            [of("w0.accept_wait", 1), of("all.w1.accept_wait", 2), of("kept.l0.response", 4), of("l1.response", 0)];
        let sums = sums(&parts.into());
        let counts: Vec<_> = sums.iter().map(|(name, sum)| (&name[..], sum.len())).collect();
        assert_eq!(counts, [("all.accept_wait", 3), ("all.response", 4)]);
    }

    #[test]
    fn new_folders_of_one_name_are_numbered() {
        let temporary = tempfile::tempdir().unwrap();
        let destination = Destination::new_below(temporary.path(), "quick".to_owned());
        // An empty folder is gone with what made it.
        let made = [(); 3].map(|()| destination.make().unwrap());
        let names = made.each_ref().map(|folder| folder.path().file_name().unwrap());
        assert_eq!(names, ["quick", "quick-2", "quick-3"]);
    }

    #[test]
    fn a_link_in_place_of_a_file_is_part_of_a_record() {
        let folder = tempfile::tempdir().unwrap();
        let destination = Destination::named(folder.path());
        assert!(destination.check(["report.html"].into_iter()).is_ok());
        symlink("/nowhere", folder.path().join("report.html")).unwrap();
        assert!(destination.check(["report.html"].into_iter()).is_err());
        let opened = Folder::open(folder.path()).unwrap();
        assert!(Writer::create(opened, ["report.html"].into_iter(), "", &()).is_err());
    }

    #[test]
    fn only_the_folder_that_the_user_names_may_be_a_link() {
        let temporary = tempfile::tempdir().unwrap();
        let path = |name: &str| temporary.path().join(name);
        fs::create_dir(path("outside")).unwrap();
        symlink(path("outside"), path("out")).unwrap();
        let named = Destination::named(&path("out"));
        assert!(named.check(std::iter::empty()).is_ok() && named.make().is_ok());
        symlink(path("outside"), path("outside/quick")).unwrap();
        let below = Destination::below(&path("out"), "quick".to_owned());
        assert_eq!(below.path(), path("out/quick"));
        for error in [below.check(std::iter::empty()).unwrap_err(), below.make().unwrap_err()] {
            assert!(format!("{error:#}").contains("a symbolic link"), "{error:#}");
        }
        let new = Destination::below(&path("new"), "quick".to_owned());
        assert!(new.check(std::iter::empty()).is_ok() && !path("new").exists());
        assert_eq!(new.make().unwrap().path(), path("new/quick"));
    }

    #[test]
    fn what_a_server_printed_stays_in_the_record() {
        let temporary = tempfile::tempdir().unwrap();
        let (outside, record) = (temporary.path().join("outside"), temporary.path().join("record"));
        fs::create_dir(&outside).unwrap();
        let folder = Folder::create(&record).unwrap();
        let mut writer = Writer::create(folder, std::iter::empty(), "", &()).unwrap();
        let mut print = |text| {
            let trial = TrialRecord { trial: 7, ..TrialRecord::default() };
            writer.trial(trial, &BTreeMap::new(), Some(text)).map(|trial| trial.subject.output)
        };
        assert_eq!(print("ready\n").unwrap().as_deref(), Some("server-output/t7.log"));
        assert_eq!(fs::read_to_string(record.join("server-output/t7.log")).unwrap(), "ready\n");
        fs::remove_dir_all(record.join("server-output")).unwrap();
        symlink(&outside, record.join("server-output")).unwrap();
        assert!(print("ready\n").is_err());
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    }
}
