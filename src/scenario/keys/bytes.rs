//! Bytes that a scenario writes as text: what a client sends, and what it is to get.

use toml::Value;

use super::domain::{Domain, shown};
use crate::format;

/// Bytes, as a string with escapes of its own: TOML's strings hold nothing but Unicode, and a literal one, or a word on a command line, no
/// control character.
#[derive(Debug, Clone, Copy)]
pub struct Bytes {
    /// How many there may be.
    most: usize,
}

pub(super) const fn bytes(most: usize) -> Bytes {
    Bytes { most }
}

impl Domain for Bytes {
    type Value = Vec<u8>;

    fn parse(&self, value: &Value) -> Result<Vec<u8>, String> {
        let Value::String(text) = value else {
            return Err(format!("must be a string in quotes, not {}", shown(value)));
        };
        let bytes = unescaped(text).map_err(|problem| format!("{problem}, in {}", shown(value)))?;
        if bytes.len() > self.most {
            return Err(format!("must be at most {} bytes long, not {}", self.most, bytes.len()));
        }
        Ok(bytes)
    }

    fn to_toml(&self, value: &Vec<u8>) -> Option<Value> {
        Some(Value::String(format::escaped(value)))
    }

    fn describe(&self) -> String {
        format!("string, at most {} bytes", self.most)
    }
}

/// The bytes that a text with escapes stands for.
fn unescaped(text: &str) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        if c != '\\' {
            bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            continue;
        }
        bytes.push(match rest.next() {
            Some('r') => b'\r',
            Some('n') => b'\n',
            Some('t') => b'\t',
            Some('0') => 0,
            Some('\\') => b'\\',
            Some('x') => {
                let digits: String = rest.by_ref().take(2).collect();
                let byte = u8::from_str_radix(&digits, 16).ok().filter(|_| digits.len() == 2 && !digits.starts_with('+'));
                byte.ok_or_else(|| format!("`\\x{digits}` is not a byte: write \\x and two hexadecimal digits"))?
            }
            other => {
                let other: String = other.into_iter().collect();
                return Err(format!(
                    "`\\{other}` is not an escape: write \\r, \\n, \\t, \\0, \\\\ for a backslash, or \\xHH for any byte"
                ));
            }
        });
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_stand_for_bytes_however_the_string_is_quoted() {
        let of = |toml: &str| bytes(8).parse(&format!("v = {toml}").parse::<toml::Table>().unwrap()["v"]);
        for (toml, expected) in [
            (r#""PING\r\n""#, &b"PING\r\n"[..]),
            (r"'PING\r\n'", b"PING\r\n"),
            (r"'\x00\xd2\0\t'", b"\0\xd2\0\t"),
            (r"'a\\b'", b"a\\b"),
            (r#""a\\\\b""#, b"a\\b"),
            ("'ü'", "ü".as_bytes()),
            ("''", b""),
        ] {
            let parsed = of(toml).unwrap();
            assert_eq!(parsed, expected, "{toml}");
            assert_eq!(bytes(8).parse(&bytes(8).to_toml(&parsed).unwrap()), Ok(parsed), "{toml}");
        }
        for (toml, says) in [
            (r"'a\q'", "`\\q` is not an escape: write \\r, \\n"),
            (r"'a\'", "`\\` is not an escape"),
            (r"'\x'", "`\\x` is not a byte"),
            (r"'\x1'", "`\\x1` is not a byte: write \\x and two hexadecimal digits"),
            (r"'\x+1'", "`\\x+1` is not a byte"),
            (r"'\xgg'", "`\\xgg` is not a byte"),
            ("'123456789'", "must be at most 8 bytes long, not 9"),
            ("7", "must be a string in quotes, not 7"),
        ] {
            let problem = of(toml).unwrap_err();
            assert!(problem.contains(says), "{toml}: {problem}");
        }
    }
}
