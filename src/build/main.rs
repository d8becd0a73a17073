//! Bakes the revision into the binary, so that `--version` and every record name the code.

#[path = "revision.rs"]
mod revision;

use std::{env, path::PathBuf};

fn main() {
    let variable = |name: &str| env::var(name).unwrap_or_else(|error| panic!("cargo sets {name}: {error}"));
    let package = PathBuf::from(variable("CARGO_MANIFEST_DIR"));
    let revision = revision::of(&package);
    let version = variable("CARGO_PKG_VERSION");
    let version = match &revision.name {
        Some(name) => format!("{version} ({name})"),
        None => version,
    };
    println!("cargo:rustc-env=LISTENBENCH_VERSION={version}");
    println!("cargo:rustc-env=LISTENBENCH_REVISION={}", revision.name.as_deref().unwrap_or("unknown"));
    for file in revision.depends_on {
        println!("cargo:rerun-if-changed={}", file.display());
    }
}
