//! Keys whose values are lists: of workers, of processors, of addresses, of ports.

use std::{marker::PhantomData, net::IpAddr};

use ipnet::{IpAddrRange, IpNet, Ipv4AddrRange, Ipv6AddrRange};
use toml::Value;

use super::super::bind::MOST_BOUND;
use super::domain::{Domain, Words, alternatives, not_one_of, shown, word, word_to_toml};
use crate::sys::unix::{self, UnixAddress};

/// Different numbers from 0 to a highest one, in any order.
#[derive(Debug, Clone, Copy)]
pub struct Numbers {
    what: &'static str,
    high: usize,
}

pub(super) const fn numbers(what: &'static str, high: usize) -> Numbers {
    Numbers { what, high }
}

impl Numbers {
    fn read(&self, values: &[Value]) -> Result<Vec<usize>, String> {
        let mut numbers = Vec::with_capacity(values.len());
        for value in values {
            let number = value.as_integer().and_then(|number| usize::try_from(number).ok());
            let number = number.filter(|number| *number <= self.high).ok_or_else(|| {
                format!("must be a list of {} from 0 to {}; {} is not allowed", self.what, self.high, shown(value))
            })?;
            if numbers.contains(&number) {
                return Err(format!("lists {number} twice"));
            }
            numbers.push(number);
        }
        Ok(numbers)
    }
}

fn numbers_to_toml(numbers: &[usize]) -> Value {
    Value::Array(numbers.iter().map(|number| Value::Integer(*number as i64)).collect())
}

impl Domain for Numbers {
    type Value = Vec<usize>;

    fn parse(&self, value: &Value) -> Result<Vec<usize>, String> {
        let wrong = || format!("must be a list of {}, e.g. [0, 1], not {}", self.what, shown(value));
        self.read(value.as_array().ok_or_else(wrong)?)
    }

    fn to_toml(&self, value: &Vec<usize>) -> Option<Value> {
        Some(numbers_to_toml(value))
    }

    fn describe(&self) -> String {
        format!("list of {}", self.what)
    }

    fn takes_list(&self) -> bool {
        true
    }
}

/// Different names, at least one, in the order of a list.
#[derive(Debug, Clone, Copy)]
pub struct Names {
    what: &'static str,
    example: &'static str,
}

pub(super) const fn names(what: &'static str, example: &'static str) -> Names {
    Names { what, example }
}

impl Domain for Names {
    type Value = Vec<String>;

    fn parse(&self, value: &Value) -> Result<Vec<String>, String> {
        let wrong = || format!("must be a list of {}, e.g. [\"{}\"], not {}", self.what, self.example, shown(value));
        let values = value.as_array().filter(|values| !values.is_empty()).ok_or_else(wrong)?;
        if values.len() > LONGEST {
            return Err(format!("lists more than {LONGEST} {}", self.what));
        }
        let mut names: Vec<String> = Vec::with_capacity(values.len());
        for value in values {
            let name = value.as_str().ok_or_else(wrong)?;
            if names.iter().any(|known| known == name) {
                return Err(format!("lists {} twice", shown(value)));
            }
            names.push(name.to_owned());
        }
        Ok(names)
    }

    fn to_toml(&self, value: &Vec<String>) -> Option<Value> {
        Some(Value::Array(value.iter().cloned().map(Value::String).collect()))
    }

    fn describe(&self) -> String {
        format!("list of {}", self.what)
    }

    fn takes_list(&self) -> bool {
        true
    }
}

/// A word or a list that is not empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WordOrList<E> {
    /// The word.
    Word(E),
    /// The list.
    List(Vec<usize>),
}

/// One word of an enum, or a list of numbers.
#[derive(Debug, Clone, Copy)]
pub struct ChoiceOrNumbers<E> {
    numbers: Numbers,
    words: PhantomData<fn() -> E>,
}

pub(super) const fn choice_or<E>(numbers: Numbers) -> ChoiceOrNumbers<E> {
    ChoiceOrNumbers { numbers, words: PhantomData }
}

impl<E: Words> Domain for ChoiceOrNumbers<E> {
    type Value = WordOrList<E>;

    fn parse(&self, value: &Value) -> Result<Self::Value, String> {
        let what = self.numbers.what;
        match value {
            Value::Array(values) if values.is_empty() => Err(format!("is an empty list: it must contain {what}")),
            Value::Array(values) => self.numbers.read(values).map(WordOrList::List),
            value => word(value)
                .map(WordOrList::Word)
                .ok_or_else(|| not_one_of(E::VARIANTS, &format!(" or a list of {what}"), value)),
        }
    }

