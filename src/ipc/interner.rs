//! Small numbers for values that recur, so that thousands of connections can share one copy.

use std::ops::Index;

/// The values seen so far. Meant for a handful: lookup is linear.
#[derive(Debug)]
pub struct Interner<T>(Vec<T>);

impl<T> Default for Interner<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: PartialEq> Interner<T> {
    /// The number of a value, assigned when it is first seen. Panics beyond 65,536 values.
    #[inline]
    pub fn number(&mut self, value: T) -> u16 {
        let place = self.0.iter().position(|known| *known == value).unwrap_or_else(|| {
            self.0.push(value);
            self.0.len() - 1
        });
        u16::try_from(place).expect("few values")
    }
}

impl<T: Copy> Index<u16> for Interner<T> {
    type Output = T;

    #[inline]
    fn index(&self, number: u16) -> &T {
        &self.0[usize::from(number)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_keeps_its_number() {
        let mut interner = Interner::default();
        let numbers: Vec<u16> = ["a", "b", "a", "c", "b"].into_iter().map(|value| interner.number(value)).collect();
        assert_eq!(numbers, [0, 1, 0, 2, 1]);
        assert_eq!(interner[1], "b");
    }
}
