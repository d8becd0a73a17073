//! The caches from which the kernel allocates its objects, such as sockets: slabs.

use std::{collections::BTreeMap, fs};

use procfs::page_size;

use super::file;

/// The cache of the inodes of /proc: whoever looks at descriptors there creates one for each.
pub const LOOKED_UP: &str = "proc_inode_cache";

/// The caches by name.
pub type Caches = BTreeMap<String, Cache>;

/// A cache of objects of one size.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cache {
    /// Objects that its slabs have room for, in use or not.
    pub objects: u64,
    /// Bytes of an object.
    pub object_bytes: u64,
    /// Bytes of its slabs, what no object uses included.
    pub bytes: u64,
}

/// The caches of /proc/slabinfo, which only root may read; none for others.
pub fn caches() -> Caches {
    file::read("/proc/slabinfo").map_or_else(|_| Caches::new(), |text| parse(&text))
}

/// Reads lines of `name active_objs num_objs objsize objperslab pagesperslab : tunables … : slabdata active_slabs num_slabs sharedavail`;
/// others are left out.
pub fn parse(slabinfo: &str) -> Caches {
    slabinfo.lines().filter_map(cache).collect()
}

fn cache(line: &str) -> Option<(String, Cache)> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let number = |place: usize| fields.get(place)?.parse::<u64>().ok();
    let (objects, object_bytes, pages, slabs) = (number(2)?, number(3)?, number(5)?, number(14)?);
    let bytes = pages.saturating_mul(slabs).saturating_mul(page_size());
    Some(((*fields.first()?).to_owned(), Cache { objects, object_bytes, bytes }))
}

/// Bytes of [`LOOKED_UP`], with a directory entry for each.
pub fn looked_up_bytes(caches: &Caches) -> u64 {
    let Some(inodes) = caches.get(LOOKED_UP) else { return 0 };
    let entry_bytes = caches.get("dentry").map_or(0, |entries| entries.object_bytes);
    inodes.objects.saturating_mul(inodes.object_bytes.saturating_add(entry_bytes))
}

/// The names of other caches whose objects the kernel keeps in this one, because they are of the same size and kind: those that
/// /sys/kernel/slab links to the same place. None if it does not tell.
pub fn merged(cache: &str) -> Vec<String> {
    let target = |name: &str| fs::read_link(format!("/sys/kernel/slab/{name}")).ok();
    let Some(own) = target(cache) else { return Vec::new() };
    let Ok(entries) = fs::read_dir("/sys/kernel/slab") else { return Vec::new() };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut others: Vec<String> =
        names.filter(|name| name != cache && target(name).is_some_and(|other| other == own)).collect();
    others.sort_unstable();
    others
}

#[cfg(test)]
mod tests {
    use super::*;

    const SLABINFO: &str = "slabinfo - version: 2.1\n\
        # name <active_objs> <num_objs> <objsize> <objperslab> <pagesperslab> : tunables <limit> …\n\
        TCP                    5     26   2368   13    8 : tunables    0    0    0 : slabdata      2      2      0\n\
        proc_inode_cache     100    120    700   23    4 : tunables    0    0    0 : slabdata      6      6      0\n\
        dentry               500    600    200   21    1 : tunables    0    0    0 : slabdata     29     29      0\n";

    #[test]
    fn caches_have_the_memory_of_their_slabs() {
        let caches = parse(SLABINFO);
        assert_eq!(caches.len(), 3);
        assert_eq!(caches["TCP"], Cache { objects: 26, object_bytes: 2_368, bytes: 16 * page_size() });
    }

    #[test]
    fn looked_up_descriptors_are_an_inode_and_an_entry_each() {
        assert_eq!(looked_up_bytes(&parse(SLABINFO)), 120 * 900);
        assert_eq!(looked_up_bytes(&Caches::new()), 0);
    }

    #[test]
    fn merged_caches_are_each_other_s() {
        for name in caches().into_keys() {
            for other in merged(&name) {
                assert!(other != name && merged(&other).contains(&name), "{name} {other}");
            }
        }
    }
}
