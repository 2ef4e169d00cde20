//! Certificates from Secrets.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Secret;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

/// Why a Secret holds no certificate that could be served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Where in `data`, if in one place.
    pub key: Option<&'static str>,
    /// What is wrong.
    pub message: String,
}

/// A certificate that was issued at run time.
#[derive(Clone, Debug)]
pub struct Issued(pub Arc<CertifiedKey>);

impl PartialEq for Issued {
    /// Whether it is the very same one.
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Issued {}

/// Where a Secret of the type `kubernetes.io/tls` has them.
const CHAIN: &str = "tls.crt";
const KEY: &str = "tls.key";

/// The certificate chain and key of a Secret.
///
/// # Errors
/// What is wrong with it.
pub fn certificate(secret: &Secret) -> Result<Arc<CertifiedKey>, Refused> {
    let refused = |key, message: &str| Refused { key, message: message.to_owned() };
    let get = |key: &'static str| {
        let data = secret.data.iter().flatten().find(|(name, _)| *name == key);
        let text = secret.string_data.iter().flatten().find(|(name, _)| *name == key);
        let octets = text.map(|(_, text)| text.as_bytes()).or(data.map(|(_, data)| &*data.0));
        octets.ok_or_else(|| refused(None, &format!("the Secret has no `{key}`")))
    };
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(get(CHAIN)?).collect();
    let chain = chain.unwrap_or_default();
    let Some(first) = chain.first() else {
        return Err(refused(Some(CHAIN), "`tls.crt` is no certificate in PEM"));
    };
    if webpki::EndEntityCert::try_from(first).is_err() {
        return Err(refused(Some(CHAIN), "`tls.crt` is no certificate that could be read"));
    }
    let key = PrivateKeyDer::from_pem_slice(get(KEY)?);
    let key = key.map_err(|_| refused(Some(KEY), "`tls.key` is no private key in PEM"))?;
    let key = rustls::crypto::ring::sign::any_supported_type(&key)
        .map_err(|_| refused(Some(KEY), "`tls.key` is a key of a kind that is not known here"))?;
    let certified = CertifiedKey::new(chain, key);
    match certified.keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => {
            Ok(Arc::new(certified))
        }
        Err(_) => Err(refused(Some(KEY), "`tls.key` is not the key of `tls.crt`")),
    }
}
