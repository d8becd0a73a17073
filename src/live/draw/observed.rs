//! An observation from top to bottom: its listeners, the members of the selected one, the verdicts.

use ratatui::{
    Frame,
    layout::Rect,
    style::{Modifier, Style},
    text::{Line, Span},
    widgets::{Paragraph, Wrap},
};
use textwrap::{Options, core::display_width};

use super::{
    Palette, bottom,
    text::{cut, put, row},
    top,
};
use crate::{
    format::{counted, duration, percent, plural, rate, thousands},
    live::observed::Observed,
    observe::processes::is_stopped,
    record::{ConntrackTable, limits},
    watch::{ListenerLook, Look, MemberLook},
};

/// A smaller terminal shows a message instead.
const WIDTH: u16 = 40;
const HEIGHT: u16 = 10;
/// Most rows for verdicts, and for what cannot be known.
const VERDICT_ROWS: usize = 6;

const KEYS: &str = "↑ ↓ listener   s sort   q quit";

/// Draws everything.
pub(in crate::live) fn draw(frame: &mut Frame<'_>, model: &Observed, palette: Palette) {
    let whole = frame.area();
    if whole.width < WIDTH || whole.height < HEIGHT {
        let Rect { width, height, .. } = whole;
        let text =
            format!("The view needs {WIDTH}×{HEIGHT}; this terminal is {width}×{height}. Watching continues. q quits.");
        return frame.render_widget(Paragraph::new(text).wrap(Wrap { trim: true }), whole);
    }
    let mut rest = Rect { x: whole.x + 1, width: whole.width - 2, ..whole };
    put(frame, bottom(&mut rest, 1), Line::from(Span::styled(KEYS, palette.faint())));
    head(frame, top(&mut rest, 2), model, palette);
    let Some(look) = &model.look else { return };
    if let Some(table) = look.conntrack {
        put(frame, top(&mut rest, 1), tracked(table, usize::from(whole.width - 2), palette));
    }
    let verdicts = notes(look, usize::from(rest.width), palette);
    // The tables keep at least two thirds.
    let room = usize::from(rest.height / 3).min(VERDICT_ROWS).min(verdicts.len());
    let mut foot = bottom(&mut rest, room as u16);
    for line in verdicts.into_iter().take(room) {
        put(frame, top(&mut foot, 1), line);
    }
    let selected = model.selection();
    let wanted = u16::try_from(look.listeners.len() + 1).unwrap_or(u16::MAX);
    let members = look.listeners.get(selected).map_or(0, |listener| listener.members.len());
    let for_members = u16::try_from(members + 1).unwrap_or(u16::MAX).min(rest.height / 2);
    let for_listeners = wanted.min(rest.height - for_members);
    let listeners = top(&mut rest, for_listeners);
    table(frame, listeners, &LISTENERS, &look.listeners.iter().collect::<Vec<_>>(), Some(selected), palette);
    if let Some(listener) = look.listeners.get(selected) {
        table(frame, rest, &MEMBERS, &model.sort.order(&listener.members), None, palette);
    }
}

/// The title and how long it has gone on; what all listeners do together.
fn head(frame: &mut Frame<'_>, area: Rect, model: &Observed, palette: Palette) {
    let seconds = model.look.as_ref().map_or(0.0, |look| look.elapsed_s);
    let time = match model.length {
        Some(length) => format!("{seconds:.0} s of {:.0} s", length.as_secs_f64()),
        None => format!("{seconds:.0} s"),
    };
    let room = usize::from(area.width).saturating_sub(display_width(&time) + 2);
    let title = format!("{:<room$}  ", cut(&model.title, room));
    put(frame, row(area, 0), Line::from(vec![Span::styled(title, palette.strong()), Span::raw(time)]));
    let Some(look) = &model.look else { return };
    let accepts = look.listeners.iter().filter_map(|listener| listener.accepts_per_s).reduce(|sum, one| sum + one);
    let mut parts = vec![plural(look.listeners.len(), "listener")];
    parts.extend(accepts.map(|accepts| format!("{} accepts/s", rate(accepts))));
    parts.push(counted(look.syn_retries, "SYN sent again", "SYNs sent again"));
    parts.extend(look.lost_events.filter(|lost| *lost > 0).map(|lost| counted(lost, "event lost", "events lost")));
    parts.push(format!("members by {}", model.sort.name()));
    let line = cut(&parts.join(", "), usize::from(area.width));
    put(frame, row(area, 1), Line::from(Span::styled(line, palette.faint())));
}

