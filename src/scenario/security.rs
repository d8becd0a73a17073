//! TLS: what clients ask of it, and what our own server presents.

use std::borrow::Cow;

use strum::{EnumString, IntoStaticStr, VariantNames};

use super::{
    keys::{self, AnyKey},
    settings::Settings,
    subject::UnderTest,
};

/// What the clients of a population ask of TLS.
#[derive(Debug, Clone, PartialEq)]
pub struct Security {
    /// The versions that they offer.
    pub version: TlsVersion,
    /// Share of connections that resume an earlier session, from 0 to 1.
    pub resumption: f64,
    /// Whether they accept only a certificate that is trusted and names the server.
    pub verify: bool,
    /// The file of certificates that they trust; `None` for that of the trial's own server, or else those that the machine trusts.
    pub trust: Option<String>,
    /// The name that they ask for, and that the certificate must have; `None` for the address, which a Unix socket has not.
    pub server_name: Option<String>,
    /// The application protocol that they offer, if any.
    pub alpn: Option<String>,
}

/// Versions of TLS that clients offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumString, IntoStaticStr, VariantNames)]
pub enum TlsVersion {
    /// 1.3 and 1.2.
    #[strum(serialize = "any")]
    Any,
    /// 1.3 only.
    #[strum(serialize = "1.3")]
    Tls13,
    /// 1.2 only.
    #[strum(serialize = "1.2")]
    Tls12,
}

/// The files that our own server's certificate and its key are in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The certificate, and those that lead to a trusted one.
    pub certificate: String,
    /// Its key.
    pub private_key: String,
}

impl Security {
    pub(super) fn read(settings: &Settings<'_>, subject: &UnderTest) -> Self {
        let verify = settings.get(keys::LOAD_VERIFY);
        let alpn = settings.get(keys::LOAD_ALPN).into_owned();
        if subject.is_own() && !alpn.is_empty() && alpn != keys::LOAD_ALPN.default() {
            let problem = format!(
                "\"{alpn}\" is not what listenbench's own server speaks, which would refuse the handshake: remove it, or test another server"
            );
            settings.conflict(keys::LOAD_ALPN, &[keys::SERVER_SUBJECT], problem);
        }
        Self {
            version: settings.get(keys::LOAD_TLS_VERSION),
            resumption: settings.get(keys::LOAD_RESUMPTION),
            verify,
            trust: if verify { settings.get(keys::LOAD_TRUST).map(Cow::into_owned) } else { None },
            server_name: settings
                .get(keys::LOAD_SERVER_NAME)
                .map(Cow::into_owned)
                // A Unix socket has no address that a certificate could name.
                .or_else(|| settings.is_unix().then(|| "localhost".to_owned())),
            alpn: Some(alpn).filter(|name| !name.is_empty()),
        }
    }
}

impl CertificateFiles {
    /// Those of our own server; `None` if its certificate is made for the purpose.
    pub(super) fn read(settings: &Settings<'_>) -> Option<Self> {
        let [certificate, private_key] =
            [keys::SERVER_CERTIFICATE, keys::SERVER_PRIVATE_KEY].map(|key| (key, settings.get(key)));
        match (certificate, private_key) {
            ((_, Some(certificate)), (_, Some(private_key))) => {
                Some(Self { certificate: certificate.into_owned(), private_key: private_key.into_owned() })
            }
            ((_, None), (_, None)) => None,
            ((key, Some(_)), (missing, None)) | ((missing, None), (key, Some(_))) => {
                let problem = format!(
                    "requires {} too: set it, or leave both out for a certificate made at start",
                    missing.path()
                );
                settings.conflict(key, &[missing as &dyn AnyKey], problem);
                None
            }
        }
    }
}
