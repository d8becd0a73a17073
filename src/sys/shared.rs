//! Memory shared with children forked later.

use std::{
    io,
    ops::Deref,
    sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering::Acquire, fence},
};

use aya::maps::MapData;
use crossbeam::utils::CachePadded;

use super::mapping::Mapping;

/// Types that may be placed in shared memory.
///
/// # Safety
/// All-zero bytes are a valid value, the type contains no pointers, and every change goes through atomics.
pub unsafe trait Shareable: Sync {}

// SAFETY: an atomic integer is valid when zero and changed only by atomic operations.
unsafe impl Shareable for AtomicU64 {}
// SAFETY: as above.
unsafe impl Shareable for AtomicU32 {}
// SAFETY: as above.
unsafe impl Shareable for AtomicU16 {}
// SAFETY: an array is as valid as its elements.
unsafe impl<T: Shareable, const N: usize> Shareable for [T; N] {}
// SAFETY: a tuple is as valid as its parts; padding has no value.
unsafe impl<A: Shareable, B: Shareable, C: Shareable> Shareable for (A, B, C) {}
// SAFETY: padding has no value; the rest is the inner type.
unsafe impl<T: Shareable> Shareable for CachePadded<T> {}

/// A slice in a MAP_SHARED mapping, which children forked later share.
#[derive(Debug)]
pub struct SharedSlice<T: Shareable>(Mapping<T>);

// SAFETY: only shared references to T are handed out, and T is Sync.
unsafe impl<T: Shareable> Send for SharedSlice<T> {}
// SAFETY: as above.
unsafe impl<T: Shareable> Sync for SharedSlice<T> {}

impl<T: Shareable> SharedSlice<T> {
    /// Maps `length` zeroed elements. Pages cost memory only once touched, and none is set aside before.
    pub fn new(length: usize) -> io::Result<Self> {
        Mapping::anonymous(length).map(Self)
    }

    /// Maps the first `length` elements of a BPF array created with BPF_F_MMAPABLE. Fails if the array has fewer
    /// elements or their size differs from `T`'s.
    ///
    /// Besides this process and its children, only BPF programs using the array may write to it. They store whole
    /// aligned words, which the processor does atomically.
    pub fn of_bpf_array(map: &MapData, length: usize) -> io::Result<Self> {
        let info = map.info().map_err(io::Error::other)?;
        check_layout(size_of::<T>(), length, info.value_size() as usize, info.max_entries() as usize)?;
        Mapping::of_bpf_map(map.fd(), length).map(Self)
    }
}

/// Checks that an array has `length` elements of `size` bytes, laid out as Rust expects.
fn check_layout(size: usize, length: usize, value_bytes: usize, entries: usize) -> io::Result<()> {
    // The kernel rounds the stride up to 8 bytes.
    if value_bytes != size || !size.is_multiple_of(8) || entries < length {
        return Err(io::Error::other(format!(
            "the map has {entries} elements of {value_bytes} bytes; expected at least {length} of {size}"
        )));
    }
    Ok(())
}

impl<T: Shareable> Deref for SharedSlice<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: T consists of atomics, so any bytes are valid and others may change them; the elements live as long
        // as self.
        unsafe { self.0.elements().as_ref() }
    }
}

/// How often something is read again that changes meanwhile.
const AGAIN: usize = 100;

/// Reads what others are writing, together with its version, as both were at one instant: again as long as the version changes
/// meanwhile or is not `whole`, because a writer is in the middle of it. A writer that never gets on is not waited for.
pub fn steadily<V: PartialEq, T>(version: impl Fn() -> V, whole: impl Fn(&V) -> bool, read: impl Fn() -> T) -> (V, T) {
    let mut before = version();
    for _ in 0..AGAIN {
        let found = read();
        fence(Acquire);
        let after = version();
        if after == before && whole(&after) {
            return (after, found);
        }
        before = after;
    }
    (before, read())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering::Relaxed;

    use super::*;

    #[test]
    fn it_begins_with_zeros() {
        let shared: SharedSlice<AtomicU64> = SharedSlice::new(3).unwrap();
        assert!(shared.iter().all(|word| word.load(Relaxed) == 0));
        assert_eq!(shared.len(), 3);
        assert!(SharedSlice::<AtomicU64>::new(0).unwrap().is_empty());
    }

    #[test]
    fn what_is_written_meanwhile_is_read_again() {
        use std::cell::Cell;

        let writes = Cell::new(0);
        let read = |stops_after: u64, is_whole: fn(&u64) -> bool| {
            writes.set(0);
            let write_and_read = || {
                writes.set(writes.get().min(stops_after - 1) + 1);
                writes.get()
            };
            steadily(|| writes.get(), is_whole, write_and_read)
        };
        assert_eq!(read(1, |_| true), (1, 1));
        assert_eq!(read(7, |_| true), (7, 7));
        assert_eq!(read(8, |version| version % 2 == 0), (8, 8));
        // One that stays in the middle of a write is read as it is.
        assert_eq!(read(7, |version| version % 2 == 0), (7, 7));
    }

    #[test]
    fn a_bpf_array_must_have_the_layout_that_is_read() {
        assert!(check_layout(16, 65_536, 16, 65_536).is_ok());
        assert!(check_layout(16, 65_536, 16, 131_072).is_ok());
        for (size, length, value_bytes, entries) in [(16, 3, 16, 2), (16, 3, 8, 3), (16, 3, 24, 3), (12, 3, 12, 3)] {
            let error = check_layout(size, length, value_bytes, entries).unwrap_err().to_string();
            assert!(error.contains(&format!("{entries} elements of {value_bytes} bytes")), "{error}");
        }
    }
}
