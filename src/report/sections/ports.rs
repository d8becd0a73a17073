//! The cost of a connect as the ports fill: the knee and the wall.

use maud::html;

use super::{Content, In};
use crate::{
    format::{all_of, duration, percent, thousands},
    record::{Ports, PortsStep},
    report::{
        Grid, Ranked,
        html::parts::{legend, plot},
        plot::{
            NARROW, WIDE,
            figure::{Axis, Figure, Line, Mark, Stop, count_tick},
        },
        ranked::Cell,
    },
};

/// Fills in the table and hover texts.
const FILLS: [f64; 10] = [0.05, 0.15, 0.25, 0.35, 0.45, 0.55, 0.65, 0.75, 0.85, 0.95];

/// The chart.
#[derive(Debug, Clone, PartialEq)]
pub struct PortsCurve {
    /// The finding.
    pub title: String,
    /// A line for each cell.
    pub figure: Figure,
    /// The same in numbers.
    pub table: Grid,
    /// How to read it.
    pub notes: Vec<String>,
}

pub(super) fn section(ranked: &Ranked<'_>) -> Option<Content> {
    let curve = curve(ranked)?;
    Some(Content {
        title: "What a connect costs as the ports fill".to_owned(),
        finding: curve.title,
        figure: Some(html! {
            (legend(curve.figure.lines.iter()))
            (plot(&curve.figure, &[WIDE, NARROW]))
        }),
        notes: curve.notes.into_iter().map(|note| (In::Page, note)).collect(),
        tables: vec![(In::Page, curve.table)],
        ..Content::default()
    })
}

