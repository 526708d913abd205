//! Numbers as Python writes them.

use onlooker_unwinder::objects::{DIGIT_BITS, Int};

/// An `int` of more digits (of [`DIGIT_BITS`] bits) is only told by its size.
pub(super) const MAX_DIGITS: u64 = 10;
const BILLION: u64 = 1_000_000_000;

/// An `int`.
pub(super) fn int(int: &Int) -> String {
    if int.count > int.digits.len() as u64 {
        let bits = int.count.saturating_mul(DIGIT_BITS.into());
        return format!("<int of up to {bits} bits>");
    }
    let mut digits = int.digits.clone();
    // Nine decimal digits at a time, the lowest first.
    let mut groups = Vec::new();
    loop {
        let mut rest = 0;
        for digit in digits.iter_mut().rev() {
            let whole = rest << DIGIT_BITS | u64::from(*digit) & ((1 << DIGIT_BITS) - 1);
            *digit = (whole / BILLION) as u32;
            rest = whole % BILLION;
        }
        groups.push(rest);
        if digits.iter().all(|digit| *digit == 0) {
            break;
        }
    }
    let mut out = String::from(if int.negative { "-" } else { "" });
    for (at, group) in groups.iter().rev().enumerate() {
        out += &if at == 0 {
            group.to_string()
        } else {
            format!("{group:09}")
        };
    }
    out
}

/// A `float`: the shortest digits that give it back, with an exponent from 1e16 on and below 1e-4.
pub(super) fn float(value: f64) -> String {
    if value.is_nan() {
        return "nan".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "inf" } else { "-inf" }.to_owned();
    }
    let scientific = format!("{value:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or_default();
    if value != 0.0 && !(-4..16).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{digits}e{sign}{:02}", exponent.unsigned_abs());
    }
    let plain = format!("{value}");
    if plain.contains('.') {
        plain
    } else {
        plain + ".0"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_python() {
        for (value, expected) in [
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (1.5, "1.5"),
            (-2.0, "-2.0"),
            (1e15, "1000000000000000.0"),
            (1e16, "1e+16"),
            (1.25e-5, "1.25e-05"),
            (0.0001, "0.0001"),
            (1e300, "1e+300"),
            (f64::NAN, "nan"),
            (f64::NEG_INFINITY, "-inf"),
        ] {
            assert_eq!(float(value), expected);
        }
        let of = |negative, digits: &[u32], count| {
            int(&Int {
                negative,
                digits: digits.to_vec(),
                count,
            })
        };
        assert_eq!(of(false, &[], 0), "0");
        assert_eq!(of(true, &[7], 1), "-7");
        // 2**60 + 1, and 10**18.
        assert_eq!(of(false, &[1, 0, 1], 3), "1152921504606846977");
        let high = 1_000_000_000_000_000_000_u64;
        let digits = [high as u32 & 0x3fff_ffff, (high >> 30) as u32];
        assert_eq!(of(false, &digits, 2), "1000000000000000000");
        assert_eq!(of(false, &[1; 10], 400), "<int of up to 12000 bits>");
        // Bits that no digit has.
        assert_eq!(of(false, &[u32::MAX], 1), "1073741823");
    }
}
