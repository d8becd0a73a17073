//! A trace that is being read: its bytes, their digest, its format.

use std::{
    cell::RefCell,
    fs::File,
    io::{self, BufRead, BufReader, Cursor, Read, stdin},
    path::Path,
    rc::Rc,
};

use anyhow::{Context, Result, bail};
use flate2::bufread::MultiGzDecoder;
use ring::digest;

use super::{
    Asked, Findings, access_log,
    format::Format,
    json_log, pcap, pcapng,
    sorter::{Sorted, Sorter},
    table,
};
use crate::format::{plural, thousands};

/// How a trace on standard input is named.
pub const STDIN: &str = "-";

/// Bytes by which the format is recognised.
const BEGINNING: u64 = 64 << 10;

/// A trace, opened.
pub struct Source {
    name: String,
    input: Box<dyn BufRead>,
    /// What comes out of the file or pipe itself, to the end.
    digest: Rc<RefCell<digest::Context>>,
    format: Format,
}

/// What a trace was, once it has been read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// Its format, in words.
    pub format: String,
    /// SHA-256 of the file, in hex digits, as `sha256sum` prints it.
    pub sha256: String,
    pub findings: Findings,
    /// Its connections.
    pub connections: u64,
}

/// Digests what is read through it.
struct Digesting<R> {
    input: R,
    digest: Rc<RefCell<digest::Context>>,
}

impl<R: Read> Read for Digesting<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.input.read(buffer)?;
        self.digest.borrow_mut().update(&buffer[..count]);
        Ok(count)
    }
}

impl Source {
    /// Opens a trace and recognises its format. Fails with the file's name, what is wrong, and the remedy.
    pub fn open(asked: &Asked) -> Result<Self> {
        let name = if asked.path == STDIN { "standard input".to_owned() } else { asked.path.clone() };
        Self::open_named(asked, &name).with_context(|| name)
    }

    fn open_named(asked: &Asked, name: &str) -> Result<Self> {
        if asked.path == STDIN {
            return Self::of(asked, name, stdin());
        }
        let path = Path::new(&asked.path);
        if path.is_dir() {
            bail!("is a folder, and a trace is a file");
        }
        // Opening a pipe would wait for whoever writes to it.
        if path.exists() && !path.is_file() {
            bail!("is not a regular file: copy what it yields into one");
        }
        Self::of(asked, name, File::open(path)?)
    }

    /// The same of any input.
    pub fn of(asked: &Asked, name: &str, input: impl Read + 'static) -> Result<Self> {
        let digest = Rc::new(RefCell::new(digest::Context::new(&digest::SHA256)));
        let mut input = BufReader::with_capacity(1 << 16, Digesting { input, digest: digest.clone() });
        let mut input: Box<dyn BufRead> = match input.fill_buf()? {
            [0x1f, 0x8b, ..] => Box::new(BufReader::with_capacity(1 << 16, MultiGzDecoder::new(input))),
            [0x28, 0xb5, 0x2f, 0xfd, ..] => bail!("{}", packed("Zstandard", "zstdcat")),
            [0xfd, b'7', b'z', b'X', b'Z', ..] => bail!("{}", packed("xz", "xzcat")),
            [b'B', b'Z', b'h', ..] => bail!("{}", packed("bzip2", "bzcat")),
            _ => Box::new(input),
        };
        let mut beginning = Vec::new();
        input.by_ref().take(BEGINNING).read_to_end(&mut beginning)?;
        let is_whole = (beginning.len() as u64) < BEGINNING;
        let format = Format::of(&asked.format, &beginning, is_whole).map_err(anyhow::Error::msg)?;
        Ok(Self { name: name.to_owned(), input: Box::new(Cursor::new(beginning).chain(input)), digest, format })
    }

    /// Reads the whole trace. Fails if it has no connections, or if more than this share of its lines is malformed.
    pub fn sort(self, max_malformed: f64) -> Result<(Sorted, Summary)> {
        let name = self.name.clone();
        self.sort_all(max_malformed).with_context(|| name)
    }

