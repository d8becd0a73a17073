//! The report as one HTML page. It needs no network, follows light and dark, and is readable without its script.

pub mod parts;
pub mod standings;
pub mod tracks;

use maud::{DOCTYPE, Markup, PreEscaped, html};

use self::parts::{folded, notes, table, unbroken};
use super::{Answer, Document, sections::Content};

/// Lines of evidence beyond these are folded.
const EVIDENCE: usize = 6;
const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("hover.js");
/// Nothing may be fetched: styles and the script are in the page itself.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:; \
                      base-uri 'none'; form-action 'none'";

/// A record's report.
pub fn render(document: &Document) -> String {
    page(
        &document.title,
        &html! {
            (header(document)) @for content in shown(document) { (section(content)) }
        },
    )
}

/// The sections of the page.
fn shown(document: &Document) -> impl Iterator<Item = &Content> {
    document.sections.iter().filter(|content| !content.finding.is_empty())
}

/// The frame of every page.
pub fn page(title: &str, body: &Markup) -> String {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) " – listenbench" }
                link rel="icon" href="data:,";
                style { (PreEscaped(STYLE)) }
            }
            body {
                main { (body) }
                script { (PreEscaped(SCRIPT)) }
            }
        }
    };
    page.into_string()
}

/// The question, and its answers.
fn header(document: &Document) -> Markup {
    let Document { title, question, answers, facts, stopped, missing, .. } = document;
    let heading = if question.is_empty() { title } else { question };
    html! {
        header {
            p.about { "listenbench · " (title) @for fact in facts { " · " (fact) } }
            @if let Some(missing) = missing { p.about { (missing) } }
            h1 { (heading) }
            @for (place, answer) in answers.iter().enumerate() { (self::answer(answer, place == 0)) }
            @if let Some(stopped) = stopped { p.about { (stopped) } }
            nav.contents aria-label="Sections" { @for content in shown(document) { a href=(format!("#{}", anchor(&content.title))) { (content.title) } " " } }
        }
    }
}

/// A section's name in links: `#over-time-per-worker`.
fn anchor(title: &str) -> String {
    let words = title.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    words.map(str::to_lowercase).collect::<Vec<_>>().join("-")
}

/// A sentence, what qualifies it, and what supports it.
fn answer(answer: &Answer, is_headline: bool) -> Markup {
    let evidence = html! { ul.evidence { @for line in &answer.evidence { li { (line) } } } };
    html! {
        p.answer { (unbroken(&answer.sentence)) }
        @if is_headline && !answer.verdicts.is_empty() { ul.qualified { @for line in &answer.verdicts { li { (line) } } } }
        @if answer.evidence.len() > EVIDENCE {
            (folded(&format!("Evidence: {} lines", answer.evidence.len()), &evidence))
        } @else { (evidence) }
    }
}