/// The table of tracked connections: `connection tracking: 12,345 of at most 262,144 entries (4.7 %)`.
fn tracked(table: ConntrackTable, columns: usize, palette: Palette) -> Line<'static> {
    let is_near = table.fill(table.entries).is_some_and(|fill| fill >= limits::CONNTRACK);
    let style = if is_near { palette.bad() } else { palette.faint() };
    Line::from(Span::styled(cut(&format!("connection tracking: {table}"), columns), style))
}

/// The verdicts, and what cannot be known.
fn notes(look: &Look, columns: usize, palette: Palette) -> Vec<Line<'static>> {
    let verdicts = look.verdicts.iter().map(|verdict| ("! ", palette.caution(), verdict.to_string()));
    let missing = look.missing.iter().map(|missing| ("· ", palette.faint(), missing.clone()));
    let lines = verdicts.chain(missing).flat_map(|(sign, style, text)| {
        let wrapped = textwrap::wrap(&text, Options::new(columns.saturating_sub(2)).subsequent_indent("  "));
        let line = |(number, line): (usize, &std::borrow::Cow<'_, str>)| {
            let sign = if number == 0 { sign } else { "  " };
            Line::from(vec![Span::styled(sign, style), Span::raw(line.to_string())])
        };
        wrapped.iter().enumerate().map(line).collect::<Vec<_>>()
    });
    lines.collect()
}

/// A column of a table of `T`.
struct Column<T: 'static> {
    head: &'static str,
    width: usize,
    /// Columns of a higher number give way first where the terminal is narrow.
    rank: u8,
    cell: fn(&T) -> String,
    /// Whether a row's value is bad news.
    is_bad: fn(&T) -> bool,
}

/// A table: the first column is on the left, and takes the width that the others leave.
struct Columns<T: 'static> {
    what: &'static str,
    first: (&'static str, usize, fn(&T) -> String),
    others: &'static [Column<T>],
}

const fn column<T>(head: &'static str, width: usize, rank: u8, cell: fn(&T) -> String) -> Column<T> {
    Column { head, width, rank, cell, is_bad: |_| false }
}

const LISTENERS: Columns<ListenerLook> = Columns {
    what: "listener",
    first: ("listener", 28, |listener| {
        let device = listener.device.as_ref().map_or_else(String::new, |device| format!(" on {device}"));
        let names = match &listener.names()[..] {
            [] => String::new(),
            [one] => format!(" {one}"),
            [first, others @ ..] => format!(" {first} +{}", others.len()),
        };
        format!("{}{device}{names}", listener.address)
    }),
    others: &[
        column("reach", 15, 2, |listener| listener.reach.words().to_owned()),
        column("accepts/s", 11, 1, |listener| listener.accepts_per_s.map_or_else(unknown, rate)),
        Column {
            is_bad: |listener| listener.sockets.iter().any(|socket| socket.queue > socket.limit),
            ..column("queue / limit", 15, 0, |listener| {
                format!("{} / {}", thousands(listener.queue() as f64), thousands(f64::from(listener.limit())))
            })
        },
        column("peak", 7, 4, |listener| thousands(f64::from(listener.queue_peak()))),
        Column {
            is_bad: |listener| listener.drops() > 0,
            ..column("drops", 7, 3, |listener| thousands(listener.drops() as f64))
        },
        column("open", 7, 5, |listener| count(listener.open)),
    ],
};

