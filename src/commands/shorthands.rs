//! Options that stand for keys of a scenario, next to `--set`.

use anyhow::{Result, bail};

use super::{Usage, sources};
use crate::{
    cli::{Overrides, Shorthand},
    scenario::{
        Plan, ScenarioError,
        keys::{self, AnyKey},
    },
};

/// What the options stand for, as `--set` takes it. Refuses a key that `--set` decides too.
pub(super) fn settings(given: &[Shorthand<'_>], overrides: &Overrides) -> Result<Vec<String>> {
    once_each(&overrides.set)?;
    for set in &overrides.set {
        let path = path_of(set);
        let decides = given.iter().find(|one| one.decides(path)).map(|one| one.option);
        let decides = decides.or_else(|| (overrides.seed.is_some() && path == keys::SEED.path()).then_some("--seed"));
        if let Some(option) = decides {
            bail!(Usage(format!("--set {set}: {option} decides `{path}`: leave one of the two out")));
        }
    }
    Ok(given.iter().flat_map(Shorthand::settings).collect())
}

/// Refuses a key that `--set` decides twice.
pub(super) fn once_each(sets: &[String]) -> Result<()> {
    for (number, set) in sets.iter().enumerate() {
        let path = path_of(set);
        if let Some(other) = sets[..number].iter().find(|other| path_of(other) == path) {
            bail!(Usage(format!("--set {set}: --set {other} decides `{path}`: leave one of the two out")));
        }
    }
    Ok(())
}

/// Names in an error what was typed, where an option stands for a setting.
pub(super) fn as_typed<T>(given: &[Shorthand<'_>], overrides: &Overrides, result: Result<T>) -> Result<T> {
    let words = |set: &str| {
        let option = given.iter().find(|one| one.settings().any(|setting| setting == set)).map(Shorthand::words);
        option.or_else(|| {
            overrides.seed.filter(|_| path_of(set) == keys::SEED.path()).map(|seed| format!("--seed {seed}"))
        })
    };
    result.map_err(|error| match error.downcast::<ScenarioError>() {
        Ok(error) => error.named_as_typed(words).into(),
        Err(error) => error,
    })
}

/// Refuses an option for the only load of a scenario that has several.
pub(super) fn fit(given: &[Shorthand<'_>], text: &sources::Text, overrides: &[String]) -> Result<()> {
    if let Some(one) = given.iter().find(|one| one.is_of_a_population())
        && let named = Plan::named_loads(&text.source(), overrides)?
        && !named.is_empty()
    {
        let leaf = one.key.path().rsplit('.').next().unwrap_or_default();
        bail!(Usage(format!(
            "{} is for a scenario with a single load, and {} has the populations {}: use --set load.NAME.{leaf}=… for one of them",
            one.option,
            text.name,
            named.join(", ")
        )));
    }
    Ok(())
}

/// The key of `key=value`.
pub(super) fn path_of(set: &str) -> &str {
    set.split_once('=').map_or(set, |(path, _)| path).trim()
}

#[cfg(test)]
mod tests {
    use super::{super::is_usage, *};
    use crate::cli::Shorthands;

    #[test]
    fn a_key_is_set_once() {
        let check = |sets: &[&str]| once_each(&sets.iter().map(|&set| set.to_owned()).collect::<Vec<_>>());
        check(&["repetitions=3", "load.a.rate=2", "load.b.rate=2"]).unwrap();
        let error = check(&["repetitions=3", "seed=2", " repetitions =4"]).unwrap_err();
        assert!(is_usage(&error), "{error}");
        assert_eq!(
            error.to_string(),
            "--set  repetitions =4: --set repetitions=3 decides `repetitions`: leave one of the two out"
        );
    }

    #[test]
    fn errors_have_the_words_that_were_typed() {
        let text = sources::Text::of_binary("test.toml", "");
        let options =
            Shorthands { rate: Some("0".to_owned()), duration: Some("1".to_owned()), ..Shorthands::default() };
        let given: Vec<Shorthand<'_>> = options.given().collect();
        let overrides = Overrides { set: vec!["load.warmup=2".to_owned()], seed: Some(u64::MAX) };
        let mut all = overrides.all();
        all.extend(settings(&given, &overrides).unwrap());
        let error = as_typed(&given, &overrides, sources::plan(&text, &all)).unwrap_err().to_string();
        for part in [
            "--rate 0: `load.rate`: ",
            "--for 1: `load.duration`: must be a duration, such as \"200us\", not 1",
            "--set load.warmup=2: `load.warmup`: must be a duration, such as",
            "--seed 18446744073709551615: `seed`: ",
        ] {
            assert!(error.contains(part), "{part}: {error}");
        }
    }
}
