//! `listenbench man`: manual pages in roff, generated from the help texts.

use std::{fs, io, path::Path};

use anyhow::{Context, Result};
use clap::{Command, CommandFactory};
use clap_mangen::{
    Man,
    roff::{Roff, roman},
};

use super::{Ended, Usage, say};
use crate::cli;

/// Runs the command.
pub fn run(options: &cli::Man) -> Result<Ended> {
    let main = main_command();
    if let Some(folder) = &options.dir {
        write_all(&main, folder)?;
        return Ok(Ended::Done);
    }
    let command = match &options.command {
        None => &main,
        Some(name) => main.find_subcommand(name).ok_or_else(|| unknown(&main, name))?,
    };
    say(page(command)?.trim_end())?;
    Ok(Ended::Done)
}

fn main_command() -> Command {
    // `listenbench help run` is `listenbench run --help` and needs no page.
    let mut main = cli::Cli::command().disable_help_subcommand(true);
    main.build();
    main
}

fn unknown(main: &Command, name: &str) -> Usage {
    let known: Vec<&str> = main.get_subcommands().map(Command::get_name).collect();
    Usage(format!("unknown command \"{name}\"; commands: {}", known.join(", ")))
}

fn write_all(main: &Command, folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("creating the folder {}", folder.display()))?;
    for command in std::iter::once(main).chain(main.get_subcommands()) {
        let path = folder.join(format!("{}.1", title(command)));
        fs::write(&path, page(command)?).with_context(|| format!("writing {}", path.display()))?;
        say(path.display())?;
    }
    Ok(())
}

/// `listenbench` or `listenbench-run`.
fn title(command: &Command) -> &str {
    command.get_display_name().unwrap_or_else(|| command.get_name())
}

fn page(command: &Command) -> Result<String> {
    let man = Man::new(command.clone())
        .title(title(command))
        // An empty date would be dropped, shifting the fields that follow.
        .date(concat!("version ", env!("CARGO_PKG_VERSION")))
        .source("listenbench")
        .manual("User Commands");
    let mut page = Vec::new();
    sections(&man, command, &mut page).context("writing a manual page")?;
    let page = String::from_utf8(page).context("writing a manual page")?;
    // Every section repeats the same definitions; keep the first.
    let definitions = page.find(".TH").map_or("", |end| &page[..end]);
    Ok(if definitions.is_empty() { page.clone() } else { definitions.to_owned() + &page.replace(definitions, "") })
}

/// Renders every section itself, because clap_mangen puts the text after the help into one paragraph under "EXTRA".
fn sections(man: &Man, command: &Command, page: &mut Vec<u8>) -> io::Result<()> {
    man.render_title(page)?;
    man.render_name_section(page)?;
    man.render_synopsis_section(page)?;
    man.render_description_section(page)?;
    if command.get_arguments().next().is_some() {
        man.render_options_section(page)?;
    }
    if command.has_subcommands() {
        man.render_subcommands_section(page)?;
    }
    let after = command.get_after_long_help().or_else(|| command.get_after_help());
    after.map_or(Ok(()), |text| closing(&text.to_string()).to_writer(page))
}

/// `Examples:` with indented lines, or `Exit codes:` with a sentence: the text before the colon becomes the heading.
fn closing(text: &str) -> Roff {
    let mut roff = Roff::new();
    for paragraph in text.split("\n\n") {
        let (heading, body) = paragraph.split_once(':').unwrap_or(("Notes", paragraph));
        roff.control("SH", [heading.to_uppercase().as_str()]);
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

    #[test]
    fn every_command_has_a_page_with_examples() {
        let main = main_command();
        for command in main.get_subcommands() {
            let page = page(command).unwrap();
            assert!(page.contains(".SH \"EXAMPLE") || page.contains(".SH EXAMPLE"), "{page}");
            assert!(page.contains(&format!("listenbench\\-{}", command.get_name())), "{page}");
        }
        assert!(page(&main).unwrap().contains("EXIT CODES"));
    }
}
