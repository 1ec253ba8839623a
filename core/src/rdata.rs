//! RDATA: text to wire and back, checked by type; unknown types are opaque (RFC 3597). The reading
//! of each type is the `domain` crate's; here stands only what Edgesync asks of it.

use std::fmt::Write;

use bytes::Bytes;
use domain::{
    base::{
        Rtype,
        iana::Class,
        name::{Name as DomainName, ParsedName},
        rdata::{ComposeRecordData, ParseRecordData},
        zonefile_fmt::{DisplayKind, ZonefileFmt},
    },
    dep::octseq::Parser,
    rdata::ZoneRecordData,
    zonefile::inplace::{Entry, Zonefile},
};

use crate::{
    excerpt::excerpt,
    limits::RDATA_OCTETS,
    master::{self, Flaw},
    name::Name,
};

/// Why RDATA is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RdataError {
    /// The text is not of the type's form.
    #[error("`{text}` is no RDATA of type {rtype}: {reason}")]
    Text {
        /// The type.
        rtype: Rtype,
        /// What was given, cut to 200 characters.
        text: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The octets are not of the type's form.
    #[error("{octets} octets are no RDATA of type {rtype} in wire form")]
    Wire {
        /// The type.
        rtype: Rtype,
        /// How many were given.
        octets: usize,
    },
    /// Longer than RDLENGTH can say.
    #[error("RDATA of type {rtype} has {octets} octets; at most {RDATA_OCTETS} are allowed")]
    TooLong {
        /// The type.
        rtype: Rtype,
        /// How many were given.
        octets: usize,
    },
    /// A type for queries and the protocol itself, not for zones (RFC 6895 section 3.1).
    #[error("type {0} cannot stand in a zone: it is a query or meta type")]
    MetaType(Rtype),
    /// No type's name.
    #[error("`{0}` is no record type: give a mnemonic such as AAAA, or TYPE and a number")]
    UnknownType(String),
}

type Parsed<'a> = ZoneRecordData<&'a [u8], ParsedName<&'a [u8]>>;

/// Reads a type's mnemonic (`A`, `TYPE65280`).
///
/// # Errors
/// If there is no such type, or it cannot stand in a zone.
pub fn parse_type(text: &str) -> Result<Rtype, RdataError> {
    let rtype = text.parse().map_err(|_| RdataError::UnknownType(excerpt(text, 40)))?;
    check_type(rtype)
}

/// Takes a type if it can stand in a zone.
///
/// # Errors
/// If it is for queries or for the protocol itself.
pub fn check_type(rtype: Rtype) -> Result<Rtype, RdataError> {
    match rtype.to_int() {
        0 | 41 | 128..=255 => Err(RdataError::MetaType(rtype)),
        _ => Ok(rtype),
    }
}

/// Reads RDATA in presentation form; names in it may be relative to `origin`.
///
/// # Errors
/// If the text is not one RDATA of the type.
pub fn parse(rtype: Rtype, text: &str, origin: &Name) -> Result<Bytes, RdataError> {
    let error = |reason: String| RdataError::Text { rtype, text: excerpt(text, 200), reason };
    let number = rtype.to_int();
    let line = format!(". 0 IN TYPE{number} {text}\n");
    if let Err(flaw) = master::check(line.as_bytes()) {
        return Err(error(match flaw {
            Flaw::Open { what, .. } => format!("{what} is not closed"),
            Flaw::Control { text, .. } => format!("{text} is no RDATA"),
        }));
    }
    let mut file = Zonefile::with_capacity(line.len());
    file.extend_from_slice(line.as_bytes());
    let origin = DomainName::from_octets(origin.wire().clone());
    file.set_origin(origin.map_err(|e| error(e.to_string()))?);
    file.set_default_class(Class::IN);
    // The scanner's own position is of a line that the caller never saw.
    let reason = |e: &dyn std::fmt::Display| {
        let text = e.to_string();
        excerpt(text.splitn(3, ':').last().unwrap_or(&text).trim(), 200)
    };
    let entry = file.next_entry().map_err(|e| error(reason(&e)))?;
    let Some(Entry::Record(record)) = entry else {
        return Err(error("it is empty".to_owned()));
    };
    if !matches!(file.next_entry(), Ok(None)) {
        return Err(error("there is more than one line".to_owned()));
    }
    check(rtype, &composed(rtype, |target| record.data().compose_rdata(target))?)
}

