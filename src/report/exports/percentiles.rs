//! `percentiles/<cell>.<metric>.hgrm`: distributions in HdrHistogram's text form, for its plotters; values in microseconds.
//!
//! The format is that of `outputPercentileDistribution` in HdrHistogram's Java original: columns Value, Percentile, TotalCount
//! and 1/(1−Percentile), with five rows for each halving of the distance to 100 %.

use std::{collections::BTreeMap, fmt::Write};

use hdrhistogram::Histogram;

use super::{Exporter, Render, named::unique};
use crate::{
    report::distributions::{Distribution, Distributions},
    scenario::label,
    stats::{CellSummary, Summary},
};

/// The folder's name.
pub const FOLDER: &str = "percentiles";

pub(super) const EXPORTER: Exporter = Exporter {
    name: FOLDER,
    render: Render::Folder(|report| render(report.ranked.summary, report.ranked.distributions)),
};

/// Histograms are in nanoseconds.
const NS_PER_US: f64 = 1e3;
/// Rows for each halving of the distance to 100 %.
const TICKS_PER_HALF_DISTANCE: u32 = 5;
/// File systems allow 255 bytes, and the metric and the extension need some of them.
const SLUG_BYTES: usize = 120;

/// A file for each cell and metric that has a histogram.
fn render(summary: &Summary, distributions: &Distributions) -> Vec<(String, String)> {
    let slugs = slugs(&summary.cells);
    let metrics = distributions.0.iter();
    let of_metric = |(metric, cells): (&String, &BTreeMap<usize, Distribution>)| {
        let file = |(cell, of): (&usize, &Distribution)| {
            (format!("{}.{metric}.hgrm", slugs[*cell]), distribution(&of.merged.histogram(), of.lost))
        };
        cells.iter().map(file).collect::<Vec<_>>()
    };
    metrics.flat_map(of_metric).collect()
}

/// Percentiles are of all attempts that were due: where some were lost, the last is below 100 %.
fn distribution(histogram: &Histogram<u64>, lost: u64) -> String {
    let of_due = histogram.len() as f64 / histogram.len().saturating_add(lost).max(1) as f64;
    let us = |ns: f64| ns / NS_PER_US;
    let mut text = format!("{:>12} {:>14} {:>10} {:>14}\n\n", "Value", "Percentile", "TotalCount", "1/(1-Percentile)");
    let mut count = 0;
    for row in histogram.iter_quantiles(TICKS_PER_HALF_DISTANCE) {
        count += row.count_since_last_iteration();
        let (value, quantile) = (us(row.value_iterated_to() as f64), of_due * row.quantile_iterated_to());
        // The last row has no fourth column: it would be infinite.
        let inverse = if quantile < 1.0 { format!(" {:>14.2}", 1.0 / (1.0 - quantile)) } else { String::new() };
        let _ = writeln!(text, "{value:>12.3} {quantile:.12} {count:>10}{inverse}");
    }
    let buckets = usize::from(histogram.buckets());
    // All sub-buckets of the first bucket count, and the upper half of each other one: n buckets have n + 1 halves.
    let sub_buckets = 2 * histogram.distinct_values() / (buckets + 1);
    let (mean, deviation, max) = (us(histogram.mean()), us(histogram.stdev()), us(histogram.max() as f64));
    let _ = writeln!(text, "#[Mean    = {mean:>12.3}, StdDeviation   = {deviation:>12.3}]");
    let _ = writeln!(text, "#[Max     = {max:>12.3}, Total count    = {:>12}]", histogram.len());
    let _ = writeln!(text, "#[Buckets = {buckets:>12}, SubBuckets     = {sub_buckets:>12}]");
    text
}

/// File names of cells: unique even on file systems that ignore case.
pub(super) fn slugs(cells: &[CellSummary]) -> Vec<String> {
    unique(cells, |cell| slug(&label(&cell.cell)), |slug, hash| format!("{slug}-{hash}"))
}

/// `strategy=reuseport workers=2` as `strategy-reuseport_workers-2`.
pub(super) fn slug(label: &str) -> String {
    let mut slug = String::new();
    for c in label.chars() {
        let c = match c {
            ' ' => '_',
            c if c.is_ascii_alphanumeric() || "._".contains(c) => c,
            _ => '-',
        };
        // Runs of characters that file names must not hold become one hyphen.
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
    use serde_json::json;

    use super::*;
    use crate::{
        record::{Counts, Outcome},
        report::distributions::Collector,
        stats::{self, fixture},
    };

    fn histogram(values: impl IntoIterator<Item = u64>) -> Histogram<u64> {
        let mut histogram = Histogram::new_with_bounds(1, 60_000_000_000, 3).unwrap();
        values.into_iter().for_each(|value| histogram.record(value).unwrap());
        histogram
    }

    /// The text is what the public package `hdr-histogram-js` 3.0 prints for the same values, except for the maximum, which it prints
    /// as recorded. The Python package `hdrhistogram` prints this maximum.
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
        assert_eq!(distribution(&histogram(values.clone()), 0), text);
        // One of ten was lost.
        let with_lost = distribution(&histogram(values), 1);
        assert!(with_lost.contains("1000.447 0.900000000000          9          10.00\n#[Mean"), "{with_lost}");
    }

    #[test]
    fn a_file_is_named_by_cell_and_metric() {
        let record = fixture::record(vec![fixture::trial(0, &json!({"workers": 1}), Outcome::Valid)]);
        let summary = stats::summarize(&record);
        let mut collector = Collector::new(&record, &summary);
        collector.add(0, "response", &Counts::of(&histogram([1_000, 3_000])));
        let files = render(&summary, &collector.distributions());
        assert_eq!(files.len(), 1, "{files:?}");
        assert_eq!(files[0].0, "workers-1.response.hgrm");
        assert!(files[0].1.contains("#[Max     =        3.001, Total count    =            2]"), "{}", files[0].1);
    }

    #[test]
    fn names_are_safe() {
        assert_eq!(slug("strategy=reuseport workers=2"), "strategy-reuseport_workers-2");
        assert_eq!(["(one cell)", "../../etc", "", "…"].map(slug), ["one_cell", "etc", "cell", "cell"]);
        assert_eq!(slug(&"x".repeat(300)).len(), 120);
    }

    #[test]
    fn a_cell_keeps_its_name_in_any_order() {
        let named = |paths: &[&str]| {
            let trial = |(number, path): (usize, &&str)| {
                let mut trial = fixture::trial(number, &json!({"path": path}), Outcome::Valid);
                trial.cell_index = number;
                trial
            };
            let record = fixture::record(paths.iter().enumerate().map(trial).collect());
            slugs(&stats::summarize(&record).cells)
        };
        let names = named(&["/a\\b", "/a{b}", "/A:b/", "/c"]);
        assert!(
            names[..3].iter().all(|name| name.to_lowercase().starts_with("path-a-b-") && name.len() == 17),
            "{names:?}"
        );
        assert_eq!(names[3], "path-c");
        let mut other = named(&["/c", "/A:b/", "/a{b}", "/a\\b"]);
        other.reverse();
        assert_eq!(names, other);
        assert!(names[0] != names[1] && !names[1].eq_ignore_ascii_case(&names[2]), "{names:?}");
    }
}
