//! Reads a file line by line, with no more than one line in memory.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read, Take},
};

/// The lines of a file.
#[derive(Debug)]
pub(super) struct Lines {
    file: BufReader<Take<File>>,
    most_bytes: usize,
    line: Vec<u8>,
    number: usize,
}

/// A line without its line break.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line<'a> {
    /// One that ends with a line break.
    Whole(&'a [u8]),
    /// The file ended within it.
    CutOff,
    /// It has more bytes than are read.
    TooLong,
}

impl Lines {
    /// Reads a file of at most so many bytes, with at most so many in a line.
    pub fn of(file: File, most_bytes_in_all: u64, most_bytes: usize) -> io::Result<Self> {
        check_size(file.metadata()?.len(), most_bytes_in_all)?;
        // Meanwhile it may grow.
        let file = BufReader::with_capacity(1 << 16, file.take(most_bytes_in_all));
        Ok(Self { file, most_bytes, line: Vec::new(), number: 0 })
    }

    /// The next line and its number, counted from 1; `None` at the end.
    pub fn next(&mut self) -> io::Result<Option<(usize, Line<'_>)>> {
        self.line.clear();
        self.number += 1;
        let mut left = self.most_bytes.saturating_add(1) as u64;
        (&mut self.file).take(left).read_until(b'\n', &mut self.line)?;
        left -= self.line.len() as u64;
        let line = match self.line.strip_suffix(b"\n") {
            Some(line) => Line::Whole(line),
            None if self.line.is_empty() => return Ok(None),
            None if left > 0 => Line::CutOff,
            None => {
                self.file.skip_until(b'\n')?;
                Line::TooLong
            }
        };
        Ok(Some((self.number, line)))
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
        for expected in [
            (1, Line::Whole(b"one")),
            (2, Line::Whole(b"")),
            (3, Line::Whole(b"four")),
            (4, Line::TooLong),
            (5, Line::Whole(b"\xff")),
            (6, Line::CutOff),
        ] {
            assert_eq!(lines.next().unwrap(), Some(expected));
        }
        assert_eq!(lines.next().unwrap(), None);
        let mut lines = Lines::of(file(b"12345"), 99, 4).unwrap();
        assert_eq!(lines.next().unwrap(), Some((1, Line::TooLong)));
        assert_eq!(lines.next().unwrap(), None);
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
