//! Colours: from the basic 16, readable on black and on white, and never the only sign of anything.

use std::{env, sync::OnceLock};

use ratatui::{
    crossterm::style::force_color_output,
    style::{Color, Modifier, Style},
};

/// What the command line says of colours, if it says something.
static ASKED: OnceLock<bool> = OnceLock::new();

/// Uses colours in all views, or none, whatever the environment says. The first call counts.
pub fn use_colours(colours: bool) {
    // Otherwise crossterm looks at NO_COLOR itself.
    force_color_output(colours);
    let _ = ASKED.set(colours);
}

/// The styles; without colours if NO_COLOR is set (no-color.org) or CLICOLOR is 0, unless CLICOLOR_FORCE is set
/// (bixense.com/clicolors).
#[derive(Debug, Clone, Copy)]
pub(in crate::live) struct Palette {
    colours: bool,
}

impl Palette {
    pub(in crate::live) fn from_environment() -> Self {
        let variable = |name| env::var_os(name).unwrap_or_default();
        let is_set = |name| !variable(name).is_empty();
        let forced = is_set("CLICOLOR_FORCE") && variable("CLICOLOR_FORCE") != "0";
        let by_environment = !is_set("NO_COLOR") && (forced || variable("CLICOLOR") != "0");
        Self { colours: *ASKED.get().unwrap_or(&by_environment) }
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
