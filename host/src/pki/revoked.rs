//! Certificates that are valid no more, though their time is not over: the list that an authority signs
//! (RFC 5280 §5). The signed list is the only place where they stand, so nothing can differ from it.

use std::{
    fmt,
    ops::Range,
    str::FromStr,
    time::{SystemTime, UNIX_EPOCH},
};

use rcgen::{CertificateRevocationListParams, RevokedCertParams, SerialNumber};
use x509_parser::parse_x509_crl;

use super::{Authority, PkiError, octets, read, written};

/// Certificates that a list has at most.
pub const MAX_REVOKED: usize = 100_000;
/// Octets of a serial number (RFC 5280 §4.1.2.2).
const SERIAL_OCTETS: usize = 20;

/// The number of a certificate, which its authority gives once. Shown as hexadecimal digits.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Serial(Vec<u8>);

/// Why something is no serial number.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a serial number is 1 to 40 hexadecimal digits, as `pki issue` shows it")]
pub struct SerialError;

impl Serial {
    /// A new one: 128 random bits.
    #[must_use]
    pub fn random() -> Self {
        Self::of(&rand::random::<[u8; 16]>())
    }

    /// From octets as DER has them, where a zero may stand before the number.
    pub(super) fn of(octets: &[u8]) -> Self {
        let zeros = octets.iter().take_while(|&&octet| octet == 0).count();
        // The number zero keeps one octet.
        let from = zeros.min(octets.len().saturating_sub(1));
        Self(octets.get(from..).unwrap_or_default().to_vec())
    }

    pub(super) fn number(&self) -> SerialNumber {
        SerialNumber::from_slice(&self.0)
    }
}

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|octet| write!(f, "{octet:02x}"))
    }
}

impl fmt::Debug for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Serial {
    type Err = SerialError;

    fn from_str(text: &str) -> Result<Self, SerialError> {
        let digits = text.bytes().all(|c| c.is_ascii_hexdigit());
        if !digits || !(1..=2 * SERIAL_OCTETS).contains(&text.len()) {
            return Err(SerialError);
        }
        let even = if text.len().is_multiple_of(2) { text.to_owned() } else { format!("0{text}") };
        let octet = |at| u8::from_str_radix(even.get(at..at + 2)?, 16).ok();
        let octets: Option<Vec<u8>> = (0..even.len()).step_by(2).map(octet).collect();
        octets.map(|octets| Self::of(&octets)).ok_or(SerialError)
    }
}

/// A certificate that is valid no more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revoked {
    /// Its number.
    pub serial: Serial,
    /// Since when.
    pub at: SystemTime,
}

/// All that an authority has revoked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Revocations {
    /// Number of the list: it only rises (RFC 5280 §5.2.3).
    pub number: u64,
    /// The certificates, in the order in which they were revoked.
    pub revoked: Vec<Revoked>,
}

impl Revocations {
    /// Reads a list that this authority has signed.
    ///
    /// # Errors
    /// If it is none, or another has signed it.
    pub fn read(text: &str, authority: &Authority) -> Result<Self, PkiError> {
        let what = "revocation list";
        let octets = octets(text, "X509 CRL", what)?;
        let unreadable = |reason: String| PkiError::Unreadable { what, reason };
        let (_, list) = parse_x509_crl(&octets).map_err(|error| unreadable(error.to_string()))?;
        authority
            .with_key(|key| list.verify_signature(key).map_err(|_| PkiError::NotOurs { what }))?;
        let revoked = list.iter_revoked_certificates().map(|revoked| Revoked {
            serial: Serial::of(revoked.raw_serial()),
            at: read(revoked.revocation_date),
        });
        let number = list.crl_number().map(|number| u64::try_from(number.clone()));
        let number =
            number.transpose().map_err(|_| unreadable("its number is too large".into()))?;
        Ok(Self { number: number.unwrap_or(0), revoked: revoked.collect() })
    }

    /// Whether a certificate is in it.
    #[must_use]
    pub fn has(&self, serial: &Serial) -> bool {
        self.revoked.iter().any(|revoked| revoked.serial == *serial)
    }

    /// Takes a certificate up; says whether it is new here.
    ///
    /// # Errors
    /// If the list is full.
    pub fn add(&mut self, serial: Serial, at: SystemTime) -> Result<bool, PkiError> {
        if self.has(&serial) {
            return Ok(false);
        }
        if self.revoked.len() >= MAX_REVOKED {
            return Err(PkiError::TooMany);
        }
        self.revoked.push(Revoked { serial, at });
        Ok(true)
    }

    /// Takes the next number. It is never below the clock's seconds, so that it rises even where the
    /// last list was lost.
    pub fn raise(&mut self, now: SystemTime) {
        let seconds = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        self.number = self.number.saturating_add(1).max(seconds);
    }
}

impl Authority {
    /// The list as PEM, signed, for a time at whose end a newer one is due.
    ///
    /// # Errors
    /// If the time is none, or the key does not sign.
    pub fn revocations(
        &self,
        list: &Revocations,
        valid: &Range<SystemTime>,
    ) -> Result<String, PkiError> {
        let entry = |revoked: &Revoked| {
            Ok(RevokedCertParams {
                serial_number: revoked.serial.number(),
                revocation_time: written(revoked.at)?,
                reason_code: None,
                invalidity_date: None,
            })
        };
        let revoked_certs = list.revoked.iter().map(entry).collect::<Result<_, PkiError>>()?;
        let params = CertificateRevocationListParams {
            this_update: written(valid.start)?,
            next_update: written(valid.end)?,
            crl_number: Serial::of(&list.number.to_be_bytes()).number(),
            issuing_distribution_point: None,
            revoked_certs,
            key_identifier_method: self.key_id(),
        };
        Ok(params.signed_by(self.issuer())?.pem()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_serial_is_the_same_number_however_it_is_written() {
        let serial: Serial = "0aff".parse().unwrap();
        assert_eq!(serial, Serial::of(&[0, 0, 10, 255]));
        assert_eq!(serial, "AFF".parse().unwrap());
        assert_eq!(
            (serial.to_string(), Serial::of(&[0]).to_string()),
            ("0aff".into(), "00".into())
        );
        for bad in ["", "x", "a b", "0x1", &"a".repeat(41), "é"] {
            assert_eq!(bad.parse::<Serial>(), Err(SerialError), "{bad}");
        }
        assert_ne!(Serial::random(), Serial::random());
    }

    #[test]
    fn the_number_of_a_list_rises_and_is_never_below_the_clock() {
        let mut list = Revocations::default();
        let now = UNIX_EPOCH + std::time::Duration::from_secs(1_000);
        let mut numbers = Vec::new();
        for at in [now, now, UNIX_EPOCH, now + std::time::Duration::from_secs(50)] {
            list.raise(at);
            numbers.push(list.number);
        }
        assert_eq!(numbers, [1_000, 1_001, 1_002, 1_050]);
    }
}
