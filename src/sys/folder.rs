//! Folders by their descriptors: whatever is created, replaced or read below one is reached component by component, and never through
//! a symbolic link, which may lead anywhere. The path that a user names may be a link itself.

use std::{
    fs::{self, File},
    io::{self, Write},
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
};

use nix::{
    dir::Dir,
    errno::Errno,
    fcntl::{AtFlags, OFlag, open, openat, renameat},
    sys::stat::{Mode, SFlag, fstat, fstatat, mkdirat},
    unistd::{AccessFlags, UnlinkatFlags, access, unlinkat},
};
use thiserror::Error;

use super::random;

/// Fails if this process may not make a folder of this path, with those above it that do not exist, or may not write to the one there is.
pub fn may_write(path: &Path) -> io::Result<()> {
    let here = Path::new(".");
    let above = path.ancestors().map(|one| if one.as_os_str().is_empty() { here } else { one });
    let existing = above.into_iter().find(|one| fs::symlink_metadata(one).is_ok()).unwrap_or(here);
    if !fs::metadata(existing)?.is_dir() {
        return Err(Errno::ENOTDIR.into());
    }
    Ok(access(existing, AccessFlags::W_OK | AccessFlags::X_OK)?)
}

/// What names of temporary files begin and end with.
const TEMPORARY: (&str, &str) = (".listenbench-", ".new");

/// How often a temporary file is made anew, if another process removes it before it is locked.
const ATTEMPTS: usize = 3;

/// An open folder.
#[derive(Debug)]
pub struct Folder {
    descriptor: OwnedFd,
    path: PathBuf,
    made: Made,
}

/// Folders that were created, the outermost first. Those that are still empty in the end are removed.
#[derive(Debug, Default)]
struct Made(Vec<PathBuf>);

impl Drop for Made {
    fn drop(&mut self) {
        for path in self.0.iter().rev() {
            // Fails if there is anything in it.
            let _ = fs::remove_dir(path);
        }
    }
}