    fn sort_all(mut self, max_malformed: f64) -> Result<(Sorted, Summary)> {
        let mut sorter = Sorter::new()?;
        let mut findings = Findings::default();
        let mut emit = |arrival| sorter.add(arrival);
        let input = &mut *self.input;
        match &self.format {
            Format::AccessLog(layout) => {
                access_log::read(input, &mut findings, &mut emit, &|line| layout.parse(line))?;
            }
            Format::Json => access_log::read(input, &mut findings, &mut emit, &json_log::parse)?,
            Format::Csv => table::read(input, &mut findings, &mut emit)?,
            Format::Pcap => pcap::read(input, &mut findings, &mut emit)?,
            Format::Pcapng => pcapng::read(input, &mut findings, &mut emit)?,
        }
        // A reader may have seen the end of what it is about before that of the file.
        io::copy(&mut self.input, &mut io::sink())?;
        let sorted = sorter.finish()?;
        let unit = if matches!(self.format, Format::Pcap | Format::Pcapng) { "packet" } else { "line" };
        let wrong = || findings.shown.iter().map(|one| format!("\n  {unit} {one}")).collect::<String>();
        if findings.malformed > 0 && findings.malformed_share() > max_malformed {
            bail!(
                "{} of {} cannot be read as {}, more than the {} % allowed; the first:{}",
                thousands(findings.malformed as f64),
                plural(findings.lines as usize, unit),
                self.format,
                max_malformed * 100.0,
                wrong()
            );
        }
        if sorted.count() == 0 {
            bail!("has no connection among {}{}", plural(findings.lines as usize, unit), wrong());
        }
        let sha256 = hex::encode(self.digest.borrow().clone().finish());
        let connections = sorted.count();
        Ok((sorted, Summary { format: self.format.to_string(), sha256, findings, connections }))
    }
}

fn packed(format: &str, program: &str) -> String {
    format!("is packed by {format}: unpack it first; for a preview, {program} FILE | listenbench trace - will do")
}

/// What tests and fuzzers ask for.
#[cfg(any(test, fuzzing))]
pub fn asked_of(path: &str, format: super::FormatAsked) -> Asked {
    Asked {
        path: path.to_owned(),
        format,
        speed: 1.0,
        from: std::time::Duration::ZERO,
        to: None,
        repeat: 1,
        max_malformed: 0.01,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{Compression, write::GzEncoder};

    use super::*;
    use crate::trace::FormatAsked;

    fn sort(bytes: Vec<u8>) -> Result<(Sorted, Summary)> {
        Source::of(&asked_of("t", FormatAsked::Auto), "t", Cursor::new(bytes))?.sort(0.01)
    }

    #[test]
    fn the_digest_is_that_of_the_file_and_a_packed_one_is_unpacked() {
        let text = b"0.5\n1.5\n";
        let (_, summary) = sort(text.to_vec()).unwrap();
        // printf '0.5\n1.5\n' | sha256sum
        assert_eq!(summary.sha256, hex::encode(digest::digest(&digest::SHA256, text)));
        assert_eq!((summary.connections, &summary.format[..]), (2, "CSV"));
        let mut packed = GzEncoder::new(Vec::new(), Compression::default());
        packed.write_all(text).unwrap();
        let packed = packed.finish().unwrap();
        let (_, unpacked) = sort(packed.clone()).unwrap();
        assert_eq!(unpacked.sha256, hex::encode(digest::digest(&digest::SHA256, &packed)));
        assert_eq!(unpacked.connections, 2);
        assert!(sort(packed[..packed.len() - 1].to_vec()).is_err(), "cut off");
    }

    #[test]
    fn what_is_no_trace_is_refused_with_the_reason() {
        for (bytes, problem) in [
            (&b"BZh91AY"[..], "bzcat"),
            (b"\x28\xb5\x2f\xfdx", "zstdcat"),
            (b"time\n", "has no connection among 0 lines"),
            (
                b"1.5\n2.5\nx\n",
                "1 of 3 lines cannot be read as CSV, more than the 1 % allowed; the first:\n  line 3: has no time",
            ),
        ] {
            let error = sort(bytes.to_vec()).map(drop).unwrap_err();
            let error = format!("{error:#}");
            assert!(error.contains(problem), "{error}");
        }
        let missing = Source::open(&asked_of("/nonexistent/log", FormatAsked::Auto)).map(drop).unwrap_err();
        assert!(format!("{missing:#}").starts_with("/nonexistent/log: No such file"));
    }
}
