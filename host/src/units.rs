//! Lengths of time and sizes as people write them in configuration and on the command line: `5s`,
//! `100ms`, `64MiB`. They are shown in the same form, so that a written configuration reads back.

use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};

/// Nanoseconds of each unit of time, the largest first.
const TIME_UNITS: [(&str, u64); 7] = [
    ("d", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];

/// Octets of each unit of size, the largest first.
const SIZE_UNITS: [(&str, u64); 5] =
    [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

/// Why something is no length of time, or no size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnitError {
    /// It is no length of time.
    #[error("`{0}` is no length of time: write a whole number and d, h, m, s, ms, us or ns (`5s`)")]
    Period(String),
    /// It is no size.
    #[error("`{0}` is no size: write a whole number and B, KiB, MiB, GiB or TiB (`64MiB`)")]
    Size(String),
}

/// A length of time: a whole number and its unit, such as `5s` or `100ms`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(try_from = "String", into = "String")]
pub struct Period(Duration);

/// A size in octets: a whole number and its unit, such as `64MiB`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(try_from = "String", into = "String")]
pub struct ByteSize(u64);

impl Period {
    /// A length of time of `seconds`.
    #[must_use]
    pub const fn from_secs(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    /// A length of time of `milliseconds`.
    #[must_use]
    pub const fn from_millis(milliseconds: u64) -> Self {
        Self(Duration::from_millis(milliseconds))
    }

    /// The length.
    #[must_use]
    pub const fn get(self) -> Duration {
        self.0
    }
}

impl ByteSize {
    /// A size of `octets`.
    #[must_use]
    pub const fn new(octets: u64) -> Self {
        Self(octets)
    }

    /// A size of `mebibytes`, 1,048,576 octets each.
    #[must_use]
    pub const fn from_mib(mebibytes: u32) -> Self {
        Self((mebibytes as u64) << 20)
    }

    /// The size in octets.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The size in octets.
    #[must_use]
    pub const fn as_u64(self) -> u64 {
        self.0
    }

    /// The size in octets, or the largest that the machine can address.
    #[must_use]
    pub fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl From<Duration> for Period {
    fn from(length: Duration) -> Self {
        Self(length)
    }
}

impl FromStr for Period {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let nanoseconds = read(text, &TIME_UNITS).ok_or_else(|| UnitError::Period(cut(text)))?;
        Ok(Self(Duration::from_nanos(nanoseconds)))
    }
}

impl FromStr for ByteSize {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        read(text, &SIZE_UNITS).map(Self).ok_or_else(|| UnitError::Size(cut(text)))
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match u64::try_from(self.0.as_nanos()) {
            Ok(0) => f.write_str("0s"),
            Ok(nanoseconds) => show(f, nanoseconds, &TIME_UNITS),
            Err(_) => write!(f, "{}s", self.0.as_secs()),
        }
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 { f.write_str("0B") } else { show(f, self.0, &SIZE_UNITS) }
    }
}

impl TryFrom<String> for Period {
    type Error = UnitError;

    fn try_from(text: String) -> Result<Self, UnitError> {
        text.parse()
    }
}

impl TryFrom<String> for ByteSize {
    type Error = UnitError;

    fn try_from(text: String) -> Result<Self, UnitError> {
        text.parse()
    }
}

impl From<Period> for String {
    fn from(period: Period) -> Self {
        period.to_string()
    }
}

impl From<ByteSize> for String {
    fn from(size: ByteSize) -> Self {
        size.to_string()
    }
}

/// The number in the smallest unit.
fn read(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits)?;
    let (_, factor) = units.iter().find(|(name, _)| *name == unit.trim_start())?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

/// The number in the largest unit that divides it.
fn show(f: &mut fmt::Formatter<'_>, number: u64, units: &[(&str, u64)]) -> fmt::Result {
    match units.iter().find(|(_, factor)| number.is_multiple_of(*factor)) {
        Some((name, factor)) => write!(f, "{}{name}", number / factor),
        None => Err(fmt::Error),
    }
}

/// What was given, cut to a length that fits on a line.
fn cut(text: &str) -> String {
    text.chars().take(40).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_what_is_meant() {
        for (text, length) in [
            ("5s", Duration::from_secs(5)),
            ("100ms", Duration::from_millis(100)),
            ("250us", Duration::from_micros(250)),
            ("2 m", Duration::from_secs(120)),
            ("0s", Duration::ZERO),
        ] {
            assert_eq!(text.parse::<Period>().unwrap().get(), length, "{text}");
        }
        assert_eq!("64MiB".parse::<ByteSize>().unwrap().get(), 64 * 1024 * 1024);
        assert_eq!("3B".parse::<ByteSize>().unwrap().get(), 3);
    }

    #[test]
    fn it_is_shown_in_the_form_that_reads_back() {
        for text in ["90s", "100ms", "2h", "1d", "1us", "0s", "7ns"] {
            let period: Period = text.parse().unwrap();
            assert_eq!(period.to_string().parse::<Period>().unwrap(), period, "{text}");
        }
        assert_eq!(Period::from_millis(1_500).to_string(), "1500ms");
        assert_eq!(Period::from_secs(3_600).to_string(), "1h");
        assert_eq!(ByteSize::new(64 << 20).to_string(), "64MiB");
        assert_eq!(ByteSize::new(1_000).to_string(), "1000B");
    }

    #[test]
    fn what_is_no_length_or_size_is_refused() {
        for bad in ["", "5", "s", "-1s", "1.5s", "5 parsecs", "99999999999999999999s", "300000d"] {
            assert!(bad.parse::<Period>().is_err(), "{bad}");
        }
        for bad in ["", "64", "64MB", "MiB", "99999999TiB"] {
            assert!(bad.parse::<ByteSize>().is_err(), "{bad}");
        }
    }
}
