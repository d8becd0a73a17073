//! `listenbench index`: a page over all records below a folder.

use std::{fs, path::Path};

use anyhow::{Context, Result, bail};

use super::{Ended, folder_to_be, note, output::may_replace, say};
use crate::{
    cli,
    format::harmless,
    record::reader::TRIALS,
    report::{
        Reading,
        history::{History, MARK, Run},
        terminal,
    },
    sys::folder::Folder,
};

const PAGE: &str = "index.html";
const REPORT: &str = "report.html";

/// Folders below folders beyond this depth are not looked into.
const DEPTH: usize = 6;
/// The most folders that are looked into.
const FOLDERS: usize = 100_000;

/// Runs the command.
pub fn run(options: &cli::Index) -> Result<Ended> {
    let folder = folder_to_be(&options.folder, "a folder with records in it")?;
    may_replace(&folder, PAGE, MARK, "listenbench index")?;
    let mut search = Search::default();
    search.visit(&folder, &[]).with_context(|| options.folder.display().to_string())?;
    let Search { runs, left_out, .. } = search;
    if runs.is_empty() {
        left_out.iter().for_each(note);
        bail!("no record can be read below {}: `listenbench run` writes them", options.folder.display());
    }
    let history = History::of(runs);
    let page = history.page(&named(&options.folder), &left_out);
    folder.replace(PAGE, page.as_bytes()).with_context(|| format!("writing {}", folder.path().join(PAGE).display()))?;
    history.findings().iter().try_for_each(|line| say(terminal::prose(line)))?;
    left_out.iter().for_each(|line| note(format_args!("left out: {line}")));
    say(terminal::prose(&format!("written: {}", folder.path().join(PAGE).display())))?;
    Ok(if left_out.is_empty() && !history.is_flawed() { Ended::Done } else { Ended::Flawed })
}

/// A folder as it was given or, if that has no name, like `.`, by its name.
fn named(folder: &Path) -> String {
    let real = || fs::canonicalize(folder).ok();
    match (folder.file_name(), real()) {
        (None, Some(real)) => real.file_name().unwrap_or(real.as_os_str()).to_string_lossy().into_owned(),
        _ => folder.display().to_string(),
    }
}

/// Looks for records, folder by folder. No link is followed.
#[derive(Default)]
struct Search {
    runs: Vec<Run>,
    /// Folders that cannot be read, and why.
    left_out: Vec<String>,
    folders: usize,
}

impl Search {
    /// A folder, by the names that lead to it from the first.
    fn visit(&mut self, folder: &Folder, path: &[String]) -> std::io::Result<()> {
        self.folders += 1;
        if self.folders > FOLDERS {
            return Err(std::io::Error::other(format!("more than {FOLDERS} folders")));
        }
        if folder.holds(TRIALS)? {
            self.record(folder, path);
            return Ok(());
        }
        let mut names = folder.names()?;
        names.sort_unstable();
        for name in names.into_iter().filter(|name| !name.starts_with('.') && path.len() < DEPTH) {
            // Files, links and what this user may not open are none of the records.
            let Ok(Some(below)) = folder.below(&name) else { continue };
            let path: Vec<String> = path.iter().cloned().chain([name]).collect();
            if let Err(error) = self.visit(&below, &path) {
                self.left_out.push(format!("{}: {error}", path.join("/")));
            }
        }
        Ok(())
    }

    fn record(&mut self, folder: &Folder, path: &[String]) {
        let name = if path.is_empty() { ".".to_owned() } else { harmless(&path.join("/")).into_owned() };
        match Reading::of(folder) {
            Ok(reading) => {
                let has_report = folder.file(REPORT).is_ok_and(|file| file.is_some());
                self.runs.push(Run::of(name, has_report.then(|| link(path)), &reading));
            }
            Err(error) => self.left_out.push(format!("{name}: {}", crate::format::causes(&error.into()))),
        }
    }
}

/// A relative link to the report in a folder. It begins with a dot, so no name makes it one to elsewhere.
fn link(path: &[String]) -> String {
    let mut link = "./".to_owned();
    for name in path {
        for byte in name.bytes() {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => link.push(char::from(byte)),
                byte => link += &format!("%{byte:02X}"),
            }
        }
        link.push('/');
    }
    link + REPORT
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_lead_below_the_page() {
        let of = |path: &[&str]| link(&path.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
        assert_eq!(of(&[]), "./report.html");
        assert_eq!(
            of(&["javascript:alert(1)", "a b?#\"é"]),
            "./javascript%3Aalert%281%29/a%20b%3F%23%22%C3%A9/report.html"
        );
    }
}
