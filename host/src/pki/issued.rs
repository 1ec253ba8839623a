//! A certificate that was issued, read back: what its next one has to say again, and what of it goes
//! into the list of the revoked.

use std::{net::IpAddr, ops::Range, time::SystemTime};

use rcgen::{KeyPair, PublicKeyData};
use x509_parser::{
    certificate::X509Certificate, extensions::GeneralName,
    oid_registry::OID_X509_EXT_EXTENDED_KEY_USAGE, parse_x509_certificate,
};

use super::{Authority, PkiError, Purpose, Secret, Serial, Subject, octets, read};

/// What a certificate says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issued {
    /// Its number.
    pub serial: Serial,
    /// Whom it is for.
    pub subject: Subject,
    /// What it may be used for.
    pub purpose: Purpose,
    /// When.
    pub valid: Range<SystemTime>,
    public_key: Vec<u8>,
}

impl Issued {
    /// Reads a certificate that this authority has issued.
    ///
    /// # Errors
    /// If it is none, or another has signed it, or it has what is never issued here.
    pub fn read(text: &str, authority: &Authority) -> Result<Self, PkiError> {
        let octets = octets(text, "CERTIFICATE", "certificate")?;
        let certificate = parse(&octets)?;
        authority.with_key(|key| {
            let signed = certificate.verify_signature(Some(key));
            signed.map_err(|_| PkiError::NotOurs { what: "certificate" })
        })?;
        if certificate.is_ca() {
            return Err(PkiError::Foreign("the rights of an authority"));
        }
        Ok(Self {
            serial: Serial::of(certificate.raw_serial()),
            subject: subject(&certificate)?,
            purpose: purpose(&certificate)?,
            valid: valid(&certificate),
            public_key: certificate.public_key().raw.to_vec(),
        })
    }

    /// Whether a key is that of the certificate.
    #[must_use]
    pub fn has_key(&self, key: &Secret) -> bool {
        KeyPair::from_pem(key.expose())
            .is_ok_and(|pair| pair.subject_public_key_info() == self.public_key)
    }

    /// Whether less than a third of its life is left.
    #[must_use]
    pub fn is_due(&self, now: SystemTime) -> bool {
        now > self.due()
    }

    /// When a third of its life is left.
    #[must_use]
    pub fn due(&self) -> SystemTime {
        let life = self.valid.end.duration_since(self.valid.start).unwrap_or_default();
        self.valid.end.checked_sub(life / 3).unwrap_or(self.valid.start)
    }
}

pub(super) fn parse(octets: &[u8]) -> Result<X509Certificate<'_>, PkiError> {
    let parsed = parse_x509_certificate(octets).map(|(_, certificate)| certificate);
    parsed.map_err(|error| unreadable(&error))
}

pub(super) fn valid(certificate: &X509Certificate<'_>) -> Range<SystemTime> {
    let validity = certificate.validity();
    read(validity.not_before)..read(validity.not_after)
}

fn unreadable(reason: &impl ToString) -> PkiError {
    PkiError::Unreadable { what: "certificate", reason: reason.to_string() }
}

fn subject(certificate: &X509Certificate<'_>) -> Result<Subject, PkiError> {
    let names = certificate.subject_alternative_name().map_err(|error| unreadable(&error))?;
    let names = names.ok_or(PkiError::Foreign("no alternative names"))?;
    let common_name = certificate.subject().iter_common_name().next();
    let common_name = common_name.and_then(|name| name.as_str().ok()).unwrap_or_default();
    let mut subject = Subject {
        common_name: common_name.to_owned(),
        uris: Vec::new(),
        dns_names: Vec::new(),
        addresses: Vec::new(),
    };
    for name in &names.value.general_names {
        match name {
            GeneralName::URI(uri) => subject.uris.push((*uri).to_owned()),
            GeneralName::DNSName(name) => subject.dns_names.push((*name).to_owned()),
            GeneralName::IPAddress(octets) => subject.addresses.push(address(octets)?),
            _ => return Err(PkiError::Foreign("a name of another kind")),
        }
    }
    Ok(subject)
}

fn address(octets: &[u8]) -> Result<IpAddr, PkiError> {
    let v4 = <[u8; 4]>::try_from(octets).map(IpAddr::from);
    let address = v4.or_else(|_| <[u8; 16]>::try_from(octets).map(IpAddr::from));
    address.map_err(|_| PkiError::Foreign("an address of another length"))
}

fn purpose(certificate: &X509Certificate<'_>) -> Result<Purpose, PkiError> {
    let foreign = PkiError::Foreign("another use than that of one server or one client");
    let Some(extension) = certificate
        .get_extension_unique(&OID_X509_EXT_EXTENDED_KEY_USAGE)
        .map_err(|error| unreadable(&error))?
    else {
        return Err(foreign);
    };
    let usage = match extension.parsed_extension() {
        x509_parser::extensions::ParsedExtension::ExtendedKeyUsage(usage) => usage,
        _ => return Err(foreign),
    };
    let others = usage.any || usage.code_signing || usage.email_protection || usage.time_stamping;
    match (usage.server_auth, usage.client_auth) {
        _ if others || usage.ocsp_signing || !usage.other.is_empty() => Err(foreign),
        (true, false) => Ok(Purpose::Server),
        (false, true) => Ok(Purpose::Client),
        _ => Err(foreign),
    }
}
