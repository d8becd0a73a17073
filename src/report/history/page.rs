//! The index page of a folder: what changed, a small chart for each series, and all runs.

use std::collections::BTreeSet;

use maud::{Markup, html};

use super::{History, Point, Run, Scene, Series, runs_in_words};
use crate::{
    format::{harmless, plural},
    report::{
        Grid,
        html::{
            self,
            parts::{plot, prose, scroll, table},
        },
        plot::{
            SMALL,
            figure::{Axis, Figure, Line, Mark, Span, Stop},
        },
    },
    stats::{Course, LATEST, SIDE, SIGNIFICANCE},
};

/// Is in every index page: only such a file is replaced.
pub const MARK: &str = "data-page=\"listenbench-index\"";

/// Series of a scenario beyond these are left out.
const SHOWN: usize = 60;

impl History {
    /// The page. `left_out` says which folders could not be read, and why.
    pub fn page(&self, folder: &str, left_out: &[String]) -> String {
        let count = self.runs.iter().filter(|run| run.copy_of.is_none()).count();
        let title = format!("{} below {folder}", runs_in_words(count));
        let body = html! {
            header data-page="listenbench-index" {
                p.about { "listenbench · index" }
                h1 { (title) }
                @for line in self.findings() { p.answer { (prose(&line)) } }
            }
            @for (place, (scene, series)) in self.scenes.iter().enumerate() {
                @if !series.is_empty() { (self.scene(place, scene, series)) }
            }
            section {
                p.about { "Runs" }
                h2 { "All runs, the latest first" }
                (self.table())
                @for line in left_out { p.note { "left out: " (prose(line)) } }
            }
            section {
                p.about { "Method" }
                h2 { "What is claimed" }
                p { (prose(&self.method())) }
            }
        };
        // Names of folders are anybody's.
        harmless(&html::page(&title, &body)).into_owned()
    }

    fn scene(&self, place: usize, scene: &Scene, series: &[Series]) -> Markup {
        let namesakes: Vec<usize> =
            (0..self.scenes.len()).filter(|other| self.scenes[*other].0.scenario == scene.scenario).collect();
        let number = namesakes.iter().position(|other| *other == place).map_or(1, |before| before + 1);
        let runs = runs_of(series);
        let (shown, left) = series.split_at(series.len().min(SHOWN));
        html! {
            section {
                p.about {
                    "Scenario " (scene.scenario)
                    @if namesakes.len() > 1 { ", " (number) " of " (namesakes.len()) " with other settings or on other machines" }
                }
                h2 { (scene.scenario) ": " (runs_in_words(runs.len())) " on " (scene.machine) }
                div.pair { @for one in shown.iter().filter(|one| one.points.len() > 1) { (self.chart(one, &runs)) } }
                @if !left.is_empty() { p.note { (left.len()) " more cells and metrics are left out here, and tested all the same" } }
                (table(&self.numbers(shown)))
            }
        }
    }

    /// `runs`: those of the scenario, which have the same place in all of its charts, whichever of them have a figure.
    fn chart(&self, series: &Series, runs: &[usize]) -> Markup {
        let metric = series.metric;
        let place = |point: &Point| runs.partition_point(|run| *run <= point.run) as f64;
        let points = || series.points.iter().map(|point| (place(point), point));
        let reached = || points().filter(|(_, point)| point.median.is_finite());
        let highest = reached().map(|(_, point)| if point.high.is_finite() { point.high } else { point.median });
        let banded = reached().filter(|(_, point)| point.low.is_finite() && point.high.is_finite());
        let stop = |(x, point): (f64, &Point)| Stop {
            x,
            label: self.runs[point.run].in_words(),
            values: vec![metric.unit.show(point.median)],
        };
        let count = runs.len() as f64;
        let change = match &series.course {
            Course::Change(change) => Some(change),
            Course::NoChangeShown | Course::TooFewRuns => None,
        };
        let figure = Figure {
            heading: format!(
                "{}, {}{}{}",
                series.cell,
                metric.label,
                if series.waits.is_empty() { "" } else { ", " },
                series.waits
            ),
            x: Axis::counts("runs, in order of time", count),
            y: Axis::from_zero("", highest.fold(0.0, f64::max), |value| metric.unit.in_column(value)),
            lines: vec![Line {
                name: metric.label.to_owned(),
                style: 0,
                bound: false,
                points: reached().map(|(x, point)| (x, point.median)).collect(),
                band: banded.map(|(x, point)| (x, point.low, point.high)).collect(),
                marks: reached().map(|(x, point)| (x, point.median, Mark::Dot)).collect(),
            }],
            spans: change
                .map(|change| {
                    let [before, after] = [change.before - 1, change.before].map(|point| place(&series.points[point]));
                    let (at, half) = ((before + after) / 2.0, count / 100.0);
                    Span { from: at - half, to: at + half, label: "A".to_owned(), event: true }
                })
                .into_iter()
                .collect(),
            stops: points().map(stop).collect(),
        };
        html! { div { (plot(&figure, &[SMALL])) @if change.is_some() { p.note { "A: a change is shown here" } } } }
    }