/// The curve of each cell's first valid trial that filled ports, if any did.
pub fn curve(ranked: &Ranked<'_>) -> Option<PortsCurve> {
    let of = |cell: &'_ Cell<'_>| {
        cell.trials.iter().filter_map(|trial| trial.ports.clone()).find(|ports| !ports.curve.is_empty())
    };
    let cells: Vec<(&Cell<'_>, Ports)> = ranked.cells.iter().filter_map(|cell| Some((cell, of(cell)?))).collect();
    if cells.is_empty() {
        return None;
    }
    let steps = || cells.iter().flat_map(|(_, ports)| &ports.curve);
    let most = steps().map(|step| step.connections).max()? as f64;
    let figure = Figure {
        heading: String::new(),
        x: {
            let axis = Axis::from_zero("connections open", most, count_tick);
            Axis {
                high: most * 1.02,
                ticks: axis.ticks.into_iter().filter(|(value, _)| *value <= most).collect(),
                ..axis
            }
        },
        y: Axis::log_ns("connect, bind included: median", steps().map(|step| step.connect_p50_ns as f64)),
        lines: cells.iter().enumerate().map(|(style, (cell, ports))| line(cell, ports, style)).collect(),
        spans: Vec::new(),
        stops: stops(&cells),
    };
    Some(PortsCurve {
        title: title(&cells, ranked.cells.len()),
        figure,
        table: table(&cells),
        notes: vec![
            "Dot: the knee, where the cost rose for good above its flat level. Cross: the wall, where the ports ran out. Each line \
             shows the cell's first valid trial."
                .to_owned(),
        ],
    })
}

fn line(cell: &Cell<'_>, ports: &Ports, style: usize) -> Line {
    let points: Vec<(f64, f64)> =
        ports.curve.iter().map(|step| (step.connections as f64, step.connect_p50_ns as f64)).collect();
    let at = |connections: u64| points.iter().find(|(x, _)| *x >= connections as f64).copied();
    let knee = ports.knee.and_then(at).map(|(x, y)| (x, y, Mark::Dot));
    let wall = ports.wall.and(points.last()).map(|(x, y)| (*x, *y, Mark::Cross));
    Line {
        name: cell.full_name.clone(),
        style,
        bound: false,
        band: Vec::new(),
        marks: knee.into_iter().chain(wall).collect(),
        points,
    }
}

/// The first step that reaches a fill.
fn at_fill(ports: &Ports, fill: f64) -> Option<&PortsStep> {
    ports.curve.iter().find(|step| step.fill >= fill)
}

fn show(step: Option<&PortsStep>) -> String {
    step.map_or_else(String::new, |step| duration(step.connect_p50_ns as f64))
}

fn stops(cells: &[(&Cell<'_>, Ports)]) -> Vec<Stop> {
    let Some(widest) = cells.iter().map(|(_, ports)| ports).max_by_key(|ports| ports.capacity) else {
        return Vec::new();
    };
    let stop = |fill: &f64| {
        let x = fill * widest.capacity as f64;
        // Cells with other capacities reach other fills at the same place.
        let values = cells.iter().map(|(_, ports)| show(at_fill(ports, x / ports.capacity.max(1) as f64))).collect();
        Stop { x, label: format!("{} connections, {} full", thousands(x), percent(*fill)), values }
    };
    FILLS.iter().map(stop).filter(|stop| stop.values.iter().any(|value| !value.is_empty())).collect()
}

/// Where the cost rises, and where it does not, of so many cells; of some, no valid trial may have filled ports.
fn title(cells: &[(&Cell<'_>, Ports)], all: usize) -> String {
    let part = |ports: &Ports, at: u64| percent(at as f64 / ports.capacity.max(1) as f64);
    let kneed: Vec<_> = cells.iter().filter_map(|(cell, ports)| Some((cell, ports, ports.knee?))).collect();
    let earliest =
        kneed.iter().min_by(|(_, one, knee), (_, other, later)| (*knee * other.capacity).cmp(&(*later * one.capacity)));
    let Some((cell, ports, knee)) = earliest else {
        let place = match cells {
            _ if all == 1 => String::new(),
            [(cell, _)] => format!(" in {}", cell.full_name),
            _ if cells.len() == all => format!(" in {} cells", all_of(all)),
            _ => format!(" in {} of {all} cells", cells.len()),
        };
        return format!("The cost of a connect shows no lasting rise{place}");
    };
    let steepest = ports.curve.iter().map(|step| step.connect_p50_ns).max().unwrap_or(0);
    let flat: Vec<_> = cells.iter().filter(|(_, ports)| ports.knee.is_none()).collect();
    let flat = match flat[..] {
        [] => String::new(),
        [(cell, _)] => format!("; {} shows no lasting rise", cell.full_name),
        _ => format!("; {} of {all} cells show no lasting rise", flat.len()),
    };
    let name = if all == 1 { String::new() } else { format!(" ({})", cell.full_name) };
    format!(
        "The cost of a connect starts to rise at {} of the ports and reaches {}{name}{flat}",
        part(ports, *knee),
        duration(steepest as f64)
    )
}

fn table(cells: &[(&Cell<'_>, Ports)]) -> Grid {
    let mut head: Vec<String> = ["cell", "capacity", "knee", "wall"].map(str::to_owned).to_vec();
    head.extend(FILLS.iter().map(|fill| format!("at {:.0} %", 100.0 * fill)));
    head.push("failing".to_owned());
    let row = |(cell, ports): &(&Cell<'_>, Ports)| {
        let count =
            |count: Option<u64>, none: &str| count.map_or_else(|| none.to_owned(), |count| thousands(count as f64));
        let mut row = vec![
            cell.full_name.clone(),
            thousands(ports.capacity as f64),
            count(ports.knee, "none"),
            count(ports.wall, "not met"),
        ];
        let cost = |fill: &f64| Some(show(at_fill(ports, *fill))).filter(|text| !text.is_empty());
        row.extend(FILLS.iter().map(|fill| cost(fill).unwrap_or_else(|| "–".to_owned())));
        row.push(ports.failing_connect_ns.map_or_else(|| "–".to_owned(), |ns| duration(ns as f64)));
        row
    };
    Grid::new(head, 0, cells.iter().map(row).collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{record::Outcome, report::sample::Sample};

    /// The title of cells with these knees, of 100 ports each. The last ones have no valid trial.
    fn titled(knees: &[Option<u64>], invalid: usize) -> String {
        let mut sample = Sample::new("What does a connect cost?");
        for (number, knee) in knees.iter().enumerate() {
            let cell = if knees.len() == 1 { json!({}) } else { json!({ "strategy": format!("s{number}") }) };
            let step = PortsStep { connections: 10, connect_p50_ns: 1_500, ..PortsStep::default() };
            let ports = Ports { capacity: 100, knee: *knee, curve: vec![step], ..Ports::default() };
            let trial = sample.trial(cell, &[5, 5], 1_000);
            trial.ports = Some(ports);
            if number >= knees.len() - invalid {
                trial.outcome = Outcome::Invalid;
            }
        }
        curve(&Ranked::of(&sample.reading())).unwrap().title
    }

    #[test]
    fn a_title_names_cells_without_making_them_owners() {
        let rises = "The cost of a connect starts to rise at 50.0 % of the ports and reaches 1.50 µs";
        let flat = "The cost of a connect shows no lasting rise";
        for (knees, invalid, title) in [
            (&[None][..], 0, flat.to_owned()),
            (&[None, None], 0, format!("{flat} in both cells")),
            (&[None, None], 1, format!("{flat} in s0")),
            (&[None, None, None], 1, format!("{flat} in 2 of 3 cells")),
            (&[Some(50)], 0, rises.to_owned()),
            (&[Some(50), None], 1, format!("{rises} (s0)")),
            (&[Some(50), None], 0, format!("{rises} (s0); s1 shows no lasting rise")),
            (&[None, Some(70), Some(50), None], 0, format!("{rises} (s2); 2 of 4 cells show no lasting rise")),
        ] {
            assert_eq!(titled(knees, invalid), title);
        }
    }
}
