//! Colours that can be read on black and on white, of 16, and never the only sign of anything.

use std::env;

use ratatui::style::{Color, Modifier, Style};

/// The styles; without colours where NO_COLOR is set (no-color.org).
#[derive(Debug, Clone, Copy)]
pub(in crate::live) struct Palette {
    colours: bool,
}

impl Palette {
    pub(in crate::live) fn from_environment() -> Self {
        Self { colours: env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()) }
    }

    #[cfg(test)]
    pub(in crate::live) fn without_colours() -> Self {
        Self { colours: false }
    }

    fn coloured(self, style: Style, colour: Color) -> Style {
        if self.colours { style.fg(colour) } else { style }
    }

    /// What stands out.
    pub(super) fn strong(self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    /// What explains the rest.
    pub(super) fn faint(self) -> Style {
        Style::new().add_modifier(Modifier::DIM)
    }

    /// What is lost.
    pub(super) fn bad(self) -> Style {
        self.coloured(self.strong(), Color::Red)
    }

    /// A sign of caution: yellow is for signs, and hard to read as text on white.
    pub(super) fn caution(self) -> Style {
        self.coloured(self.strong(), Color::Yellow)
    }

    /// Bars and lines of figures.
    pub(super) fn bar(self) -> Style {
        self.coloured(Style::new(), Color::Green)
    }
}
