//! Files that a command writes where the user says: they replace nothing but their like.

use std::{
    fs,
    io::Read,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};

use super::Usage;
use crate::{
    record::reader::{FILES, TRIALS},
    report::derived_files,
    sys::folder::Folder,
};

/// Bytes of a file that are searched for its mark: style and title of a page come before.
const SEARCHED: u64 = 1 << 20;

/// A file to be written, which is known not to replace anything else.
#[derive(Debug)]
pub struct Output {
    path: PathBuf,
    folder: Folder,
    name: String,
}

impl Output {
    /// The file that an option names. Files of `maker` have the mark, and no others are replaced.
    pub fn of(option: &str, path: &Path, mark: &str, maker: &str) -> Result<Self> {
        let shown = path.display();
        if path == Path::new("-") {
            bail!(Usage(format!("{option} writes a file, never standard output: name one (./- is a file, too)")));
        }
        if fs::symlink_metadata(path).is_ok_and(|found| found.is_symlink()) {
            bail!("{option} {shown} is a symbolic link, and is not followed: name the file itself");
        }
        let (folder, name) = Folder::of_file(path).with_context(|| format!("{option} {shown}"))?;
        let is_of_records = || FILES.into_iter().chain(derived_files()).any(|file| file == name);
        if is_of_records() && folder.holds(TRIALS).with_context(|| format!("{option} {shown}"))? {
            let record = folder.path().display();
            bail!(Usage(format!("{option} {shown} is a part of the record in {record}: name another file")));
        }
        may_replace(&folder, &name, mark, maker)?;
        Ok(Self { path: path.to_owned(), folder, name })
    }

    /// Whether both are one file.
    pub fn is(&self, other: &Self) -> bool {
        let place = |output: &Self| output.folder.path().canonicalize().ok();
        self.name == other.name && place(self) == place(other)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn write(&self, text: &str) -> Result<()> {
        let written = self.folder.replace(&self.name, text.as_bytes());
        written.with_context(|| format!("writing {}", self.path.display()))
    }
}

/// Fails if there is a file without the mark of `maker`'s, unless it is empty.
pub fn may_replace(folder: &Folder, name: &str, mark: &str, maker: &str) -> Result<()> {
    let path = folder.path().join(name);
    let Some(file) = folder.file(name).with_context(|| path.display().to_string())? else { return Ok(()) };
    let mut bytes = Vec::new();
    file.take(SEARCHED).read_to_end(&mut bytes).with_context(|| path.display().to_string())?;
    if !bytes.is_empty() && !bytes.windows(mark.len()).any(|window| window == mark.as_bytes()) {
        bail!("{} was not made by `{maker}`, and is not replaced: move it away", path.display());
    }
    Ok(())
}
