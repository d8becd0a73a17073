//! How much a line of JSON holds, found before anything is allocated for it.

use super::bounds;

/// What lines of JSON hold.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Contents {
    pub objects: u64,
    /// At least the number of its lists, of their elements, and of the members of objects.
    pub values: u64,
    /// The sum of its whole numbers, without their signs.
    pub sum: u128,
}

impl Contents {
    /// What a line holds, whether or not it is JSON.
    pub fn of(line: &[u8]) -> Self {
        let mut contents = Self::default();
        let mut rest = line;
        while let Some((first, after)) = rest.split_first() {
            rest = after;
            match first {
                b'{' => contents.objects += 1,
                b'[' | b',' => contents.values += 1,
                b'"' => rest = after_text(after),
                b'0'..=b'9' => {
                    let (number, after) = whole_number(first - b'0', after);
                    contents.sum += number;
                    rest = after;
                }
                _ => {}
            }
        }
        contents
    }

    pub fn and(self, other: Self) -> Self {
        Self { objects: self.objects + other.objects, values: self.values + other.values, sum: self.sum + other.sum }
    }

    /// Which limit is exceeded, in words.
    pub fn excess(&self) -> Option<String> {
        if self.objects > bounds::OBJECTS {
            return Some(format!("{} JSON objects", bounds::OBJECTS));
        }
        (self.values > bounds::VALUES).then(|| format!("{} JSON values", bounds::VALUES))
    }
}

/// What follows a text whose first quotation mark is gone.
fn after_text(mut text: &[u8]) -> &[u8] {
    loop {
        match text {
            [b'\\', _, rest @ ..] => text = rest,
            [b'"', rest @ ..] => return rest,
            [_, rest @ ..] => text = rest,
            [] => return text,
        }
    }
}

/// Whether a number that is not whole is larger than any sum that is readable.
fn is_beyond(first: u8, rest: &[u8]) -> bool {
    // Others have fewer digits.
    let may_be = rest.len() > 15 || rest.iter().any(|byte| matches!(byte, b'e' | b'E'));
    let number = || format!("{first}{}", std::str::from_utf8(rest).ok()?).parse::<f64>().ok();
    may_be && number().is_some_and(|number| number >= bounds::SUM as f64)
}

/// The number that begins with a digit, and what follows it: 0 if it is not whole, unless it is beyond what is readable. Larger numbers than
/// are readable count as that.
fn whole_number(first: u8, rest: &[u8]) -> (u128, &[u8]) {
    let part_of_number = |byte: &u8| matches!(byte, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-');
    let length = rest.iter().position(|byte| !part_of_number(byte)).unwrap_or(rest.len());
    let (digits, rest) = rest.split_at(length);
    let whole = digits.iter().try_fold(u64::from(first), |number, byte| {
        byte.is_ascii_digit().then(|| number.saturating_mul(10).saturating_add(u64::from(byte - b'0')))
    });
    let whole = whole.map_or_else(|| if is_beyond(first, digits) { bounds::SUM + 1 } else { 0 }, u128::from);
    (whole, rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_values_and_numbers_are_counted() {
        let of = |line: &str| {
            let Contents { objects, values, sum } = Contents::of(line.as_bytes());
            (objects, values, sum)
        };
        assert_eq!(of(r#"{"a":[1,2,[30]],"b":{"c":-4}}"#), (2, 5, 37));
        assert_eq!(of(r#"{"a{[,1":"2\"{,3\\","b":0.5,"c":1e9,"d":7}"#), (1, 3, 7));
        assert_eq!(of(&format!("[{0},{0}]", u64::MAX)), (0, 2, 2 * u128::from(u64::MAX)));
        assert_eq!(of("[99999999999999999999999999"), (0, 1, u64::MAX.into()));
        for (number, is_beyond) in
            [("1e308", true), ("12345678901234567890.5", true), ("0.1234567890123456789", false), ("5e-324", false)]
        {
            assert_eq!(of(number).2 > bounds::SUM, is_beyond, "{number}");
        }
        assert_eq!((of(""), of("\"\\"), of("1"), of("\"1")), ((0, 0, 0), (0, 0, 0), (0, 0, 1), (0, 0, 0)));
    }

    #[test]
    fn the_excess_is_named() {
        let most = Contents { objects: bounds::OBJECTS, values: bounds::VALUES, sum: 0 };
        assert_eq!(most.excess(), None);
        assert_eq!(most.and(Contents::of(b"{")).excess().unwrap(), "8388608 JSON objects");
        assert_eq!(most.and(Contents::of(b",")).excess().unwrap(), "134217728 JSON values");
    }
}
