//! `listenbench man`: manual pages in roff, generated from the help texts and the keys.

mod scenario;

use std::{io, iter, path::Path};

use anyhow::{Context, Result};
use clap::{Command, CommandFactory};
use clap_mangen::{
    Man,
    roff::{Roff, roman},
};

use super::{Ended, Usage, say};
use crate::{cli, suggest, sys::folder::Folder};

/// Runs the command.
pub fn run(options: &cli::Man) -> Result<Ended> {
    let main = main_command();
    if let Some(folder) = &options.dir {
        write_all(&main, folder)?;
        return Ok(Ended::Done);
    }
    let page = match options.command.as_deref() {
        None => page(&main)?,
        Some("scenario") => clean(&scenario::page()),
        Some(name) => page(main.find_subcommand(name).ok_or_else(|| unknown(&main, name))?)?,
    };
    say(page.trim_end())?;
    Ok(Ended::Done)
}

/// The name of the page about scenarios.
const SCENARIO: &str = "listenbench-scenario";
/// The manual of section 1.
const MANUAL_OF_COMMANDS: &str = "User Commands";
/// The manual of section 5.
const MANUAL_OF_FORMATS: &str = "File Formats";
/// When what the pages describe last changed.
const DATE: &str = "2026-11-26";

/// The first line of a page.
fn title_line(name: &str, section: u8, manual: &str) -> String {
    let source = concat!("listenbench ", env!("CARGO_PKG_VERSION"));
    format!(".TH \"{}\" {section} \"{DATE}\" \"{source}\" \"{manual}\"\n", name.to_uppercase())
}

/// The commands that have pages.
fn commands(main: &Command) -> impl Iterator<Item = &Command> {
    main.get_subcommands().filter(|command| !command.is_hide_set())
}

fn main_command() -> Command {
    // `listenbench help run` is `listenbench run --help` and needs no page.
    let mut main = cli::Cli::command().disable_help_subcommand(true);
    main.build();
    main
}

/// The names of all pages but the main one.
pub(super) fn pages(main: &Command) -> Vec<String> {
    commands(main).map(Command::get_name).chain(["scenario"]).map(str::to_owned).collect()
}

fn unknown(main: &Command, name: &str) -> Usage {
    let known = pages(main);
    let meant = suggest::hint(name, known.iter().map(String::as_str));
    let meant = if meant.is_empty() { format!("; pages: {}", known.join(", ")) } else { meant };
    Usage(format!("unknown page \"{name}\"{meant}"))
}

fn write_all(main: &Command, folder: &Path) -> Result<()> {
    let folder = Folder::create(folder).with_context(|| format!("creating the folder {}", folder.display()))?;
    folder.sweep();
    let of_commands = iter::once(main).chain(commands(main));
    let of_commands = of_commands.map(|command| anyhow::Ok((format!("man1/{}.1", title(command)), page(command)?)));
    let of_formats = iter::once(Ok((format!("man5/{SCENARIO}.5"), clean(&scenario::page()))));
    for named in of_commands.chain(of_formats) {
        let (name, page) = named?;
        let path = folder.path().join(&name);
        folder.replace(&name, page.as_bytes()).with_context(|| format!("writing {}", path.display()))?;
        say(path.display())?;
    }
    Ok(())
}

/// `listenbench` or `listenbench-run`.
fn title(command: &Command) -> &str {
    command.get_display_name().unwrap_or_else(|| command.get_name())
}

fn page(command: &Command) -> Result<String> {
    let man = Man::new(command.clone());
    let mut page = Vec::new();
    sections(&man, command, &mut page).context("writing a manual page")?;
    let page = String::from_utf8(page).context("writing a manual page")?;
    // Every section repeats the same definitions; keep the first.
    let definitions = page.find(".TH").map_or("", |end| &page[..end]);
    let page = if definitions.is_empty() { page.clone() } else { page.replace(definitions, "") };
    // Its own title has no place for a date and a version at once.
    let (_, page) = page.split_once('\n').context("writing a manual page")?;
    Ok(clean(&format!("{definitions}{}{page}", title_line(title(command), 1, MANUAL_OF_COMMANDS))))
}

/// A page that every formatter takes without a warning: in ASCII, and without blank lines or spaces at the end of lines.
fn clean(page: &str) -> String {
    let mut text = String::new();
    for line in page.replace("\n.br\n\n.br\n", "\n.sp\n").lines() {
        for c in line.trim_end().chars() {
            if c.is_ascii() { text.push(c) } else { text.push_str(&format!("\\[u{:04X}]", u32::from(c))) }
        }
        text.push('\n');
    }
    text
}

