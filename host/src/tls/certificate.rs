//! What a verified certificate says of its owner.

use std::time::{Duration, SystemTime};

use rustls::pki_types::CertificateDer;
use x509_parser::{extensions::GeneralName, parse_x509_certificate};

use crate::peer::Certificate;

/// Reads the names and the end of a certificate (RFC 5280 sections 4.1.2.5 and 4.2.1.6).
///
/// # Errors
/// If it is none; says why in one line.
pub fn certificate(der: &CertificateDer<'_>) -> Result<Certificate, String> {
    let (_, parsed) = parse_x509_certificate(der).map_err(|_| "it is no certificate".to_owned())?;
    let names = parsed.subject_alternative_name();
    let names = names.map_err(|_| "its subject alternative names cannot be read".to_owned())?;
    let names = names.map(|names| names.value.general_names.as_slice()).unwrap_or_default();
    let of = |pick: fn(&GeneralName<'_>) -> Option<String>| names.iter().filter_map(pick).collect();
    let seconds = parsed.validity().not_after.timestamp();
    Ok(Certificate {
        uris: of(|name| match name {
            GeneralName::URI(uri) => Some((*uri).to_owned()),
            _ => None,
        }),
        dns_names: of(|name| match name {
            GeneralName::DNSName(name) => Some((*name).to_owned()),
            _ => None,
        }),
        fingerprint: *fingerprint(der),
        not_after: SystemTime::UNIX_EPOCH
            + Duration::from_secs(u64::try_from(seconds).unwrap_or_default()),
    })
}

/// SHA-256 of a certificate, as tools print it.
fn fingerprint(der: &CertificateDer<'_>) -> Box<[u8; 32]> {
    let digest = ring::digest::digest(&ring::digest::SHA256, der);
    let mut octets = Box::new([0; 32]);
    octets.iter_mut().zip(digest.as_ref()).for_each(|(to, from)| *to = *from);
    octets
}
