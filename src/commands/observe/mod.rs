//! `listenbench observe`: watches servers that run. Generates no load, and changes nothing.

mod lines;
mod recording;

use std::{
    io::{IsTerminal, stdout},
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use self::{
    lines::Lines,
    recording::{Metrics, Recording},
};
use super::{Ended, Usage, interrupt_flag, note, say, say_json};
use crate::{
    cli::{self, Host, Target},
    format::{causes, seconds},
    live::{Kind, ObservedScreen},
    sys::namespace::Namespace,
    watch::{Look, Wanted, WantedPlaces, Watch},
};

/// Interval between samples of the queues.
const SAMPLE: Duration = Duration::from_millis(100);
/// Longest interval between looks.
const LONGEST: Duration = Duration::from_secs(3_600);

/// Runs the command.
pub fn run(options: &cli::Observe) -> Result<Ended> {
    if !(SAMPLE..=LONGEST).contains(&options.interval) {
        bail!(Usage(format!(
            "--interval {}: give a time from {} to {}",
            humantime::format_duration(options.interval),
            humantime::format_duration(SAMPLE),
            seconds(LONGEST)
        )));
    }
    if options.length.is_some_and(|length| length.is_zero()) {
        bail!(Usage("--for 0s: give the time to watch, such as 10s".to_owned()));
    }
    // Names are resolved where the user is.
    let wanted = options.listeners.iter().map(wanted).collect::<Result<_>>()?;
    if let Some(pid) = options.pid {
        enter(pid)?;
    }
    let interrupted = interrupt_flag()?;
    let mut watch = Watch::begin(wanted)?;
    let recording = options.out.as_deref().map(|folder| Recording::begin(folder, &watch)).transpose()?;
    let metrics = options.metrics.as_deref().map(|file| Metrics::begin(file, &watch)).transpose()?;
    let mut view = View::choose(options, &interrupted);
    let observed = observe(options, &mut watch, metrics.as_ref(), &mut view, &interrupted);
    let is_json = matches!(view, View::Json);
    let concluded = view.conclude(watch.whole());
    // Whatever failed, what was seen is kept.
    let error = observed.as_ref().err().map(causes);
    let kept = recording.map(|recording| recording.end(&watch, options, error)).transpose();
    let cut_short = observed?;
    concluded?;
    match kept? {
        Some(folder) if is_json => note(format_args!("record: {}", folder.display())),
        Some(folder) => say(format_args!("record: {}", folder.display()))?,
        None => {}
    }
    Ok(if cut_short { Ended::Interrupted } else { Ended::Done })
}

/// The listeners that a user names. A port alone stands for every address.
fn wanted(target: &Target) -> Result<Wanted> {
    let what = match &target.host {
        Host::Unix(address) => bail!(Usage(format!(
            "{address}: what `observe` sees is TCP and UDP: look at a Unix socket with ss -xl, or put load on it: listenbench load {address}"
        ))),
        Host::ThisMachine => WantedPlaces::Port(target.port),
        Host::Address(_) | Host::Name(_) => WantedPlaces::Addresses(target.addresses()?),
    };
    Ok(Wanted { name: target.to_string(), what })
}

/// Moves into a process's network namespace, unless it is this one.
fn enter(pid: i32) -> Result<()> {
    let (own, other) = (Namespace::current()?, Namespace::of_process(pid)?);
    let inode = |namespace: &Namespace| namespace.inode().context("fstat of a network namespace");
    if inode(&own)? == inode(&other)? {
        return Ok(());
    }
    other.enter().with_context(|| format!("only root may enter the network namespace of process {pid}"))
}

/// How looks are shown.
enum View<'a> {
    Json,
    Lines(Lines),
    Screen(Box<ObservedScreen<'a>>),
}

impl<'a> View<'a> {
    /// A screen requires terminals as standard input, output and error.
    fn choose(options: &cli::Observe, interrupted: &'a AtomicBool) -> Self {
        if options.json {
            return Self::Json;
        }
        if stdout().is_terminal() && Kind::choose(false, false) == Kind::Screen {
            let title = match options.pid {
                Some(pid) => format!("listenbench observe: the network of process {pid}"),
                None => "listenbench observe".to_owned(),
            };
            match ObservedScreen::start(title, options.length, interrupted) {
                Ok(screen) => return Self::Screen(Box::new(screen)),
                Err(error) => note(format_args!("no screen, falling back to lines: {error}")),
            }
        }
        Self::Lines(Lines::default())
    }

    /// Called at every sample.
    fn obey(&mut self) {
        if let Self::Screen(screen) = self {
            screen.obey();
        }
    }

    fn show(&mut self, look: Look) -> Result<()> {
        match self {
            Self::Json => say_json(&look, super::Lines::One),
            Self::Lines(lines) => lines.show(&look),
            Self::Screen(screen) => {
                screen.show(&look);
                Ok(())
            }
        }
    }

    /// Prints what the whole observation saw; a screen gives the terminal back before.
    fn conclude(self, whole: Option<Look>) -> Result<()> {
        let mut lines = match self {
            Self::Json => return Ok(()),
            Self::Lines(lines) => lines,
            Self::Screen(screen) => {
                drop(screen);
                Lines::default()
            }
        };
        whole.iter().try_for_each(|whole| lines.conclude(whole))
    }
}

/// Watches until the time has passed or the user ends it. Returns whether the user cut the time short.
fn observe(
    options: &cli::Observe,
    watch: &mut Watch,
    metrics: Option<&Metrics>,
    view: &mut View<'_>,
    interrupted: &AtomicBool,
) -> Result<bool> {
    let began = Instant::now();
    let end = options.length.and_then(|length| began.checked_add(length));
    let mut next_look = began + options.interval;
    let mut next_sample = began + SAMPLE;
    loop {
        let until = end.map_or(next_look, |end| end.min(next_look)).min(next_sample);
        thread::sleep(until.saturating_duration_since(Instant::now()));
        let now = Instant::now();
        let over = end.is_some_and(|end| now >= end);
        view.obey();
        let quit = interrupted.load(Relaxed);
        if over || quit || now >= next_look {
            view.show(watch.look()?)?;
            if let Some(metrics) = metrics {
                metrics.write(watch)?;
            }
        } else {
            watch.sample()?;
        }
        if over || quit {
            return Ok(end.is_some() && !over);
        }
        // A look that took longer than the interval is not made up for.
        while next_look <= now {
            next_look += options.interval;
        }
        next_sample = now + SAMPLE;
    }
}
