//! The git revision of a package's source. One that cannot be known for certain is not stated.

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// What goes into the binary: changes elsewhere leave it as it is.
const SOURCES: [&str; 4] = ["Cargo.toml", "Cargo.lock", "src", "bench-configs"];

/// Hexadecimal digits of a revision.
const DIGITS: usize = 12;

/// What cargo leaves in a package that it makes from a repository.
const PACKAGED: &str = ".cargo_vcs_info.json";

/// Where git is told to look for a repository other than the one that the working directory is in, by a hook for example.
const ELSEWHERE: [&str; 8] = [
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_COMMON_DIR",
    "GIT_INDEX_FILE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_NAMESPACE",
    "GIT_PREFIX",
];

/// A revision, and whence it comes.
#[derive(Debug, PartialEq, Eq)]
pub struct Revision {
    /// The commit's first digits, with `-dirty` if what is built differs from it; `None` if unknown.
    pub name: Option<String>,
    /// The existing files and folders on which the name depends.
    pub depends_on: Vec<PathBuf>,
}

/// The revision of the package in this folder: the one it was packaged from, or that of its repository, of which it must be the top
/// folder. A repository further up is somebody else's.
pub fn of(package: &Path) -> Revision {
    let packaged = package.join(PACKAGED);
    let (name, whence) = if let Ok(text) = fs::read_to_string(&packaged) {
        (packaged_from(&text), vec![packaged])
    } else if let Some(git) = Git::of(package) {
        (git.revision(), git.places().into_iter().chain(SOURCES.map(|source| package.join(source))).collect())
    } else {
        (None, Vec::new())
    };
    // Cargo takes a missing file for a changed one. Without any file, it would look at the whole package.
    let files = whence.into_iter().filter(|file| file.exists());
    Revision { name, depends_on: files.chain([package.join("src/build")]).collect() }
}

/// What cargo writes: `{"git": {"sha1": "…", "dirty": true}, "path_in_vcs": ""}`. A package with a path is part of a larger repository,
/// whose revisions are not its own.
fn packaged_from(text: &str) -> Option<String> {
    let text: String = text.split_whitespace().collect();
    let digits = text.split_once("\"sha1\":\"")?.1.split('"').next()?;
    let known = digits.len() >= DIGITS && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    let dirty = if text.contains("\"dirty\":true") { "-dirty" } else { "" };
    (known && text.contains("\"path_in_vcs\":\"\"")).then(|| format!("{}{dirty}", &digits[..DIGITS]))
}

/// The repository whose top folder a package is.
struct Git<'a> {
    package: &'a Path,
}

impl<'a> Git<'a> {
    fn of(package: &'a Path) -> Option<Self> {
        let git = Self { package };
        let top = git.run(["rev-parse", "--show-toplevel"])?;
        let same = fs::canonicalize(top).ok()? == fs::canonicalize(package).ok()?;
        (same && git.run(["ls-files", "--error-unmatch", "Cargo.toml"]).is_some()).then_some(git)
    }

    fn revision(&self) -> Option<String> {
        let digits = format!("--short={DIGITS}");
        let head = self.run(["rev-parse", "--verify", "--quiet", &digits, "HEAD"])?;
        let status = ["status", "--porcelain", "--untracked-files=no", "--"];
        let changes = self.run(status.into_iter().chain(SOURCES))?;
        Some(if changes.is_empty() { head } else { format!("{head}-dirty") })
    }

    /// Files of the repository of which one changes when HEAD becomes another commit, and none when other branches do, if possible.
    fn places(&self) -> Vec<PathBuf> {
        let head = self.place("HEAD");
        let log = self.place("logs/HEAD").filter(|log| log.exists());
        if log.is_some() {
            return head.into_iter().chain(log).collect();
        }
        // No log is kept: the branch's own file, the folder where it would appear, and the files of many branches.
        let branch = self.run(["symbolic-ref", "--quiet", "HEAD"]).and_then(|branch| self.place(&branch));
        let branch = branch.and_then(|file| file.ancestors().find(|place| place.exists()).map(Path::to_owned));
        let tables =
            self.run(["rev-parse", "--git-common-dir"]).map(|common| self.package.join(common).join("reftable"));
        [head, branch, self.place("packed-refs"), tables].into_iter().flatten().collect()
    }

    /// Where the repository has a file of its own, in a worktree too.
    fn place(&self, name: &str) -> Option<PathBuf> {
        self.run(["rev-parse", "--git-path", name]).map(|path| self.package.join(path))
    }

    /// What git prints, if it succeeds.
    fn run<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Option<String> {
        let mut command = Command::new("git");
        // The index stays as it is: refreshed, it would look changed. A folder of another user's has already had its code run by cargo.
        command.args(["--no-optional-locks", "-c", "core.fsmonitor=false", "-c"]);
        command.arg(format!("safe.directory={}", self.package.display())).args(arguments).current_dir(self.package);
        for name in ELSEWHERE {
            command.env_remove(name);
        }
        let output = command.output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }
}
