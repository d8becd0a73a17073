//! What a server presents to its clients: a certificate and its key.

use std::{fmt, net::IpAddr};

use anyhow::{Context, Result, bail};
use base64::{Engine, prelude::BASE64_STANDARD};
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject};

use crate::scenario::CertificateFiles;

/// A certificate, those that lead from it to one that clients trust, and its key.
#[derive(Debug)]
pub struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    /// Where they were read from; `None` if they were made for the purpose.
    files: Option<CertificateFiles>,
}

impl Identity {
    /// Makes a certificate for a server at this address, which is also known by these names. It has signed itself, and serves nobody else.
    pub fn generate(address: IpAddr, names: &[String]) -> Result<Self> {
        let address = address.to_canonical().to_string();
        let mut all = vec![address, "localhost".to_owned()];
        all.extend(names.iter().filter(|name| *name != "localhost").cloned());
        let key = KeyPair::generate().context("making a key")?;
        let certificate =
            CertificateParams::new(all).and_then(|params| params.self_signed(&key)).context("making a certificate")?;
        Ok(Self {
            chain: vec![certificate.der().clone()],
            key: PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
            files: None,
        })
    }

    /// Reads a certificate and its key from files in PEM form.
    pub fn read(files: &CertificateFiles) -> Result<Self> {
        let CertificateFiles { certificate, private_key } = files;
        let chain = certificates(certificate)?;
        let key = PrivateKeyDer::from_pem_file(private_key)
            .with_context(|| format!("{private_key}: cannot be read as a private key in PEM form"))?;
        Ok(Self { chain, key, files: Some(files.clone()) })
    }

    /// The certificates and the key in PEM form.
    pub fn pem(&self) -> [String; 2] {
        let certificates: String = self.chain.iter().map(|one| pem("CERTIFICATE", one)).collect();
        [certificates, pem("PRIVATE KEY", self.key.secret_der())]
    }

    /// Whether it was made for the purpose, so that only who made it can trust it.
    pub fn is_generated(&self) -> bool {
        self.files.is_none()
    }

    /// The server's own certificate.
    pub(super) fn certificate(&self) -> &CertificateDer<'static> {
        &self.chain[0]
    }

    pub(super) fn parts(&self) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        (self.chain.clone(), self.key.clone_key())
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.files {
            Some(files) => write!(f, "{}, {}", files.certificate, files.private_key),
            None => f.write_str("a certificate made for the purpose"),
        }
    }
}

/// Writes something in PEM form (RFC 7468).
fn pem(label: &str, der: &[u8]) -> String {
    let text = BASE64_STANDARD.encode(der);
    let lines: Vec<&str> = (0..text.len()).step_by(64).map(|at| &text[at..text.len().min(at + 64)]).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

/// Reads the certificates in a file in PEM form: at least one.
pub(super) fn certificates(path: &str) -> Result<Vec<CertificateDer<'static>>> {
    let all: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .with_context(|| format!("{path}: cannot be read as certificates in PEM form"))?;
    if all.is_empty() {
        bail!("{path}: contains no certificate in PEM form (BEGIN CERTIFICATE)");
    }
    Ok(all)
}
