//! Colours and dashes. On the report's page, colours are its CSS variables; a stand-alone file has fixed ones.

/// Number of line colours. Further lines differ in their dashes.
pub const COLOURS: usize = 7;
/// Dashes of each round of colours. Lines beyond the last round are grey.
const DASHES: [Option<&str>; 3] = [None, Some("7 3"), Some("2 3")];
/// Dashes of lines that show upper bounds.
const BOUND: &str = "1 3";

/// Number of lines that differ from each other in colour or dashes.
pub const DISTINCT: usize = COLOURS * DASHES.len();

/// What a colour stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ink {
    Paper,
    Text,
    Grid,
    Axis,
    Warmup,
    Event,
    /// A line of this style, with its band and its marks.
    Line(usize),
}

impl Ink {
    /// The colour as an SVG attribute: fixed in a file of its own, else one of the page's variables.
    pub(super) fn paint(self, alone: bool) -> String {
        if alone { self.on_white().to_owned() } else { variable(&self.name()) }
    }

    fn name(self) -> String {
        match self {
            Self::Paper => "paper".to_owned(),
            Self::Text => "muted".to_owned(),
            Self::Grid => "grid".to_owned(),
            Self::Axis => "axis".to_owned(),
            Self::Warmup => "warmup".to_owned(),
            Self::Event => "event".to_owned(),
            Self::Line(style) => colour_name(style),
        }
    }

    fn on_white(self) -> &'static str {
        /// Okabe and Ito's palette (2008), which stays readable with the common kinds of colour blindness. Those too light for
        /// lines on white are darkened.
        const LINES: [&str; COLOURS] = ["#0072B2", "#D55E00", "#009E73", "#BC5A93", "#B27D00", "#1A1A1A", "#3FA3DE"];
        match self {
            Self::Paper => "#FFFFFF",
            Self::Text => "#555555",
            Self::Grid => "#E6E6E6",
            Self::Axis => "#999999",
            Self::Warmup => "#EEEEEE",
            Self::Event => "#F6D9D0",
            Self::Line(style) if style < DISTINCT => LINES[style % COLOURS],
            Self::Line(_) => "#8A8A8A",
        }
    }
}

/// Name of the page's CSS variable with the colour of a line.
pub fn colour_name(style: usize) -> String {
    if style < DISTINCT { format!("c{}", style % COLOURS) } else { "other".to_owned() }
}

/// A CSS variable's value.
pub fn variable(name: &str) -> String {
    format!("var(--{name})")
}

/// Dashes of a line, as `stroke-dasharray` takes them; `None` for a solid line.
pub fn dashes(style: usize, bound: bool) -> Option<&'static str> {
    if bound { Some(BOUND) } else { DASHES.get(style / COLOURS).copied().flatten() }
}