const MEMBERS: Columns<MemberLook> = Columns {
    what: "member",
    first: ("member", 20, |member| {
        let state = match member.state {
            None => " ended",
            Some(state) if is_stopped(state) => " stopped",
            Some(_) => "",
        };
        let thread = if member.tid == member.pid { String::new() } else { format!("/{}", member.tid) };
        format!("{} {}{thread}{state}", member.comm, member.pid)
    }),
    others: &[
        column("accepts/s", 11, 0, |member| match member.supervises {
            true => "supervises".to_owned(),
            false => member.accepts_per_s.map_or_else(unknown, rate),
        }),
        column("share", 8, 1, |member| member.share.map_or_else(unknown, percent)),
        column("wait p50", 9, 3, |member| member.accept_wait.map_or_else(unknown, |wait| duration(wait.p50_ns as f64))),
        column("p99", 8, 2, |member| member.accept_wait.map_or_else(unknown, |wait| duration(wait.p99_ns as f64))),
        column("longest", 8, 5, |member| member.accept_wait.map_or_else(unknown, |wait| duration(wait.max_ns as f64))),
        column("EAGAIN", 7, 6, |member| member.eagain_per_accept.map_or_else(unknown, |eagain| format!("{eagain:.2}"))),
        column("open", 7, 4, |member| count(member.open)),
    ],
};

fn unknown() -> String {
    "–".to_owned()
}

fn count(count: Option<u64>) -> String {
    count.map_or_else(unknown, |count| thousands(count as f64))
}

impl<T> Columns<T> {
    /// The columns that fit beside the first, in their order.
    fn that_fit(&self, width: usize) -> Vec<&'static Column<T>> {
        let mut columns: Vec<&'static Column<T>> = self.others.iter().collect();
        while columns.iter().map(|column| column.width).sum::<usize>() + self.first.1 > width {
            // Those of rank 0 stay, however narrow the first becomes.
            let Some(last) = columns.iter().map(|column| column.rank).max().filter(|rank| *rank > 0) else { break };
            columns.retain(|column| column.rank != last);
        }
        columns
    }
}