/// Renders every section itself, because clap_mangen puts the text after the help into one paragraph under "EXTRA".
fn sections(man: &Man, command: &Command, page: &mut Vec<u8>) -> io::Result<()> {
    man.render_title(page)?;
    man.render_name_section(page)?;
    let mut synopsis = Vec::new();
    man.render_synopsis_section(&mut synopsis)?;
    page.extend_from_slice(with_ellipses(&String::from_utf8_lossy(&synopsis), command).as_bytes());
    man.render_description_section(page)?;
    if command.get_arguments().next().is_some() {
        man.render_options_section(page)?;
    }
    if command.has_subcommands() {
        man.render_subcommands_section(page)?;
    }
    let after = command.get_after_long_help().or_else(|| command.get_after_help());
    let mut after = after.map_or_else(String::new, ToString::to_string);
    if !after.contains("Exit codes") {
        after += &format!("\n\n{}", cli::exit_codes_in_words());
    }
    closing(&after).to_writer(page)
}

/// The synopsis, with `...` after arguments that may be repeated.
fn with_ellipses(synopsis: &str, command: &Command) -> String {
    let mut text = synopsis.to_owned();
    let repeated =
        command.get_positionals().filter(|one| one.get_num_args().is_some_and(|count| count.max_values() > 1));
    for name in repeated.flat_map(|one| one.get_value_names().into_iter().flatten()) {
        for shown in [format!("[\\fI{name}\\fR]"), format!("<\\fI{name}\\fR>")] {
            text = text.replace(&shown, &format!("{shown}..."));
        }
    }
    text
}

/// More words before a colon are part of a sentence.
const LONGEST_HEADING_WORDS: usize = 4;

/// `Examples:` with indented lines, or `Exit codes:` with a sentence: the text before the colon becomes the heading.
fn closing(text: &str) -> Roff {
    let mut roff = Roff::new();
    let mut last = "";
    for paragraph in text.split("\n\n") {
        let is_heading = |text: &str| !text.contains('.') && text.split(' ').count() <= LONGEST_HEADING_WORDS;
        let (heading, body) =
            paragraph.split_once(':').filter(|(heading, _)| is_heading(heading)).unwrap_or(("Notes", paragraph));
        if heading == last {
            roff.control("PP", []);
        } else {
            roff.control("SH", [heading.to_uppercase().as_str()]);
        }
        last = heading;
        // Verbatim: commands get copied, and their remarks are aligned in columns.
        let verbatim = body.contains('\n');
        if verbatim {
            roff.control("nf", []);
        }
        for line in body.lines().filter(|line| !line.is_empty()) {
            roff.text([roman(line.trim_start())]);
        }
        if verbatim {
            roff.control("fi", []);
        }
    }
    roff
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::{PRESETS, keys};

    #[test]
    fn every_command_has_a_page_with_examples() {
        let main = main_command();
        for command in commands(&main) {
            let page = page(command).unwrap();
            assert!(page.contains(".SH \"EXAMPLE") || page.contains(".SH EXAMPLE"), "{page}");
            assert!(page.contains(&format!("listenbench\\-{}", command.get_name())), "{page}");
            assert!(page.contains("EXIT CODES"), "{page}");
        }
        for (command, synopsis) in [("run", "[\\fISCENARIO\\fR]..."), ("explain", "[\\fINAME\\fR]...")] {
            let page = page(main.find_subcommand(command).unwrap()).unwrap();
            assert!(page.contains(synopsis), "{page}");
        }
        assert!(!page(main.find_subcommand("man").unwrap()).unwrap().contains("fR]..."));
        assert!(page(main.find_subcommand("compare").unwrap()).unwrap().contains(".SH NOTES"));
    }

    #[test]
    fn the_page_of_scenarios_has_every_key_strategy_and_table() {
        let page = clean(&scenario::page());
        let escaped = |name: &str| name.replace('-', "\\-");
        for key in keys::all() {
            assert!(page.contains(&format!("\\fB{}\\fR\n", escaped(key.path()))), "{}", key.path());
        }
        for preset in PRESETS {
            assert!(page.contains(&format!("\\fB{}\\fR\n", escaped(preset.name))), "{}", preset.name);
        }
        assert!(keys::TABLES.iter().all(|(name, _)| page.contains(name) || page.contains(&name.to_uppercase())));
        assert!(page.is_ascii() && page.lines().all(|line| !line.is_empty() && !line.ends_with(' ')));
    }
}
