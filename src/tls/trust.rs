//! Which certificates a client accepts.

use std::{env, sync::Arc};

use anyhow::{Context, Result, bail};
use rustls::{
    CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_name,
    },
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::ParsedCertificate,
};

use super::{Identity, identity::certificates, provider};
use crate::scenario::Security;

/// The variable that names the machine's trusted certificates, as for OpenSSL and curl.
const VARIABLE: &str = "SSL_CERT_FILE";
/// Where distributions have them.
const OF_MACHINE: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Accepts what is issued by a trusted authority, and what is trusted itself, for the server's name.
#[derive(Debug)]
struct Verifier {
    /// `None` if nothing is to be verified.
    authorities: Option<Arc<WebPkiServerVerifier>>,
    /// Certificates that are trusted themselves. One that `openssl req -x509` makes says that it is an authority's, and as a server's, no
    /// verifier of authorities accepts it.
    trusted: Vec<CertificateDer<'static>>,
    provider: Arc<CryptoProvider>,
}

/// What decides over the certificates of a load's server. Those of the load come first, then that of the trial's own server if it was made
/// for the purpose, then the machine's.
pub(super) fn verifier(security: &Security, identity: Option<&Identity>) -> Result<Arc<dyn ServerCertVerifier>> {
    let provider = provider();
    if !security.verify {
        return Ok(Arc::new(Verifier { authorities: None, trusted: Vec::new(), provider }));
    }
    let trusted = match (&security.trust, identity) {
        (Some(path), _) => certificates(path)?,
        (None, Some(identity)) if identity.is_generated() => vec![identity.certificate().clone()],
        (None, _) => of_machine()?,
    };
    let mut roots = RootCertStore::empty();
    let (usable, _) = roots.add_parsable_certificates(trusted.iter().cloned());
    if usable == 0 {
        bail!("none of the certificates to be trusted can be read: set load.trust to a file of others");
    }
    let authorities = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
        .build()
        .context("reading the certificates to be trusted")?;
    Ok(Arc::new(Verifier { authorities: Some(authorities), trusted, provider }))
}

/// The certificates that this machine trusts.
fn of_machine() -> Result<Vec<CertificateDer<'static>>> {
    let named = env::var(VARIABLE).ok();
    let path = match &named {
        Some(path) => path,
        None => *OF_MACHINE.iter().find(|path| std::fs::exists(path).unwrap_or(false)).with_context(|| {
            format!(
                "no certificates to trust: none of {} exists. Set load.trust to a file of them, or load.verify = false",
                OF_MACHINE.join(", ")
            )
        })?,
    };
    certificates(path).context("the certificates that this machine trusts; load.trust names others")
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(authorities) = &self.authorities else { return Ok(ServerCertVerified::assertion()) };
        match authorities.verify_server_cert(certificate, intermediates, name, ocsp, now) {
            // Its dates were found to be right by then.
            Err(Error::InvalidCertificate(CertificateError::Other(_) | CertificateError::UnknownIssuer))
                if self.trusted.contains(certificate) =>
            {
                verify_server_name(&ParsedCertificate::try_from(certificate)?, name)?;
                Ok(ServerCertVerified::assertion())
            }
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
