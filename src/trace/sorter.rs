//! Puts connections in order of time, however many there are: runs that fit into memory are sorted and written to a file, and merged.
//!
//! Logs are nearly in order, but not quite: a line is written when a request ends, and a connection is known once its last request is.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    env,
    fs::{self, File, OpenOptions},
    io::{self, Write},
    ops::Range,
    os::unix::fs::{FileExt, OpenOptionsExt},
    process,
    sync::Arc,
};

use anyhow::{Context, Result};

use super::Arrival;
use crate::sys::clock;

/// Bytes of a connection in a file.
pub(super) const ENTRY: usize = 24;

/// Connections that are sorted in memory: 2 MB of them.
const RUN: usize = 1 << 16;

/// What stands for a hold that is not known.
const NO_HOLD: u64 = u64::MAX;

/// The bytes of a connection; the number of its requests is 0 where that is not known.
pub(super) fn encode(arrival: Arrival) -> [u8; ENTRY] {
    let mut bytes = [0; ENTRY];
    bytes[..8].copy_from_slice(&arrival.at_ns.to_ne_bytes());
    bytes[8..16].copy_from_slice(&arrival.hold_ns.unwrap_or(NO_HOLD).to_ne_bytes());
    bytes[16..20].copy_from_slice(&arrival.requests.unwrap_or(0).to_ne_bytes());
    bytes
}

/// The connection of these bytes.
pub(super) fn decode(bytes: &[u8]) -> Arrival {
    let eight = |at: usize| bytes[at..at + 8].try_into().expect("eight bytes");
    let requests = u32::from_ne_bytes(bytes[16..20].try_into().expect("four bytes"));
    Arrival {
        at_ns: i64::from_ne_bytes(eight(0)),
        requests: Some(requests).filter(|requests| *requests > 0),
        hold_ns: Some(u64::from_ne_bytes(eight(8))).filter(|hold_ns| *hold_ns != NO_HOLD),
    }
}

/// A new file without a name, in the folder for temporary files: whatever happens, it disappears with its last descriptor.
pub(super) fn unnamed_file() -> Result<File> {
    let folder = env::temp_dir();
    let options = || {
        let mut options = OpenOptions::new();
        options.read(true).write(true).mode(0o600);
        options
    };
    let made = options().custom_flags(libc::O_TMPFILE).open(&folder).or_else(|_| {
        // Not every file system has files without names.
        let now_ns = clock::monotonic_ns();
        let path = folder.join(format!("listenbench-{}-{now_ns}", process::id()));
        let file = options().create_new(true).open(&path)?;
        fs::remove_file(&path).map(|()| file)
    });
    made.with_context(|| format!("making a temporary file in {}: set TMPDIR to a folder with room", folder.display()))
}

/// Takes connections in any order.
#[derive(Debug)]
pub(super) struct Sorter {
    file: File,
    /// How many connections each run has.
    runs: Vec<u64>,
    current: Vec<Arrival>,
}

/// Connections in order.
#[derive(Debug)]
pub struct Sorted {
    file: Arc<File>,
    runs: Vec<u64>,
}

impl Sorter {
    pub fn new() -> Result<Self> {
        Ok(Self { file: unnamed_file()?, runs: Vec::new(), current: Vec::new() })
    }

    pub fn add(&mut self, arrival: Arrival) -> Result<()> {
        self.current.push(arrival);
        if self.current.len() == RUN { self.write_run() } else { Ok(()) }
    }

    fn write_run(&mut self) -> Result<()> {
        // Those of one instant stay in their order.
        self.current.sort_by_key(|arrival| arrival.at_ns);
        let mut bytes = Vec::with_capacity(self.current.len() * ENTRY);
        self.current.iter().for_each(|arrival| bytes.extend(encode(*arrival)));
        self.file.write_all(&bytes).context("writing a temporary file")?;
        self.runs.push(self.current.len() as u64);
        self.current.clear();
        Ok(())
    }

    pub fn finish(mut self) -> Result<Sorted> {
        if !self.current.is_empty() {
            self.write_run()?;
        }
        Ok(Sorted { file: Arc::new(self.file), runs: self.runs })
    }
}

impl Sorted {
    /// How many connections there are.
    pub fn count(&self) -> u64 {
        self.runs.iter().sum()
    }

