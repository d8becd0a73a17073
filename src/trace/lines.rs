//! Lines of bounded length, of a stream without end.

use std::io::{self, BufRead};

/// Bytes of the longest line that is read; of a longer one, only its length is known.
const LONGEST: usize = 64 << 10;

/// A reader of lines, into one buffer.
pub(super) struct Lines<'a> {
    input: &'a mut dyn BufRead,
    line: Vec<u8>,
    number: u64,
    is_cut_off: bool,
}

/// A line without its end, or that it is too long.
pub(super) type Line<'a> = Result<&'a [u8], TooLong>;

/// A line of more than [`LONGEST`] bytes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooLong;

impl TooLong {
    /// What is wrong with the line.
    pub const PROBLEM: &'static str = "is longer than 64 KiB";
}

impl<'a> Lines<'a> {
    pub fn new(input: &'a mut dyn BufRead) -> Self {
        Self { input, line: Vec::new(), number: 0, is_cut_off: false }
    }

    /// Whether the file ended before the line that was read last did.
    pub fn is_cut_off(&self) -> bool {
        self.is_cut_off
    }

    /// The next line that isn't blank, with its number from 1.
    pub fn next(&mut self) -> io::Result<Option<(u64, Line<'_>)>> {
        loop {
            self.line.clear();
            let (mut read, mut dropped) = (false, false);
            loop {
                let buffer = match self.input.fill_buf() {
                    Ok(buffer) => buffer,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    Err(error) => return Err(error),
                };
                if buffer.is_empty() {
                    break;
                }
                read = true;
                let end = buffer.iter().position(|byte| *byte == b'\n');
                let part = &buffer[..end.unwrap_or(buffer.len())];
                dropped |= self.line.len() + part.len() > LONGEST;
                if !dropped {
                    self.line.extend_from_slice(part);
                }
                let used = part.len() + usize::from(end.is_some());
                self.is_cut_off = end.is_none();
                self.input.consume(used);
                if end.is_some() {
                    break;
                }
            }
            if !read {
                return Ok(None);
            }
            self.number += 1;
            if dropped {
                return Ok(Some((self.number, Err(TooLong))));
            }
            if !self.line.trim_ascii().is_empty() {
                return Ok(Some((self.number, Ok(self.line.trim_ascii_end()))));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::BufReader;

    use super::*;

    #[test]
    fn lines_are_numbered_blank_ones_skipped_and_long_ones_dropped() {
        let text = format!("a\r\n\n  \nb\n{}\nlast", "x".repeat(LONGEST + 1));
        for capacity in [1, 7, 1 << 20] {
            let mut input = BufReader::with_capacity(capacity, text.as_bytes());
            let mut lines = Lines::new(&mut input);
            let mut all = Vec::new();
            while let Some((number, line)) = lines.next().unwrap() {
                all.push((number, line.map(<[u8]>::to_vec)));
            }
            let of = |line: &str| Ok(line.as_bytes().to_vec());
            assert_eq!(all, [(1, of("a")), (4, of("b")), (5, Err(TooLong)), (6, of("last"))]);
        }
    }
}
