//! Percentile distributions in HdrHistogram's text form (`.hgrm`), which its plotters read; values in microseconds.
//!
//! The form is that of `outputPercentileDistribution` of HdrHistogram's Java original: columns Value, Percentile, TotalCount
//! and 1/(1−Percentile), with five steps for each halving of the distance to 100 %.

use std::fmt::Write;

use hdrhistogram::Histogram;

use crate::{
    record::{Outcome, Record, histograms::Merged},
    scenario::label,
    stats::{CellSummary, Summary},
};

/// Histograms are of nanoseconds.
const NS_PER_US: f64 = 1e3;
/// Rows for each halving of the distance to 100 %.
const TICKS_PER_HALF_DISTANCE: u32 = 5;
/// File systems take 255 bytes; metric and extension want some of them.
const SLUG_BYTES: usize = 120;

/// A file for each cell and metric that has a histogram, by name.
pub fn render(record: &Record, summary: &Summary, histograms: &Merged) -> Vec<(String, String)> {
    let labels: Vec<String> = summary.cells.iter().map(|cell| label(&cell.cell)).collect();
    let mut files = Vec::new();
    for (cell, slug) in summary.cells.iter().zip(slugs(&labels)) {
        for metric in histograms.keys() {
            if let Some(merged) = merge(record, cell, histograms, metric) {
                files.push((format!("{slug}.{metric}.hgrm"), distribution(&merged)));
            }
        }
    }
    files
}

/// All values of a cell's valid trials together.
fn merge(record: &Record, cell: &CellSummary, histograms: &Merged, metric: &str) -> Option<Histogram<u64>> {
    let mut merged: Option<Histogram<u64>> = None;
    for trial in record.trials.iter().filter(|trial| trial.outcome == Outcome::Valid && trial.cell == cell.cell) {
        // Exact waits and upper bounds are never mixed.
        if metric == "accept_wait" && trial.latency_ns.accept_wait.method != cell.accept_wait_method {
            continue;
        }
        let Some(part) = histograms[metric].get(&trial.trial).filter(|part| !part.is_empty()) else { continue };
        match &mut merged {
            None => merged = Some(part.clone()),
            // All have the same bounds.
            Some(merged) => drop(merged.add(part)),
        }
    }
    merged
}

fn distribution(histogram: &Histogram<u64>) -> String {
    let us = |ns: f64| ns / NS_PER_US;
    let mut text = format!("{:>12} {:>14} {:>10} {:>14}\n\n", "Value", "Percentile", "TotalCount", "1/(1-Percentile)");
    let mut count = 0;
    for row in histogram.iter_quantiles(TICKS_PER_HALF_DISTANCE) {
        count += row.count_since_last_iteration();
        let (value, quantile) = (us(row.value_iterated_to() as f64), row.quantile_iterated_to());
        // The last row has no fourth column: it would be infinite.
        let inverse = if quantile < 1.0 { format!(" {:>14.2}", 1.0 / (1.0 - quantile)) } else { String::new() };
        let _ = writeln!(text, "{value:>12.3} {quantile:.12} {count:>10}{inverse}");
    }
    let buckets = usize::from(histogram.buckets());
    // Of the first bucket all sub-buckets count, of every other one the upper half: n buckets have (n + 1) halves.
    let sub_buckets = 2 * histogram.distinct_values() / (buckets + 1);
    let (mean, deviation, max) = (us(histogram.mean()), us(histogram.stdev()), us(histogram.max() as f64));
    let _ = writeln!(text, "#[Mean    = {mean:>12.3}, StdDeviation   = {deviation:>12.3}]");
    let _ = writeln!(text, "#[Max     = {max:>12.3}, Total count    = {:>12}]", histogram.len());
    let _ = writeln!(text, "#[Buckets = {buckets:>12}, SubBuckets     = {sub_buckets:>12}]");
    text
}

/// Names for files, from labels: no two alike, on file systems that know no case either.
fn slugs(labels: &[String]) -> Vec<String> {
    let mut slugs: Vec<String> = Vec::new();
    for label in labels {
        let plain = slug(label);
        let numbered = (2..).map(|number| format!("{plain}-{number}"));
        let taken = |name: &String| slugs.iter().any(|other| other.eq_ignore_ascii_case(name));
        let free = std::iter::once(plain.clone()).chain(numbered).find(|name| !taken(name));
        slugs.extend(free);
    }
    slugs
}

