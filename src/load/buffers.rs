//! Bytes that only a few connections hold at any time: part of a reply, or of a request that the socket did not take whole.

/// Bytes kept for one connection. Boxed, so that a connection without any stays small.
pub(super) type Kept = Option<Box<Vec<u8>>>;

/// The bytes kept.
#[inline]
pub(super) fn bytes(kept: &Kept) -> &[u8] {
    kept.as_ref().map_or(&[], |kept| kept)
}

/// Gives buffers out and takes them back with what they have allocated.
#[derive(Debug, Default)]
pub(super) struct Buffers {
    #[expect(clippy::vec_box, reason = "connections hold the box itself")]
    spare: Vec<Box<Vec<u8>>>,
}

impl Buffers {
    /// Appends bytes, taking a buffer if the connection has none yet.
    pub fn append(&mut self, kept: &mut Kept, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        kept.get_or_insert_with(|| self.spare.pop().unwrap_or_default()).extend_from_slice(bytes);
    }

    /// Drops the first `length` bytes, and takes the buffer back once it is empty.
    pub fn consume(&mut self, kept: &mut Kept, length: usize) {
        let Some(buffer) = kept else { return };
        buffer.drain(..length);
        if buffer.is_empty() {
            self.clear(kept);
        }
    }

    /// Takes the buffer back.
    #[inline]
    pub fn clear(&mut self, kept: &mut Kept) {
        if let Some(mut buffer) = kept.take() {
            buffer.clear();
            self.spare.push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_emptied_buffer_is_returned_and_reused() {
        let (mut buffers, mut first, mut second) = (Buffers::default(), None, None);
        buffers.append(&mut first, b"");
        assert!(first.is_none());
        buffers.append(&mut first, b"ab");
        buffers.append(&mut first, b"c");
        assert_eq!(bytes(&first), b"abc");
        buffers.consume(&mut first, 2);
        assert_eq!(bytes(&first), b"c");
        buffers.consume(&mut first, 1);
        assert!(first.is_none() && buffers.spare.len() == 1);
        buffers.append(&mut second, b"d");
        assert!(buffers.spare.is_empty());
        buffers.clear(&mut second);
        assert!(second.is_none() && buffers.spare[0].is_empty());
    }
}