    /// Every figure of a scenario, a row for each run.
    fn numbers(&self, series: &[Series]) -> Grid {
        let places = runs_of(series);
        let mut head: Vec<String> = ["run", "revision", "kernel"].map(str::to_owned).to_vec();
        head.extend(series.iter().map(|one| format!("{}\n{}", one.metric.label, one.cell)));
        let row = |place: &usize| {
            let origin = &self.runs[*place].origin;
            let mut row = vec![origin.run.clone(), origin.revision.clone(), origin.kernel.clone()];
            row.extend(series.iter().map(|one| {
                let point = one.points.iter().find(|point| point.run == *place);
                point.map_or_else(|| "–".to_owned(), |point| one.metric.unit.show(point.median))
            }));
            row
        };
        Grid { title: String::new(), labels: 3, words: 0, head, rows: places.iter().map(row).collect() }
    }

    fn table(&self) -> Markup {
        let trials = |run: &Run| format!("{} of {}", run.valid, run.trials.len());
        html! {
            (scroll("Runs", &html! {
                table {
                    thead { tr { @for head in ["run", "scenario", "revision", "kernel", "host", "valid trials", "record"] { th scope="col" { (head) } } } }
                    tbody {
                        @for run in self.runs.iter().rev() {
                            tr {
                                td { (run.origin.run) } td { (run.scenario) } td { (run.origin.revision) }
                                td { (run.origin.kernel) } td { (run.origin.host) } td { (trials(run)) }
                                td {
                                    @match &run.link { Some(link) => a href=(link) { (run.name) }, None => (run.name) }
                                    @if let Some(other) = &run.copy_of { br; "the same trials as " (other) ", and counted there" }
                                    @if let Some(lack) = &run.unfinished { br; "unfinished: " (lack) }
                                    @for flaw in &run.flaws { br; "damaged, and in no chart: " (flaw) }
                                }
                            }
                        }
                    }
                }
            }))
        }
    }

    fn method(&self) -> String {
        let corrected = if self.tests == 0 {
            "no place has as many, so nothing is tested.".to_owned()
        } else {
            format!("Holm's correction spans all {} of this page.", plural(self.tests, "test"))
        };
        format!(
            "A run counts by the median of its valid trials; records of one interleaved experiment are one run, and so are copies. Runs are comparable if \
             scenario, settings, machine and what ends an accept wait are the same. For every series and every place with at least {SIDE} runs \
             on either side, a permutation test of ranks compares the runs before with those after (of more than {LATEST} runs, the latest); \
             {corrected} A change is shown where p ≤ {SIGNIFICANCE}, at most one in a series: where p is \
             smallest. Drift of the machine and what a boot leaves show as a change, too, and no change says what caused it: `listenbench run \
             --interleave` and `listenbench compare` do. Of an emulated processor, only counts are shown. Charts show medians with their intervals."
        )
    }
}

impl Run {
    /// When it was, and of what.
    fn in_words(&self) -> String {
        let super::Origin { run, revision, kernel, .. } = &self.origin;
        let unfinished = if self.unfinished.is_some() { ", unfinished" } else { "" };
        format!("{run}, revision {revision}, kernel {kernel}{unfinished}")
    }
}

/// The runs that have a figure in any of these series, in order of time.
fn runs_of(series: &[Series]) -> Vec<usize> {
    let all: BTreeSet<usize> = series.iter().flat_map(|one| one.points.iter().map(|point| point.run)).collect();
    all.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::{
        super::tests::{run, ten},
        *,
    };

    #[test]
    fn a_page_has_charts_links_and_the_method() {
        let page = History::of(ten()).page("results\u{1b}[31m<x>", &["bad: <script>".to_owned()]);
        assert!(page.contains(MARK) && page.contains("<h1>10 runs below results\u{fffd}[31m&lt;x&gt;</h1>"));
        assert!(page.contains("href=\"run-3/report.html\"") && page.contains("<svg") && page.contains("var(--event)"));
        assert!(page.contains("strategy=&lt;b&gt;reuseport") && !page.contains("<b>reuseport"));
        assert!(page.contains("left out: bad: &lt;script&gt;"));
        assert!(page.contains("Holm's correction spans all ") && page.contains("<code>listenbench compare</code>"));
        assert!(!page.contains('`') || page.matches('`').count() == html::page("", &html! {}).matches('`').count());
        for element in ["section", "figure", "table", "div", "svg", "details"] {
            let opened = page.matches(&format!("<{element}")).count();
            assert_eq!(opened, page.matches(&format!("</{element}>")).count(), "{element}");
        }
    }

    #[test]
    fn a_run_that_did_not_come_to_its_end_is_marked() {
        let mut runs = ten();
        runs[3].unfinished = Some("the run ended early, after 3 of 10 trials".to_owned());
        let page = History::of(runs).page("x", &[]);
        assert!(page.contains("unfinished: the run ended early, after 3 of 10 trials"));
        assert!(page.contains(", unfinished"), "in charts");
    }

    #[test]
    fn a_damaged_record_is_listed_and_in_no_chart() {
        let mut damaged = run(1, 100, "old");
        damaged.flaws.push("trials.jsonl is missing".to_owned());
        damaged.figures.clear();
        let history = History::of(vec![damaged]);
        assert!(history.is_flawed() && history.findings().is_empty());
        assert!(history.page("x", &[]).contains("so nothing is tested"));
        assert!(history.page("x", &[]).contains("damaged, and in no chart: trials.jsonl is missing"));
    }
}
