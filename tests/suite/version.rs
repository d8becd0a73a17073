//! The version that the binary states: its revision, or none where that cannot be known.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;

use crate::common::{Bench, assert_code, stderr, stdout};

#[path = "../../src/build/revision.rs"]
mod revision;

tests! {
    nothing [
        the_version_names_the_revision_if_any,
        a_package_names_the_commit_it_was_made_from,
    ]
    git [
        a_repository_names_its_commit,
        only_changes_to_what_is_built_count,
        nobody_else_s_commit_is_named,
    ]
    cargo [
        a_second_build_without_a_repository_does_nothing,
        a_second_build_in_somebody_else_s_repository_does_nothing,
        a_second_build_in_the_repository_does_nothing,
        a_second_build_without_reflogs_does_nothing,
        a_second_build_in_a_worktree_does_nothing,
        a_second_build_of_a_package_does_nothing,
        a_hook_of_another_repository_changes_nothing,
    ]
}

/// A small package with this one's build script, which prints its version.
struct Package {
    folder: PathBuf,
    whole: TempDir,
}

impl Package {
    /// In this folder of a temporary one; an empty name stands for the temporary one itself.
    fn new(folder: &str) -> Self {
        let whole = tempfile::tempdir().unwrap();
        let folder = whole.path().join(folder);
        fs::create_dir_all(folder.join("src/build")).unwrap();
        for name in ["src/build/main.rs", "src/build/revision.rs"] {
            fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join(name), folder.join(name)).unwrap();
        }
        for (name, text) in [
            // A workspace of its own, whatever is above it.
            (
                "Cargo.toml",
                "[package]\nname = 'small'\nversion = '1.2.3'\nedition = '2024'\nbuild = 'src/build/main.rs'\n[workspace]\n",
            ),
            ("Cargo.lock", "version = 4\n[[package]]\nname = 'small'\nversion = '1.2.3'\n"),
            ("src/main.rs", "fn main() { println!(\"{}\", env!(\"LISTENBENCH_VERSION\")) }\n"),
            ("README.md", "Read me.\n"),
            (".gitignore", "/target\n"),
        ] {
            fs::write(folder.join(name), text).unwrap();
        }
        Self { folder, whole }
    }

    /// In a repository of its own.
    fn in_repository() -> Self {
        let package = Self::new("");
        begin_repository(&package.folder);
        package
    }

    fn revision(&self) -> Option<String> {
        let revision = revision::of(&self.folder);
        // Cargo would build anew each time on account of a missing one.
        assert!(revision.depends_on.iter().all(|file| file.exists()), "{revision:?}");
        revision.name
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.folder.join(name), text).unwrap();
    }

    fn git(&self, arguments: &[&str]) -> String {
        git(&self.folder, arguments)
    }

    /// Commits everything, and returns the new commit's first digits.
    fn commit(&self) -> String {
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--allow-empty", "--message=change"]);
        head(&self.folder)
    }

    /// Builds it as a user would. Returns whether anything was compiled, and the version that it then prints.
    fn build(&self, environment: &[(&str, &Path)]) -> (bool, String) {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "--offline", "--locked"]).current_dir(&self.folder);
        cargo.env("CARGO_TARGET_DIR", self.folder.join("target")).envs(environment.iter().copied());
        let output = cargo.output().unwrap();
        assert_code(&output, 0);
        let binary = Command::new(self.folder.join("target/debug/small")).output().unwrap();
        (stderr(&output).contains("Compiling"), stdout(&binary).trim().to_owned())
    }

    /// Demands that one build compiles and the next does not, and that both yield this version.
    fn assert_built_once(&self, version: &str) {
        for compiles in [true, false] {
            assert_eq!(self.build(&[]), (compiles, version.to_owned()));
        }
    }
}

/// Runs git as a person without configuration.
fn git(folder: &Path, arguments: &[&str]) -> String {
    let mut command = Command::new("git");
    command.args(["-c", "user.name=Somebody", "-c", "user.email=somebody@localhost", "-c", "commit.gpgsign=false"]);
    command
        .args(arguments)
        .current_dir(folder)
        .env_remove("GIT_DIR")
        .env_remove("GIT_INDEX_FILE")
        .env_remove("GIT_WORK_TREE");
    let output = command.output().unwrap();
    assert_code(&output, 0);
    stdout(&output).trim().to_owned()
}

