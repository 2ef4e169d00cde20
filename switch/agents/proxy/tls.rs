//! TLS: which certificate a client is shown, and what it asks for before that.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use kswitch_config::routing::{BackendTls, Listener};
use rustls::client::{WantsClientCert, WebPkiServerVerifier};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::{Acceptor, ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, ConfigBuilder, RootCertStore, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::sleep;
use tokio_rustls::TlsConnector;

use super::Error;

/// Octets of a client's first words at most.
const HELLO: usize = 16 * 1_024;

/// The certificates that this machine trusts.
pub const TRUSTED: &str = "/etc/ssl/certs/ca-certificates.crt";

/// How long to wait for the rest of a client's first words before looking again.
const HELLO_PAUSE: Duration = Duration::from_millis(2);

/// Certificates of a listener.
#[derive(Debug)]
struct ByName(Vec<Arc<CertifiedKey>>);

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name().and_then(|name| ServerName::try_from(name.to_owned()).ok());
        let is_for = |certified: &&Arc<CertifiedKey>| {
            let Some(name) = &name else { return false };
            let Ok(first) = certified.end_entity_cert() else { return false };
            let parsed = webpki::EndEntityCert::try_from(first);
            parsed.is_ok_and(|parsed| parsed.verify_is_valid_for_subject_name(name).is_ok())
        };
        self.0.iter().find(is_for).or(self.0.first()).cloned()
    }
}

/// How a listener ends TLS; `None` if its terms leave nothing to speak.
pub fn server(listener: &Listener, is_http: bool) -> Option<Arc<ServerConfig>> {
    let Listener { certificates, terms, clients, .. } = listener;
    let mut provider = rustls::crypto::ring::default_provider();
    if let Some(names) = &terms.suites {
        provider.cipher_suites.retain(|suite| {
            let name = format!("{:?}", suite.suite()).replace("TLS13_", "TLS_");
            // what 1.3 has cannot be chosen by name
            suite.tls13().is_some() || names.contains(&name)
        });
    }
    let versions: &[&rustls::SupportedProtocolVersion] = if terms.is_newest_only {
        &[&rustls::version::TLS13]
    } else if provider.cipher_suites.iter().any(|suite| suite.tls13().is_none()) {
        rustls::ALL_VERSIONS
    } else {
        &[&rustls::version::TLS13]
    };
    let provider = Arc::new(provider);
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider));
    let builder = builder.with_protocol_versions(versions).ok()?;
    let builder = match clients {
        Some(roots) => {
            let roots = Arc::clone(roots);
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider);
            builder.with_client_cert_verifier(verifier.build().ok()?)
        }
        None => builder.with_no_client_auth(),
    };
    let resolver = Arc::new(ByName(certificates.clone()));
    let mut config = builder.with_cert_resolver(resolver);
    if is_http {
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    }
    Some(Arc::new(config))
}

/// The name that a client asks for, read without taking anything from the connection.
///
/// # Errors
/// The client does not speak TLS, or went away.
pub async fn server_name(stream: &TcpStream) -> io::Result<Option<String>> {
    let mut buffer = vec![0; HELLO];
    let mut before = 0;
    loop {
        let length = stream.peek(&mut buffer).await?;
        if length == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if length == before {
            sleep(HELLO_PAUSE).await;
            continue;
        }
        before = length;
        let mut acceptor = Acceptor::default();
        let mut octets = buffer.get(..length).unwrap_or_default();
        while !octets.is_empty() {
            acceptor.read_tls(&mut octets)?;
        }
        match acceptor.accept() {
            Ok(Some(accepted)) => {
                return Ok(accepted.client_hello().server_name().map(str::to_ascii_lowercase));
            }
            Ok(None) if length < HELLO => {}
            Ok(None) => return Err(io::ErrorKind::InvalidData.into()),
            Err((error, _)) => return Err(io::Error::other(error)),
        }
    }
}

/// How backends are spoken to in TLS: whoever they say they are.
///
/// Source: GKE, "TLS between the load balancer and your application": certificates are not verified.
pub fn client(identity: Option<&Arc<CertifiedKey>>, alpn: &[u8]) -> Arc<ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = Arc::new(anyone::Anyone(Arc::clone(&provider)));
    let builder = ClientConfig::builder_with_provider(provider);
    let Ok(builder) = builder.with_safe_default_protocol_versions() else { unreachable!() };
    let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
    let mut config = shown(builder, identity);
    config.alpn_protocols = offered(alpn);
    Arc::new(config)
}

/// What is offered to be spoken in TLS; nothing where that is others' business.
fn offered(alpn: &[u8]) -> Vec<Vec<u8>> {
    Some(alpn.to_vec()).filter(|alpn| !alpn.is_empty()).into_iter().collect()
}

/// With the certificate that backends are shown if they ask.
fn shown(
    builder: ConfigBuilder<ClientConfig, WantsClientCert>,
    identity: Option<&Arc<CertifiedKey>>,
) -> ClientConfig {
    match identity {
        Some(own) => {
            let own = Arc::clone(own);
            builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(own)))
        }
        None => builder.with_no_client_auth(),
    }
}

/// Speaks TLS on a connection, for HTTP/1.1, whatever certificate the other end shows.
///
/// # Errors
/// The other end does not speak TLS.
pub async fn connect(stream: TcpStream) -> io::Result<impl AsyncRead + AsyncWrite + Unpin> {
    let name = ServerName::IpAddress(stream.peer_addr()?.ip().into());
    TlsConnector::from(client(None, b"http/1.1")).connect(name, stream).await
}

/// How a backend is spoken to in TLS whose certificate has to be what a policy says.
///
/// # Errors
/// Nobody is trusted.
pub fn verifying(
    policy: &BackendTls,
    identity: Option<&Arc<CertifiedKey>>,
    alpn: &[u8],
) -> Result<Arc<ClientConfig>, Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let roots = match &policy.roots {
        Some(roots) => Arc::clone(roots),
        None => Arc::new(system()?),
    };
    let builder = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider));
    let inner = builder.build()?;
    let names = policy.alt_names.clone();
    let verifier = Arc::new(named::Named { inner, names });
    let builder = ClientConfig::builder_with_provider(provider);
    let builder = builder.with_safe_default_protocol_versions()?;
    let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
    let mut config = shown(builder, identity);
    config.alpn_protocols = offered(alpn);
    Ok(Arc::new(config))
}

/// Whom this machine trusts.
fn system() -> Result<RootCertStore, Error> {
    let mut roots = RootCertStore::empty();
    let all = CertificateDer::pem_file_iter(TRUSTED)?.filter_map(Result::ok);
    roots.add_parsable_certificates(all);
    Ok(roots)
}

mod named;

mod anyone {
    use std::sync::Arc;

    use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
    use rustls::crypto::CryptoProvider;
    use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
    use rustls::{DigitallySignedStruct, Error, SignatureScheme};

    /// Takes any certificate.
    #[derive(Debug)]
    pub(super) struct Anyone(pub(super) Arc<CryptoProvider>);

    impl ServerCertVerifier for Anyone {
        fn verify_server_cert(
            &self,
            _: &CertificateDer<'_>,
            _: &[CertificateDer<'_>],
            _: &ServerName<'_>,
            _: &[u8],
            _: UnixTime,
        ) -> Result<ServerCertVerified, Error> {
            Ok(ServerCertVerified::assertion())
        }

        fn verify_tls12_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            Ok(HandshakeSignatureValid::assertion())
        }

        fn verify_tls13_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            Ok(HandshakeSignatureValid::assertion())
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            self.0.signature_verification_algorithms.supported_schemes()
        }
    }
}
