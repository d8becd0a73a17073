//! Files of /proc and /sys that procfs does not cover.

use std::{fs::File, io, os::unix::fs::FileExt, path::Path};

/// Larger than any port bitmap, so that one read(2) returns everything: on the second read of a bitmap such as
/// ip_local_reserved_ports the kernel reports end of file, wherever the first read stopped.
const AT_ONCE_BYTES: usize = 1 << 18;

/// Reads a whole file in one read(2).
pub fn read(path: impl AsRef<Path>) -> io::Result<String> {
    KeptFile::open(path)?.read().map(str::to_owned)
}

/// A file opened once and read often. A file below /proc/self/net stays with the network namespace in which it was
/// opened, wherever the process moves.
#[derive(Debug)]
pub struct KeptFile {
    file: File,
    buffer: Vec<u8>,
}

impl KeptFile {
    pub fn open(path: impl AsRef<Path>) -> io::Result<Self> {
        // Untouched memory uses no pages.
        Ok(Self { file: File::open(path)?, buffer: vec![0; AT_ONCE_BYTES] })
    }

    /// Reads the whole file again.
    pub fn read(&mut self) -> io::Result<&str> {
        let mut length = 0;
        loop {
            if length == self.buffer.len() {
                self.buffer.resize(length + AT_ONCE_BYTES, 0);
            }
            match self.file.read_at(&mut self.buffer[length..], length as u64) {
                Ok(0) => break,
                Ok(more) => length += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        std::str::from_utf8(&self.buffer[..length]).map_err(|_| io::ErrorKind::InvalidData.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_whole_each_time() {
        let temporary = tempfile::NamedTempFile::new().unwrap();
        let mut kept = KeptFile::open(temporary.path()).unwrap();
        for length in [3 * AT_ONCE_BYTES + 7, 5, 0] {
            std::fs::write(temporary.path(), "x".repeat(length)).unwrap();
            assert_eq!((kept.read().unwrap().len(), read(temporary.path()).unwrap().len()), (length, length));
        }
    }
}
