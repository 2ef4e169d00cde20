//! Stretches of time.

use std::time::Duration;

use super::Refused;

/// Units and their length, microseconds.
const UNITS: [(&str, u64); 6] = [
    ("us", 1),
    ("ms", 1_000),
    ("s", 1_000_000),
    ("m", 60 * 1_000_000),
    ("h", 3_600 * 1_000_000),
    ("d", 86_400 * 1_000_000),
];

/// A whole number of one unit: `50us`, `30s`, `5d`.
pub(crate) fn duration(text: &str) -> Result<Duration, Refused> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits).unwrap_or((text, ""));
    let length = UNITS.iter().find(|(name, _)| *name == unit.trim()).map(|(_, length)| *length);
    let micros = number.parse::<u64>().ok().zip(length);
    micros.and_then(|(number, length)| number.checked_mul(length)).map(Duration::from_micros).ok_or_else(
        || {
            Refused::new(
                format!("{text:?} is not a time"),
                "write a number and a unit, as in \"50us\", \"20ms\", \"30s\", \"5m\", \"2h\" or \"1d\"",
            )
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_a_unit() {
        assert_eq!(duration("50us"), Ok(Duration::from_micros(50)));
        assert_eq!(duration("2 h"), Ok(Duration::from_hours(2)));
        assert_eq!(duration("0s"), Ok(Duration::ZERO));
        for text in
            ["", "s", "5", "5w", "-1s", "1.5s", "99999999999999999999s", "9999999999999999d"]
        {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
