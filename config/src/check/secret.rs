//! Secrets: those with certificates.

use k8s_openapi::api::core::v1::Secret;

use crate::error::Findings;
use crate::path::Path;
use crate::routing::certificate;

pub(super) fn check(secret: &Secret, findings: &mut Findings) {
    if secret.type_.as_deref() != Some("kubernetes.io/tls") {
        return;
    }
    // it is kept all the same: who refers to it is told that it cannot be used
    if let Err(refused) = certificate(secret) {
        let path = Path::Root.key("data");
        let help = "write a certificate chain and its key in PEM, encoded in Base64";
        match refused.key {
            Some(key) => findings.warning(path.key(key), refused.message, help),
            None => findings.warning(path, refused.message, help),
        };
    }
}
