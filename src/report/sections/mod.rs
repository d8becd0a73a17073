//! The sections of a report, one per file: finding, figure and tables.

mod arrivals;
mod cells;
mod conditions;
mod conntrack;
mod effective;
mod events;
mod firewall;
pub mod harness;
mod host;
mod hosts;
mod in_cells;
mod job;
mod lateness;
mod members;
mod memory;
mod mptcp;
mod nat;
mod netfilter;
mod percentiles;
mod populations;
pub mod ports;
mod ramp;
mod ranking;
mod replays;
pub(in crate::report) mod replies;
mod searches;
mod series;
mod shards;
mod shares;
mod stages;
mod tls;
mod upstream;
mod verdicts;
mod work;

use maud::Markup;

use super::{Grid, Ranked};

/// Renders a section, or `None` if the record has nothing for it.
type Section = fn(&Ranked<'_>) -> Option<Content>;

/// All sections, in the order of every form of the report.
const SECTIONS: &[Section] = &[
    cells::section,
    searches::section,
    ranking::section,
    shards::section,
    populations::section,
    replays::section,
    percentiles::section,
    shares::section,
    events::section,
    members::section,
    work::section,
    hosts::section,
    replies::section,
    mptcp::section,
    tls::section,
    firewall::section,
    nat::section,
    upstream::section,
    series::section,
    stages::section,
    ramp::section,
    memory::section,
    ports::section,
    conntrack::section,
    lateness::section,
    cells::on_page,
    verdicts::section,
    harness::section,
    host::section,
];

/// The content of a section. The page, the terminal and Markdown each use their part of it.
#[derive(Default)]
pub struct Content {
    /// The topic, as a short phrase.
    pub title: String,
    /// The finding, a sentence without a full stop. Empty for a section that is not on the page.
    pub finding: String,
    /// The page's picture.
    pub figure: Option<Markup>,
    pub tables: Vec<(In, Grid)>,
    /// How to read pictures and tables.
    pub notes: Vec<(In, String)>,
    /// What happened to trials and cells, for a terminal and Markdown.
    pub events: Vec<String>,
    /// The conditions of the run, for a terminal and Markdown.
    pub conditions: Vec<String>,
}

/// Which forms of a report have a table or a note.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum In {
    /// All.
    All,
    /// The page.
    Page,
    /// The terminal and Markdown.
    Text,
}

impl Content {
    /// The page's tables.
    pub fn page_tables(&self) -> impl Iterator<Item = &Grid> {
        self.tables.iter().filter(|(form, _)| *form != In::Text).map(|(_, table)| table)
    }

    /// The page's notes.
    pub fn page_notes(&self) -> impl Iterator<Item = &String> {
        self.notes.iter().filter(|(form, _)| *form != In::Text).map(|(_, note)| note)
    }

    /// The tables of the terminal and of Markdown.
    pub fn text_tables(&self) -> impl Iterator<Item = &Grid> {
        self.tables.iter().filter(|(form, _)| *form != In::Page).map(|(_, table)| table)
    }

    /// The notes of the terminal and of Markdown.
    pub fn text_notes(&self) -> impl Iterator<Item = &String> {
        self.notes.iter().filter(|(form, _)| *form != In::Page).map(|(_, note)| note)
    }
}

/// The sections for which a record has content.
pub fn sections(ranked: &Ranked<'_>) -> Vec<Content> {
    SECTIONS.iter().filter_map(|section| section(ranked)).collect()
}
