//! Numbers and moments as people read them, and as JSON has them.

use prost_types::{Duration, Timestamp};

/// Octets as hexadecimal digits.
#[must_use]
pub fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

/// A length of time in seconds.
#[must_use]
pub fn seconds(length: Option<&Duration>) -> f64 {
    length.map_or(0.0, |length| length.seconds as f64 + f64::from(length.nanos) / 1e9)
}

/// Seconds for people: `0.012 s`.
#[must_use]
pub fn seconds_text(seconds: f64) -> String {
    format!("{seconds:.3} s")
}

/// Microseconds for people, in the unit that suits: `850 µs`, `1.23 ms`, `4.56 s`.
#[must_use]
pub fn micros(micros: u64) -> String {
    match micros {
        0..1_000 => format!("{micros} µs"),
        1_000..1_000_000 => format!("{:.2} ms", micros as f64 / 1e3),
        _ => format!("{:.2} s", micros as f64 / 1e6),
    }
}

/// A moment as RFC 3339 has it, in UTC.
#[must_use]
pub fn moment(moment: Option<&Timestamp>) -> Option<String> {
    moment.map(Timestamp::to_string)
}

/// Text for a place that may be empty: `-` where there is nothing.
#[must_use]
pub fn or_dash(text: &str) -> String {
    if text.is_empty() { "-".to_owned() } else { text.to_owned() }
}

/// A count and its noun: `1 zone`, `2 zones`.
#[must_use]
pub fn count(number: u64, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_shown_in_the_unit_that_suits() {
        assert_eq!(
            [0, 999, 1_000, 12_340, 1_000_000].map(micros),
            ["0 µs", "999 µs", "1.00 ms", "12.34 ms", "1.00 s"]
        );
        let length = Duration { seconds: 2, nanos: 500_000_000 };
        assert_eq!(seconds_text(seconds(Some(&length))), "2.500 s");
        assert_eq!(seconds(None), 0.0);
    }

    #[test]
    fn a_moment_is_rfc_3339() {
        let at = Timestamp { seconds: 1_700_000_000, nanos: 0 };
        assert_eq!(moment(Some(&at)).unwrap(), "2023-11-14T22:13:20Z");
    }

    #[test]
    fn octets_keep_their_zeros() {
        assert_eq!(hex(&[0, 10, 255]), "000aff");
    }
}
