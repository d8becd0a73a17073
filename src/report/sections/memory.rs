//! What open connections take of the kernel's memory, by kind of object: a row for each cache, from the cell's trial with the most
//! connections.

use super::{Content, In};
use crate::{
    format::{all_of, number, thousands},
    record::{Memory, SlabGrowth},
    report::{Grid, Ranked, ranked::Cell},
};

/// Title of the section.
const TITLE: &str = "Kernel memory per connection";
/// How many kinds of objects the finding names.
const NAMED: usize = 3;

/// What the columns mean.
const LEGEND: &str = "From /proc/slabinfo, of each cell's valid trial with the most connections: growth from before the start until the most were \
    open, both ends of a connection included. The kernel keeps objects of one size in one cache, whatever it is called: \"for\" names all that \
    connections are known to need. others: smaller growth, and what other programs did in the meantime.";

/// What connections need objects for, by their own cache.
const PURPOSES: &[(&str, &str)] = &[
    ("TCP", "TCP sockets"),
    ("TCPv6", "TCP sockets of IPv6"),
    ("MPTCP", "MPTCP sockets"),
    ("MPTCPv6", "MPTCP sockets of IPv6"),
    ("UNIX", "Unix sockets"),
    ("request_sock_TCP", "handshakes"),
    ("tw_sock_TCP", "TIME_WAIT"),
    ("sock_inode_cache", "sockets' inodes"),
    ("filp", "open files"),
    ("dentry", "names of open files"),
    ("lsm_inode_cache", "security data of inodes"),
    ("lsm_file_cache", "security data of files"),
    ("eventpoll_epi", "entries of epoll"),
    ("eventpoll_pwq", "epoll's places in wait queues"),
    ("ep_head", "files' lists of epoll entries"),
    ("tcp_bind_bucket", "bound ports"),
    ("tcp_bind2_bucket", "ports by address"),
    ("skbuff_head_cache", "packets"),
    ("skbuff_small_head", "small packets' bytes"),
    ("skbuff_fclone_cache", "packets sent"),
];

pub(super) fn section(ranked: &Ranked<'_>) -> Option<Content> {
    let known: Vec<(&Cell<'_>, &Memory)> =
        ranked.cells.iter().filter_map(|cell| Some((cell, largest(cell)?.1))).collect();
    let finding = finding(ranked)?;
    let head = ["cell", "kernel\ncache", "objects", "bytes\n/object", "bytes\n/connection", "for"];
    let rows = known.iter().flat_map(|(cell, memory)| rows(cell, memory)).collect();
    Some(Content {
        title: TITLE.to_owned(),
        finding,
        tables: vec![(In::Page, Grid { labels: 2, ..Grid::new(head, 1, rows) })],
        notes: vec![(In::Page, LEGEND.to_owned())],
        ..Content::default()
    })
}

/// The memory of each of the cell's trials, with the trial's number. Of several hosts, it is that of one end only.
fn of_cell<'a>(cell: &Cell<'a>) -> impl Iterator<Item = (usize, &'a Memory)> {
    let of_both_ends = cell.trials.iter().filter(|trial| trial.hosts.is_empty());
    let known = of_both_ends.filter_map(|trial| Some((trial.trial, trial.memory.as_ref()?)));
    known.filter(|(_, memory)| !memory.slabs.is_empty())
}

/// That of the trial with the most connections.
fn largest<'a>(cell: &Cell<'a>) -> Option<(usize, &'a Memory)> {
    of_cell(cell).max_by_key(|(_, memory)| memory.open)
}

/// What a connection takes of the kernel's memory, in bytes.
fn per_connection(memory: &Memory) -> f64 {
    memory.kernel_bytes as f64 / memory.open.max(1) as f64
}

fn rows(cell: &Cell<'_>, memory: &Memory) -> Vec<Vec<String>> {
    let open = memory.open.max(1) as f64;
    let row = |slab: &SlabGrowth| {
        vec![
            cell.full_name.clone(),
            slab.cache.clone(),
            number(slab.objects as f64 / open),
            if slab.objects > 0 { thousands(slab.bytes as f64 / slab.objects as f64) } else { "–".to_owned() },
            thousands(slab.bytes as f64 / open),
            purposes(slab).join(", "),
        ]
    };
    let others = vec![
        cell.full_name.clone(),
        "others".to_owned(),
        String::new(),
        String::new(),
        thousands(others(memory) as f64 / open),
        String::new(),
    ];
    memory.slabs.iter().map(row).chain([others]).collect()
}

