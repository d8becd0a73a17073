//! What can be explained: a topic for every name, each made from the table that declares it.

use std::iter;

use strum::{Display, EnumIter};

/// What a name is the name of, in the order of the overview.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Display, EnumIter)]
#[strum(serialize_all = "lowercase")]
pub(in crate::commands) enum Kind {
    Scenario,
    Table,
    Key,
    /// A word that a key takes.
    Value,
    Strategy,
    Metric,
    Verdict,
    /// What a comparison shows.
    #[strum(serialize = "verdict of a comparison")]
    Finding,
    Stage,
    Event,
    /// A word used in records.
    Word,
    /// A word used everywhere.
    Term,
    Cause,
    /// A column of a CSV file.
    #[strum(serialize = "CSV column")]
    Csv,
    /// A table of a report.
    #[strum(serialize = "table of reports")]
    Grid,
    /// A column of a report's table.
    Column,
    Limit,
    #[strum(serialize = "exit code")]
    ExitCode,
}

/// A name and its explanation.
#[derive(Debug, Clone)]
pub(in crate::commands) struct Topic {
    pub kind: Kind,
    pub name: String,
    /// What it belongs to, such as a table or a key; empty if the kind says enough.
    pub of: String,
    /// What else the name is the name of, with the same meaning.
    pub also: Vec<String>,
    /// Facts, each with its name.
    pub facts: Vec<(&'static str, String)>,
    /// What it means, in sentences.
    pub meaning: String,
    /// What to do about it.
    pub remedy: Option<String>,
}

impl Topic {
    pub fn new(kind: Kind, name: impl Into<String>, meaning: impl Into<String>) -> Self {
        // Documentation comments have the line breaks of the source.
        let meaning = meaning.into().split_whitespace().collect::<Vec<_>>().join(" ");
        let name = name.into();
        Self { kind, name, of: String::new(), also: Vec::new(), facts: Vec::new(), meaning, remedy: None }
    }

    pub fn of(mut self, of: impl Into<String>) -> Self {
        self.of = of.into();
        self
    }

    pub fn fact(mut self, name: &'static str, fact: impl Into<String>) -> Self {
        self.facts.push((name, fact.into()));
        self
    }

    pub fn remedy(mut self, remedy: Option<impl Into<String>>) -> Self {
        self.remedy = remedy.map(Into::into);
        self
    }

    /// `load.rate (key)`, `wait p99 (column of Members)`.
    pub fn title(&self) -> String {
        let what = iter::once(self.what()).chain(self.also.iter().cloned()).collect::<Vec<_>>();
        format!("{} ({})", self.name, what.join("; "))
    }

    /// `key`, `column of Members`.
    pub fn what(&self) -> String {
        let Self { kind, of, .. } = self;
        if of.is_empty() { kind.to_string() } else { format!("{kind} of {of}") }
    }

    /// Whether a user means this topic by a name.
    pub fn is_called(&self, name: &str) -> bool {
        let own = plain(&self.name);
        let name = plain(name);
        match self.kind {
            // Its unit, and a population's name, may be left out.
            Kind::Metric => own == name || own.strip_suffix("_ns") == Some(&name),
            // The tables that lead to a key may be left out.
            Kind::Key => own == name || own.rsplit('.').next() == Some(&name),
            Kind::Table => own == name || own.trim_matches(['[', ']']) == name,
            // A head may stand for several columns.
            Kind::Column => {
                own == name || own == with_any_number(&name) || own.split(", ").any(|part| part != "…" && part == name)
            }
            _ => own == name,
        }
    }
}

/// A name in lowercase, with single spaces, and without the backticks that texts put around it.
fn plain(name: &str) -> String {
    let name = name.trim_matches('`').to_lowercase();
    name.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// `at n %` for `at 50 %`.
fn with_any_number(name: &str) -> String {
    let mut text = String::new();
    for c in name.chars() {
        match c {
            '0'..='9' | '.' if text.ends_with('n') => {}
            '0'..='9' => text.push('n'),
            c => text.push(c),
        }
    }
    text
}