/// `strategy=reuseport workers=2` as `strategy-reuseport_workers-2`.
fn slug(label: &str) -> String {
    let mut slug = String::new();
    for c in label.chars() {
        let c = match c {
            ' ' => '_',
            c if c.is_ascii_alphanumeric() || "._".contains(c) => c,
            _ => '-',
        };
        // Runs of what a file name must not hold become one.
        if slug.len() < SLUG_BYTES && !(c == '-' && slug.ends_with('-')) {
            slug.push(c);
        }
    }
    // A leading dot hides a file, a leading hyphen makes it look like an option.
    let slug = slug.trim_matches(['-', '.', '_']);
    if slug.is_empty() { "cell".to_owned() } else { slug.to_owned() }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::*;
    use crate::{report::fixture, stats};

    fn histogram(values: impl IntoIterator<Item = u64>) -> Histogram<u64> {
        let mut histogram = Histogram::new_with_bounds(1, 60_000_000_000, 3).unwrap();
        values.into_iter().for_each(|value| histogram.record(value).unwrap());
        histogram
    }

    /// The text is what the public package `hdr-histogram-js` 3.0 prints of the same values, but for the maximum, which it
    /// prints as recorded. The Python package `hdrhistogram` prints this one.
    #[test]
    fn a_known_distribution() {
        let values = (1..=8).map(|value| value * 1_000).chain([1_000_000]);
        let text = "       Value     Percentile TotalCount 1/(1-Percentile)

       1.000 0.000000000000          1           1.00
       1.000 0.100000000000          1           1.11
       2.000 0.200000000000          2           1.25
       3.001 0.300000000000          3           1.43
       4.001 0.400000000000          4           1.67
       5.003 0.500000000000          5           2.00
       5.003 0.550000000000          5           2.22
       6.003 0.600000000000          6           2.50
       6.003 0.650000000000          6           2.86
       7.003 0.700000000000          7           3.33
       7.003 0.750000000000          7           4.00
       7.003 0.775000000000          7           4.44
       8.003 0.800000000000          8           5.00
       8.003 0.825000000000          8           5.71
       8.003 0.850000000000          8           6.67
       8.003 0.875000000000          8           8.00
       8.003 0.887500000000          8           8.89
    1000.447 0.900000000000          9          10.00
    1000.447 1.000000000000          9
#[Mean    =      115.134, StdDeviation   =      312.923]
#[Max     =     1000.447, Total count    =            9]
#[Buckets =           26, SubBuckets     =         2048]
";
        assert_eq!(distribution(&histogram(values)), text);
    }

    #[test]
    fn only_valid_trials_of_the_cell_are_merged() {
        let (one, other) = (json!({"workers": 1}), json!({"workers": 2}));
        let record = fixture::record(vec![
            fixture::trial(0, &one, Outcome::Valid),
            fixture::trial(1, &one, Outcome::Invalid),
            fixture::trial(2, &one, Outcome::Valid),
        ]);
        let trials: BTreeMap<usize, _> =
            (0..4).map(|trial| (trial, histogram([trial as u64 * 1_000 + 1_000]))).collect();
        let merged = Merged::from([("response".to_owned(), trials), ("connect".to_owned(), BTreeMap::new())]);
        let files = render(&record, &stats::summarize(&record), &merged);
        assert_eq!(files.len(), 1, "{files:?}");
        assert_eq!(files[0].0, "workers-1.response.hgrm");
        assert!(files[0].1.contains("#[Max     =        3.001, Total count    =            2]"), "{}", files[0].1);
        let record = fixture::record(vec![fixture::trial(0, &other, Outcome::Failed)]);
        assert_eq!(render(&record, &stats::summarize(&record), &merged), []);
    }

    #[test]
    fn names_are_safe_and_no_two_alike() {
        let named = |labels: &[&str]| slugs(&labels.iter().map(|label| (*label).to_owned()).collect::<Vec<_>>());
        assert_eq!(named(&["strategy=reuseport workers=2"]), ["strategy-reuseport_workers-2"]);
        assert_eq!(named(&["(one cell)", "../../etc", "", "…"]), ["one_cell", "etc", "cell", "cell-2"]);
        assert_eq!(named(&["a=/x", "a=:x", "A=x", "a=x-2"]), ["a-x", "a-x-2", "A-x-3", "a-x-2-2"]);
        let long = "x".repeat(300);
        assert_eq!(named(&[&long, &long]).iter().map(String::len).collect::<Vec<_>>(), [120, 122]);
    }
}
