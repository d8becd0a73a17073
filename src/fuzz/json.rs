//! JSON that is read back: lines of `trials.jsonl`, `host.json`, calibrations.

use rand::{Rng, RngExt, seq::IndexedRandom};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::record::{Calibration, Host, TrialRecord};

pub fn trial(input: &[u8]) {
    round_trip::<TrialRecord>(input);
}

pub fn host(input: &[u8]) {
    round_trip::<Host>(input);
}

pub fn calibration(input: &[u8]) {
    round_trip::<Calibration>(input);
}

/// What is accepted is written as it was read, but for members that nobody knows.
fn round_trip<T: Serialize + DeserializeOwned>(input: &[u8]) {
    let Ok(value) = serde_json::from_slice::<T>(input) else { return };
    let written = serde_json::to_value(&value).expect("what was read can be written");
    // An unknown member may hold bytes that are not valid text.
    if let Ok(read) = serde_json::from_slice::<Value>(input) {
        assert_contains(&read, &written);
    }
    let text = serde_json::to_vec(&value).expect("what was read can be written");
    let again: T = serde_json::from_slice(&text).expect("what was written can be read");
    assert_eq!(serde_json::to_value(&again).unwrap(), written);
}

/// Whatever both have is the same in both.
fn assert_contains(read: &Value, written: &Value) {
    match (read, written) {
        (Value::Object(read), Value::Object(written)) => {
            for (key, written) in written {
                if let Some(read) = read.get(key) {
                    assert_contains(read, written);
                }
            }
        }
        (Value::Array(read), Value::Array(written)) => {
            // A struct may also be read from a list of its fields.
            assert_eq!(read.len(), written.len());
            read.iter().zip(written).for_each(|(read, written)| assert_contains(read, written));
        }
        (Value::Array(_), Value::Object(_)) => {}
        (Value::Number(read), Value::Number(written)) => assert_eq!(read.as_f64(), written.as_f64()),
        // A member that is null may be left out, and one that is left out may be null.
        (read, written) => assert_eq!(read, written),
    }
}

/// Changes one value of one line.
pub fn mutate(input: &mut Vec<u8>, random: &mut impl Rng) {
    let lines: Vec<&[u8]> = input.split(|byte| *byte == b'\n').collect();
    let parsed =
        lines.iter().enumerate().filter_map(|(at, line)| Some((at, serde_json::from_slice::<Value>(line).ok()?)));
    let parsed: Vec<(usize, Value)> = parsed.collect();
    let Some((at, value)) = parsed.choose(random) else { return };
    let mut value = value.clone();
    let other = node(&mut value.clone(), random).clone();
    let chosen = node(&mut value, random);
    match (random.random_range(0..6), &mut *chosen) {
        (0, Value::Object(members)) if !members.is_empty() => {
            let name = members.keys().nth(random.random_range(0..members.len())).cloned();
            name.and_then(|name| members.shift_remove(&name));
        }
        (1, Value::Array(items)) if !items.is_empty() => {
            let copies = items.choose(random).map(|item| vec![item.clone(); random.random_range(1..4)]);
            items.extend(copies.unwrap_or_default());
        }
        (2, _) => *chosen = other,
        (3, Value::Number(number)) => {
            let number = number.as_f64().unwrap_or(0.0);
            *chosen = json!((number * f64::from(random.random_range(-2..1_000))).round());
            if let Some(whole) = chosen.as_f64().filter(|whole| *whole >= 0.0 && *whole < 1e18) {
                *chosen = json!(whole as u64);
            }
        }
        _ => *chosen = odd(random),
    }
    let changed = serde_json::to_vec(&value).expect("JSON");
    *input = lines
        .iter()
        .enumerate()
        .map(|(i, line)| if i == *at { &changed[..] } else { line })
        .collect::<Vec<_>>()
        .join(&b'\n');
}

/// A value that few readers expect.
fn odd(random: &mut impl Rng) -> Value {
    let odd = [
        json!(null),
        json!(true),
        json!(0),
        json!(1),
        json!(-1),
        json!(0.5),
        json!(1e-308),
        json!(1e308),
        json!(-1e300),
        json!(u64::MAX),
        json!(i64::MAX),
        json!(i64::MIN),
        json!(u32::MAX),
        json!(""),
        json!([]),
        json!({}),
        json!("<b>&\"'|`*_[x](y)\u{1b}[31m\r\n=1+1,\u{202e}\0"),
        json!([[0]]),
        json!("-"),
        json!("1969-12-31T23:59:59Z"),
    ];
    odd.choose(random).expect("a value").clone()
}

/// A random part of a value.
fn node<'a>(value: &'a mut Value, random: &mut impl Rng) -> &'a mut Value {
    let inner = match &*value {
        Value::Array(items) => items.len(),
        Value::Object(members) => members.len(),
        _ => 0,
    };
    if inner == 0 || random.random_ratio(1, 8) {
        return value;
    }
    let at = random.random_range(0..inner);
    let part = match value {
        Value::Array(items) => items.get_mut(at),
        Value::Object(members) => members.values_mut().nth(at),
        _ => None,
    };
    node(part.expect("within its length"), random)
}
