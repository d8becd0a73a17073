//! Several populations in one load: tables of `[[load]]`, told apart by their names.

use super::{
    error::Origin,
    file::File,
    keys::{self, paths},
    variant::Variant,
};
use crate::suggest;

/// A table of `[[load]]`.
#[derive(Debug, Clone)]
pub(super) struct Population {
    pub name: String,
    /// Where it is named.
    pub origin: Origin,
}

/// The populations that a variant loads the server with, or a scenario without any; none where a single `[load]` does.
pub(super) fn of<'a>(file: &'a File, variant: Option<&'a Variant>) -> &'a [Population] {
    match variant {
        Some(variant) if !variant.populations.is_empty() => &variant.populations,
        _ => &file.populations,
    }
}

/// What is wrong with a population's name.
pub(super) fn misnamed(name: &str) -> Option<String> {
    const LONGEST: usize = 30;
    if paths::is_leaf_of_load(name) || name == paths::LOADS {
        return Some(format!("is called \"{name}\" like a key or table: give it another name"));
    }
    let allowed = paths::may_name_population(name) && name.len() <= LONGEST;
    (!allowed).then(|| {
        format!("must have a name of at most {LONGEST} lowercase letters, digits and `-` that begins with a letter")
    })
}

/// The path of a key in a table of `[[load]]`. What holds for all populations has one place, whichever table sets it.
pub(super) fn path(name: &str, leaf: &str) -> String {
    let whole = format!("{}{leaf}", paths::prefix(paths::LOADS));
    if keys::is_of_all_loads(&whole) { whole } else { format!("{}{name}.{leaf}", paths::prefix(paths::LOADS)) }
}

/// What is wrong with a key of the load that a variant, or a scenario without any, sets.
pub(super) fn misplaced(path: &str, populations: &[Population]) -> Option<String> {
    let named = |leaf: &str| {
        let paths: Vec<String> = populations.iter().map(|one| format!("`{}`", self::path(&one.name, leaf))).collect();
        paths.join(" or ")
    };
    if let Some((name, leaf)) = paths::population(path) {
        if populations.iter().any(|one| one.name == name) {
            return None;
        }
        return Some(if populations.is_empty() {
            format!(
                "this scenario has no [[load]] with name = \"{name}\": write one, or `load.{leaf}` for its only load"
            )
        } else {
            let meant = suggest::hint(name, populations.iter().map(|one| &one.name[..]));
            format!("this scenario has no population \"{name}\": write {}{meant}", named(leaf))
        });
    }
    let leaf = path.strip_prefix(&paths::prefix(paths::LOADS))?;
    let is_ambiguous = !populations.is_empty() && !keys::is_of_all_loads(path);
    is_ambiguous.then(|| format!("each population has its own: write {}", named(leaf)))
}
