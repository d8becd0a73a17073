//! A folder of text files, read when the scenario is read: its record repeats the run without the folder.

use std::{
    fs,
    path::{Path, PathBuf},
};

use toml::{Table, Value};

use super::keys::FILES_LIMIT;

/// More bytes in all are a mistake.
const BYTES_LIMIT: u64 = 1 << 20;

/// The files below a folder, as a table of names and contents in the order of the names. The error completes the sentence
/// that begins with the key.
pub(super) fn table(folder: &Path) -> Result<Table, String> {
    let mut files = Vec::new();
    collect(folder, &mut files)?;
    files.sort();
    let mut bytes = 0;
    let mut table = Table::new();
    for path in files {
        let size = fs::metadata(&path).map_err(|error| unreadable(&path, &error))?.len();
        bytes += size;
        if bytes > BYTES_LIMIT {
            return Err(format!("{} holds more than {BYTES_LIMIT} bytes", folder.display()));
        }
        let contents = fs::read_to_string(&path).map_err(|error| unreadable(&path, &error))?;
        let name = path.strip_prefix(folder).expect("a path below the folder").to_str();
        let name = name.ok_or_else(|| format!("{} has a name that is not UTF-8", path.display()))?;
        table.insert(name.to_owned(), Value::String(contents));
    }
    Ok(table)
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<(), String> {
    for entry in fs::read_dir(folder).map_err(|error| unreadable(folder, &error))? {
        let path = entry.map_err(|error| unreadable(folder, &error))?.path();
        let kind = fs::metadata(&path).map_err(|error| unreadable(&path, &error))?.file_type();
        if kind.is_dir() {
            // A link to a folder may lead back here.
            if path.is_symlink() {
                return Err(format!("{} is a link to a folder: copy the folder", path.display()));
            }
            collect(&path, files)?;
        } else if kind.is_file() {
            files.push(path);
        } else {
            return Err(format!("{} is neither a file nor a folder", path.display()));
        }
        if files.len() > FILES_LIMIT {
            return Err(format!("{} holds more than {FILES_LIMIT} files", folder.display()));
        }
    }
    Ok(())
}

fn unreadable(path: &Path, error: &std::io::Error) -> String {
    if error.kind() == std::io::ErrorKind::InvalidData {
        return format!("{} is not a text file (UTF-8)", path.display());
    }
    format!("{}: {error}", path.display())
}

#[cfg(test)]
mod tests {
    use std::os::unix::{fs::symlink, net::UnixListener};

    use super::*;

    #[test]
    fn a_folder_becomes_a_table_of_its_text_files() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::create_dir(path("sites")).unwrap();
        fs::write(path("sites/one.conf"), "one").unwrap();
        fs::write(path("main.conf"), "").unwrap();
        symlink(path("main.conf"), path("linked.conf")).unwrap();
        let files = table(folder.path()).unwrap();
        assert_eq!(files.keys().collect::<Vec<_>>(), ["linked.conf", "main.conf", "sites/one.conf"]);
        assert_eq!(files["sites/one.conf"].as_str(), Some("one"));
        assert!(table(&path("absent")).unwrap_err().contains("No such file"));

        let refused = |name: &str, problem: &str| {
            let error = table(folder.path()).unwrap_err();
            assert!(error.contains(name) && error.contains(problem), "{error}");
            fs::remove_file(path(name)).unwrap();
        };
        symlink(folder.path(), path("loop")).unwrap();
        refused("loop", "a link to a folder");
        fs::write(path("binary"), [0xff, 0xfe]).unwrap();
        refused("binary", "not a text file");
        drop(UnixListener::bind(path("socket")).unwrap());
        refused("socket", "neither a file nor a folder");
        symlink(path("nowhere"), path("dangling")).unwrap();
        refused("dangling", "No such file");

        fs::write(path("exactly"), "x".repeat(BYTES_LIMIT as usize - 3)).unwrap();
        assert!(table(folder.path()).is_ok());
        fs::write(path("more"), "x").unwrap();
        assert!(table(folder.path()).unwrap_err().contains("more than 1048576 bytes"));
    }
}
