//! The folders of servers that a command starts: the only things of a trial that have a name on this machine. Here they are made, named,
//! owned, and swept.
//!
//! A folder belongs to whoever has it open, locked by flock(2). The kernel ends the lock with the last process that holds it, however
//! that dies, and shows it to every user, container and process-id namespace that sees the folder. A folder of this kind without a lock
//! is therefore one that nobody will remove any more, and neither will anybody end the processes that its command left.

use std::{
    collections::BTreeSet,
    fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError},
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow};
use nix::{
    sys::signal::Signal,
    unistd::{Pid, geteuid},
};

use crate::{
    observe::{host, processes},
    scenario::{
        Scenario,
        keys::{self, AnyKey},
    },
    sys::process,
};

/// The beginning of a folder's name; a random UUID follows.
const PREFIX: &str = "listenbench-server-";
/// The variable by which a command's processes are known, with the folder's path. A program may overwrite its environment.
pub(super) const VARIABLE: &str = "LISTENBENCH_DIR";
/// How long processes may take to end once they are killed.
const END_PATIENCE: Duration = Duration::from_secs(5);
const LOOK_AGAIN: Duration = Duration::from_millis(1);

/// A server's folder, which is this process's, and its later children's, until the last of them ends.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    /// Holds the lock.
    _lock: File,
}

impl Folder {
    /// Makes a folder that other users can read, as a server must that drops its privileges: everybody may pass the folders above it.
    pub fn make() -> Result<Self> {
        let base = bases().into_iter().find(|folder| is_open(folder)).with_context(|| {
            format!("no folder for the server's files: not every user may pass {}; set TMPDIR", wished().display())
        })?;
        loop {
            let name = host::unique_id().context("reading random/uuid")?;
            let path = base.join(format!("{PREFIX}{name}"));
            DirBuilder::new()
                .mode(0o700)
                .create(&path)
                .with_context(|| format!("making a folder for the server's files in {}; set TMPDIR", base.display()))?;
            match own(&path) {
                Ok(Some(lock)) => {
                    lock.set_permissions(Permissions::from_mode(0o755))
                        .with_context(|| format!("chmod {}", path.display()))?;
                    return Ok(Self { path, _lock: lock });
                }
                // Somebody swept it before it was owned.
                Ok(None) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    let _ = fs::remove_dir(&path);
                    return Err(error).with_context(|| {
                        format!(
                            "flock {}: the server's folder must be in a file system with locks; set TMPDIR",
                            path.display()
                        )
                    });
                }
            }
        }
    }

    /// Where it is. Its name is made of text.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Removes it with all that is in it.
    pub fn remove(&self) -> Result<()> {
        fs::remove_dir_all(&self.path).with_context(|| format!("removing {}", self.path.display()))
    }
}

/// What stands for a server's folder where its address names a Unix socket.
pub const DIR: &str = "{dir}";

/// A scenario whose server's Unix socket has its path, and the folder of that path if it is one of the trial's own.
pub struct Placed {
    pub scenario: Scenario,
    folder: Option<Folder>,
    owner: u32,
}

impl Placed {
    /// Makes the folder, if the scenario asks for one.
    pub fn of(scenario: &Scenario) -> Result<Self> {
        let mut placed = Self { scenario: scenario.clone(), folder: None, owner: std::process::id() };
        if let Some(unix) = placed.scenario.unix.as_mut().filter(|unix| unix.contains(DIR)) {
            let folder = placed.folder.insert(Folder::make()?);
            let path = folder.path.to_str().expect("its name is made of text");
            *unix = unix.with(DIR, path).map_err(|problem| anyhow!("`{}`: {problem}", keys::ADDRESS.path()))?;
        }
        Ok(placed)
    }

    /// The folder, which whoever takes it is to remove.
    pub(super) fn take_folder(&mut self) -> Option<Folder> {
        self.folder.take()
    }
}

impl Drop for Placed {
    fn drop(&mut self) {
        if let Some(folder) = self.folder.take().filter(|_| self.owner == std::process::id()) {
            // Otherwise a later run sweeps it.
            let _ = folder.remove();
        }
    }
}

/// What earlier processes left, which are dead.
#[derive(Debug, Default)]
pub struct Leftovers {
    /// Folders that are removed now.
    pub folders: Vec<PathBuf>,
    /// Processes that were killed: name and id.
    pub processes: Vec<(String, i32)>,
    /// Folders that could not be removed, with the reason.
    pub kept: Vec<(PathBuf, io::Error)>,
}

impl Leftovers {
    /// What was found and removed, and what could not be; `None` if nothing was found.
    pub fn words(&self) -> Option<String> {
        let list = |paths: &mut dyn Iterator<Item = String>| paths.collect::<Vec<_>>().join(", ");
        let processes = list(&mut self.processes.iter().map(|(name, pid)| format!("{name} (pid {pid})")));
        let folders = list(&mut self.folders.iter().map(|path| path.display().to_string()));
        let kept = list(&mut self.kept.iter().map(|(path, error)| format!("{}: {error}", path.display())));
        let parts = [("killed ", processes), ("removed ", folders), ("could not remove ", kept)];
        let parts: Vec<String> = parts
            .into_iter()
            .filter(|(_, list)| !list.is_empty())
            .map(|(verb, list)| format!("{verb}{list}"))
            .collect();
        (!parts.is_empty()).then(|| format!("left by a trial whose processes were killed: {}", parts.join("; ")))
    }
}