/// Draws a table. Of more rows than fit, those around the selected one are shown, or the first.
fn table<T>(
    frame: &mut Frame<'_>,
    area: Rect,
    columns: &Columns<T>,
    rows: &[&T],
    selected: Option<usize>,
    palette: Palette,
) {
    let width = usize::from(area.width);
    let others = columns.that_fit(width);
    let first = width.saturating_sub(others.iter().map(|column| column.width).sum());
    let mut head = format!("{:<first$}", columns.first.0);
    others.iter().for_each(|Column { head: name, width, .. }| head += &format!("{name:>width$}"));
    put(frame, row(area, 0), Line::from(Span::styled(head, palette.faint())));
    let room = usize::from(area.height).saturating_sub(1);
    // The last row says how many are not shown.
    let shown = if rows.len() > room { room.saturating_sub(1) } else { rows.len() };
    let from = selected.map_or(0, |selected| (selected + 1).saturating_sub(shown).min(rows.len() - shown));
    for (place, (number, value)) in rows.iter().enumerate().skip(from).take(shown).enumerate() {
        let name = cut(&columns.first.2(value), first.saturating_sub(1));
        let pad = " ".repeat(first.saturating_sub(display_width(&name)));
        let mut spans = vec![Span::raw(name + &pad)];
        spans.extend(others.iter().map(|column| {
            let text = format!("{:>width$}", cut(&(column.cell)(value), column.width - 1), width = column.width);
            let style = if (column.is_bad)(value) { palette.bad() } else { Style::new() };
            Span::styled(text, style)
        }));
        let line = Line::from(spans);
        let line = if selected == Some(number) { line.patch_style(Modifier::REVERSED) } else { line };
        put(frame, row(area, place as u16 + 1), line);
    }
    if shown < rows.len() && room > 0 {
        let more = format!("… and {}", plural(rows.len() - shown, &format!("more {}", columns.what)));
        put(frame, row(area, shown as u16 + 1), Line::from(Span::styled(more, palette.faint())));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        live::draw::tests::{demand, text_of},
        record::{SCHEMA, Verdict, VerdictName, WaitEnd},
        watch::{Exposure, SocketLook, WaitLook},
    };

    fn member(pid: i32, accepts_per_s: f64) -> MemberLook {
        let accept_wait =
            Some(WaitLook { p50_ns: 24_500, p99_ns: 173_000, max_ns: 1_200_000 + pid as u64, ends: WaitEnd::Accept });
        MemberLook {
            pid,
            tid: pid,
            comm: "nginx".to_owned(),
            state: Some('S'),
            supervises: false,
            accepted: Some(1_000),
            accepts_per_s: Some(accepts_per_s),
            share: Some(accepts_per_s / 2_000.0),
            accept_wait,
            unstamped: Some(0),
            eagain_per_accept: Some(0.31),
            open: Some(7),
        }
    }

    fn listener(port: u16, members: Vec<MemberLook>) -> ListenerLook {
        let socket = SocketLook {
            inode: 7,
            cookie: 9,
            queue: 3,
            queue_peak: 12,
            limit: 511,
            full_share: 0.0,
            drops: 0,
            held_by: Vec::new(),
        };
        ListenerLook {
            address: ([127, 0, 0, 1], port).into(),
            reach: Exposure::Loopback,
            dual_stack: false,
            device: None,
            sockets: vec![socket],
            open: Some(14),
            accepts_per_s: Some(2_003.0),
            members,
        }
    }

    fn observed(listeners: Vec<ListenerLook>) -> Observed {
        let mut model = Observed::new("listenbench observe".to_owned(), Some(Duration::from_secs(60)));
        model.see(Look {
            schema: SCHEMA,
            at: String::new(),
            elapsed_s: 12.0,
            interval_s: 1.0,
            missing: Vec::new(),
            lost_events: Some(0),
            syn_retries: 3,
            conntrack: None,
            packet_filter: None,
            listeners,
            verdicts: Vec::new(),
        });
        model
    }

    fn rendered(model: &Observed, width: u16, height: u16) -> String {
        text_of(width, height, |frame| draw(frame, model, Palette::without_colours()))
    }

    #[test]
    fn the_essential_is_there_at_every_size() {
        let model = observed(vec![listener(80, vec![member(12, 1_500.0), member(13, 500.0)])]);
        for (width, height) in [(40, 10), (80, 24), (200, 60)] {
            let screen = rendered(&model, width, height);
            demand(&screen, &["127.0.0.1:80", "3 / 511", "nginx 12", "1,500", "12 s of 60 s", "q quit"]);
        }
        let usual = rendered(&model, 80, 24);
        demand(
            &usual,
            &[
                "loopback only",
                "2,003",
                "75.0 %",
                "173 µs",
                "1 listener, 2,003 accepts/s, 3 SYNs sent again, members by accepts/s",
            ],
        );
        demand(&rendered(&model, 120, 24), &["nginx", "24.5 µs", "1.20 ms", "0.31", "peak", "drops"]);
        for (width, height) in [(39, 10), (40, 9), (5, 2), (1, 1), (0, 0)] {
            let screen = rendered(&model, width, height).replace('\n', " ");
            assert!(width < 39 || screen.contains("needs 40×10"), "{screen}");
        }
    }

    #[test]
    fn rows_that_do_not_fit_are_counted() {
        let members = (1..=50).map(|pid| member(pid, 1.0)).collect();
        let mut model =
            observed((1..=30).map(|port| listener(port, Vec::new())).chain([listener(99, members)]).collect());
        let screen = rendered(&model, 80, 24);
        demand(&screen, &["127.0.0.1:1 ", "… and 13 more listeners"]);
        // The selection stays on the screen, and its members are shown.
        model.select(100);
        let screen = rendered(&model, 80, 24);
        demand(&screen, &["127.0.0.1:99 nginx", "nginx 1 ", "… and 42 more members"]);
        model.select(-1);
        demand(&rendered(&model, 80, 24), &["127.0.0.1:30"]);
    }

    #[test]
    fn the_table_of_tracked_connections_has_a_line_where_there_is_one() {
        let mut model = observed(vec![listener(80, Vec::new())]);
        assert!(!rendered(&model, 80, 24).contains("tracking"));
        let limit = Some(262_144);
        model.look.as_mut().unwrap().conntrack = Some(ConntrackTable { entries: 131_072, limit, ..Default::default() });
        for (width, height) in [(80, 24), (40, 10)] {
            demand(&rendered(&model, width, height), &["connection tracking: 131,072 of", "127.0.0.1:80"]);
        }
        demand(&rendered(&model, 80, 24), &["131,072 of at most 262,144 entries (50.0 %)", "members by"]);
    }

    #[test]
    fn a_selection_follows_its_listener() {
        let listeners = |ports: &[u16]| ports.iter().map(|port| listener(*port, Vec::new())).collect::<Vec<_>>();
        let mut model = observed(listeners(&[80, 443]));
        model.select(1);
        let mut look = model.look.clone().unwrap();
        look.listeners = listeners(&[22, 80, 443]);
        model.see(look.clone());
        assert_eq!(model.selection(), 2);
        look.listeners = listeners(&[22, 80]);
        model.see(look.clone());
        assert_eq!(model.selection(), 0, "it is gone");
        // Until the user chooses, the busiest is shown.
        let mut busy = listeners(&[22, 80, 443]);
        busy[1].accepts_per_s = Some(2_004.0);
        assert_eq!((observed(busy).selection(), observed(listeners(&[22, 80])).selection()), (1, 0));
        look.listeners = Vec::new();
        model.see(look);
        model.select(1);
        demand(&rendered(&model, 80, 24), &["0 listeners, 3 SYNs sent again"]);
    }

    #[test]
    fn members_have_the_order_that_is_asked_for() {
        let mut waits = member(14, 1.0);
        waits.accept_wait = None;
        let members = [member(13, 5.0), member(12, 9.0), waits];
        let model = observed(Vec::new());
        let pids =
            |sort: crate::live::observed::Sort| sort.order(&members).iter().map(|one| one.pid).collect::<Vec<_>>();
        assert_eq!(pids(model.sort), [12, 13, 14]);
        assert_eq!(pids(crate::live::observed::Sort::Pid), [12, 13, 14]);
        assert_eq!(pids(crate::live::observed::Sort::Wait), [12, 13, 14], "unknown waits come last");
        // A master is last, unless the order is by number.
        let idle = [MemberLook { supervises: true, ..member(11, 0.0) }, member(12, 0.0), member(13, 0.0)];
        let pids = |sort: crate::live::observed::Sort| sort.order(&idle).iter().map(|one| one.pid).collect::<Vec<_>>();
        assert_eq!((pids(model.sort), pids(crate::live::observed::Sort::Pid)), (vec![12, 13, 11], vec![11, 12, 13]));
        let screen = rendered(&observed(vec![listener(80, idle.to_vec())]), 80, 24);
        demand(&screen, &["nginx 11             supervises ", "EAGAIN"]);
        let reversed = [member(12, 1.0), member(13, 2.0)];
        assert_eq!(model.sort.order(&reversed)[0].pid, 13);
    }

    #[test]
    fn verdicts_and_what_is_missing_are_below() {
        let mut model = observed(vec![listener(80, vec![MemberLook { state: Some('T'), ..member(12, 0.0) }])]);
        let look = model.look.as_mut().unwrap();
        let detail = "127.0.0.1:80: nginx (pid 12) is stopped (state T)".to_owned();
        look.verdicts.push(Verdict { name: VerdictName::MemberStopped, detail, invalidates: false });
        look.missing.push("accepts cannot be counted".to_owned());
        look.listeners[0].sockets[0].queue = 512;
        let screen = rendered(&model, 80, 24);
        let signs = [
            "! member-stopped: 127.0.0.1:80: nginx (pid 12) is stopped",
            "· accepts cannot be counted",
            "nginx 12 stopped",
            "512 / 511",
        ];
        demand(&screen, &signs);
    }
}
