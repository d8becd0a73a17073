//! Every file that is made from a record, by name. `run` writes them when it ends, `report` again at any time.

use std::path::Path;

use anyhow::{Context, Result};

use super::{
    Model,
    charts::{Subject, ports::ports},
    csv,
    distributions::Distributions,
    hgrm, html, markdown, model, openmetrics, plot, ranking,
};
use crate::{
    record::{ReadError, Record, reader, write_derived},
    stats::{self, Summary},
};

/// A record with what follows from it.
pub struct Reading {
    /// As it is on disk.
    pub record: Record,
    /// Of some latencies, by metric and cell.
    pub distributions: Distributions,
    /// Medians, intervals, comparisons, verdicts.
    pub summary: Summary,
}

impl Reading {
    /// Reads a record's folder.
    pub fn of(folder: &Path) -> Result<Self, ReadError> {
        let record = Record::read(folder)?;
        let summary = stats::summarize(&record);
        Ok(Self { distributions: Distributions::read(folder, &record, &summary)?, summary, record })
    }

    /// What people read.
    pub fn model(&self) -> Model {
        model(&self.record, &self.summary)
    }

    /// Writes all files that are made from the record into its folder. Returns their names.
    pub fn write(&self, folder: &Path) -> Result<Vec<String>> {
        let files = self.files()?;
        files.iter().try_for_each(|(name, text)| write_derived(folder, name, text))?;
        Ok(files.into_iter().map(|(name, _)| name).collect())
    }

    fn files(&self) -> Result<Vec<(String, String)>> {
        let summary = serde_json::to_string_pretty(&self.summary).context("writing the summary as JSON")? + "\n";
        let mut files = vec![
            (reader::SUMMARY_JSON.to_owned(), summary),
            (reader::SUMMARY_MARKDOWN.to_owned(), markdown::render(&self.model())),
            (reader::CELLS_CSV.to_owned(), csv::cells(&self.summary)?),
            (reader::TRIALS_CSV.to_owned(), csv::trials(&self.record)?),
            (reader::METRICS.to_owned(), openmetrics::render(&self.summary)),
        ];
        files.extend(
            hgrm::render(&self.summary, &self.distributions)
                .into_iter()
                .map(|(name, text)| (format!("{}/{name}", reader::PERCENTILES), text)),
        );
        files.push((reader::REPORT.to_owned(), html::render(self)));
        files.extend(self.ports_curve().map(|svg| (reader::PORTS_CURVE.to_owned(), svg)));
        Ok(files)
    }

    /// The ports' curve as a picture that stands alone; `None` where no ports were filled.
    fn ports_curve(&self) -> Option<String> {
        let ranking = ranking(&self.summary);
        let subject = Subject::new(&self.record, &self.distributions, &self.summary, &ranking);
        ports(&subject).map(|chart| plot::draw(&chart.figure, plot::FILE).into_string())
    }
}
