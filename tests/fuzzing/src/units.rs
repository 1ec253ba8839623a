//! Lengths of time and sizes: what is shown reads back as the same, and nothing overflows.

use edgesync_host::{
    exit::one_line,
    units::{ByteSize, Period},
};

use crate::assert_one_line;

pub fn run(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    match text.parse::<Period>() {
        Ok(period) => {
            let shown = period.to_string();
            assert_eq!(shown.parse(), Ok(period), "{text:?} is shown as {shown}");
            assert!(shown.len() <= 24, "{shown}");
        }
        Err(error) => assert_one_line(&one_line(&error)),
    }
    match text.parse::<ByteSize>() {
        Ok(size) => {
            let shown = size.to_string();
            assert_eq!(shown.parse(), Ok(size), "{text:?} is shown as {shown}");
            assert!(size.as_usize() as u64 <= size.get());
        }
        Err(error) => assert_one_line(&one_line(&error)),
    }
}

pub fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let texts =
        ["5s", "100ms", "2 m", "1d", "7ns", "250us", "0s", "64MiB", "1TiB", "3B", "300000d"];
    let mut seeds: Vec<_> = texts.iter().map(|text| (*text, text.as_bytes().to_vec())).collect();
    seeds.push(("largest-time", b"18446744073709551615ns".to_vec()));
    seeds.push(("largest-size", b"16777215TiB".to_vec()));
    seeds
}
