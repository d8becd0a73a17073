//! Zeroed memory of one process that costs nothing until used. The heap, in contrast, clears much of what it returns
//! and so touches it.

use std::{
    io,
    ops::{Deref, DerefMut},
};

use nix::sys::mman::MapFlags;

use super::mapping::Mapping;

/// A zeroed, private, anonymous mapping.
#[derive(Debug)]
pub struct Pages(Mapping<u32>);

impl Pages {
    /// Maps `length` zeros. A page costs memory once it is written.
    pub fn zeroed(length: usize) -> io::Result<Self> {
        Mapping::anonymous(length, MapFlags::MAP_PRIVATE).map(Self)
    }
}

impl Deref for Pages {
    type Target = [u32];

    fn deref(&self) -> &[u32] {
        // SAFETY: zero is a valid number, and the elements live as long as self.
        unsafe { self.0.elements().as_ref() }
    }
}

impl DerefMut for Pages {
    fn deref_mut(&mut self) -> &mut [u32] {
        // SAFETY: as above, and nothing else refers to the mapping.
        unsafe { self.0.elements().as_mut() }
    }
}