    /// All connections, in order of time.
    pub(super) fn merge(&self) -> Result<Merge> {
        // All blocks together take no more memory than a run.
        let block = (RUN / self.runs.len().max(1)).clamp(16, 1_024);
        let mut begins = 0;
        let mut merge = Merge { runs: Vec::new(), heads: BinaryHeap::new() };
        for (number, count) in self.runs.iter().enumerate() {
            let mut run = Entries::new(self.file.clone(), begins..begins + count, block);
            begins += count;
            if let Some(first) = run.next().transpose().context("reading a temporary file")? {
                merge.heads.push(Reverse(Head { at_ns: first.at_ns, run: number, arrival: first }));
            }
            merge.runs.push(run);
        }
        Ok(merge)
    }
}

/// The next connection of a run.
#[derive(Debug)]
struct Head {
    at_ns: i64,
    run: usize,
    arrival: Arrival,
}

impl PartialEq for Head {
    fn eq(&self, other: &Self) -> bool {
        (self.at_ns, self.run) == (other.at_ns, other.run)
    }
}

impl Eq for Head {}

impl PartialOrd for Head {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Head {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at_ns, self.run).cmp(&(other.at_ns, other.run))
    }
}

/// The connections of all runs, in order of time.
pub(super) struct Merge {
    runs: Vec<Entries>,
    heads: BinaryHeap<Reverse<Head>>,
}

impl Iterator for Merge {
    type Item = io::Result<Arrival>;

    fn next(&mut self) -> Option<io::Result<Arrival>> {
        let Reverse(Head { run, arrival, .. }) = self.heads.pop()?;
        match self.runs[run].next() {
            Some(Ok(next)) => self.heads.push(Reverse(Head { at_ns: next.at_ns, run, arrival: next })),
            Some(Err(error)) => return Some(Err(error)),
            None => {}
        }
        Some(Ok(arrival))
    }
}

/// Connections in a file, read a block at a time.
#[derive(Debug)]
pub(super) struct Entries {
    file: Arc<File>,
    /// The numbers of those that have not been read yet.
    left: Range<u64>,
    /// What was read last; it never grows.
    block: Vec<u8>,
    /// Where in the block the next one is.
    at: usize,
    most: u64,
}

impl Entries {
    /// Those with these numbers, `most` of them at a time.
    pub fn new(file: Arc<File>, numbers: Range<u64>, most: usize) -> Self {
        Self { file, left: numbers, block: Vec::with_capacity(most * ENTRY), at: 0, most: most as u64 }
    }

    /// Goes on with those of these numbers.
    pub fn begin_again(&mut self, numbers: Range<u64>) {
        self.left = numbers;
        self.block.clear();
        self.at = 0;
    }

    fn read_block(&mut self) -> io::Result<()> {
        let count = (self.left.end - self.left.start).min(self.most);
        self.block.resize(count as usize * ENTRY, 0);
        self.file.read_exact_at(&mut self.block, self.left.start * ENTRY as u64)?;
        self.left.start += count;
        self.at = 0;
        Ok(())
    }
}

impl Iterator for Entries {
    type Item = io::Result<Arrival>;

    fn next(&mut self) -> Option<io::Result<Arrival>> {
        if self.at == self.block.len() {
            if self.left.is_empty() {
                return None;
            }
            if let Err(error) = self.read_block() {
                return Some(Err(error));
            }
        }
        let entry = &self.block[self.at..self.at + ENTRY];
        self.at += ENTRY;
        Some(Ok(decode(entry)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_order_becomes_that_of_time_over_many_runs() {
        let count = 3 * RUN as u64 + 7;
        let mut sorter = Sorter::new().unwrap();
        // A multiplier that is coprime to the count makes a permutation.
        for k in 0..count {
            let at_ns = (k * 48_271 % count) as i64 - 5;
            let requests = Some(at_ns as u32 & 3).filter(|requests| *requests > 0);
            sorter.add(Arrival { at_ns, requests, hold_ns: (at_ns % 2 == 0).then_some(at_ns.unsigned_abs()) }).unwrap();
        }
        let sorted = sorter.finish().unwrap();
        assert_eq!((sorted.count(), sorted.runs.len()), (count, 4));
        for (at_ns, arrival) in (-5..).zip(sorted.merge().unwrap()) {
            let arrival = arrival.unwrap();
            assert_eq!(arrival.at_ns, at_ns);
            assert_eq!(arrival.requests.unwrap_or(0), at_ns as u32 & 3);
            assert_eq!(arrival.hold_ns, (at_ns % 2 == 0).then_some(at_ns.unsigned_abs()));
        }
        assert_eq!(sorted.merge().unwrap().count() as u64, count);
        assert_eq!(Sorter::new().unwrap().finish().unwrap().merge().unwrap().count(), 0);
    }
}
