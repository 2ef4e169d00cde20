//! Certificates made for a lab: keys that nobody else has, in a chain that clients can be told to
//! trust.

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};

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
    let certificate = of_names(names)?.self_signed(&key)?;
    Ok(Issued { certificate: certificate.pem(), key: key.serialize_pem() })
}

fn of_names(names: &[String]) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(names.to_vec())?;
    let first = names.first().map_or("kswitch", String::as_str);
    params.distinguished_name.push(DnType::CommonName, first);
    Ok(params)
}

/// Who signs the certificates of a lab.
#[derive(Debug)]
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    certificate: String,
}

impl Authority {
    /// A new one, with a key of its own.
    ///
    /// # Errors
    /// No key can be made.
    pub fn new(lab: &str) -> Result<Self, rcgen::Error> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name.push(DnType::CommonName, format!("kswitch lab {lab}"));
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        let certificate = issuer.pem();
        Ok(Self { issuer, certificate })
    }

    /// Its own certificate in PEM, for those who are to trust it.
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// A certificate for names, signed by it.
    ///
    /// # Errors
    /// A name cannot stand in a certificate, or no key can be made.
    pub fn issue(&self, names: &[String]) -> Result<Issued, rcgen::Error> {
        let key = KeyPair::generate()?;
        let mut params = of_names(names)?;
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok(Issued { certificate: certificate.pem(), key: key.serialize_pem() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_comes_with_its_key() {
        let names = ["a.example".to_owned(), "*.b.example".to_owned()];
        let authority = Authority::new("test").unwrap();
        for issued in [self_signed(&names).unwrap(), authority.issue(&names).unwrap()] {
            let Issued { certificate, key } = issued;
            assert!(certificate.starts_with("-----BEGIN CERTIFICATE-----"));
            assert!(key.starts_with("-----BEGIN PRIVATE KEY-----"));
        }
    }
}
