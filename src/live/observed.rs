//! The screen of an observation: its listeners, the members of one of them, and the verdicts.

use std::{
    cmp::Reverse,
    io,
    net::SocketAddr,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    time::Duration,
};

use super::{
    canvas::Canvas,
    draw::{self, Palette},
    keys::{self, Key},
};
use crate::watch::{Look, MemberLook};

/// A screen on standard error.
pub struct ObservedScreen<'a> {
    canvas: Canvas,
    palette: Palette,
    model: Observed,
    interrupted: &'a AtomicBool,
}

impl<'a> ObservedScreen<'a> {
    /// Takes the terminal until this is dropped, even by a panic. `interrupted` is set when the user quits.
    pub fn start(title: String, length: Option<Duration>, interrupted: &'a AtomicBool) -> io::Result<Self> {
        let (canvas, palette) = (Canvas::take()?, Palette::from_environment());
        Ok(Self { canvas, palette, model: Observed::new(title, length), interrupted })
    }

    /// Shows the latest look.
    pub fn show(&mut self, look: &Look) {
        self.model.see(look.clone());
        self.draw();
    }

    /// Obeys the keys typed since the last call.
    pub fn obey(&mut self) {
        let typed = keys::typed().unwrap_or_default();
        for key in &typed {
            match key {
                Key::Quit => self.interrupted.store(true, Relaxed),
                Key::Up => self.model.select(-1),
                Key::Down => self.model.select(1),
                Key::Sort => self.model.sort = self.model.sort.next(),
            }
        }
        self.draw();
    }

    fn draw(&mut self) {
        // A terminal that is gone must not end an observation.
        let _ = self.canvas.draw(|frame| draw::observed::draw(frame, &self.model, self.palette));
    }
}

/// What the screen shows, as plain values.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Observed {
    pub title: String,
    /// How long it will go on, if that is known.
    pub length: Option<Duration>,
    pub look: Option<Look>,
    pub sort: Sort,
    /// The selected listener by its address and device: its row moves as others come and go.
    selected: Option<(SocketAddr, Option<String>)>,
}

impl Observed {
    pub(super) fn new(title: String, length: Option<Duration>) -> Self {
        Self { title, length, look: None, sort: Sort::Accepts, selected: None }
    }

    /// Takes in a look. Until the user or an accept selects a listener, none is; then the busiest one, the first among equals.
    pub(super) fn see(&mut self, look: Look) {
        let rows = look.listeners.iter().enumerate();
        let busy = rows.filter(|(_, listener)| listener.accepts_per_s > Some(0.0));
        let busiest =
            busy.rev().max_by_key(|(_, listener)| listener.accepts_per_s.map(f64::to_bits)).map(|(row, _)| row);
        self.look = Some(look);
        if let Some(row) = self.selected.as_ref().map(|_| self.selection()).or(busiest) {
            self.select_row(row);
        }
    }

    /// The number of the selected listener; 0 if it is gone.
    pub(super) fn selection(&self) -> usize {
        let rows = self.look.iter().flat_map(|look| &look.listeners);
        let is_selected = |selected: &(SocketAddr, Option<String>)| {
            rows.clone().position(|row| (row.address, &row.device) == (selected.0, &selected.1))
        };
        self.selected.as_ref().and_then(is_selected).unwrap_or(0)
    }

    /// Moves the selection by so many rows, as far as there are any.
    pub(super) fn select(&mut self, rows: isize) {
        self.select_row(self.selection().saturating_add_signed(rows));
    }

    fn select_row(&mut self, row: usize) {
        let listeners = self.look.as_ref().map_or(&[][..], |look| &look.listeners);
        let row = row.min(listeners.len().saturating_sub(1));
        self.selected = listeners.get(row).map(|listener| (listener.address, listener.device.clone()));
    }
}

/// The order of members, greatest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sort {
    Accepts,
    Share,
    Wait,
    Eagain,
    Open,
    /// Smallest first.
    Pid,
}

impl Sort {
    fn next(self) -> Self {
        match self {
            Self::Accepts => Self::Share,
            Self::Share => Self::Wait,
            Self::Wait => Self::Eagain,
            Self::Eagain => Self::Open,
            Self::Open => Self::Pid,
            Self::Pid => Self::Accepts,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Accepts => "accepts/s",
            Self::Share => "share",
            Self::Wait => "p99",
            Self::Eagain => "EAGAIN",
            Self::Open => "open",
            Self::Pid => "pid",
        }
    }

    /// The members in this order; what is unknown comes last, and what is equal by process and thread, masters after all others.
    pub(super) fn order(self, members: &[MemberLook]) -> Vec<&MemberLook> {
        let mut members: Vec<&MemberLook> = members.iter().collect();
        members.sort_by_key(|member| (member.supervises, member.pid, member.tid));
        // Rates and shares are not negative, so their bits are ordered as they are.
        let bits = |value: Option<f64>| value.map(f64::to_bits);
        match self {
            Self::Accepts => members.sort_by_key(|member| Reverse(bits(member.accepts_per_s))),
            Self::Share => members.sort_by_key(|member| Reverse(bits(member.share))),
            Self::Wait => members.sort_by_key(|member| Reverse(member.accept_wait.map(|wait| wait.p99_ns))),
            Self::Eagain => members.sort_by_key(|member| Reverse(bits(member.eagain_per_accept))),
            Self::Open => members.sort_by_key(|member| Reverse(member.open)),
            Self::Pid => members.sort_by_key(|member| (member.pid, member.tid)),
        }
        members
    }
}
