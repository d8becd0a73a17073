//! Colours and dashes. A picture is drawn in stand-ins, each of which says what it is for, and gets its real colours afterwards.

use plotters::style::RGBColor;

/// Colours of lines, before dashes tell the next ones apart.
pub const COLOURS: usize = 7;
/// Dashes of the lines of each round of colours; lines beyond all of them are grey.
pub const DASHES: [&str; 3] = ["", "7 3", "2 3"];
/// Dashes of lines that show bounds.
pub const BOUND: &str = "1 3";

/// Lines that have colour and dashes that no other has.
pub const TOLD_APART: usize = COLOURS * DASHES.len();

/// What is drawn, by what it means. Each has a colour of its own on plotters' canvas, which is replaced afterwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ink {
    Paper,
    Text,
    Grid,
    Axis,
    Warmup,
    Fault,
    Series(usize),
    Bound(usize),
    Band(usize),
    Mark(usize),
}

impl Ink {
    pub(super) fn stand_in(self) -> RGBColor {
        let (kind, number) = match self {
            Self::Paper => (0, 0),
            Self::Text => (1, 0),
            Self::Grid => (2, 0),
            Self::Axis => (3, 0),
            Self::Warmup => (4, 0),
            Self::Fault => (5, 0),
            Self::Series(number) => (6, number),
            Self::Bound(number) => (7, number),
            Self::Band(number) => (8, number),
            Self::Mark(number) => (9, number),
        };
        RGBColor(0xF0 + kind, 0x5A, number.min(255) as u8)
    }

    pub(super) fn of(colour: &str) -> Option<Self> {
        let number = usize::from_str_radix(colour.get(4..6)?, 16).ok()?;
        (colour.get(2..4)? == "5A").then_some(())?;
        Some(match colour.get(0..2)? {
            "F0" => Self::Paper,
            "F1" => Self::Text,
            "F2" => Self::Grid,
            "F3" => Self::Axis,
            "F4" => Self::Warmup,
            "F5" => Self::Fault,
            "F6" => Self::Series(number),
            "F7" => Self::Bound(number),
            "F8" => Self::Band(number),
            "F9" => Self::Mark(number),
            _ => return None,
        })
    }

    /// The name of the page's CSS variable.
    pub(super) fn variable(self) -> String {
        match self {
            Self::Paper => "paper".to_owned(),
            Self::Text => "muted".to_owned(),
            Self::Grid => "grid".to_owned(),
            Self::Axis => "axis".to_owned(),
            Self::Warmup => "warmup".to_owned(),
            Self::Fault => "fault".to_owned(),
            Self::Series(number) | Self::Bound(number) | Self::Band(number) | Self::Mark(number) => colour_name(number),
        }
    }

    /// The colour on white.
    pub(super) fn plain(self) -> &'static str {
        /// Okabe and Ito's colours (2008), which people with the common kinds of colour blindness tell apart; those too
        /// light for lines on white are darker.
        const SERIES: [&str; COLOURS] = ["#0072B2", "#D55E00", "#009E73", "#BC5A93", "#B27D00", "#1A1A1A", "#3FA3DE"];
        match self {
            Self::Paper => "#FFFFFF",
            Self::Text => "#555555",
            Self::Grid => "#E6E6E6",
            Self::Axis => "#999999",
            Self::Warmup => "#EEEEEE",
            Self::Fault => "#F6D9D0",
            Self::Series(number) | Self::Bound(number) | Self::Band(number) | Self::Mark(number)
                if is_told_apart(number) =>
            {
                SERIES[number % COLOURS]
            }
            _ => "#8A8A8A",
        }
    }
}

fn is_told_apart(style: usize) -> bool {
    style < TOLD_APART
}

/// The page's CSS variable for the colour of a line.
pub fn colour_name(style: usize) -> String {
    if is_told_apart(style) { format!("c{}", style % COLOURS) } else { "other".to_owned() }
}

/// The dashes of a line, as `stroke-dasharray` has them; empty for none.
pub fn dashes(style: usize, bound: bool) -> &'static str {
    if bound { BOUND } else { DASHES.get(style / COLOURS).copied().unwrap_or_default() }
}