/// Removes the folders of dead trials that this user may remove, and kills what their commands left running.
pub fn sweep() -> Leftovers {
    let mut left = Leftovers::default();
    let bases: BTreeSet<PathBuf> = bases().iter().filter_map(|base| base.canonicalize().ok()).collect();
    let entries = bases.iter().filter_map(|base| fs::read_dir(base).ok()).flatten().flatten();
    for path in entries.filter(|entry| entry.file_name().to_str().is_some_and(is_name)).map(|entry| entry.path()) {
        // Another user's, or somebody is at work there.
        let Ok(Some(_lock)) = own(&path) else { continue };
        left.processes.extend(end_processes(&path));
        match fs::remove_dir_all(&path) {
            Ok(()) => left.folders.push(path),
            Err(error) => left.kept.push((path, error)),
        }
    }
    left
}

/// Becomes the owner of a folder. `None` if it has one, if only another user could remove it, or if it has just been removed.
fn own(path: &Path) -> io::Result<Option<File>> {
    let folder = OpenOptions::new().read(true).custom_flags(libc::O_DIRECTORY | libc::O_NOFOLLOW).open(path)?;
    let user = geteuid();
    if !user.is_root() && folder.metadata()?.uid() != user.as_raw() {
        return Ok(None);
    }
    match folder.try_lock() {
        Err(TryLockError::WouldBlock) => return Ok(None),
        Err(TryLockError::Error(error)) => return Err(error),
        Ok(()) => {}
    }
    // Its last owner may have removed it since it was opened.
    Ok((folder.metadata()?.nlink() > 0).then_some(folder))
}

/// Kills the processes of a dead trial's command, and waits until they have ended. Returns their names and ids.
fn end_processes(folder: &Path) -> BTreeSet<(String, i32)> {
    let mut ended = BTreeSet::new();
    let since = Instant::now();
    loop {
        let left = processes::belonging(VARIABLE, folder);
        if left.is_empty() || since.elapsed() > END_PATIENCE {
            return ended;
        }
        for (name, pid) in left {
            process::send_signal(Pid::from_raw(pid), Signal::SIGKILL);
            ended.insert((name, pid));
        }
        std::thread::sleep(LOOK_AGAIN);
    }
}

/// Where such folders may be, best first.
fn bases() -> Vec<PathBuf> {
    [wished(), "/tmp".into(), "/var/tmp".into(), "/dev/shm".into()].into()
}

fn wished() -> PathBuf {
    std::env::temp_dir()
}

/// Whether every user may pass a folder and all above it.
fn is_open(folder: &Path) -> bool {
    let Ok(folder) = folder.canonicalize() else { return false };
    let passable = |folder: &Path| fs::metadata(folder).is_ok_and(|found| found.is_dir() && found.mode() & 0o001 != 0);
    folder.to_str().is_some() && folder.ancestors().all(passable)
}

/// Whether a folder of this name was made here: the prefix, and a UUID in its usual form.
fn is_name(name: &str) -> bool {
    let Some(id) = name.strip_prefix(PREFIX) else { return false };
    let groups: Vec<&str> = id.split('-').collect();
    let digits = |group: &&str| group.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    groups.iter().map(|group| group.len()).eq([8, 4, 4, 4, 12]) && groups.iter().all(digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_left_is_said_in_one_line() {
        assert_eq!(Leftovers::default().words(), None);
        let left = Leftovers {
            folders: vec!["/tmp/a".into(), "/tmp/b".into()],
            processes: vec![("nginx".to_owned(), 7)],
            kept: vec![("/tmp/c".into(), io::Error::other("busy"))],
        };
        let words = "left by a trial whose processes were killed: killed nginx (pid 7); removed /tmp/a, /tmp/b; could not remove /tmp/c: busy";
        assert_eq!(left.words().as_deref(), Some(words));
    }

    #[test]
    fn only_a_name_made_here_is_swept() {
        assert!(is_name(&format!("{PREFIX}{}", host::unique_id().unwrap())));
        for name in [
            "listenbench-server-",
            "listenbench-server-notes",
            "listenbench-0a1b2c3d-0000-4000-8000-0123456789ab",
            "listenbench-server-0A1B2C3D-0000-4000-8000-0123456789ab",
            "listenbench-server-0a1b2c3d-0000-4000-8000-0123456789ab.old",
            "listenbench-server-0a1b2c3d-0000-4000-8000-0123456789a",
            "listenbench-server-0a1b2c3d0-000-4000-8000-0123456789ab",
        ] {
            assert!(!is_name(name), "{name}");
        }
    }

    #[test]
    fn a_folder_has_one_owner_and_none_once_that_has_closed_it() {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("folder");
        fs::create_dir(&path).unwrap();
        let owner = own(&path).unwrap();
        assert!(owner.is_some() && own(&path).unwrap().is_none());
        drop(owner);
        let owner = own(&path).unwrap().unwrap();
        fs::remove_dir(&path).unwrap();
        assert_eq!(owner.metadata().unwrap().nlink(), 0);
        assert_eq!(own(&path).unwrap_err().kind(), io::ErrorKind::NotFound);
        // A link is not followed, whoever made it.
        std::os::unix::fs::symlink(base.path(), &path).unwrap();
        own(&path).unwrap_err();
    }
}
