//! Parts of sections: notes, tables, legends, line charts.

use maud::{Markup, PreEscaped, html};
use serde_json::json;

use crate::report::{
    Grid,
    plot::{
        self, DISTINCT, Form, colour_name, dashes,
        figure::{Figure, Line},
        variable,
    },
};

/// Tables with more rows are folded.
const OPEN_ROWS: usize = 12;

/// Keeps numbers and their units on one line.
pub fn unbroken(text: &str) -> String {
    const SPACE: &str = "\u{a0}";
    let mut words = text.split(' ');
    let mut unbroken = words.next().unwrap_or_default().to_owned();
    for word in words {
        let unit = word.trim_end_matches([',', ';', '.', ')']);
        let is_unit =
            ["%", "ns", "µs", "ms", "s", "B"].contains(&unit) && unbroken.ends_with(|c: char| c.is_ascii_digit());
        let is_sign = |word: &str| word == "=" || word == "<";
        let is_equation = is_sign(word) || unbroken.rsplit(&[' ', '\u{a0}']).next().is_some_and(is_sign);
        unbroken += if is_unit || is_equation { SPACE } else { " " };
        unbroken += word;
    }
    unbroken
}

/// A sentence, whose parts between backticks are code.
pub fn prose(text: &str) -> Markup {
    let parts: Vec<&str> = text.split('`').collect();
    if parts.len().is_multiple_of(2) {
        // One has no other.
        return html! { (unbroken(text)) };
    }
    html! { @for (place, part) in parts.iter().enumerate() { @if place % 2 == 0 { (unbroken(part)) } @else { code { (part) } } } }
}

/// Small print.
pub fn notes<'a>(lines: impl Iterator<Item = &'a String>) -> Markup {
    html! { @for line in lines { p.note { (line) } } }
}

/// A scrolling table, folded if it is long.
pub fn table(grid: &Grid) -> Markup {
    let rows = grid.rows.len();
    if rows > OPEN_ROWS { folded(&format!("Numbers: {rows} rows"), &bare_table(grid)) } else { bare_table(grid) }
}

/// Something shown on demand, and in print.
pub fn folded(summary: &str, body: &Markup) -> Markup {
    html! { details { summary { (summary) } (body) } }
}

/// A scrolling table. On a narrow screen, what names a row stands above its numbers.
pub fn bare_table(grid: &Grid) -> Markup {
    let (labels, columns) = (grid.labels, grid.head.len());
    let is_number = |column: usize| column >= labels && column + grid.words < columns;
    let table = html! {
        table.stacked[labels > 0 && labels < columns] {
            thead {
                tr {
                    @for (column, head) in grid.head.iter().enumerate() {
                        th.n[is_number(column)].label[column < labels] scope="col" { (head.replace('\n', " ")) }
                    }
                }
            }
            tbody {
                @for row in &grid.rows {
                    @if labels > 0 && labels < columns {
                        tr.over { th colspan=(columns - labels) { span { (row_name(grid, row)) } } }
                    }
                    tr {
                        @for (column, cell) in row.iter().enumerate() {
                            td.n[is_number(column)].label[column < labels] { (cell) }
                        }
                    }
                }
            }
        }
    };
    scroll(&grid.title, &table)
}

/// Something that may be wider than the page, and then says so.
pub fn scroll(title: &str, body: &Markup) -> Markup {
    let label = if title.is_empty() { "Table" } else { title };
    html! {
        p.hint hidden {}
        div.scroll tabindex="0" role="group" aria-label=(label) { (body) }
    }
}

/// What names a row: `400 · shared listener`, with the heads of bare numbers.
fn row_name(grid: &Grid, row: &[String]) -> String {
    let names = row.iter().take(grid.labels).zip(&grid.head).map(|(cell, head)| {
        let is_bare = grid.labels > 1 && cell.starts_with(|c: char| c.is_ascii_digit());
        if is_bare { format!("{} {cell}", head.replace('\n', " ")) } else { cell.clone() }
    });
    names.filter(|name| !name.trim().is_empty()).collect::<Vec<_>>().join(" · ")
}

