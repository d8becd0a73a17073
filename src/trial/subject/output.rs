//! What a server writes to its standard outputs and its log files, as much of it as a record keeps.

use std::{
    collections::VecDeque,
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    path::Path,
};

use crate::sys::folder::Folder;

/// Bytes kept of the beginning of the standard outputs, which say how the server started.
const HEAD_BYTES: usize = 64 << 10;
/// Bytes kept of their end, which say how it ended.
const TAIL_BYTES: usize = 192 << 10;
/// Bytes kept of the end of each log file.
const LOG_BYTES: u64 = 16 << 10;
/// Most log files kept.
const LOGS: usize = 8;
/// Most lines that an error quotes, and most characters of each.
const QUOTED_LINES: usize = 10;
const QUOTED_CHARACTERS: usize = 300;

/// The beginning and the end of what was written.
#[derive(Debug, Default)]
pub(super) struct Output {
    head: Vec<u8>,
    tail: VecDeque<u8>,
    left_out: u64,
}

impl Output {
    pub fn write(&mut self, bytes: &[u8]) {
        let (head, rest) = bytes.split_at(bytes.len().min(HEAD_BYTES - self.head.len()));
        self.head.extend_from_slice(head);
        self.tail.extend(rest);
        let over = self.tail.len().saturating_sub(TAIL_BYTES);
        self.tail.drain(..over);
        self.left_out += over as u64;
    }

    /// Reads what a pipe holds now, without blocking if the pipe does not. `Ok(true)` at its end.
    pub fn read_from(&mut self, pipe: &mut impl Read) -> io::Result<bool> {
        let mut chunk = [0; 65_536];
        match pipe.read(&mut chunk) {
            Ok(0) => Ok(true),
            Ok(length) => {
                self.write(&chunk[..length]);
                Ok(false)
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The text, which says how much of it is left out.
    pub fn text(&self) -> String {
        let mut bytes = self.head.clone();
        if self.left_out > 0 {
            bytes.extend_from_slice(format!("\n[{} bytes left out]\n", self.left_out).as_bytes());
        }
        bytes.extend(&self.tail);
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

/// The end of each log file (`*.log`) directly in a folder, below a line with its name.
pub(super) fn logs(folder: &Path) -> String {
    let Ok(folder) = Folder::open(folder) else { return String::new() };
    let mut files = folder.names().unwrap_or_default();
    files.retain(|name| name.ends_with(".log"));
    files.sort_unstable();
    let part = |name: &String| {
        // A name may be that of a pipe, or of a link out of the folder.
        let text = end_of(folder.file(name).ok()??).ok().filter(|text| !text.is_empty())?;
        Some(format!("==> {{dir}}/{name} <==\n{text}{}", if text.ends_with('\n') { "" } else { "\n" }))
    };
    files.iter().filter_map(part).take(LOGS).collect()
}

fn end_of(mut file: File) -> io::Result<String> {
    let left_out = file.metadata()?.len().saturating_sub(LOG_BYTES);
    file.seek(SeekFrom::Start(left_out))?;
    let mut bytes = Vec::new();
    file.take(LOG_BYTES).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    Ok(if left_out > 0 { format!("[{left_out} bytes left out]\n{text}") } else { text.into_owned() })
}

/// The last lines of an output for an error's message; `None` if there is none.
pub(super) fn last_lines(text: &str) -> Option<String> {
    let mut lines: Vec<String> = from_the_end(text).take(QUOTED_LINES).collect();
    lines.reverse();
    (!lines.is_empty()).then(|| lines.iter().map(|line| format!("\n  | {line}")).collect())
}

/// The last line of an output for a sentence.
pub fn last_line(text: &str) -> Option<String> {
    from_the_end(text).next().map(|line| line.trim().to_owned())
}

/// Lines that are not empty, without what would upset a terminal, the last one first.
fn from_the_end(text: &str) -> impl Iterator<Item = String> {
    let shown = |line: &str| -> String {
        let clean = line.trim_end().chars().filter(|c| !c.is_control() || *c == '\t');
        clean.take(QUOTED_CHARACTERS).collect()
    };
    text.lines().rev().map(shown).filter(|line| !line.trim().is_empty())
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    #[test]
    fn beginning_and_end_are_kept_and_the_rest_is_counted() {
        let kept = HEAD_BYTES + TAIL_BYTES;
        let written = |bytes: usize| {
            let mut output = Output::default();
            let all: Vec<u8> = (0..bytes).map(|n| b'a' + (n % 26) as u8).collect();
            all.chunks(1_000).for_each(|part| output.write(part));
            (output.text(), String::from_utf8(all).unwrap())
        };
        for bytes in [0, 1, HEAD_BYTES, HEAD_BYTES + 1, kept] {
            let (text, all) = written(bytes);
            assert_eq!(text, all, "{bytes}");
        }
        let (text, all) = written(kept + 7);
        assert_eq!(text, format!("{}\n[7 bytes left out]\n{}", &all[..HEAD_BYTES], &all[HEAD_BYTES + 7..]));
        assert!(written(40 * kept).0.len() < kept + 100);
    }

    #[test]
    fn logs_are_quoted_by_name_and_from_their_end() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        write("error.log", "no such upstream");
        write("access.log", &"x".repeat(LOG_BYTES as usize + 3));
        write("empty.log", "");
        write("nginx.conf", "events {}");
        symlink("/etc/passwd", folder.path().join("link.log")).unwrap();
        let text = logs(folder.path());
        let access = format!("==> {{dir}}/access.log <==\n[3 bytes left out]\n{}\n", "x".repeat(LOG_BYTES as usize));
        assert_eq!(text, format!("{access}==> {{dir}}/error.log <==\nno such upstream\n"));
        assert_eq!(logs(&folder.path().join("none")), "");
    }

    #[test]
    fn an_error_quotes_the_last_lines_without_escapes() {
        assert_eq!((last_lines("\n \n"), last_line("\n \n")), (None, None));
        assert_eq!(last_line("one\n  two \n\n").unwrap(), "two");
        assert_eq!(last_lines("one\n\n\u{1b}[31mtwo\r\n").unwrap(), "\n  | one\n  | [31mtwo");
        let many: String = (0..30).map(|n| format!("line {n}\n")).collect();
        let quoted = last_lines(&many).unwrap();
        assert_eq!(quoted.matches("| line").count(), QUOTED_LINES);
        assert!(quoted.starts_with("\n  | line 20\n") && quoted.ends_with("line 29"), "{quoted}");
        assert!(last_lines(&"y".repeat(9_000)).unwrap().len() < 400);
    }
}