/// Without a picture, the tables come first.
fn section(content: &Content) -> Markup {
    let notes = notes(content.page_notes());
    html! {
        section id=(anchor(&content.title)) {
            p.about { (content.title) " " a.anchor href=(format!("#{}", anchor(&content.title))) aria-label=(format!("Link to {}", content.title)) { "#" } }
            h2 { (unbroken(&content.finding)) }
            @if let Some(figure) = &content.figure { (figure) (notes) }
            @for (place, grid) in content.page_tables().enumerate() {
                @if place > 0 { h3 { (grid.title) } }
                (table(grid))
            }
            @if content.figure.is_none() { (notes) }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::report::{
        Reading,
        sample::{Sample, fail, stall, two_strategies},
    };

    fn page_of(reading: &Reading) -> String {
        render(&reading.report().document)
    }

    /// Checks that elements are closed and that pictures are XML. Returns the number of pictures.
    fn demand_sound(page: &str) -> usize {
        for element in ["section", "figure", "table", "div", "details", "svg", "span", "button"] {
            let opened = page.matches(&format!("<{element}")).count();
            assert_eq!(opened, page.matches(&format!("</{element}>")).count(), "{element}");
        }
        let pictures = page.split("<svg").skip(1).filter_map(|part| part.split_once("</svg>"));
        pictures
            .map(|(picture, _)| roxmltree::Document::parse(&format!("<svg{picture}</svg>")).map(drop).unwrap())
            .count()
    }

    #[test]
    fn a_page_has_its_sections_in_order() {
        let page = page_of(&two_strategies(2));
        let order = [
            "Which of the two?",
            "Ranking by accept wait p99",
            "Accept wait by percentile",
            "Share of accepts per worker",
            "Over time, per worker",
            "Verdicts and what they mean",
            "Host and how to repeat it",
        ];
        let places: Vec<usize> = order.iter().map(|part| page.find(part).expect(part)).collect();
        assert!(places.is_sorted(), "{places:?}");
        assert!(demand_sound(&page) >= 8);
        assert!(
            !page.contains("http://")
                || page.matches("http://").count() == page.matches("http://www.w3.org/2000/svg").count()
        );
        assert!(!page.contains("https://"));
    }

    #[test]
    fn every_section_has_a_link_of_its_own() {
        assert_eq!(anchor("Accepts, queues & open: over time"), "accepts-queues-open-over-time");
        let page = page_of(&two_strategies(2));
        let ids: Vec<&str> = page.split("<section id=\"").skip(1).map(|rest| rest.split_once('"').unwrap().0).collect();
        assert!(ids.len() > 5, "{ids:?}");
        for (place, id) in ids.iter().enumerate() {
            assert!(!id.is_empty() && !ids[..place].contains(id), "{ids:?}");
            // Once in the contents, and once at the section.
            assert_eq!(page.matches(&format!("href=\"#{id}\"")).count(), 2, "{id}");
        }
    }

    #[test]
    fn foreign_text_is_escaped() {
        const NASTY: &str = "<script>alert('1')</script>\"&";
        let mut sample = Sample::new(NASTY);
        for _ in 0..5 {
            sample.trial(json!({ "strategy": NASTY }), &[50, 50], 1_000);
            sample.trial(json!({ "strategy": "</title></script><b>" }), &[50, 50], 2_000);
        }
        let page = page_of(&sample.reading());
        demand_sound(&page);
        assert!(!page.contains("<script>alert") && !page.contains("</script><b>"));
        assert!(page.contains("&lt;script&gt;alert('1')&lt;/script&gt;&quot;&amp;"));
    }

    #[test]
    fn small_records_have_a_page() {
        let mut failed = Sample::new("");
        fail(failed.trial(json!({}), &[], 1), "no such device");
        let mut one = Sample::new("");
        one.trial(json!({}), &[7], 1_000);
        let mut without_series = Sample::new("");
        without_series.trial(json!({ "strategy": "dispatcher" }), &[7, 9], 1_000).series =
            crate::record::Series::default();
        for (sample, part) in [
            (failed, "no such device"),
            (one, "and the 99th percentile is 7.00\u{a0}µs"),
            (without_series, "Share of accepts per worker"),
            (Sample::new("Was anything run?"), "No trial was run"),
        ] {
            let page = page_of(&sample.reading());
            demand_sound(&page);
            assert!(page.contains(part), "{part}");
        }
    }

    #[test]
    fn events_are_marked_and_explained() {
        let mut sample = Sample::new("");
        sample.trial(json!({ "kind": "stall" }), &[10, 20], 1_000).events.push(stall());
        let page = page_of(&sample.reading());
        assert!(page.contains("A: worker 1 is stopped from 0.30 s to 0.80 s"));
        assert!(page.contains("var(--event)") && page.contains("var(--warmup)"));
        demand_sound(&page);
    }

    #[test]
    fn many_cells_stay_readable_and_small() {
        let mut sample = Sample::new("");
        for cell in 0..40 {
            for _ in 0..3 {
                sample.trial(json!({ "strategy": format!("strategy-number-{cell}") }), &[30, 30], 1_000 + cell);
            }
        }
        let page = page_of(&sample.reading());
        demand_sound(&page);
        assert!(page.contains("19 of 40 cells have no line"));
        assert!(page.contains("28 cells are left out"));
        assert!(page.len() < 1_000_000, "{} bytes", page.len());
    }
}
