//! Numbers as people read them.

/// `12,345`: thousands apart.
#[must_use]
pub fn count(value: u64) -> String {
    let digits = value.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `21.4 KiB`, `812 B`: three digits are enough to compare.
#[must_use]
pub fn bytes(value: f64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    // 1023.95 would be written as `1024.0`.
    if value < 1023.5 {
        return format!("{value:.0} B");
    }
    let mut scaled = value / 1024.0;
    let mut unit = 0;
    while scaled >= 1023.95 && unit + 1 < UNITS.len() {
        scaled /= 1024.0;
        unit += 1;
    }
    format!("{scaled:.1} {}", UNITS[unit])
}

/// `350 µs`, `42.0 ms`, `5.0 s`, `3 min 20 s`, `2 h 5 min`.
#[must_use]
pub fn duration(ns: u64) -> String {
    let seconds = ns as f64 / 1e9;
    let whole_seconds = ns.saturating_add(500_000_000) / 1_000_000_000;
    let whole_minutes = whole_seconds.saturating_add(30) / 60;
    if ns == 0 {
        "0 s".to_owned()
    } else if ns < 1_000 {
        format!("{ns} ns")
    } else if ns < 999_500 {
        format!("{:.0} µs", seconds * 1e6)
    } else if ns < 999_950_000 {
        format!("{:.1} ms", seconds * 1e3)
    } else if seconds < 59.95 {
        format!("{seconds:.1} s")
    } else if whole_seconds < 3_600 {
        format!("{} min {} s", whole_seconds / 60, whole_seconds % 60)
    } else {
        format!("{} h {} min", whole_minutes / 60, whole_minutes % 60)
    }
}

/// The share of `part` in `whole`, 0 when there is no whole.
#[must_use]
pub fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        0.0
    } else {
        part as f64 / whole as f64
    }
}

/// `45.2%` for 0.452.
#[must_use]
pub fn percent(share: f64) -> String {
    format!("{:.1}%", share * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_have_their_thousands_apart() {
        for (value, expected) in [
            (0, "0"),
            (999, "999"),
            (1_000, "1,000"),
            (u64::MAX, "18,446,744,073,709,551,615"),
        ] {
            assert_eq!(count(value), expected);
        }
    }

    #[test]
    fn bytes_change_the_unit_before_they_need_a_fourth_digit_group() {
        for (value, expected) in [
            (0.0, "0 B"),
            (1_023.4, "1023 B"),
            (1_023.6, "1.0 KiB"),
            (21_914.0, "21.4 KiB"),
            (1_048_575.0, "1.0 MiB"),
            (u64::MAX as f64, "16.0 EiB"),
        ] {
            assert_eq!(bytes(value), expected);
        }
    }

    #[test]
    fn durations_never_round_up_to_a_unit_they_do_not_use() {
        for (ns, expected) in [
            (0, "0 s"),
            (999, "999 ns"),
            (1_499, "1 µs"),
            (999_499, "999 µs"),
            (999_500, "1.0 ms"),
            (999_949_999, "999.9 ms"),
            (999_950_000, "1.0 s"),
            (59_949_999_999, "59.9 s"),
            (59_950_000_000, "1 min 0 s"),
            (200_000_000_000, "3 min 20 s"),
            (3_599_500_000_000, "1 h 0 min"),
            (7_500_000_000_000, "2 h 5 min"),
            (u64::MAX, "5124095 h 35 min"),
        ] {
            assert_eq!(duration(ns), expected, "{ns}");
        }
    }

    #[test]
    fn a_share_of_nothing_is_none() {
        assert_eq!(percent(share(3, 0)), "0.0%");
        assert_eq!(percent(share(1, 3)), "33.3%");
    }
}
