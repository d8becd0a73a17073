//! Stage breakdown: of each cell, what parts of the mean response its stages are.

use maud::{Markup, html};

use super::{
    parts::{folded, section as titled, table},
    tracks::at,
};
use crate::{
    format::{duration, percent},
    report::charts::{
        Subject,
        stages::{Bar, Stages, named, stages},
    },
};

/// More cells are folded.
const OPEN: usize = 15;

/// The section; `None` where nobody knows the stages.
pub fn section(subject: &Subject<'_>) -> Option<Markup> {
    let chart = stages(subject)?;
    let bars = |bars: &[Bar]| html! { div.tracks { @for bar in bars { (row(&chart, bar)) } } };
    let open = chart.bars.len().min(OPEN);
    let body = html! {
        div.legend {
            @for (number, name) in chart.names.iter().enumerate() {
                button type="button" data-s={ "t" (number) } { i.block.{ "st" (number) } {} (named(name)) }
            }
        }
        (bars(&chart.bars[..open]))
        @if chart.bars.len() > open { (folded(&format!("{} more cells", chart.bars.len() - open), &bars(&chart.bars[open..]))) }
        p.note {
            "Means over the first replies of all valid trials, from the intended start to the reply's last byte; each bar is as long \
             as the other, its parts are shares of the cell's own response."
        }
        (table(&chart.table))
    };
    Some(titled("Where the time to the first reply goes", &chart.title, &body))
}

fn row(chart: &Stages, bar: &Bar) -> Markup {
    let longest = bar.longest().map(|(stage, _, part)| format!("{} {}", named(chart.names[*stage]), percent(*part)));
    let parts = bar
        .parts
        .iter()
        .map(|(stage, ns, part)| format!("{}: {}, {}", named(chart.names[*stage]), duration(*ns), percent(*part)));
    let tip = format!("{}: {}\n{}", bar.name, duration(bar.response_ns), parts.collect::<Vec<_>>().join("\n"));
    html! {
        div.row tabindex="0" data-tip=(tip) {
            span.who { (bar.name) }
            span.track.stack { @for (stage, _, part) in &bar.parts { i class={ "s st" (stage) " st" (stage) } style={ "width:" (at(*part)) } {} } }
            span.value { (duration(bar.response_ns)) }
            span.said { (longest.unwrap_or_default()) }
        }
    }
}
