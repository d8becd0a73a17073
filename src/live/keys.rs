//! Keys typed at the screen.

use std::{
    io::{self, stdin},
    os::fd::AsFd,
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    unistd::read,
};

/// Ctrl-C in raw mode, where the terminal does not turn it into a signal.
const CONTROL_C: u8 = 3;
const ESCAPE: u8 = 0x1b;

/// A key that means something on a screen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Key {
    /// q or Ctrl-C.
    Quit,
    /// The arrow, or k.
    Up,
    /// The arrow, or j.
    Down,
    /// s.
    Sort,
}

/// The keys typed since the last call. Never waits. Reads standard input without the standard library's buffer and without an event
/// loop, whose descriptors and handlers every forked child would inherit.
pub(super) fn typed() -> io::Result<Vec<Key>> {
    let input = stdin();
    let mut keys = Vec::new();
    let mut typed = [0; 64];
    while poll(&mut [PollFd::new(input.as_fd(), PollFlags::POLLIN)], PollTimeout::ZERO)? > 0 {
        match read(input.as_fd(), &mut typed)? {
            0 => break,
            length => keys.extend(parse(&typed[..length])),
        }
    }
    Ok(keys)
}

/// Arrows are sequences: ESC [ A or, in a terminal's application mode, ESC O A. Whatever else a sequence begins with means nothing, so
/// that no part of it counts as a key.
fn parse(mut bytes: &[u8]) -> Vec<Key> {
    let mut keys = Vec::new();
    loop {
        bytes = match bytes {
            [] => return keys,
            [ESCAPE, b'[' | b'O', rest @ ..] => {
                let end = rest.iter().position(|byte| (0x40..=0x7e).contains(byte)).unwrap_or(rest.len());
                match rest.get(end) {
                    Some(b'A') => keys.push(Key::Up),
                    Some(b'B') => keys.push(Key::Down),
                    _ => {}
                }
                rest.get(end + 1..).unwrap_or_default()
            }
            [key, rest @ ..] => {
                keys.extend(match *key {
                    b'q' | b'Q' | CONTROL_C => Some(Key::Quit),
                    b'k' => Some(Key::Up),
                    b'j' => Some(Key::Down),
                    b's' | b'S' => Some(Key::Sort),
                    _ => None,
                });
                rest
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_found_between_others() {
        for (bytes, keys) in [
            (&b""[..], &[][..]),
            (b"q", &[Key::Quit]),
            (b"xQ\x03", &[Key::Quit, Key::Quit]),
            (b"\x1b[A\x1b[B\x1bOBjks", &[Key::Up, Key::Down, Key::Down, Key::Down, Key::Up, Key::Sort]),
            (b"\x1b[15~q", &[Key::Quit]),
            // The report of a mouse or a cursor holds letters of its own.
            (b"\x1b[1;5A\x1b[12;40R", &[Key::Up]),
            (b"\x1b[", &[]),
            (b"\x1b", &[]),
        ] {
            assert_eq!(parse(bytes), keys, "{bytes:?}");
        }
    }
}