/// The names of lines, each a button that highlights its line.
pub fn legend<'a>(lines: impl Iterator<Item = &'a Line>) -> Markup {
    let mut known: Vec<(&Line, &str)> = Vec::new();
    for line in lines {
        match known.iter_mut().find(|(other, _)| (other.style, other.bound) == (line.style, line.bound)) {
            // Lines beyond the last style share one.
            Some((other, name)) if other.style >= DISTINCT && *name != line.name => *name = "others",
            Some(_) => {}
            None => known.push((line, &line.name)),
        }
    }
    known.sort_by_key(|(line, _)| line.style);
    if known.len() < 2 {
        return html! {};
    }
    html! {
        div.legend {
            @for (line, name) in known {
                button type="button" data-s=(line.style) {
                    (swatch(line.style, line.bound)) (name) @if line.bound { " (≤)" }
                }
            }
        }
    }
}

/// A sample of a line.
fn swatch(style: usize, bound: bool) -> Markup {
    html! {
        svg.swatch viewBox="0 0 26 8" aria-hidden="true" {
            line x1="0" y1="4" x2="26" y2="4" stroke=(variable(&colour_name(style))) stroke-width="2.5" stroke-dasharray=[dashes(style, bound)] {}
        }
    }
}

/// A line chart in one form, or in two of which the page shows the one that fits.
pub fn plot(figure: &Figure, forms: &[Form]) -> Markup {
    let class = |form: &Form| {
        if forms.len() < 2 {
            "canvas"
        } else if *form == plot::WIDE {
            "canvas wide"
        } else {
            "canvas narrow"
        }
    };
    html! {
        figure.plot tabindex="0" {
            @if !figure.heading.is_empty() { figcaption { (figure.heading) } }
            @for form in forms {
                div class=(class(form)) data-left=(format!("{:.4}", form.plot_area().0)) data-right=(format!("{:.4}", form.plot_area().1)) {
                    (plot::draw(figure, *form))
                }
            }
            script type="application/json" { (PreEscaped(hover(figure))) }
        }
    }
}

/// What a pointer shows, as JSON that cannot end its element.
fn hover(figure: &Figure) -> String {
    let lines: Vec<_> = figure.lines.iter().map(|line| json!([line.name, colour_name(line.style)])).collect();
    let stops: Vec<_> = figure
        .stops
        .iter()
        .map(|stop| json!([(figure.x.position(stop.x) * 1e4).round() / 1e4, stop.label, stop.values]))
        .collect();
    json!({ "lines": lines, "stops": stops }).to_string().replace('<', "\\u003c")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::plot::figure::{Axis, Stop};

    #[test]
    fn numbers_stay_with_their_units() {
        assert_eq!(unbroken("is 4 ms (p = 0.01); 9 % of it"), "is 4\u{a0}ms (p\u{a0}=\u{a0}0.01); 9\u{a0}% of it");
    }

    #[test]
    fn lines_beyond_the_last_style_share_an_entry_that_names_none_of_them() {
        let line = |name: &str, style| Line {
            name: name.to_owned(),
            style,
            bound: false,
            points: Vec::new(),
            band: Vec::new(),
            marks: Vec::new(),
        };
        let text = |lines: &[Line]| legend(lines.iter()).into_string();
        let lines = [line("a", 0), line("b", DISTINCT), line("c", DISTINCT), line("a", 0)];
        assert!(text(&lines).contains("others") && !text(&lines).contains("> b"), "{}", text(&lines));
        let alone = [line("a", 0), line("b", DISTINCT), line("b", DISTINCT)];
        assert!(!text(&alone).contains("others"), "{}", text(&alone));
    }

    #[test]
    fn a_row_is_named_above_its_numbers_where_there_are_numbers() {
        let mut grid = Grid::new(["rate", "nginx", "p99"], 0, vec![vec!["400".into(), "shared".into(), "1 ms".into()]]);
        grid.labels = 2;
        assert_eq!(row_name(&grid, &grid.rows[0]), "rate 400 · shared");
        assert!(bare_table(&grid).into_string().contains("<th colspan=\"1\"><span>rate 400 · shared</span></th>"));
        grid.labels = 3;
        assert!(!bare_table(&grid).into_string().contains("over"));
    }

    #[test]
    fn embedded_json_cannot_end_its_element() {
        let figure = Figure {
            heading: String::new(),
            x: Axis::from_zero("", 1.0, |_| String::new()),
            y: Axis::from_zero("", 1.0, |_| String::new()),
            lines: Vec::new(),
            spans: Vec::new(),
            stops: vec![Stop { x: 0.5, label: "</script><script>alert(1)</script>".to_owned(), values: Vec::new() }],
        };
        assert!(!hover(&figure).contains('<'));
        assert!(!plot(&figure, &[plot::SMALL]).into_string().contains("<script>"));
    }
}
