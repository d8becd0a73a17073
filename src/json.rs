//! JSON read into types, with the key at which it is wrong.
//!
//! Everything that is read into a type of ours is read here. A type is compiled once for each kind of reader, and those of records are
//! large: with one kind, the binary is a tenth smaller.

use std::fmt;

use serde::de::DeserializeOwned;

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
    let mut reader = serde_json::Deserializer::from_slice(text);
    let value = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let key = error.path().to_string();
        let key = (key != ".").then(|| key.chars().take(LONGEST_KEY).collect());
        Unread { key, cause: error.into_inner() }
    })?;
    reader.end().map_err(|cause| Unread { key: None, cause })?;
    Ok(value)
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
            ("{\"a\": [1", 1, "`a`: EOF while parsing a list"),
        ] {
            let error = read(text).unwrap_err();
            assert_eq!((error.line(), error.to_string()), (line, expected.to_owned()), "{text}");
        }
    }

    #[test]
    fn endless_keys_are_cut() {
        let text = format!("{{\"{}\": 1}}", "a".repeat(1_000));
        let error = read::<BTreeMap<String, Vec<u8>>>(text.as_bytes()).unwrap_err();
        assert!(error.to_string().chars().count() < 200, "{error}");
    }
}
