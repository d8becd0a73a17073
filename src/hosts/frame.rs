//! What travels over a link, as bytes.
//!
//! A frame is the length of its payload (`u32`, little endian, at most 1 MiB), its kind (`u8`) and the payload: JSON; a histogram's name
//! (`u8` length and UTF-8) and its HdrHistogram V2 form; when it was sent, which asks for the time; or that and the time (each `u64`, little
//! endian).

use anyhow::{Context, Result, bail};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    ipc::message,
    json,
    record::{Counts, v2},
};

/// The most bytes that a payload may have. A histogram of the range used here takes at most 230 kB; what may be longer goes in several
/// frames.
pub const LIMIT: usize = 1 << 20;
/// Bytes before a payload: its length and its kind.
pub const HEAD: usize = 5;

const VALUE: u8 = 1;
const HISTOGRAM: u8 = 2;
const PING: u8 = 3;
const PONG: u8 = 4;

/// A frame that has arrived.
#[derive(Debug)]
pub enum Frame<T> {
    /// A value that travels as JSON.
    Value(T),
    /// A histogram and its name.
    Histogram(String, Counts),
}

/// The same, with those that links exchange among themselves.
#[derive(Debug)]
pub enum Any<T> {
    Sent(Frame<T>),
    /// Asks for the time, at this nanosecond of the sender's CLOCK_MONOTONIC.
    Ping(u64),
    /// Returns when it was asked, and tells the time, in nanoseconds of the sender's CLOCK_MONOTONIC.
    Pong {
        asked_ns: u64,
        now_ns: u64,
    },
}

/// A value's frame.
pub fn of_value(value: &impl Serialize) -> Result<Vec<u8>> {
    framed(VALUE, |bytes| {
        bytes.extend_from_slice(json::line(value)?.as_bytes());
        Ok(())
    })
}

/// A histogram's frame.
pub fn of_histogram(name: &str, values: &Counts) -> Result<Vec<u8>> {
    framed(HISTOGRAM, |bytes| {
        bytes.push(u8::try_from(name.len()).context("a histogram's name over 255 bytes")?);
        bytes.extend_from_slice(name.as_bytes());
        bytes.extend_from_slice(&v2::encoded(values));
        Ok(())
    })
}

/// Asks for the time.
pub fn ping(now_ns: u64) -> Vec<u8> {
    of_times(PING, &[now_ns])
}

/// Tells the time to who asked then.
pub fn pong(asked_ns: u64, now_ns: u64) -> Vec<u8> {
    of_times(PONG, &[asked_ns, now_ns])
}

fn of_times(kind: u8, times_ns: &[u64]) -> Vec<u8> {
    let length = size_of_val(times_ns) as u32;
    let times = times_ns.iter().flat_map(|time_ns| time_ns.to_le_bytes());
    length.to_le_bytes().into_iter().chain([kind]).chain(times).collect()
}

fn framed(kind: u8, write: impl FnOnce(&mut Vec<u8>) -> Result<()>) -> Result<Vec<u8>> {
    let mut bytes = vec![0, 0, 0, 0, kind];
    write(&mut bytes)?;
    let length = bytes.len() - HEAD;
    if length > LIMIT {
        bail!("a message of {length} bytes is over the limit of {LIMIT} between hosts");
    }
    bytes[..4].copy_from_slice(&(length as u32).to_le_bytes());
    Ok(bytes)
}

/// How many bytes a frame has in all, of which these are the first [`HEAD`].
pub fn length(head: &[u8; HEAD], limit: usize) -> Result<usize> {
    let [a, b, c, d, _] = *head;
    let length = u32::from_le_bytes([a, b, c, d]) as usize;
    if length > limit {
        bail!("a message of {length} bytes is over the limit of {limit}");
    }
    Ok(HEAD + length)
}

