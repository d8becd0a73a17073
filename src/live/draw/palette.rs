//! Colours: from the basic 16, readable on black and on white, and never the only sign of anything.

use std::env;

use ratatui::style::{Color, Modifier, Style};

/// The styles; without colours if NO_COLOR is set (no-color.org).
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

    /// For what matters most.
    pub(super) fn strong(self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    /// For names and explanations.
    pub(super) fn faint(self) -> Style {
        Style::new().add_modifier(Modifier::DIM)
    }

    /// For losses.
    pub(super) fn bad(self) -> Style {
        self.coloured(self.strong(), Color::Red)
    }

    /// For warning signs: yellow text would be hard to read on white.
    pub(super) fn caution(self) -> Style {
        self.coloured(self.strong(), Color::Yellow)
    }

    /// For bars and sparklines.
    pub(super) fn bar(self) -> Style {
        self.coloured(Style::new(), Color::Green)
    }
}