    fn to_toml(&self, value: &Self::Value) -> Option<Value> {
        Some(match value {
            WordOrList::Word(word) => word_to_toml(*word),
            WordOrList::List(numbers) => numbers_to_toml(numbers),
        })
    }

    fn describe(&self) -> String {
        let list = format!("list of {}", self.numbers.what);
        alternatives(E::VARIANTS.iter().map(|word| format!("`{word}`")).chain([list]))
    }

    fn words(&self) -> Vec<&'static str> {
        E::VARIANTS.to_vec()
    }

    fn takes_list(&self) -> bool {
        true
    }
}

/// More names or addresses, or more ports in one range, are a mistake.
pub(super) const LONGEST: usize = 256;

/// An IP address or a Unix socket's.
#[derive(Debug, Clone, Copy)]
pub struct Address;

/// Where a server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listens {
    /// At an IP address, on a port.
    At(IpAddr),
    /// On a Unix socket.
    On(UnixAddress),
}

impl Domain for Address {
    type Value = Listens;

    fn parse(&self, value: &Value) -> Result<Listens, String> {
        let text = value.as_str();
        if let Some(text) = text.filter(|text| unix::is_meant(text)) {
            return text.parse().map(Listens::On);
        }
        let address = text.and_then(|text| text.parse().ok()).map(Listens::At);
        address.ok_or_else(|| {
            format!(
                "must be an IP address or a Unix socket (\"unix:…\" or \"unixpacket:…\") in quotes, not {}",
                shown(value)
            )
        })
    }

    fn to_toml(&self, value: &Listens) -> Option<Value> {
        Some(Value::String(match value {
            Listens::At(address) => address.to_string(),
            Listens::On(address) => address.to_string(),
        }))
    }

    fn describe(&self) -> String {
        "IP address or Unix socket".to_owned()
    }
}

/// A local address, or a list of them.
#[derive(Debug, Clone, Copy)]
pub struct LocalAddresses;

impl Domain for LocalAddresses {
    type Value = Vec<IpAddr>;

    fn parse(&self, value: &Value) -> Result<Vec<IpAddr>, String> {
        let wrong = |value: &Value| {
            format!(
                "must be an IP address such as \"0.0.0.0\", or a list such as [\"127.0.0.1\", \"::1\"], not {}",
                shown(value)
            )
        };
        let values = match value {
            Value::Array(values) if !values.is_empty() => values.as_slice(),
            Value::String(_) => std::slice::from_ref(value),
            other => return Err(wrong(other)),
        };
        if values.len() > MOST_BOUND {
            return Err(format!("lists more than {MOST_BOUND} addresses"));
        }
        let mut addresses: Vec<IpAddr> = Vec::with_capacity(values.len());
        for value in values {
            let address = value.as_str().and_then(|text| text.parse().ok()).ok_or_else(|| wrong(value))?;
            if addresses.contains(&address) {
                return Err(format!("lists {address} twice"));
            }
            addresses.push(address);
        }
        Ok(addresses)
    }

    fn to_toml(&self, value: &Vec<IpAddr>) -> Option<Value> {
        let text = |address: &IpAddr| Value::String(address.to_string());
        match &value[..] {
            [] => None,
            [only] => Some(text(only)),
            several => Some(Value::Array(several.iter().map(text).collect())),
        }
    }

    fn describe(&self) -> String {
        "IP address, or list of them".to_owned()
    }

    fn takes_list(&self) -> bool {
        true
    }

    fn lists_strings(&self) -> bool {
        true
    }
}

/// Addresses, ranges `a-b` and networks `a/n`, separated by commas; the empty string is the empty list.
#[derive(Debug, Clone, Copy)]
pub struct Addresses;

impl Domain for Addresses {
    type Value = Vec<IpAddr>;

    fn parse(&self, value: &Value) -> Result<Vec<IpAddr>, String> {
        let Value::String(text) = value else {
            return Err(format!("must be addresses in quotes, not {}", shown(value)));
        };
        let mut all = Vec::new();
        if text.is_empty() {
            return Ok(all);
        }
        for part in text.split(',').map(str::trim) {
            let wrong = || {
                let part = shown(&Value::String(part.to_owned()));
                format!("{part} is not an address, a range (a-b) or a network (a/n) of at most {LONGEST} addresses")
            };
            let addresses: Vec<IpAddr> = range(part).ok_or_else(wrong)?.take(LONGEST + 1).collect();
            if addresses.is_empty() || addresses.len() > LONGEST {
                return Err(wrong());
            }
            if let Some(twice) = addresses.iter().find(|address| all.contains(*address)) {
                return Err(format!("lists {twice} twice"));
            }
            all.extend(addresses);
            if all.len() > LONGEST {
                return Err(format!("lists more than {LONGEST} addresses"));
            }
        }
        Ok(all)
    }

