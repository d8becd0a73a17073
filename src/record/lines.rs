//! Reads a file in batches of lines, with no more than one batch in memory.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read, Take},
};

/// A batch ends with the line that makes it so long.
const BATCH_BYTES: usize = 1 << 20;

/// The most lines of a batch: a line of a hundred bytes can inflate to a histogram of half a megabyte.
const BATCH_LINES: usize = 512;

/// The lines of a file.
#[derive(Debug)]
pub(super) struct Lines {
    file: BufReader<Take<File>>,
    most_bytes: usize,
    number: usize,
}

/// A line, as far as it is there and read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// One that ends with a line break, which is part of it.
    Whole(Vec<u8>),
    /// The file ended within it.
    CutOff,
    /// It has more bytes than are read.
    TooLong,
}

impl Line {
    /// What can be read of it: nothing unless it is whole.
    pub fn text(&self) -> &[u8] {
        if let Self::Whole(text) = self { text } else { &[] }
    }
}

impl Lines {
    /// Reads a file of at most so many bytes, with at most so many in a line.
    pub fn of(file: File, most_bytes_in_all: u64, most_bytes: usize) -> io::Result<Self> {
        check_size(file.metadata()?.len(), most_bytes_in_all)?;
        // Meanwhile it may grow.
        let file = BufReader::with_capacity(1 << 16, file.take(most_bytes_in_all));
        Ok(Self { file, most_bytes, number: 0 })
    }

    /// The next lines and their numbers, counted from 1; none at the end.
    pub fn batch(&mut self) -> io::Result<Vec<(usize, Line)>> {
        let (mut lines, mut bytes) = (Vec::new(), 0);
        while bytes < BATCH_BYTES
            && lines.len() < BATCH_LINES
            && let Some(line) = self.next()?
        {
            self.number += 1;
            bytes += line.text().len();
            lines.push((self.number, line));
        }
        Ok(lines)
    }

    fn next(&mut self) -> io::Result<Option<Line>> {
        let mut line = Vec::new();
        let mut left = self.most_bytes.saturating_add(1) as u64;
        (&mut self.file).take(left).read_until(b'\n', &mut line)?;
        left -= line.len() as u64;
        Ok(Some(match line.last() {
            None => return Ok(None),
            Some(b'\n') => Line::Whole(line),
            Some(_) if left > 0 => Line::CutOff,
            Some(_) => {
                self.file.skip_until(b'\n')?;
                Line::TooLong
            }
        }))
    }
}

/// Reads a whole file of at most so many bytes. One whose length the system does not tell, like a pipe, is read as far as that.
pub fn read_bounded(file: File, most_bytes: u64) -> io::Result<Vec<u8>> {
    check_size(file.metadata()?.len(), most_bytes)?;
    let mut bytes = Vec::new();
    file.take(most_bytes + 1).read_to_end(&mut bytes)?;
    check_size(bytes.len() as u64, most_bytes)?;
    Ok(bytes)
}

fn check_size(bytes: u64, most: u64) -> io::Result<()> {
    if bytes > most {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("it is larger than {most} bytes, the most that is read"),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn file(contents: &[u8]) -> File {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(contents).unwrap();
        file.reopen().unwrap()
    }

    #[test]
    fn lines_are_whole_cut_off_or_too_long() {
        let mut lines = Lines::of(file(b"one\n\nfour\nfive5\n\xff\nend"), 99, 4).unwrap();
        let whole = |line: &[u8]| Line::Whole(line.into());
        let all = [whole(b"one\n"), whole(b"\n"), whole(b"four\n"), Line::TooLong, whole(b"\xff\n"), Line::CutOff];
        assert_eq!(lines.batch().unwrap(), (1..).zip(all).collect::<Vec<_>>());
        assert_eq!(lines.batch().unwrap(), []);
        let mut lines = Lines::of(file(b"12345"), 99, 4).unwrap();
        assert_eq!(lines.batch().unwrap(), [(1, Line::TooLong)]);
        assert_eq!(lines.batch().unwrap(), []);
    }

    #[test]
    fn a_batch_ends_with_the_line_that_fills_it() {
        let mut lines = Lines::of(file(&b"1\n".repeat(BATCH_LINES + 1)), u64::MAX, usize::MAX).unwrap();
        assert_eq!([(); 3].map(|()| lines.batch().unwrap().len()), [BATCH_LINES, 1, 0]);
        let long = [vec![b'x'; BATCH_BYTES - 2], vec![b'\n']].concat();
        let mut lines =
            Lines::of(file(&[&long[..], b"1\n", b"2\n", &long[..]].concat()), u64::MAX, usize::MAX).unwrap();
        let mut numbers = || lines.batch().unwrap().into_iter().map(|(number, _)| number).collect::<Vec<_>>();
        assert_eq!([numbers(), numbers(), numbers()], [vec![1, 2], vec![3, 4], vec![]]);
    }

    #[test]
    fn a_file_is_read_as_far_as_its_limit() {
        assert_eq!(read_bounded(file(b"1234"), 4).unwrap(), b"1234");
        let too_large = |result: io::Result<Vec<u8>>| {
            assert_eq!(result.unwrap_err().to_string(), "it is larger than 4 bytes, the most that is read");
        };
        too_large(read_bounded(file(b"12345"), 4));
        too_large(read_bounded(File::open("/dev/zero").unwrap(), 4));
        assert!(Lines::of(file(b"12345"), 4, 9).is_err());
        let sparse = file(b"");
        sparse.set_len(1 << 40).unwrap_or_default();
        assert!(Lines::of(file(b"1"), 0, 9).is_err());
    }
}
