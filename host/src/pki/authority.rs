//! An authority: a certificate that may sign others and none that may sign again, and its key.

use std::{
    ops::Range,
    time::{Duration, SystemTime},
};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyIdMethod,
    KeyPair, KeyUsagePurpose, PublicKeyData, SanType,
};
use x509_parser::{extensions::ParsedExtension, x509::SubjectPublicKeyInfo};
use zeroize::Zeroizing;

use super::{
    Pair, PkiError, Purpose, SKEW, Secret, Serial, Subject, issued, octets, subject, written,
};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// An authority. Its key is in no format string.
#[derive(Debug)]
pub struct Authority {
    certificate: String,
    octets: Vec<u8>,
    issuer: Issuer<'static, KeyPair>,
    key_id: KeyIdMethod,
    valid: Range<SystemTime>,
}

impl Authority {
    /// A new one, from now on for so many days.
    ///
    /// # Errors
    /// If the name is none, or the days are too many.
    pub fn create(name: &str, days: u32) -> Result<Self, CreateError> {
        let now = SystemTime::now();
        let end = now.checked_add(DAY.saturating_mul(days)).ok_or(PkiError::NoTime)?;
        Self::create_for(name, &(now - SKEW..end))
    }

    /// A new one, for this time.
    ///
    /// # Errors
    /// If the name is none, or the time.
    pub fn create_for(name: &str, valid: &Range<SystemTime>) -> Result<Self, CreateError> {
        subject::check_authority(name)?;
        let mut params = params(name, valid)?;
        // It signs certificates of peers, and none that could sign again (RFC 5280 §4.2.1.9).
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().map_err(PkiError::from)?;
        let certificate = params.self_signed(&key).map_err(PkiError::from)?.pem();
        let key = Secret::new(key.serialize_pem());
        Ok(Self::load(&certificate, &key)?)
    }

    /// One that was made before.
    ///
    /// # Errors
    /// If the certificate is none of an authority, or the key is not its own.
    pub fn load(certificate: &str, key: &Secret) -> Result<Self, PkiError> {
        let octets = octets(certificate, "CERTIFICATE", "certificate")?;
        let pair = KeyPair::from_pem(key.expose()).map_err(|_| PkiError::Unreadable {
            what: "private key",
            // What the library says of a key may show some of it.
            reason: "an ECDSA P-256 key in PKCS #8 is asked for".to_owned(),
        })?;
        let parsed = issued::parse(&octets)?;
        if !parsed.is_ca() {
            return Err(PkiError::NoAuthority);
        }
        if parsed.public_key().raw != pair.subject_public_key_info() {
            return Err(PkiError::OtherKey);
        }
        let valid = issued::valid(&parsed);
        let key_id = parsed.iter_extensions().find_map(|found| match found.parsed_extension() {
            ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0.to_vec()),
            _ => None,
        });
        let key_id = key_id.map_or(KeyIdMethod::Sha256, KeyIdMethod::PreSpecified);
        let issuer = Issuer::from_ca_cert_pem(certificate, pair)?;
        Ok(Self { certificate: certificate.to_owned(), octets, issuer, key_id, valid })
    }

    /// Its certificate as PEM: what peers are given as `ca`.
    #[must_use]
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// Its key.
    #[must_use]
    pub fn key(&self) -> Secret {
        Secret::new(self.issuer.key().serialize_pem())
    }

    /// When it is valid.
    #[must_use]
    pub const fn valid(&self) -> &Range<SystemTime> {
        &self.valid
    }

    /// A certificate with a new key, which ends no later than the authority does.
    ///
    /// # Errors
    /// If nothing is left of that time.
    pub fn issue(
        &self,
        subject: &Subject,
        purpose: Purpose,
        valid: &Range<SystemTime>,
    ) -> Result<Pair, PkiError> {
        let valid = valid.start..valid.end.min(self.valid.end);
        let key = Zeroizing::new(KeyPair::generate()?);
        let certificate = leaf(subject, purpose, &valid)?.signed_by(&*key, &self.issuer)?.pem();
        Ok(Pair { certificate, key: Secret::new(key.serialize_pem()) })
    }

    pub(super) const fn issuer(&self) -> &Issuer<'static, KeyPair> {
        &self.issuer
    }

    pub(super) fn key_id(&self) -> KeyIdMethod {
        self.key_id.clone()
    }

    /// Hands out the public key, for signatures to be checked with.
    pub(super) fn with_key<T>(
        &self,
        check: impl FnOnce(&SubjectPublicKeyInfo<'_>) -> Result<T, PkiError>,
    ) -> Result<T, PkiError> {
        check(issued::parse(&self.octets)?.public_key())
    }
}

/// Why there is no new authority.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    /// The name is none.
    #[error(transparent)]
    Name(#[from] super::SubjectError),
    /// It cannot be made.
    #[error(transparent)]
    Pki(#[from] PkiError),
}

/// A certificate that nobody vouches for: it is signed with its own key. For tests of who refuses it.
///
/// # Errors
/// If the time is none.
pub fn self_signed(
    subject: &Subject,
    purpose: Purpose,
    valid: &Range<SystemTime>,
) -> Result<Pair, PkiError> {
    let key = KeyPair::generate()?;
    let certificate = leaf(subject, purpose, valid)?.self_signed(&key)?.pem();
    Ok(Pair { certificate, key: Secret::new(key.serialize_pem()) })
}

fn params(common_name: &str, valid: &Range<SystemTime>) -> Result<CertificateParams, PkiError> {
    if valid.is_empty() {
        return Err(PkiError::NoTime);
    }
    let mut params = CertificateParams::default();
    params.not_before = written(valid.start)?;
    params.not_after = written(valid.end)?;
    params.serial_number = Some(Serial::random().number());
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    Ok(params)
}

fn leaf(
    subject: &Subject,
    purpose: Purpose,
    valid: &Range<SystemTime>,
) -> Result<CertificateParams, PkiError> {
    let mut params = params(&subject.common_name, valid)?;
    for uri in &subject.uris {
        params.subject_alt_names.push(SanType::URI(uri.as_str().try_into()?));
    }
    for name in &subject.dns_names {
        params.subject_alt_names.push(SanType::DnsName(name.as_str().try_into()?));
    }
    params.subject_alt_names.extend(subject.addresses.iter().copied().map(SanType::IpAddress));
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![purpose.usage()];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}
