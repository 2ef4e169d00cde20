//! Which TLS is spoken with clients and with backends.

use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::gke::SslPolicy;

/// Which TLS is spoken with clients.
///
/// Source: Google Cloud, "SSL policies". Versions below 1.2 and suites without forward secrecy are
/// never spoken, so that only what is narrower than that makes a difference.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsTerms {
    /// Whether 1.2 is refused.
    pub is_newest_only: bool,
    /// Names of the cipher suites that may be used, as IANA has them; `None`: all.
    pub suites: Option<Vec<String>>,
}

impl TlsTerms {
    /// What a policy says.
    pub(super) fn new(policy: &SslPolicy) -> Self {
        let spec = &policy.spec;
        let is_custom = spec.profile.as_deref() == Some("CUSTOM");
        Self {
            is_newest_only: spec.min_tls_version.as_deref() == Some("TLS_1_3"),
            suites: is_custom.then(|| spec.custom_features.clone()),
        }
    }
}

/// What the certificates of a backend have to be.
///
/// Source: Gateway API, `BackendTLSPolicy`.
#[derive(Clone, Debug)]
pub struct BackendTls {
    /// The name that is asked for by SNI.
    pub hostname: String,
    /// Names one of which the certificate has to be for; empty: the one that is asked for.
    pub alt_names: Vec<String>,
    /// Who is trusted; `None`: whom this machine trusts.
    pub roots: Option<Arc<RootCertStore>>,
    /// Tells it apart from others.
    pub id: u64,
}

impl PartialEq for BackendTls {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl BackendTls {
    /// Trusts the certificates of some texts in PEM; `None`: those of this machine.
    ///
    /// # Errors
    /// A text has none.
    pub(super) fn new(
        hostname: &str,
        alt_names: Vec<String>,
        texts: Option<&[&str]>,
    ) -> Result<Self, &'static str> {
        let mut hasher = ahash::RandomState::with_seeds(1, 2, 3, 4).build_hasher();
        hasher.write(hostname.as_bytes());
        for name in &alt_names {
            hasher.write(name.as_bytes());
            hasher.write_u8(0);
        }
        let roots = texts.map(|texts| {
            let mut roots = RootCertStore::empty();
            for text in texts {
                hasher.write(text.as_bytes());
                let all: Result<Vec<_>, _> =
                    CertificateDer::pem_slice_iter(text.as_bytes()).collect();
                let all = all.map_err(|_| "`ca.crt` is no certificate in PEM")?;
                if roots.add_parsable_certificates(all).0 == 0 {
                    return Err("`ca.crt` has no certificate that could be read");
                }
            }
            Ok(Arc::new(roots))
        });
        let roots = roots.transpose()?;
        Ok(Self { hostname: hostname.to_owned(), alt_names, roots, id: hasher.finish() | 2 })
    }
}