/// Growth of the kernel's memory that no row of a cache has.
fn others(memory: &Memory) -> u64 {
    memory.kernel_bytes.saturating_sub(memory.slabs.iter().map(|slab| slab.bytes).sum())
}

/// What connections need the objects of a cache for.
fn purposes(slab: &SlabGrowth) -> Vec<&'static str> {
    let is_of = |name: &str| slab.cache == name || slab.merged.iter().any(|merged| merged == name);
    PURPOSES.iter().filter(|(name, _)| is_of(name)).map(|(_, purpose)| *purpose).collect()
}

/// What a connection took in the trial with the most of them, its largest parts, and what it took in the others.
fn finding(ranked: &Ranked<'_>) -> Option<String> {
    let known = ranked.cells.iter().filter_map(|cell| Some((cell, largest(cell)?)));
    let (cell, (trial, memory)) = known.max_by_key(|(_, (_, memory))| memory.open)?;
    let all: Vec<f64> = ranked.cells.iter().flat_map(of_cell).map(|(_, memory)| per_connection(memory)).collect();
    let place = match (all.len(), ranked.cells.len()) {
        (1, 1) => String::new(),
        (_, 1) => format!(", in trial {trial}"),
        _ => format!(", in {}, trial {trial}", cell.full_name),
    };
    let ends = all.iter().copied().reduce(f64::min).zip(all.iter().copied().reduce(f64::max));
    let range = ends.filter(|_| all.len() > 1).map_or_else(String::new, |(low, high)| {
        format!("; {} to {} over {} trials", thousands(low), thousands(high), all_of(all.len()))
    });
    let part_of = |bytes: u64| thousands(bytes as f64 / memory.open.max(1) as f64);
    let part = |slab: &SlabGrowth| {
        let purposes = purposes(slab);
        let what = if purposes.is_empty() { slab.cache.clone() } else { purposes.join(" and ") };
        format!("{} for {what}", part_of(slab.bytes))
    };
    let parts: Vec<String> = memory.slabs.iter().take(NAMED).map(part).collect();
    Some(format!(
        "An open connection took {} bytes of the kernel's memory, both ends together{place}: {}{range}",
        thousands(per_connection(memory)),
        parts.join(", ")
    ))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::report::sample::Sample;

    #[test]
    fn memory_is_told_apart_by_what_it_is_for() {
        let slab = |cache: &str, merged: &[&str], objects, bytes| SlabGrowth {
            cache: cache.to_owned(),
            merged: merged.iter().map(|name| (*name).to_owned()).collect(),
            objects,
            bytes,
        };
        let mut sample = Sample::new("How much?");
        for (open, bytes) in [(1_000, 9_500), (2_000, 8_000)] {
            let trial = sample.trial(json!({ "strategy": "reuseport" }), &[5, 5], 1_000);
            trial.memory = Some(Memory {
                open,
                kernel_bytes: bytes * open,
                slabs: vec![
                    slab("TCP", &[], 2 * open, 5_000 * open),
                    slab("anon_vma_chain", &["eventpoll_pwq", "io_kiocb"], 2 * open, 128 * open),
                    slab("kmalloc-64", &[], open / 2, 50 * open),
                ],
                ..Memory::default()
            });
        }
        // No cache is known to an ordinary user.
        sample.trial(json!({ "strategy": "shared" }), &[5, 5], 1_000).memory =
            Some(Memory { open: 5_000, kernel_bytes: 7, ..Memory::default() });
        let reading = sample.reading();
        let content = section(&Ranked::of(&reading)).unwrap();
        assert_eq!(
            content.finding,
            "An open connection took 8,000 bytes of the kernel's memory, both ends together, in reuseport, trial 1: 5,000 for TCP sockets, 128 \
             for epoll's places in wait queues, 50 for kmalloc-64; 8,000 to 9,500 over both trials"
        );
        let [(_, table)] = &content.tables[..] else { panic!("one table") };
        let rows: Vec<String> = table.rows.iter().map(|row| row[1..].join("|")).collect();
        assert_eq!(
            rows,
            [
                "TCP|2|2,500|5,000|TCP sockets",
                "anon_vma_chain|2|64|128|epoll's places in wait queues",
                "kmalloc-64|0.5|100|50|",
                "others|||2,822|",
            ]
        );
    }
}