    fn to_toml(&self, value: &Vec<IpAddr>) -> Option<Value> {
        Some(Value::String(value.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(",")))
    }

    fn describe(&self) -> String {
        "addresses".to_owned()
    }
}

fn range(part: &str) -> Option<IpAddrRange> {
    let ends = match (part.split_once('-'), part.split_once('/')) {
        (Some((first, last)), _) => (first.trim().parse().ok()?, last.trim().parse().ok()?),
        (None, Some((address, length))) => {
            let network = IpNet::new(address.trim().parse().ok()?, length.parse().ok()?).ok()?;
            (network.network(), network.broadcast())
        }
        (None, None) => {
            let address: IpAddr = part.parse().ok()?;
            (address, address)
        }
    };
    match ends {
        (IpAddr::V4(first), IpAddr::V4(last)) => Some(IpAddrRange::V4(Ipv4AddrRange::new(first, last))),
        (IpAddr::V6(first), IpAddr::V6(last)) => Some(IpAddrRange::V6(Ipv6AddrRange::new(first, last))),
        _ => None,
    }
}

/// Ports and ranges `a-b`, separated by commas; the empty string is the empty list.
#[derive(Debug, Clone, Copy)]
pub struct Ports;

impl Domain for Ports {
    type Value = Vec<u16>;

    fn parse(&self, value: &Value) -> Result<Vec<u16>, String> {
        let ports = match value {
            Value::String(text) if text.is_empty() => Some(Vec::new()),
            Value::String(text) => ports(text),
            _ => None,
        };
        ports.ok_or_else(|| format!("must be a list of ports such as \"7000-7003,8000\", not {}", shown(value)))
    }

    fn to_toml(&self, value: &Vec<u16>) -> Option<Value> {
        Some(Value::String(value.iter().map(u16::to_string).collect::<Vec<_>>().join(",")))
    }

    fn describe(&self) -> String {
        "ports".to_owned()
    }
}

/// In ascending order, each once.
fn ports(text: &str) -> Option<Vec<u16>> {
    let mut all: Vec<u16> = Vec::new();
    for part in text.split(',').map(str::trim) {
        let (low, high) = part.split_once('-').unwrap_or((part, part));
        let (low, high): (u16, u16) = (low.parse().ok()?, high.parse().ok()?);
        if low == 0 || high < low || usize::from(high - low) >= LONGEST {
            return None;
        }
        all.extend(low..=high);
    }
    all.sort_unstable();
    all.dedup();
    Some(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(text: &str) -> Result<Vec<String>, String> {
        let addresses = Addresses.parse(&Value::String(text.to_owned()))?;
        Ok(addresses.iter().map(IpAddr::to_string).collect())
    }

    #[test]
    fn addresses_come_one_by_one_as_ranges_and_as_networks() {
        assert_eq!(addresses("").unwrap(), [""; 0]);
        assert_eq!(addresses("127.0.0.9, 127.0.0.2-127.0.0.3").unwrap(), ["127.0.0.9", "127.0.0.2", "127.0.0.3"]);
        // A network's first and last address are addresses like any other on loopback.
        assert_eq!(addresses("127.0.1.2/30").unwrap(), ["127.0.1.0", "127.0.1.1", "127.0.1.2", "127.0.1.3"]);
        assert_eq!(addresses("fd00::1-fd00::2").unwrap(), ["fd00::1", "fd00::2"]);
        assert_eq!(addresses("127.0.0.0/24").unwrap().len(), 256);
        for wrong in [
            "127.0.0.0/23",
            "127.0.0.1-127.0.1.1",
            "127.0.0.2-127.0.0.1",
            "127.0.0.1-::1",
            "127.0.0.1/33",
            "localhost",
            "127.0.0.1,,127.0.0.2",
            "127.0.0.1,127.0.0.0/30",
            "127.0.0.0/24,127.0.1.1",
            "::/64",
        ] {
            assert!(addresses(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn ports_are_sorted_and_named_once() {
        assert_eq!(ports("8000,7000-7002,7001").unwrap(), [7000, 7001, 7002, 8000]);
        for wrong in ["0", "2-1", "65536", "1-257", "x", "1,,2"] {
            assert_eq!(ports(wrong), None, "{wrong}");
        }
    }
}