/// Checks RDATA in wire form and gives it back without name compression.
///
/// # Errors
/// If the octets are not one RDATA of the type.
pub fn check(rtype: Rtype, wire: &Bytes) -> Result<Bytes, RdataError> {
    check_type(rtype)?;
    if wire.len() > RDATA_OCTETS {
        return Err(RdataError::TooLong { rtype, octets: wire.len() });
    }
    let parsed = parsed(rtype, wire).ok_or(RdataError::Wire { rtype, octets: wire.len() })?;
    let composed = composed(rtype, |target| parsed.compose_rdata(target))?;
    Ok(if composed == *wire { wire.clone() } else { composed })
}

/// The canonical form, by which RDATA is compared (RFC 4034 section 6.2).
#[must_use]
pub fn canonical(rtype: Rtype, wire: &Bytes) -> Bytes {
    parsed(rtype, wire)
        .and_then(|data| composed(rtype, |target| data.compose_canonical_rdata(target)).ok())
        .unwrap_or_else(|| wire.clone())
}

/// RDATA in presentation form; `\# length hex` (RFC 3597 section 5) for a type without one, and for
/// what would not read back as the same octets: an export must not change a record.
#[must_use]
pub fn display(rtype: Rtype, wire: &Bytes) -> String {
    presented(rtype, wire).unwrap_or_else(|| {
        let mut text = format!("\\# {}", wire.len());
        if !wire.is_empty() {
            text.push(' ');
        }
        text.extend(wire.iter().map(|octet| format!("{octet:02x}")));
        text
    })
}

/// RDATA in the type's own form, if that reads back.
fn presented(rtype: Rtype, wire: &Bytes) -> Option<String> {
    let data = parsed(rtype, wire)?;
    if matches!(data, ZoneRecordData::Unknown(_)) {
        return None;
    }
    let mut text = String::new();
    write!(text, "{}", data.display_zonefile(DisplayKind::Simple)).ok()?;
    if text.contains(char::is_control) {
        return None;
    }
    // Addresses have one form, and are most of what there is.
    let plain = matches!(rtype, Rtype::A | Rtype::AAAA);
    (plain || parse(rtype, &text, &Name::root()).as_ref() == Ok(wire)).then_some(text)
}

/// The type that an RRSIG covers (RFC 4034 section 3.1.1); any other type stands for itself.
#[must_use]
pub fn covered(rtype: Rtype, wire: &[u8]) -> Rtype {
    match (rtype, wire.first_chunk::<2>()) {
        (Rtype::RRSIG, Some(covered)) => Rtype::from_int(u16::from_be_bytes(*covered)),
        _ => rtype,
    }
}

/// Octets of a SOA's RDATA behind its two names: five numbers of 32 bits.
const SOA_NUMBERS: usize = 20;

/// The serial of a SOA's RDATA (RFC 1035 section 3.3.13).
#[must_use]
pub fn soa_serial(wire: &[u8]) -> Option<u32> {
    let numbers = wire.len().checked_sub(SOA_NUMBERS)?;
    wire.get(numbers..)?.first_chunk::<4>().map(|serial| u32::from_be_bytes(*serial))
}

/// A SOA's RDATA with another serial.
#[must_use]
pub fn with_soa_serial(wire: &[u8], serial: u32) -> Option<Bytes> {
    let numbers = wire.len().checked_sub(SOA_NUMBERS)?;
    let (names, rest) = wire.split_at_checked(numbers)?;
    Some([names, &serial.to_be_bytes(), rest.get(4..)?].concat().into())
}

/// True if `later` is after `earlier` in the arithmetic of RFC 1982.
#[must_use]
pub const fn serial_rises(earlier: u32, later: u32) -> bool {
    let ahead = later.wrapping_sub(earlier);
    ahead != 0 && ahead < 1 << 31
}

fn parsed(rtype: Rtype, wire: &[u8]) -> Option<Parsed<'_>> {
    let mut parser = Parser::from_ref(wire);
    let data = Parsed::parse_rdata(rtype, &mut parser).ok().flatten()?;
    (parser.remaining() == 0).then_some(data)
}

