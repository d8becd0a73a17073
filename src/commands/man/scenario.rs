//! listenbench-scenario(5): the format of scenarios, generated from the keys.

use clap_mangen::roff::{Inline, Roff, bold, roman};

use super::{MANUAL_OF_FORMATS, SCENARIO, title_line};
use crate::{
    format::thousands,
    scenario::{
        LIMITS, PRESETS,
        keys::{self, AnyKey},
    },
};

/// What is true of all scenarios.
const DESCRIPTION: [&str; 6] = [
    "A scenario is a TOML file that asks one question. `listenbench run FILE` runs it, `listenbench run FILE --dry-run` shows its trials, and \
     `listenbench new` writes one to start from. Every key is optional.",
    "Durations are strings with a unit, such as `\"200us\"`, `\"5ms\"`, `\"2s\"` or `\"1m\"`, of at most 30 days.",
    "A key may stand in a table or have its whole path: `rate` in `[load]` is `load.rate`.",
    "In `[matrix]`, a key has a list of values in place of one. Every combination of all lists is a cell, and each cell is run \
     `repetitions` times, in random order. A `[[variant]]` is a cell with a name and values of its own.",
    "`--set KEY=VALUE` replaces a value, `--set 'KEY=[A, B]'` sweeps the key, and `--set KEY=` restores its default.",
    "An unknown key is an error, and so is a key that has no effect in the scenario.",
];

/// The lists of keys, each with its heading and what it is about; a table's meaning is that of its topic.
const GROUPS: [(&str, &str, &[&dyn AnyKey]); 8] = [
    ("KEYS OF THE WHOLE SCENARIO", "They hold for all cells and cannot be swept.", keys::WHOLE),
    ("KEYS OF EVERY TRIAL", "Where and how trials run.", keys::TRIAL),
    ("[server]", "", keys::SERVER),
    ("[load]", "", keys::LOAD),
    ("[ports]", "", keys::PORTS),
    ("[firewall]", "", keys::FIREWALL),
    ("[nat]", "", keys::NAT),
    ("[[event]]", "", keys::EVENT),
];

/// The page.
pub(super) fn page() -> String {
    let mut roff = Roff::new();
    heading(&mut roff, "NAME");
    roff.text([roman(format!("{SCENARIO} - format of listenbench's scenarios"))]);
    heading(&mut roff, "DESCRIPTION");
    paragraphs(&mut roff, &DESCRIPTION);
    for (title, meaning, keys) in GROUPS {
        heading(&mut roff, title);
        let of_table = keys::TABLES.iter().find(|(name, _)| *name == title).map(|(_, meaning)| *meaning);
        roff.text(inlines(of_table.unwrap_or(meaning)));
        for key in keys {
            let default = key.default_toml().map_or_else(|| "none".to_owned(), |value| value.to_string());
            entry(
                &mut roff,
                key.path(),
                &format!("{}. Values: {}. Default: `{default}`.", key.meaning().trim_end_matches('.'), key.domain()),
            );
        }
    }
    heading(&mut roff, "OTHER TABLES");
    for (name, meaning) in keys::TABLES.iter().filter(|(name, _)| GROUPS.iter().all(|(title, ..)| title != name)) {
        entry(&mut roff, name, meaning);
    }
    heading(&mut roff, "STRATEGIES");
    roff.text(inlines("Values of `server.strategy`."));
    for preset in PRESETS {
        entry(&mut roff, preset.name, &format!("{} Limits: {}.", preset.meaning, preset.with_defaults().limits()));
    }
    heading(&mut roff, "LIMITS");
    for (name, most, meaning) in LIMITS {
        entry(&mut roff, name, &format!("{meaning} At most {}.", thousands(*most as f64)));
    }
    heading(&mut roff, "EXAMPLE");
    roff.control("nf", []);
    for line in include_str!("../new/own.toml").lines() {
        // An empty line would be a macro's end of paragraph elsewhere; here it is one.
        if line.is_empty() {
            roff.control("sp", [])
        } else {
            roff.text([roman(line)])
        };
    }
    roff.control("fi", []);
    heading(&mut roff, "SEE ALSO");
    roff.text([
        bold("listenbench"),
        roman("(1), "),
        bold("listenbench-run"),
        roman("(1), "),
        bold("listenbench-new"),
        roman("(1), "),
        bold("listenbench-explain"),
        roman("(1)"),
    ]);
    title_line(SCENARIO, 5, MANUAL_OF_FORMATS) + &roff.to_roff()
}

fn heading(roff: &mut Roff, title: &str) {
    roff.control("SH", [title.to_uppercase().as_str()]);
}

fn paragraphs(roff: &mut Roff, texts: &[&str]) {
    for (place, text) in texts.iter().enumerate() {
        if place > 0 {
            roff.control("PP", []);
        }
        roff.text(inlines(text));
    }
}

/// A name, and what it means, further in.
fn entry(roff: &mut Roff, name: &str, meaning: &str) {
    roff.control("TP", []);
    roff.text([bold(name)]);
    roff.text(inlines(meaning));
}

/// A text with what stands in backticks in bold.
fn inlines(text: &str) -> Vec<Inline> {
    let parts = text.split('`').enumerate().filter(|(_, part)| !part.is_empty());
    parts.map(|(place, part)| if place % 2 == 1 { bold(part) } else { roman(part) }).collect()
}
