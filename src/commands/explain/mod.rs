//! `listenbench explain`: every name that scenarios, records and reports use, from the tables that declare them.

mod topic;
mod topics;

use anyhow::Result;
use strum::IntoEnumIterator;

use self::topic::{Kind, Topic};
use super::{Ended, Usage, say};
use crate::{cli, report::terminal, suggest};

/// Runs the command.
pub fn run(options: &cli::Explain) -> Result<Ended> {
    let topics = topics::all()?;
    if options.names.is_empty() {
        overview(&topics)?;
        return Ok(Ended::Done);
    }
    // All or nothing: an error below several pages would be missed.
    let found: Vec<Vec<Topic>> = options.names.iter().map(|name| find(name, &topics)).collect::<Result<_>>()?;
    for (place, topic) in found.into_iter().flatten().enumerate() {
        if place > 0 {
            say("")?;
        }
        show(&topic)?;
    }
    Ok(Ended::Done)
}

/// All meanings of a name.
fn find(name: &str, topics: &[Topic]) -> Result<Vec<Topic>> {
    let mut found: Vec<Topic> = topics.iter().filter(|topic| topic.is_called(name)).cloned().collect();
    if found.is_empty() {
        found.extend(topics::of_instance(name));
    }
    if found.is_empty() {
        let known = topics.iter().map(|topic| &topic.name[..]);
        let short = |name: &str| name.strip_suffix("_ns").unwrap_or(name).to_owned();
        let leaf = |known: &str| known.rsplit_once('.').map_or(0.0, |(_, leaf)| suggest::similarity(leaf, name));
        let similarity = |known: &str| {
            suggest::similarity(known, name).max(suggest::similarity(&short(known), name)).max(leaf(known))
        };
        let meant =
            suggest::did_you_mean(&suggest::similar_by(similarity, known), |name| format!("`{}`", one_line(name)));
        let meant = if meant.is_empty() { "; `listenbench explain` lists all names".to_owned() } else { meant };
        return Err(Usage(format!("\"{name}\" has no explanation{meant}")).into());
    }
    Ok(merged(found))
}

/// Names of several kinds that mean the same, such as a metric and its column, as one topic.
fn merged(found: Vec<Topic>) -> Vec<Topic> {
    let mut merged: Vec<Topic> = Vec::new();
    for topic in found {
        match merged.iter_mut().find(|other| other.meaning == topic.meaning && other.name == topic.name) {
            Some(other) => {
                other.also.push(topic.what());
                other.facts.extend(topic.facts);
            }
            None => merged.push(topic),
        }
    }
    merged
}

fn one_line(name: &str) -> String {
    name.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn show(topic: &Topic) -> Result<()> {
    say(one_line(&topic.title()))?;
    let line = |text: &str| say(terminal::prose(&format!("  {text}")));
    line(&topic.meaning)?;
    for (name, fact) in &topic.facts {
        line(&format!("{name}: {fact}"))?;
    }
    topic.remedy.as_ref().map_or(Ok(()), |remedy| line(&format!("what to do: {remedy}")))
}

/// The names of each kind.
fn overview(topics: &[Topic]) -> Result<()> {
    say("`listenbench explain NAME…` explains:")?;
    for kind in Kind::iter() {
        let mut names: Vec<String> =
            topics.iter().filter(|topic| topic.kind == kind).map(|topic| one_line(&topic.name)).collect();
        let mut seen = std::collections::HashSet::new();
        names.retain(|name| seen.insert(name.clone()));
        say("")?;
        say(terminal::prose(&format!("{kind}: {}", names.join(" · "))))?;
    }
    Ok(())
}

/// All names that have an explanation.
pub(super) fn names() -> Vec<String> {
    topics::all().unwrap_or_default().into_iter().map(|topic| one_line(&topic.name)).collect()
}
