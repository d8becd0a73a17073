//! Memory of one process that costs nothing until it is used. The heap clears much of what it hands out, and so touches it.

use std::{
    io,
    ops::{Deref, DerefMut},
};

use nix::sys::mman::MapFlags;

use super::mapping::Mapping;

/// Zeros in an anonymous private mapping.
#[derive(Debug)]
pub struct Pages(Mapping<u32>);

impl Pages {
    /// Maps so many zeros. Each page costs memory from the first write to it on.
    pub fn zeroed(length: usize) -> io::Result<Self> {
        Mapping::anonymous(length, MapFlags::MAP_PRIVATE).map(Self)
    }
}

impl Deref for Pages {
    type Target = [u32];

    fn deref(&self) -> &[u32] {
        // SAFETY: zero is a number, and the elements live as long as self.
        unsafe { self.0.elements().as_ref() }
    }
}

impl DerefMut for Pages {
    fn deref_mut(&mut self) -> &mut [u32] {
        // SAFETY: as above; and nobody else has the mapping.
        unsafe { self.0.elements().as_mut() }
    }
}
