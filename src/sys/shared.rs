//! Memory shared with children forked later.

use std::{
    io,
    ops::Deref,
    sync::atomic::{AtomicU32, AtomicU64},
};

use aya::maps::MapData;
use crossbeam::utils::CachePadded;
use nix::sys::mman::MapFlags;

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
// SAFETY: an array is as valid as its elements.
unsafe impl<T: Shareable, const N: usize> Shareable for [T; N] {}
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
    /// Maps `length` zeroed elements. Pages cost memory only once touched.
    pub fn new(length: usize) -> io::Result<Self> {
        Mapping::anonymous(length, MapFlags::MAP_SHARED).map(Self)
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
    fn a_bpf_array_must_have_the_layout_that_is_read() {
        assert!(check_layout(16, 65_536, 16, 65_536).is_ok());
        assert!(check_layout(16, 65_536, 16, 131_072).is_ok());
        for (size, length, value_bytes, entries) in [(16, 3, 16, 2), (16, 3, 8, 3), (16, 3, 24, 3), (12, 3, 12, 3)] {
            let error = check_layout(size, length, value_bytes, entries).unwrap_err().to_string();
            assert!(error.contains(&format!("{entries} elements of {value_bytes} bytes")), "{error}");
        }
    }
}
