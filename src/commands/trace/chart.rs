//! A chart of a rate over time, of block characters.

use std::time::Duration;

use crate::format::{exact, rate};

/// Lines of the chart.
const HEIGHT: usize = 8;

/// Columns left of the chart: the scale.
pub(super) const LABEL: usize = 12;

/// From an eighth of a line to a whole one.
const BLOCKS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// A column for each count of starts in a part of this length, with the scale on the left and the time below.
pub(super) fn chart(counts: &[u64], part: Duration) -> Vec<String> {
    let most = counts.iter().copied().max().unwrap_or(0).max(1);
    let eighths = |count: u64| {
        let height = (count as f64 / most as f64 * (8 * HEIGHT) as f64).round() as usize;
        // What is there can be seen.
        if count > 0 { height.max(1) } else { 0 }
    };
    let per_second = most as f64 / part.as_secs_f64();
    let mut lines: Vec<String> = (0..HEIGHT)
        .map(|line| {
            let below = 8 * (HEIGHT - 1 - line);
            let label = if line == 0 { format!("{}/s", rate(per_second)) } else { String::new() };
            let columns = counts.iter().map(|count| BLOCKS[eighths(*count).saturating_sub(below).min(8)]);
            format!("{label:>width$} │{}", columns.collect::<String>().trim_end(), width = LABEL - 2)
                .trim_end()
                .to_owned()
        })
        .collect();
    let end = exact(part * u32::try_from(counts.len()).unwrap_or(u32::MAX));
    lines.push(format!("{:>width$} └{}", "0", "─".repeat(counts.len()), width = LABEL - 2));
    lines.push(format!("{:>width$}{end:>columns$}", "0", width = LABEL, columns = counts.len()));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_busiest_part_reaches_the_top_and_any_start_is_seen() {
        let lines = chart(&[800, 1, 0, 400], Duration::from_millis(500));
        assert_eq!(lines.len(), HEIGHT + 2);
        assert!(lines[0].ends_with("│█") && lines[0].trim_start().starts_with('1'), "{}", lines[0]);
        assert!(lines[3].ends_with("│█") && lines[4].ends_with("│█  █"), "{}\n{}", lines[3], lines[4]);
        assert!(lines[HEIGHT - 1].ends_with("│█▁ █"));
        assert!(lines[HEIGHT].ends_with("└────"));
        assert_eq!(chart(&[0], Duration::from_secs(1)).len(), HEIGHT + 2);
    }
}
