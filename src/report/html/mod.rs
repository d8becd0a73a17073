//! The report as one HTML page: `report.html`. It needs no network, follows light and dark, and is readable without its script.

mod answer;
mod host;
mod parts;
mod percentiles;
mod ports;
mod ranking;
mod series;
mod shares;
mod stages;
mod verdicts;

use anyhow::Result;
use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::{Reading, charts::Subject, ranking as ranked};

const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("hover.js");
/// Nothing may be fetched; styles and the one script are in the page itself.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:; \
                      base-uri 'none'; form-action 'none'";

/// The whole page.
pub fn render(reading: &Reading) -> Result<String> {
    let ranking = ranked(&reading.summary);
    let subject = Subject::new(&reading.record, &reading.histograms, &reading.summary, &ranking);
    let sections: Vec<Markup> = [
        Some(answer::section(&subject)),
        ranking::section(&subject),
        percentiles::section(&subject)?,
        shares::section(&subject),
        series::section(&subject)?,
        stages::section(&subject),
        ports::section(&subject)?,
        Some(verdicts::section(&subject)),
        Some(host::section(&subject)),
    ]
    .into_iter()
    .flatten()
    .collect();
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (reading.summary.scenario) " – listenbench" }
                link rel="icon" href="data:,";
                style { (PreEscaped(STYLE)) }
            }
            body {
                main { @for section in sections { (section) } }
                script { (PreEscaped(SCRIPT)) }
            }
        }
    };
    Ok(page.into_string())
}
