//! What connections have read of replies that are not yet whole. Only a few connections have any at a time.

use crate::load::client::{Reading, Reply};

/// Gives readings out and takes them back.
#[derive(Debug, Default)]
pub(super) struct Readings {
    #[expect(clippy::vec_box, reason = "connections hold the box itself")]
    spare: Vec<Box<Reading>>,
}

impl Readings {
    /// Lets the client read on. The connection keeps a reading only while its reply is not whole.
    #[inline]
    pub fn read(&mut self, kept: &mut Option<Box<Reading>>, read: impl FnOnce(&mut Reading) -> Reply) -> Reply {
        let mut reading = kept.take().or_else(|| self.spare.pop()).unwrap_or_default();
        let reply = read(&mut reading);
        *kept = Some(reading);
        if reply != Reply::Partial {
            self.clear(kept);
        }
        reply
    }

    /// Takes a connection's reading back.
    #[inline]
    pub fn clear(&mut self, kept: &mut Option<Box<Reading>>) {
        if let Some(mut reading) = kept.take() {
            *reading = Reading::default();
            self.spare.push(reading);
        }
    }
}
