//! The files derived from a record: each exporter is one file here and one line in the list.

mod cells_csv;
mod metrics_txt;
mod percentiles;
mod ports_curve;
mod report_html;
mod summary_json;
mod summary_md;
mod trials_csv;

use anyhow::Result;

use super::Report;

pub use percentiles::FOLDER as PERCENTILES;

/// A file or a folder of files derived from a record.
struct Exporter {
    /// Name of the file or folder in the record's folder.
    name: &'static str,
    render: Render,
}

/// What an exporter renders.
enum Render {
    /// A file; `None` if the record has no data for it.
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
    metrics_txt::EXPORTER,
    percentiles::EXPORTER,
    report_html::EXPORTER,
    ports_curve::EXPORTER,
];

/// Names of all files and folders derived from records.
pub fn names() -> impl Iterator<Item = &'static str> {
    EXPORTERS.iter().map(|exporter| exporter.name)
}

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
    use super::*;

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
