//! The demo's zone: made by rule, of names and addresses that are kept for documentation and
//! benchmarks (RFC 2606, RFC 2544, RFC 3849), so that nobody's data is in it.

use std::fmt::Write;

/// Zone-file text of so many records, at least ten.
pub fn text(records: u32) -> String {
    let mut text = String::from(
        "$TTL 3600\n\
         @ IN SOA ns1 hostmaster 1 1800 900 604800 300\n\
         @ IN NS ns1\n\
         @ IN NS ns2\n\
         @ IN MX 10 mail\n\
         @ IN TXT \"v=spf1 mx -all\"\n\
         @ IN CAA 0 issue \"ca.example\"\n\
         ns1 IN A 198.18.0.1\n\
         ns2 IN A 198.18.0.2\n\
         mail IN A 198.18.0.3\n\
         _sip._tcp IN SRV 0 5 5060 host-1\n",
    );
    for number in 1..=records.saturating_sub(10) {
        let host = number / 4;
        let (high, low) = (host >> 8 & 255, host & 255);
        let line = match number % 4 {
            0 => format!("host-{host} IN A 198.18.{high}.{low}"),
            1 => format!("host-{host} IN AAAA 2001:db8::{host:x}"),
            2 => format!("www-{host} IN CNAME host-{host}"),
            _ => format!("host-{host} IN TXT \"rack {high} slot {low}\""),
        };
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{line}");
    }
    text
}

#[cfg(test)]
mod tests {
    use edgesync_core::{name::Name, zone_file};

    use super::*;

    #[test]
    fn the_zone_has_as_many_records_as_were_asked_for_and_no_two_alike() {
        let origin = Name::parse_origin(super::super::ORIGIN).unwrap();
        let records = zone_file::parse(text(12_000).as_bytes(), &origin).unwrap();
        assert_eq!(records.len(), 12_000);
        let mut seen = std::collections::HashSet::new();
        assert!(records.iter().all(|r| seen.insert((r.owner.clone(), r.rtype, r.rdata.clone()))));
    }
}
