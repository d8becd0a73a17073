//! A table as data.

/// A table, usually with a row for each cell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grid {
    /// What it shows; the first table of a report needs no title.
    pub title: String,
    /// Column heads. The first `labels` columns name the row, the last `words` hold words, those between hold numbers.
    pub head: Vec<String>,
    /// Number of columns that name the row.
    pub labels: usize,
    /// Number of columns of words at the end.
    pub words: usize,
    /// The rows.
    pub rows: Vec<Vec<String>>,
}

impl Grid {
    /// A table without a title whose first column names the row.
    pub fn new<S: Into<String>>(head: impl IntoIterator<Item = S>, words: usize, rows: Vec<Vec<String>>) -> Self {
        Self { title: String::new(), head: head.into_iter().map(Into::into).collect(), labels: 1, words, rows }
    }
}
