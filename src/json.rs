//! Types read from JSON, with the key at which it is wrong, and written as JSON.
//!
//! A type is compiled once for each kind of reader and of writer, and those of records are large. So there is one kind of each: what is
//! read is read from text, and what is written becomes a value first.

use std::fmt;

use serde::{Serialize, de::DeserializeOwned};

/// Characters of a key in an error's message: it may be nested as deeply as its author likes.
const LONGEST_KEY: usize = 100;

/// Why JSON cannot be read into a type.
#[derive(Debug)]
pub struct Unread {
    /// The path of the value that is wrong, or that lacks something; `None` for the whole.
    key: Option<String>,
    cause: serde_json::Error,
}

impl Unread {
    /// The line at which it shows, from 1.
    pub fn line(&self) -> usize {
        self.cause.line()
    }

    /// What is wrong, without the place in the text.
    fn cause(&self) -> String {
        let text = self.cause.to_string();
        text.split_once(" at line ").map_or(text.clone(), |(cause, _)| cause.to_owned())
    }
}

impl fmt::Display for Unread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.key {
            Some(key) => write!(f, "`{key}`: {}", self.cause()),
            None => f.write_str(&self.cause()),
        }
    }
}

impl std::error::Error for Unread {}

/// Reads a value, which is to be all of the text.
pub fn read<T: DeserializeOwned>(text: &[u8]) -> Result<T, Unread> {
    serde_json::from_slice(text).map_err(|cause| Unread { key: path(text, &cause), cause })
}

/// The path of the value at which reading ended. The error's place is told in lines and in bytes of the last line; what precedes it was
/// read as JSON, so that brackets and quotes are all there is to heed.
///
/// A reader that tells paths itself would compile every type a second time.
fn path(text: &[u8], error: &serde_json::Error) -> Option<String> {
    let lines = text.split_inclusive(|byte| *byte == b'\n');
    let before: usize = lines.take(error.line().saturating_sub(1)).map(<[u8]>::len).sum();
    let read = &text[..text.len().min(before + error.column())];
    let mut places = Vec::new();
    let mut at = 0;
    while at < read.len() {
        match read[at] {
            b'{' => places.push(Place::Object(None)),
            b'[' => places.push(Place::Array(0)),
            b'}' | b']' => _ = places.pop(),
            b',' => match places.last_mut() {
                Some(Place::Object(key)) => *key = None,
                Some(Place::Array(index)) => *index += 1,
                None => {}
            },
            b'"' => {
                let length = quoted(&read[at..]);
                if let Some(Place::Object(key @ None)) = places.last_mut() {
                    *key = serde_json::from_slice(&read[at..at + length]).ok();
                }
                at += length - 1;
            }
            _ => {}
        }
        at += 1;
    }
    let mut path = String::new();
    for place in places {
        match place {
            Place::Array(index) => path += &format!("[{index}]"),
            Place::Object(Some(key)) if path.is_empty() => path = key,
            Place::Object(Some(key)) => path = path + "." + &key,
            Place::Object(None) => {}
        }
    }
    (!path.is_empty()).then(|| path.chars().take(LONGEST_KEY).collect())
}

/// Where in a value reading is.
enum Place {
    /// In the value of this key, or before a key.
    Object(Option<String>),
    /// In the value with this number, from 0.
    Array(usize),
}

/// The length of the text in quotes that these bytes begin with, or of all of them if it does not end.
fn quoted(bytes: &[u8]) -> usize {
    let mut escaped = false;
    let end = bytes.iter().skip(1).position(|byte| {
        let ends = *byte == b'"' && !escaped;
        escaped = *byte == b'\\' && !escaped;
        ends
    });
    end.map_or(bytes.len(), |end| end + 2)
}

/// A value on one line.
pub fn line(value: &impl Serialize) -> serde_json::Result<String> {
    serde_json::to_value(value).map(|value| value.to_string())
}

/// A value on several lines, for people.
pub fn lines(value: &impl Serialize) -> serde_json::Result<String> {
    serde_json::to_value(value).map(|value| format!("{value:#}"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn errors_name_the_key_and_the_line() {
        let read = |text: &str| read::<BTreeMap<String, Vec<u8>>>(text.as_bytes());
        assert_eq!(read("{\"a\": [1, 2]}").unwrap()["a"], [1, 2]);
        for (text, line, expected) in [
            ("{\"a\": [1,\n300]}", 2, "`a[1]`: invalid value: integer `300`, expected u8"),
            ("[]", 1, "invalid type: sequence, expected a map"),
            ("{}\n{}", 2, "trailing characters"),
            ("{\"a\": [1", 1, "`a[0]`: EOF while parsing a list"),
            ("{\"a\": [1, \"b\"]}", 1, "`a[1]`: invalid type: string \"b\", expected u8"),
            ("{\"a\": [], \"b\\\"}\": {}}", 1, "`b\"}`: invalid type: map, expected a sequence"),
            ("{\"a\": [1], 2: []}", 1, "key must be a string"),
        ] {
            let error = read(text).unwrap_err();
            assert_eq!((error.line(), error.to_string()), (line, expected.to_owned()), "{text}");
        }
    }

    #[test]
    fn what_lacks_something_is_named() {
        #[derive(Debug, serde::Deserialize)]
        struct Part {
            _x: bool,
        }
        let read = |text: &str| read::<BTreeMap<String, Vec<Part>>>(text.as_bytes());
        for (text, expected) in [
            ("{\"é\": [{\"_x\": true}, {\"y\": {\"z\": [1]}}]}", "`é[1]`: missing field `_x`"),
            ("{\"a\": [\n{\"_x\":\n1}]}", "`a[0]._x`: invalid type: integer `1`, expected a boolean"),
            ("{\"a\": 1}", "`a`: invalid type: integer `1`, expected a sequence"),
        ] {
            assert_eq!(read(text).unwrap_err().to_string(), expected, "{text}");
        }
    }

    #[test]
    fn numbers_are_written_as_they_are() {
        let all = (u64::MAX, i64::MIN, 0.1 + 0.2, f64::NAN, 1e300);
        let written = "[18446744073709551615,-9223372036854775808,0.30000000000000004,null,1e+300]";
        assert_eq!(line(&all).unwrap(), written);
        assert_eq!(lines(&BTreeMap::from([("b", 1), ("a", 2)])).unwrap(), "{\n  \"a\": 2,\n  \"b\": 1\n}");
    }

    #[test]
    fn endless_keys_are_cut() {
        let text = format!("{{\"{}\": 1}}", "a".repeat(1_000));
        let error = read::<BTreeMap<String, Vec<u8>>>(text.as_bytes()).unwrap_err();
        assert!(error.to_string().chars().count() < 200, "{error}");
    }
}