impl Folder {
    /// Opens the folder that a user names. The path may have links.
    pub fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        Ok(Self { descriptor: open(path, flags, Mode::empty())?, path: path.to_owned(), made: Made::default() })
    }

    /// Opens the folder that a user names, and creates it and those above it where they do not exist. Those that it creates are removed
    /// when it is closed, unless they hold anything by then.
    pub fn create(path: &Path) -> io::Result<Self> {
        let is_new = |path: &&Path| !path.as_os_str().is_empty() && fs::symlink_metadata(path).is_err();
        let mut made: Vec<PathBuf> = path.ancestors().take_while(is_new).map(Path::to_owned).collect();
        made.reverse();
        let made = Made(made);
        fs::create_dir_all(path)?;
        Ok(Self { made, ..Self::open(path)? })
    }

    /// The folder of the file that a user names, and the file's name in it. If the file exists and is a link, those of what it leads
    /// to. Fails if that is anything but a regular file: a device or a pipe would be replaced.
    pub fn of_file(path: &Path) -> io::Result<(Self, String)> {
        let resolved;
        let path = match fs::symlink_metadata(path) {
            Ok(found) if found.is_symlink() => {
                resolved = path.canonicalize()?;
                &resolved
            }
            _ => path,
        };
        let name = path.file_name().and_then(|name| name.to_str());
        let name = name.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "not the name of a file"))?;
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let folder = Self::open(parent.unwrap_or(Path::new(".")))?;
        match folder.kind(name)? {
            None | Some(Kind::File) => Ok((folder, name.to_owned())),
            Some(kind) => Err(kind.refused()),
        }
    }

    /// The path it was opened with.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The folder of a name below this one; `None` if there is nothing of that name.
    pub fn below(&self, name: &str) -> io::Result<Option<Self>> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        match openat(&self.descriptor, component(name)?, flags, Mode::empty()) {
            Ok(descriptor) => Ok(Some(Self { descriptor, path: self.path.join(name), made: Made::default() })),
            Err(Errno::ENOENT) => Ok(None),
            Err(error) => Err(self.why(name, error)),
        }
    }

    /// With what was created of those above it, which is removed after this one if it is empty then.
    pub fn with(mut self, above: Self) -> Self {
        let mut made = above.made;
        made.0.append(&mut self.made.0);
        self.made = made;
        self
    }

    /// The folder of a name below this one, created if it does not exist.
    pub fn make(&self, name: &str) -> io::Result<Self> {
        match self.make_new(name)? {
            Some(made) => Ok(made),
            None => self.below(name)?.ok_or_else(|| io::ErrorKind::NotFound.into()),
        }
    }

    /// Creates a folder of a name below this one; `None` if there is anything of that name. It is removed when it is closed, unless it
    /// holds anything by then.
    pub fn make_new(&self, name: &str) -> io::Result<Option<Self>> {
        match mkdirat(&self.descriptor, component(name)?, Mode::from_bits_truncate(0o777)) {
            Ok(()) => {
                let made = Made(vec![self.path.join(name)]);
                Ok(self.below(name)?.map(|folder| Self { made, ..folder }))
            }
            Err(Errno::EEXIST) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Removes a file.
    pub fn remove(&self, name: &str) -> io::Result<()> {
        Ok(unlinkat(&self.descriptor, component(name)?, UnlinkatFlags::NoRemoveDir)?)
    }

    /// Has what was created, renamed or removed in this folder survive a power failure.
    pub fn sync(&self) -> io::Result<()> {
        // A descriptor that only stands for a path cannot be synchronized.
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let folder = File::from(openat(&self.descriptor, c".", flags, Mode::empty())?);
        match folder.sync_all() {
            // Some file systems cannot, and need not.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
            synchronized => synchronized,
        }
    }

    /// Whether there is anything of a name, be it a link that leads nowhere.
    pub fn holds(&self, name: &str) -> io::Result<bool> {
        Ok(self.kind(name)?.is_some())
    }

    /// Creates a file. Fails if there is anything of that name.
    pub fn create_new(&self, name: &str) -> io::Result<File> {
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        Ok(openat(&self.descriptor, component(name)?, flags, Mode::from_bits_truncate(0o666))?.into())
    }

    /// Writes or replaces a file in one step: others find the old or the new contents, whole. A `/` in the name leads into folders
    /// below this one, which are created if they do not exist.
    pub fn replace(&self, name: &str, contents: &[u8]) -> io::Result<()> {
        self.put(name, contents, |_| Ok(()))
    }

    /// The same for a file that must survive a power failure from then on.
    pub fn replace_durably(&self, name: &str, contents: &[u8]) -> io::Result<()> {
        self.put(name, contents, File::sync_all)?;
        self.sync()
    }

    /// Replaces a file by one that `settle` accepts.
    fn put(&self, name: &str, contents: &[u8], settle: fn(&File) -> io::Result<()>) -> io::Result<()> {
        if let Some((folder, rest)) = name.split_once('/') {
            return self.make(folder)?.put(rest, contents, settle);
        }
        // The rename would only replace the link, but one here is an attack or a mistake.
        if self.kind(name)? == Some(Kind::Link) {
            return Err(Kind::Link.refused());
        }
        let mut replaced = Ok(());
        for _ in 0..ATTEMPTS {
            replaced = self.try_put(name, contents, settle);
            let kind = replaced.as_ref().map_err(io::Error::kind);
            if !matches!(kind, Err(io::ErrorKind::NotFound | io::ErrorKind::AlreadyExists)) {
                break;
            }
        }
        replaced
    }

    fn try_put(&self, name: &str, contents: &[u8], settle: fn(&File) -> io::Result<()>) -> io::Result<()> {
        let temporary = format!("{}{:016x}{}", TEMPORARY.0, random::unguessable()?, TEMPORARY.1);
        let mut file = self.create_new(&temporary)?;
        // Locked as long as it is in use. A file system without locks keeps the temporary files of processes that were killed.
        let _ = file.try_lock();
        let placed = file
            .write_all(contents)
            .and_then(|()| settle(&file))
            .and_then(|()| Ok(renameat(&self.descriptor, temporary.as_str(), &self.descriptor, component(name)?)?));
        if placed.is_err() {
            let _ = unlinkat(&self.descriptor, temporary.as_str(), UnlinkatFlags::NoRemoveDir);
        }
        placed
    }

    /// Opens a regular file for reading; `None` if there is nothing of that name. Never waits, whatever the name stands for.
    pub fn file(&self, name: &str) -> io::Result<Option<File>> {
        // Not even to be opened: some devices act on that.
        match self.kind(name)? {
            None => return Ok(None),
            Some(Kind::File) => {}
            Some(kind) => return Err(kind.refused()),
        }
        let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let file = match openat(&self.descriptor, component(name)?, flags, Mode::empty()) {
            Ok(file) => file,
            Err(Errno::ENOENT) => return Ok(None),
            Err(error) => return Err(self.why(name, error)),
        };
        match Kind::of(fstat(&file)?.st_mode) {
            Kind::File => Ok(Some(file.into())),
            kind => Err(kind.refused()),
        }
    }

    /// Removes temporary files left by processes that were killed, as far as this user may.
    pub fn sweep(&self) {
        for name in self.names().unwrap_or_default() {
            // Whoever uses it holds its lock.
            if is_temporary(&name) && self.file(&name).ok().flatten().is_some_and(|file| file.try_lock().is_ok()) {
                let _ = unlinkat(&self.descriptor, name.as_str(), UnlinkatFlags::NoRemoveDir);
            }
        }
    }

    /// The names in the folder that are text, `.` and `..` included.
    pub fn names(&self) -> io::Result<Vec<String>> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let mut entries = Dir::openat(self.descriptor.as_fd(), c".", flags, Mode::empty())?;
        let mut names = Vec::new();
        for entry in entries.iter() {
            names.extend(entry?.file_name().to_str().map(str::to_owned));
        }
        Ok(names)
    }

    fn kind(&self, name: &str) -> io::Result<Option<Kind>> {
        match fstatat(&self.descriptor, component(name)?, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(found) => Ok(Some(Kind::of(found.st_mode))),
            Err(Errno::ENOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Why a name could not be opened: for a link, the kernel's own words are "Too many levels" or "Not a directory".
    fn why(&self, name: &str, error: Errno) -> io::Error {
        match self.kind(name) {
            Ok(Some(Kind::Link)) => Kind::Link.refused(),
            _ => error.into(),
        }
    }
}

/// A name stands for something that is neither read nor replaced.
#[derive(Debug, Error)]
#[error("{0}")]
pub struct Refused(&'static str);

impl Refused {
    /// Whether that is why something failed.
    pub fn is(error: &io::Error) -> bool {
        error.get_ref().is_some_and(|inner| inner.is::<Self>())
    }
}

/// What a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    File,
    Folder,
    Link,
    /// A pipe, a socket or a device.
    Other,
}

impl Kind {
    fn of(mode: libc::mode_t) -> Self {
        match SFlag::from_bits_truncate(mode & SFlag::S_IFMT.bits()) {
            SFlag::S_IFREG => Self::File,
            SFlag::S_IFDIR => Self::Folder,
            SFlag::S_IFLNK => Self::Link,
            _ => Self::Other,
        }
    }

    fn refused(self) -> io::Error {
        io::Error::other(Refused(match self {
            Self::Link => "it is a symbolic link, and those below a record's folder are never followed",
            Self::Folder => "it is a folder, not a file",
            Self::File | Self::Other => "it is not a regular file",
        }))
    }
}

fn is_temporary(name: &str) -> bool {
    let number = name.strip_prefix(TEMPORARY.0).and_then(|rest| rest.strip_suffix(TEMPORARY.1));
    number.is_some_and(|number| number.len() == 16 && number.bytes().all(|digit| digit.is_ascii_hexdigit()))
}

/// A name of one component, which leads neither up nor elsewhere.
fn component(name: &str) -> io::Result<&str> {
    if matches!(name, "" | "." | "..") || name.contains(['/', '\0']) {
        let problem = format!("{name:?} does not name a file in a folder");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, problem));
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use std::os::unix::{fs::symlink, net::UnixListener};

    use nix::unistd::mkfifo;

    use super::*;

    #[test]
    fn folders_that_were_made_and_stay_empty_are_removed() {
        let temporary = tempfile::tempdir().unwrap();
        let path = |name: &str| temporary.path().join(name);
        let found = Folder::create(temporary.path()).unwrap();
        drop(Folder::create(&path("a/b")).unwrap());
        drop(found.make("c").unwrap());
        let above = Folder::create(&path("d")).unwrap();
        drop(above.make("e").unwrap().with(above));
        assert_eq!(fs::read_dir(temporary.path()).unwrap().count(), 0);
        // But not one that is used, or that somebody else made.
        let kept = Folder::create(&path("f/g")).unwrap();
        kept.replace("file", b"").unwrap();
        fs::create_dir(path("h")).unwrap();
        drop((kept, Folder::create(&path("h")).unwrap(), found.make("h").unwrap(), found));
        assert!(path("f/g/file").exists() && path("h").exists());
    }

    /// A folder that is to be left alone with one file, and one with links to both and to nothing.
    fn with_links() -> (tempfile::TempDir, Folder, PathBuf) {
        let temporary = tempfile::tempdir().unwrap();
        let (inside, outside) = (temporary.path().join("record"), temporary.path().join("outside"));
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("victim"), "precious").unwrap();
        let folder = Folder::create(&inside).unwrap();
        for (name, target) in [("file", "victim"), ("nothing", "absent"), ("folder", "")] {
            symlink(outside.join(target), inside.join(name)).unwrap();
        }
        (temporary, folder, outside)
    }

    #[test]
    fn nothing_is_written_or_read_through_a_link() {
        let (_temporary, folder, outside) = with_links();
        let link = |error: io::Error| assert!(error.to_string().contains("a symbolic link"), "{error}");
        for name in ["file", "nothing", "folder"] {
            link(folder.replace(name, b"new").unwrap_err());
            link(folder.file(name).unwrap_err());
            link(folder.below(name).unwrap_err());
            link(folder.make(name).unwrap_err());
            link(folder.replace(&format!("{name}/new"), b"new").unwrap_err());
            assert_eq!(folder.create_new(name).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
            assert!(folder.holds(name).unwrap());
        }
        assert_eq!(fs::read_to_string(outside.join("victim")).unwrap(), "precious");
        assert_eq!((fs::read_dir(&outside).unwrap().count(), fs::read_dir(folder.path()).unwrap().count()), (1, 3));
    }

    #[test]
    fn a_folder_put_in_place_of_another_after_it_was_opened_gets_nothing() {
        let (temporary, folder, outside) = with_links();
        let moved = temporary.path().join("moved");
        fs::rename(folder.path(), &moved).unwrap();
        symlink(&outside, folder.path()).unwrap();
        folder.replace("percentiles/one", b"1").unwrap();
        assert_eq!(fs::read_to_string(moved.join("percentiles/one")).unwrap(), "1");
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
    }

    #[test]
    fn what_the_user_names_may_be_a_link() {
        let (temporary, _, outside) = with_links();
        let link = temporary.path().join("link");
        symlink(&outside, &link).unwrap();
        Folder::create(&link).unwrap().replace("new", b"1").unwrap();
        assert!(outside.join("new").exists());

        let file = temporary.path().join("metrics.prom");
        symlink(outside.join("victim"), &file).unwrap();
        let (folder, name) = Folder::of_file(&file).unwrap();
        folder.replace(&name, b"figures").unwrap();
        assert_eq!(fs::read_to_string(outside.join("victim")).unwrap(), "figures");
        assert!(file.is_symlink());

        let pipe = temporary.path().join("pipe");
        mkfifo(&pipe, Mode::S_IRWXU).unwrap();
        for (path, problem) in [
            (pipe.as_path(), "not a regular file"),
            (Path::new("/dev/null"), "not a regular file"),
            (&outside, "a folder"),
            (Path::new("/"), "not the name of a file"),
            (&temporary.path().join("record/nothing"), "No such file"),
        ] {
            let error = Folder::of_file(path).unwrap_err();
            assert!(error.to_string().contains(problem), "{}: {error}", path.display());
        }
    }

    #[test]
    fn only_regular_files_are_read() {
        let temporary = tempfile::tempdir().unwrap();
        let folder = Folder::open(temporary.path()).unwrap();
        let path = |name: &str| temporary.path().join(name);
        mkfifo(&path("pipe"), Mode::S_IRWXU).unwrap();
        let _socket = UnixListener::bind(path("socket")).unwrap();
        fs::create_dir(path("folder")).unwrap();
        fs::write(path("file"), "").unwrap();
        for name in ["pipe", "socket", "folder"] {
            assert!(folder.file(name).is_err(), "{name}");
        }
        assert!(folder.file("file").unwrap().is_some());
        assert!(folder.file("absent").unwrap().is_none());
        let devices = Folder::open(Path::new("/dev")).unwrap();
        assert!(devices.file("zero").unwrap_err().to_string().contains("not a regular file"));
    }

    #[test]
    fn names_lead_nowhere_else() {
        let temporary = tempfile::tempdir().unwrap();
        let folder = Folder::create(&temporary.path().join("record")).unwrap();
        for name in ["", ".", "..", "../x", "a/../../x", "/x", "a//x", "a/", "x\0"] {
            assert!(folder.replace(name, b"").is_err(), "{name:?}");
        }
        for name in ["..", "a/b", "/etc"] {
            assert!(folder.below(name).is_err() && folder.file(name).is_err() && folder.holds(name).is_err(), "{name}");
        }
        assert_eq!(fs::read_dir(temporary.path()).unwrap().count(), 1);
    }

    #[test]
    fn temporary_files_of_dead_processes_are_swept() {
        let temporary = tempfile::tempdir().unwrap();
        let folder = Folder::open(temporary.path()).unwrap();
        let (dead, used) = (".listenbench-0123456789abcdef.new", ".listenbench-fedcba9876543210.new");
        drop(folder.create_new(dead).unwrap());
        let file = folder.create_new(used).unwrap();
        file.try_lock().unwrap();
        for other in ["summary.new", ".listenbench-1.new", ".listenbench-ghijklmnopqrstuv.new"] {
            folder.replace(other, b"").unwrap();
        }
        folder.sweep();
        assert!(!folder.holds(dead).unwrap() && folder.holds(used).unwrap());
        assert_eq!(folder.names().unwrap().len(), 2 + 4, "`.` and `..` included");
    }

    #[test]
    fn a_file_that_cannot_be_placed_leaves_nothing() {
        let temporary = tempfile::tempdir().unwrap();
        let folder = Folder::open(temporary.path()).unwrap();
        fs::create_dir(temporary.path().join("report.html")).unwrap();
        assert!(folder.replace("report.html", b"text").is_err());
        assert_eq!(folder.names().unwrap().len(), 2 + 1);
        for text in ["one", "two"] {
            folder.replace("summary.json", text.as_bytes()).unwrap();
            assert_eq!(fs::read_to_string(temporary.path().join("summary.json")).unwrap(), text);
        }
    }
}