/// Gathers what `compose` writes.
fn composed<E>(
    rtype: Rtype,
    compose: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
) -> Result<Bytes, RdataError> {
    let mut target = Vec::new();
    compose(&mut target).map_err(|_| RdataError::Wire { rtype, octets: target.len() })?;
    if target.len() > RDATA_OCTETS {
        return Err(RdataError::TooLong { rtype, octets: target.len() });
    }
    Ok(target.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin() -> Name {
        Name::parse_origin("example.com").unwrap()
    }

    #[test]
    fn text_and_wire_agree_for_common_types() {
        let wanted = [
            (Rtype::A, "192.0.2.1", "192.0.2.1"),
            (Rtype::AAAA, "2001:db8::1", "2001:db8::1"),
            (Rtype::NS, "ns1", "ns1.example.com."),
            (Rtype::MX, "10 mail.Example.net.", "10 mail.Example.net."),
            (Rtype::TXT, "\"$INCLUDE\"", "\"$INCLUDE\""),
            (Rtype::TXT, "\"a b\" c", "\"a b\" \"c\""),
            (Rtype::CAA, "0 issue \"ca.example\"", "0 issue \"ca.example\""),
            (Rtype::SRV, "0 5 5060 sip", "0 5 5060 sip.example.com."),
            (Rtype::from_int(65280), "\\# 2 abcd", "\\# 2 abcd"),
        ];
        for (rtype, text, shown) in wanted {
            let wire = parse(rtype, text, &origin()).unwrap();
            assert_eq!(display(rtype, &wire), shown);
            assert_eq!(check(rtype, &wire).unwrap(), wire);
            assert_eq!(parse(rtype, shown, &Name::root()).unwrap(), wire, "{shown} reads back");
        }
    }

    #[test]
    fn what_its_own_form_would_change_is_shown_as_unknown_rdata() {
        // The scanner writes `nodefaultalpn`, which nobody reads; and key 7's DEL as it is.
        let alpn = b"\0\x01\0\0\x01\0\x03\x02h2\0\x02\0\0";
        let control = b"\0\x01\0\0\x07\0\x01\x7f";
        for wire in [&alpn[..], control] {
            let wire = Bytes::copy_from_slice(wire);
            let wire = check(Rtype::HTTPS, &wire).unwrap();
            let text = display(Rtype::HTTPS, &wire);
            assert!(text.starts_with("\\# "), "{text}");
            assert_eq!(parse(Rtype::HTTPS, &text, &Name::root()).unwrap(), wire);
        }
        assert_eq!(display(Rtype::TXT, &Bytes::new()), "\\# 0");
    }

    #[test]
    fn wrong_rdata_is_refused_with_its_reason() {
        let wrong = [
            (Rtype::A, "192.0.2"),
            (Rtype::A, "192.0.2.1 192.0.2.2"),
            (Rtype::A, ""),
            (Rtype::A, "192.0.2.1\nb 0 IN A 192.0.2.2"),
            (Rtype::A, "\\# 3 c00002"),
            (Rtype::MX, "mail"),
            (Rtype::TXT, "( a"),
            (Rtype::TXT, "\"a"),
            (Rtype::from_int(65280), "plain"),
        ];
        for (rtype, text) in wrong {
            let error = parse(rtype, text, &origin()).unwrap_err().to_string();
            assert!(!error.contains(char::is_control), "{error:?} is one line");
        }
        assert!(check(Rtype::A, &Bytes::from_static(&[1, 2, 3])).is_err());
        assert!(check(Rtype::NS, &Bytes::from_static(&[0xc0, 0])).is_err());
        assert!(check(Rtype::ANY, &Bytes::new()).is_err());
        assert!(check(Rtype::TXT, &vec![0; RDATA_OCTETS + 1].into()).is_err());
    }

    #[test]
    fn equality_ignores_the_case_of_names_but_bytes_are_kept() {
        let upper = parse(Rtype::NS, "NS1.Example.COM.", &origin()).unwrap();
        let lower = parse(Rtype::NS, "ns1.example.com.", &origin()).unwrap();
        assert_ne!(upper, lower);
        assert_eq!(canonical(Rtype::NS, &upper), canonical(Rtype::NS, &lower));
    }

    #[test]
    fn serials_rise_round_the_corner() {
        assert!(serial_rises(1, 2) && serial_rises(u32::MAX, 0) && serial_rises(u32::MAX, 5));
        assert!(!serial_rises(2, 2) && !serial_rises(2, 1) && !serial_rises(0, 1 << 31));
        let soa = parse(Rtype::SOA, "ns root 7 1 2 3 4", &origin()).unwrap();
        assert_eq!(soa_serial(&soa), Some(7));
        assert_eq!(soa_serial(&with_soa_serial(&soa, 9).unwrap()), Some(9));
        assert_eq!(soa_serial(&[0; 19]), None);
    }
}
