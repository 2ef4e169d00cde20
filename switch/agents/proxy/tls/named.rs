//! Certificates that have to be for one of some names.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, Error, SignatureScheme};

/// Takes certificates of those who are trusted, for the name that is asked for, or instead for one
/// of others.
///
/// Source: Gateway API, `BackendTLSPolicyValidation.subjectAltNames`.
#[derive(Debug)]
pub(super) struct Named {
    pub(super) inner: Arc<WebPkiServerVerifier>,
    /// Names of hosts, and URIs; empty: the name that is asked for.
    pub(super) names: Vec<String>,
}

impl Named {
    /// Whether a certificate is for one of the names.
    fn is_named(&self, certificate: &CertificateDer<'_>) -> bool {
        let Ok(parsed) = webpki::EndEntityCert::try_from(certificate) else { return false };
        self.names.iter().any(|name| {
            if parsed.valid_uri_names().any(|uri| uri == name) {
                return true;
            }
            let name = ServerName::try_from(name.as_str());
            name.is_ok_and(|name| parsed.verify_is_valid_for_subject_name(&name).is_ok())
        })
    }
}

impl ServerCertVerifier for Named {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified = self.inner.verify_server_cert(certificate, chain, name, ocsp, now);
        if self.names.is_empty() {
            return verified;
        }
        match verified {
            // the name is looked at last, when all else is good
            Ok(_)
            | Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if self.is_named(certificate) => Ok(ServerCertVerified::assertion()),
            Ok(_) => Err(Error::InvalidCertificate(CertificateError::NotValidForName)),
            Err(error) => Err(error),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}
