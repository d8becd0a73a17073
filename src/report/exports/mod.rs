//! The files derived from a record: each exporter is one file here and one line in the list.

mod bencher;
mod benchmark_action;
mod cells_csv;
mod go_benchmark;
mod hosts_csv;
mod lkp;
mod metrics_txt;
mod named;
mod origin;
mod otava;
mod percentiles;
mod ports_curve;
mod report_html;
mod summary_json;
mod summary_md;
mod trials_csv;
mod units;

use anyhow::Result;

use super::Report;

pub use origin::Origin;
pub use percentiles::FOLDER as PERCENTILES;
pub use summary_json::SummaryFile;

/// A file or a folder of files derived from a record.
struct Exporter {
    /// Name of the file or folder in the record's folder.
    name: &'static str,
    render: Render,
}

/// What an exporter renders.
enum Render {
    /// A file; `None` only of a picture, or a table of hosts, that the record has no data for: other programs read their files by name, and find them.
    File(fn(&Report<'_>) -> Result<Option<String>>),
    /// A folder of files, each with its name.
    Folder(fn(&Report<'_>) -> Vec<(String, String)>),
}

/// All exporters, in the order in which their files are written.
const EXPORTERS: &[Exporter] = &[
    summary_json::EXPORTER,
    summary_md::EXPORTER,
    cells_csv::EXPORTER,
    trials_csv::EXPORTER,
    hosts_csv::EXPORTER,
    metrics_txt::EXPORTER,
    go_benchmark::EXPORTER,
    bencher::EXPORTER,
    benchmark_action::SMALLER,
    benchmark_action::BIGGER,
    otava::EXPORTER,
    lkp::EXPORTER,
    percentiles::EXPORTER,
    report_html::EXPORTER,
    ports_curve::EXPORTER,
];

/// Names of all files and folders derived from records.
pub fn names() -> impl Iterator<Item = &'static str> {
    EXPORTERS.iter().map(|exporter| exporter.name)
}

/// The fixed columns of CSV files, each with its file and what it holds.
pub fn csv_columns() -> impl Iterator<Item = (&'static str, &'static str, &'static str)> {
    let of = |file: &'static str, columns: &'static [CsvColumn]| {
        columns.iter().map(move |(name, meaning)| (file, *name, *meaning))
    };
    of(cells_csv::EXPORTER.name, cells_csv::COLUMNS)
        .chain(of(trials_csv::EXPORTER.name, trials_csv::COLUMNS))
        .chain(of(hosts_csv::EXPORTER.name, hosts_csv::COLUMNS))
}

/// A column's name and what it holds.
type CsvColumn = (&'static str, &'static str);

/// All files of a report, each with its name.
pub fn files(report: &Report<'_>) -> Result<Vec<(String, String)>> {
    let mut files = Vec::new();
    for Exporter { name, render } in EXPORTERS {
        match render {
            Render::File(render) => files.extend(render(report)?.map(|text| ((*name).to_owned(), text))),
            Render::Folder(render) => {
                files.extend(render(report).into_iter().map(|(file, text)| (format!("{name}/{file}"), text)));
            }
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::report::sample::{Sample, fail};

    #[test]
    fn every_file_is_there_without_a_valid_trial() {
        let mut sample = Sample::new("How long?");
        fail(sample.trial(json!({"strategy": "reuseport"}), &[30, 30], 1_000), "refused");
        let reading = sample.reading();
        let files = files(&reading.report()).unwrap();
        let names: Vec<&str> = files.iter().map(|(name, _)| &name[..]).collect();
        let optional = [hosts_csv::EXPORTER.name, ports_curve::EXPORTER.name];
        let expected = names_of_files().filter(|name| !optional.contains(name));
        assert_eq!(names, expected.collect::<Vec<_>>());
    }

    fn names_of_files() -> impl Iterator<Item = &'static str> {
        let is_file = |exporter: &&Exporter| matches!(exporter.render, Render::File(_));
        EXPORTERS.iter().filter(is_file).map(|exporter| exporter.name)
    }

    #[test]
    fn the_readme_documents_every_file() {
        let readme = include_str!("../../../results/README.md");
        for name in names() {
            let heads = readme.lines().filter_map(|line| line.strip_prefix("| `"));
            assert!(
                heads.filter(|head| head.split('|').next().unwrap().contains(name)).count() > 0,
                "results/README.md has no row for `{name}`"
            );
        }
    }
}