/// Decodes a whole frame.
pub fn decode<T: DeserializeOwned>(frame: &[u8]) -> Result<Any<T>> {
    let (head, payload) = frame.split_at_checked(HEAD).context("a message is cut short")?;
    Ok(match head[HEAD - 1] {
        VALUE => Any::Sent(Frame::Value(json::read(payload).context("decoding a message")?)),
        HISTOGRAM => {
            let (length, rest) = payload.split_first().context("a histogram without a name")?;
            let (name, bytes) =
                rest.split_at_checked(usize::from(*length)).context("a histogram's name is cut short")?;
            let name = std::str::from_utf8(name).context("a histogram's name is not UTF-8")?;
            Any::Sent(Frame::Histogram(name.to_owned(), message::decoded(name, bytes)?))
        }
        PING => {
            let [asked_ns] = times(payload)?;
            Any::Ping(asked_ns)
        }
        PONG => {
            let [asked_ns, now_ns] = times(payload)?;
            Any::Pong { asked_ns, now_ns }
        }
        kind => bail!("a message of unknown kind {kind}"),
    })
}

fn times<const N: usize>(payload: &[u8]) -> Result<[u64; N]> {
    let (times, rest) = payload.as_chunks();
    let times: &[[u8; 8]; N] = times.try_into().ok().filter(|_| rest.is_empty()).context("a time of a wrong length")?;
    Ok(times.map(u64::from_le_bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(frame: &[u8]) -> Any<Vec<u32>> {
        assert_eq!(length(frame.first_chunk().unwrap(), LIMIT).unwrap(), frame.len());
        decode(frame).unwrap()
    }

    #[test]
    fn each_kind_arrives_as_it_was_sent() {
        let mut histogram = Counts::new(1, 60_000_000_000, 3).unwrap();
        histogram.extend([(1_234, 5)].into_iter());
        assert!(matches!(decoded(&of_value(&[1, 2]).unwrap()), Any::Sent(Frame::Value(list)) if list == [1, 2]));
        let Any::Sent(Frame::Histogram(name, again)) = decoded(&of_histogram("connect", &histogram).unwrap()) else {
            panic!("a histogram")
        };
        assert_eq!((&name[..], again), ("connect", histogram));
        assert!(matches!(decoded(&ping(7)), Any::Ping(7)));
        assert!(matches!(decoded(&pong(7, u64::MAX)), Any::Pong { asked_ns: 7, now_ns: u64::MAX }));
    }

    #[test]
    fn a_payload_has_at_most_a_mebibyte() {
        // With the quotes around it, a string is two bytes longer.
        assert_eq!(of_value(&"x".repeat(LIMIT - 2)).unwrap().len(), HEAD + LIMIT);
        let error = of_value(&"x".repeat(LIMIT - 1)).unwrap_err().to_string();
        assert!(error.contains("1048577 bytes is over the limit of 1048576"), "{error}");
        let head = |length: usize| {
            let [a, b, c, d] = (length as u32).to_le_bytes();
            [a, b, c, d, VALUE]
        };
        assert_eq!(length(&head(LIMIT), LIMIT).unwrap(), HEAD + LIMIT);
        assert!(length(&head(LIMIT + 1), LIMIT).is_err());
        assert!(length(&head(100), 99).is_err());
    }

    #[test]
    fn what_is_not_a_frame_is_refused() {
        for (frame, reason) in [
            (&[][..], "cut short"),
            (&[0, 0, 0, 0, 9], "unknown kind 9"),
            (&[1, 0, 0, 0, VALUE, b'{'], "decoding a message"),
            (&[0, 0, 0, 0, PING], "wrong length"),
            (&[8, 0, 0, 0, PONG, 0, 0, 0, 0, 0, 0, 0, 0], "wrong length"),
            (&[9, 0, 0, 0, PING, 0, 0, 0, 0, 0, 0, 0, 0, 0], "wrong length"),
            (&[0, 0, 0, 0, HISTOGRAM], "without a name"),
            (&[2, 0, 0, 0, HISTOGRAM, 2, b'c'], "name is cut short"),
            (&[2, 0, 0, 0, HISTOGRAM, 1, 0xff], "not UTF-8"),
            (&[2, 0, 0, 0, HISTOGRAM, 1, b'c'], "histogram c is not"),
        ] {
            let error = decode::<u32>(frame).unwrap_err();
            assert!(error.to_string().contains(reason), "{error:#}");
        }
    }
}
