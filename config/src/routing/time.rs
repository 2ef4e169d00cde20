//! Times as the Gateway API writes them.

use std::time::Duration;

/// The parts of a time at most, and the digits of each.
const PARTS: usize = 4;
const DIGITS: usize = 5;

/// A time as in `1m30s`; `None` if it is none.
///
/// Source: GEP-2257: `^([0-9]{1,5}(h|m|s|ms)){1,4}$`.
pub(crate) fn timeout(text: &str) -> Option<Duration> {
    let mut whole = Duration::ZERO;
    let mut rest = text;
    let mut parts = 0;
    while !rest.is_empty() || parts == 0 {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        parts += 1;
        if !(1..=DIGITS).contains(&digits) || parts > PARTS {
            return None;
        }
        let (number, after) = rest.split_at_checked(digits)?;
        let units = after.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (unit, after) = after.split_at_checked(units)?;
        let millis = match unit {
            "h" => 3_600_000,
            "m" => 60_000,
            "s" => 1_000,
            "ms" => 1,
            _ => return None,
        };
        whole += Duration::from_millis(number.parse::<u64>().ok()? * millis);
        rest = after;
    }
    Some(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_parts() {
        assert_eq!(timeout("500ms"), Some(Duration::from_millis(500)));
        assert_eq!(timeout("1m30s"), Some(Duration::from_secs(90)));
        assert_eq!(timeout("0s"), Some(Duration::ZERO));
        for text in ["", "s", "5", "1d", "-1s", "1.5s", "123456s", "1s1s1s1s1s"] {
            assert_eq!(timeout(text), None, "{text}");
        }
    }
}