fn head(folder: &Path) -> String {
    git(folder, &["rev-parse", "--short=12", "HEAD"])
}

/// Makes a folder a repository with all its files in one commit.
fn begin_repository(folder: &Path) {
    git(folder, &["init", "--quiet", "--initial-branch=main"]);
    git(folder, &["add", "--all"]);
    git(folder, &["commit", "--quiet", "--allow-empty", "--message=begin"]);
}

fn the_version_names_the_revision_if_any() {
    let output = Bench::new("").command(&["--version"]).output().unwrap();
    assert_code(&output, 0);
    let printed = stdout(&output);
    let version = printed.trim().strip_prefix(concat!("listenbench ", env!("CARGO_PKG_VERSION"))).unwrap();
    if !version.is_empty() {
        let revision = version.strip_prefix(" (").and_then(|rest| rest.strip_suffix(')')).unwrap();
        let commit = revision.strip_suffix("-dirty").unwrap_or(revision);
        assert!(commit.len() >= 12 && commit.bytes().all(|digit| digit.is_ascii_hexdigit()), "{printed}");
    }
}

fn a_package_names_the_commit_it_was_made_from() {
    let package = Package::new("");
    let commit = "0123456789abcdef0123456789abcdef01234567";
    for (text, name) in [
        (
            format!("{{\n  \"git\": {{\n    \"sha1\": \"{commit}\"\n  }},\n  \"path_in_vcs\": \"\"\n}}"),
            Some("0123456789ab"),
        ),
        (
            format!("{{\"git\": {{\"sha1\": \"{commit}\", \"dirty\": true}}, \"path_in_vcs\": \"\"}}"),
            Some("0123456789ab-dirty"),
        ),
        // A part of somebody's larger repository.
        (format!("{{\"git\": {{\"sha1\": \"{commit}\"}}, \"path_in_vcs\": \"vendor/listenbench\"}}"), None),
        (format!("{{\"git\": {{\"sha1\": \"{commit}\"}}}}"), None),
        ("{\"git\": {\"sha1\": \"0123\"}, \"path_in_vcs\": \"\"}".to_owned(), None),
        ("{\"git\": {\"sha1\": \"not a number at all\"}, \"path_in_vcs\": \"\"}".to_owned(), None),
        ("{}".to_owned(), None),
        (String::new(), None),
    ] {
        package.write(".cargo_vcs_info.json", &text);
        assert_eq!(package.revision().as_deref(), name, "{text}");
    }
}

fn a_repository_names_its_commit() {
    let package = Package::in_repository();
    let first = head(&package.folder);
    assert_eq!(package.revision(), Some(first.clone()));
    // Wherever its branches are, and without one.
    package.git(&["pack-refs", "--all"]);
    assert_eq!(package.revision(), Some(first.clone()));
    package.git(&["checkout", "--quiet", "--detach"]);
    assert_eq!(package.revision(), Some(first.clone()));
    package.git(&["worktree", "add", "--quiet", "tree", "-b", "other"]);
    let tree = package.folder.join("tree");
    git(&tree, &["commit", "--quiet", "--allow-empty", "--message=other"]);
    assert_eq!(revision::of(&tree).name, Some(head(&tree)));
    assert_eq!(package.revision(), Some(first));
}

fn only_changes_to_what_is_built_count() {
    let package = Package::in_repository();
    let commit = head(&package.folder);
    package.write("README.md", "Read me again.\n");
    package.write("src/notes.txt", "Not in the repository.\n");
    assert_eq!(package.revision(), Some(commit.clone()));
    for file in ["src/main.rs", "Cargo.toml", "Cargo.lock"] {
        let before = fs::read_to_string(package.folder.join(file)).unwrap();
        package.write(file, &format!("{before}\n"));
        assert_eq!(package.revision(), Some(format!("{commit}-dirty")), "{file}");
        package.write(file, &before);
        assert_eq!(package.revision(), Some(commit.clone()), "{file}");
    }
    fs::remove_file(package.folder.join("src/main.rs")).unwrap();
    assert_eq!(package.revision(), Some(format!("{commit}-dirty")));
}

