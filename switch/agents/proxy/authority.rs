//! Certificates made for a lab: keys that nobody else has, in a chain that clients can be told to
//! trust.

use rcgen::{CertificateParams, DnType, KeyPair};

/// A certificate and its key, in PEM.
#[derive(Clone, Debug)]
pub struct Issued {
    /// The certificate.
    pub certificate: String,
    /// Its key.
    pub key: String,
}

/// A certificate for names, signed by its own key.
///
/// # Errors
/// A name cannot stand in a certificate, or no key can be made.
pub fn self_signed(names: &[String]) -> Result<Issued, rcgen::Error> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(names.to_vec())?;
    let first = names.first().map_or("kswitch", String::as_str);
    params.distinguished_name.push(DnType::CommonName, first);
    let certificate = params.self_signed(&key)?;
    Ok(Issued { certificate: certificate.pem(), key: key.serialize_pem() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_comes_with_its_key() {
        let names = ["a.example".to_owned(), "*.b.example".to_owned()];
        let Issued { certificate, key } = self_signed(&names).unwrap();
        assert!(certificate.starts_with("-----BEGIN CERTIFICATE-----"));
        assert!(key.starts_with("-----BEGIN PRIVATE KEY-----"));
    }
}
