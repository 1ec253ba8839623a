//! The two sides of a connection, made of what the files have.

use std::{sync::Arc, time::SystemTime};

use rustls::{
    ClientConfig, ServerConfig,
    client::{Resumption, WebPkiServerVerifier},
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, UnixTime},
    server::{NoServerSessionStorage, WebPkiClientVerifier, danger::ClientCertVerifier},
    version::TLS13,
};

use super::{Material, TlsError, files::Pair};

/// The protocol within (RFC 7301; RFC 9113 section 3.2).
const ALPN: &[u8] = b"h2";

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn together(error: &impl ToString) -> TlsError {
    TlsError::Together(error.to_string())
}

/// A side that can be made of the files.
pub trait Side: Sized + Send + Sync + 'static {
    /// Makes it.
    ///
    /// # Errors
    /// If something is missing, or does not go together.
    fn make(material: Material) -> Result<Self, TlsError>;

    /// When its own certificate ends.
    fn not_after(&self) -> Option<SystemTime>;
}

/// The side that is connected to.
#[derive(Debug)]
pub struct ServerSide {
    pub(crate) config: Arc<ServerConfig>,
    verifier: Option<Arc<dyn ClientCertVerifier>>,
    not_after: SystemTime,
}

impl ServerSide {
    /// Looks at the certificates of an open connection again.
    ///
    /// # Errors
    /// If they would not be taken any more; says why.
    pub(crate) fn verify(&self, chain: &[CertificateDer<'static>]) -> Result<(), String> {
        let Some((own, between)) = chain.split_first() else { return Ok(()) };
        let Some(verifier) = &self.verifier else { return Err("no CA is configured".to_owned()) };
        let verified = verifier.verify_client_cert(own, between, UnixTime::now());
        verified.map(drop).map_err(|error| error.to_string())
    }
}

impl Side for ServerSide {
    fn make(material: Material) -> Result<Self, TlsError> {
        let Pair { chain, key, own, files } = material.pair.ok_or(TlsError::Missing("cert"))?;
        if own.not_after <= SystemTime::now() {
            return Err(Pair::refused(&files, &"the certificate has ended"));
        }
        let verifier = match material.roots {
            None => None,
            Some(roots) => {
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider())
                    .with_crls(material.revoked)
                    .only_check_end_entity_revocation()
                    .allow_unknown_revocation_status()
                    .allow_unauthenticated();
                Some(verifier.build().map_err(|error| together(&error))?)
            }
        };
        let builder = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13])
            .map_err(|error| together(&error))?;
        let builder = match &verifier {
            Some(verifier) => builder.with_client_cert_verifier(Arc::clone(verifier)),
            None => builder.with_no_client_auth(),
        };
        let made = builder.with_single_cert(chain, key);
        let mut config = made.map_err(|error| Pair::refused(&files, &error))?;
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Self { config: Arc::new(config), verifier, not_after: own.not_after })
    }

    fn not_after(&self) -> Option<SystemTime> {
        Some(self.not_after)
    }
}

/// The side that connects.
#[derive(Debug)]
pub struct ClientSide {
    config: Arc<ClientConfig>,
    not_after: Option<SystemTime>,
}

impl ClientSide {
    /// What connections are made with.
    #[must_use]
    pub fn connector(&self) -> tokio_rustls::TlsConnector {
        tokio_rustls::TlsConnector::from(Arc::clone(&self.config))
    }
}

impl Side for ClientSide {
    fn make(material: Material) -> Result<Self, TlsError> {
        let roots = material.roots.ok_or(TlsError::Missing("ca"))?;
        let verifier = WebPkiServerVerifier::builder_with_provider(roots, provider())
            .with_crls(material.revoked)
            .only_check_end_entity_revocation()
            .allow_unknown_revocation_status();
        let builder = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13])
            .map_err(|error| together(&error))?
            .with_webpki_verifier(verifier.build().map_err(|error| together(&error))?);
        let not_after = material.pair.as_ref().map(|pair| pair.own.not_after);
        let mut config = match material.pair {
            None => builder.with_no_client_auth(),
            Some(Pair { chain, key, own, files }) => {
                if own.not_after <= SystemTime::now() {
                    return Err(Pair::refused(&files, &"the certificate has ended"));
                }
                let made = builder.with_client_auth_cert(chain, key);
                made.map_err(|error| Pair::refused(&files, &error))?
            }
        };
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.resumption = Resumption::disabled();
        Ok(Self { config: Arc::new(config), not_after })
    }

    fn not_after(&self) -> Option<SystemTime> {
        self.not_after
    }
}