fn nobody_else_s_commit_is_named() {
    assert_eq!(Package::new("").revision(), None);
    // A folder of somebody's repository, in it or ignored by it.
    let package = Package::new("vendor/listenbench");
    begin_repository(package.whole.path());
    assert_eq!(package.revision(), None);
    // A repository that begins where the package does and does not have it.
    let package = Package::new("");
    package.write(".gitignore", "/Cargo.toml\n/src\n");
    begin_repository(&package.folder);
    assert_eq!(package.revision(), None);
    // One that does not have a commit.
    let package = Package::new("");
    package.git(&["init", "--quiet"]);
    package.git(&["add", "--all"]);
    assert_eq!(package.revision(), None);
    // One that somebody keeps a package in.
    package.write(".cargo_vcs_info.json", "{\"git\": {\"sha1\": \"0123456789abcdef\"}, \"path_in_vcs\": \"\"}");
    package.commit();
    assert_eq!(package.revision().as_deref(), Some("0123456789ab"));
}

fn a_second_build_without_a_repository_does_nothing() {
    Package::new("").assert_built_once("1.2.3");
}

fn a_second_build_in_somebody_else_s_repository_does_nothing() {
    let package = Package::new("vendor/listenbench");
    begin_repository(package.whole.path());
    package.assert_built_once("1.2.3");
    git(package.whole.path(), &["commit", "--quiet", "--allow-empty", "--message=theirs"]);
    assert_eq!(package.build(&[]), (false, "1.2.3".to_owned()));
}

fn a_second_build_in_the_repository_does_nothing() {
    let package = Package::in_repository();
    let first = head(&package.folder);
    package.assert_built_once(&format!("1.2.3 ({first})"));
    // Nor after what leaves the commit and the source as they are.
    package.git(&["status"]);
    package.git(&["update-index", "--force-write-index"]);
    package.git(&["branch", "other"]);
    package.git(&["pack-refs", "--all"]);
    package.write("README.md", "Read me again.\n");
    assert_eq!(package.build(&[]), (false, format!("1.2.3 ({first})")));
    // A commit of other files is another revision of the same source.
    let second = package.commit();
    package.assert_built_once(&format!("1.2.3 ({second})"));
    package.write("src/main.rs", "fn main() { print!(\"{}\", env!(\"LISTENBENCH_VERSION\")) }\n");
    package.assert_built_once(&format!("1.2.3 ({second}-dirty)"));
    package.git(&["checkout", "--quiet", "src/main.rs"]);
    package.assert_built_once(&format!("1.2.3 ({second})"));
    package.git(&["checkout", "--quiet", "other"]);
    package.assert_built_once(&format!("1.2.3 ({first})"));
}

fn a_second_build_without_reflogs_does_nothing() {
    let package = Package::new("");
    package.git(&["init", "--quiet", "--initial-branch=topic/main"]);
    package.git(&["config", "core.logAllRefUpdates", "false"]);
    let first = package.commit();
    package.git(&["pack-refs", "--all", "--prune"]);
    package.assert_built_once(&format!("1.2.3 ({first})"));
    let second = package.commit();
    package.assert_built_once(&format!("1.2.3 ({second})"));
    let third = package.commit();
    package.assert_built_once(&format!("1.2.3 ({third})"));
}

fn a_second_build_in_a_worktree_does_nothing() {
    let package = Package::in_repository();
    package.git(&["worktree", "add", "--quiet", "tree"]);
    let tree = Package { folder: package.folder.join("tree"), whole: package.whole };
    let first = head(&tree.folder);
    tree.assert_built_once(&format!("1.2.3 ({first})"));
    // The other worktree's commits are its own.
    git(tree.whole.path(), &["commit", "--quiet", "--allow-empty", "--message=main"]);
    assert_eq!(tree.build(&[]), (false, format!("1.2.3 ({first})")));
    let second = tree.commit();
    tree.assert_built_once(&format!("1.2.3 ({second})"));
}

fn a_second_build_of_a_package_does_nothing() {
    let package = Package::new("");
    package.write(".cargo_vcs_info.json", "{\"git\": {\"sha1\": \"0123456789abcdef\"}, \"path_in_vcs\": \"\"}");
    package.assert_built_once("1.2.3 (0123456789ab)");
}

fn a_hook_of_another_repository_changes_nothing() {
    let theirs = Package::in_repository();
    let package = Package::new("");
    let repository = theirs.folder.join(".git");
    let hook: &[(&str, &Path)] = &[("GIT_DIR", &repository), ("GIT_WORK_TREE", &package.folder)];
    assert_eq!(package.build(hook), (true, "1.2.3".to_owned()));
    assert_eq!(package.build(hook), (false, "1.2.3".to_owned()));
}
