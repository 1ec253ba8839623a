//! Progress of long work, on stderr, and only where that is a terminal.

use indicatif::{ProgressBar, ProgressStyle};

/// A bar over octets; without a total it only counts.
#[must_use]
pub fn octets(total: Option<u64>) -> ProgressBar {
    match total {
        Some(total) => styled(total, "{bar:30} {bytes} of {total_bytes} ({bytes_per_sec})"),
        None => styled(0, "{spinner} {bytes} ({bytes_per_sec})"),
    }
}

/// A bar over things of a kind, such as `blocks`.
#[must_use]
pub fn things(total: usize, noun: &str) -> ProgressBar {
    let total = u64::try_from(total).unwrap_or(u64::MAX);
    styled(total, &format!("{{bar:30}} {{pos}} of {{len}} {noun} ({{per_sec}})"))
}

fn styled(total: u64, template: &str) -> ProgressBar {
    // indicatif draws to stderr, and nothing if that is no terminal.
    let bar = ProgressBar::new(total);
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_template_can_be_read() {
        for template in ["{bar:30} {bytes} of {total_bytes} ({bytes_per_sec})", "{spinner} {bytes}"]
        {
            assert!(ProgressStyle::with_template(template).is_ok());
        }
        assert_eq!(things(7, "blocks").length(), Some(7));
    }
}
