//! TLS with clients and with backends.

use std::sync::Arc;

use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::body::Bytes;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use kswitch::agents::proxy::authority::{self, Authority, Issued};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::bed::{BASE, Bed, answer};

pub(crate) fn secret(name: &str, issued: &Issued) -> String {
    let Issued { certificate, key } = issued;
    format!(
        "\n[[secret]]\ntype = \"kubernetes.io/tls\"\nmetadata = {{ name = \"{name}\" }}\n\
         [secret.stringData]\n\"tls.crt\" = '''\n{certificate}'''\n\"tls.key\" = '''\n{key}'''\n"
    )
}

/// The answer to a request of a host in TLS, to a client that trusts one certificate.
async fn ask(
    bed: &Bed,
    name: &str,
    trusted: &str,
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> Result<(u16, String), String> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(trusted.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    exchange(bed, 443, name, config).await
}

/// The same at a port, of a client that shows a certificate, or none.
pub(crate) async fn ask_as(
    bed: &Bed,
    (port, name): (u16, &str),
    trusted: &str,
    shown: Option<&Issued>,
) -> Result<(u16, String), String> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(trusted.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let config = match shown {
        Some(Issued { certificate, key }) => {
            let chain = CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap();
            let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
            builder.with_client_auth_cert(vec![chain], key).unwrap()
        }
        None => builder.with_no_client_auth(),
    };
    exchange(bed, port, name, config).await
}

async fn exchange(
    bed: &Bed,
    port: u16,
    name: &str,
    config: ClientConfig,
) -> Result<(u16, String), String> {
    let stream = TcpStream::connect(bed.at(port)).await.unwrap();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let told = TlsConnector::from(Arc::new(config)).connect(name.clone(), stream).await;
    let stream = told.map_err(|error| error.to_string())?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let request = Request::get("/").header("host", name.to_str().as_ref());
    let answer = sender.send_request(request.body(Full::<Bytes>::default()).unwrap()).await;
    let answer = answer.map_err(|error| error.to_string())?;
    let status = answer.status().as_u16();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    Ok((status, String::from_utf8_lossy(&body).into_owned()))
}

#[tokio::test]
async fn each_name_has_its_certificate_and_follows_its_secret() {
    let made = |name: &str| authority::self_signed(&[name.to_owned()]).unwrap();
    let (a, b, next) = (made("a.example"), made("b.example"), made("b.example"));
    let tls =
        "\n[[ingress.spec.tls]]\nsecretName = \"a\"\n[[ingress.spec.tls]]\nsecretName = \"b\"\n";
    let lab = |b: &Issued| format!("{BASE}{tls}{}{}", secret("a", &a), secret("b", b));
    let mut bed = Bed::new(&lab(&b), |_, _| answer(200, &[], "in")).await;
    let all = rustls::ALL_VERSIONS;
    let good = Ok((200, "in".to_owned()));
    assert_eq!(ask(&bed, "a.example", &a.certificate, all).await, good);
    assert_eq!(ask(&bed, "b.example", &b.certificate, all).await, good);
    assert!(ask(&bed, "b.example", &a.certificate, all).await.is_err());
    // another certificate for one of them, on the same socket
    let at = bed.at(443);
    bed.publish(&lab(&next)).await;
    assert_eq!(bed.at(443), at);
    assert_eq!(ask(&bed, "b.example", &next.certificate, all).await, good);
    assert_eq!(ask(&bed, "a.example", &a.certificate, all).await, good);
    // one that is broken takes nothing from the other
    let broken = Issued { key: a.key.clone(), ..b.clone() };
    bed.publish(&lab(&broken)).await;
    assert_eq!(ask(&bed, "a.example", &a.certificate, all).await, good);
    assert!(ask(&bed, "b.example", &b.certificate, all).await.is_err());
}

#[tokio::test]
async fn clients_are_sent_to_tls_and_meet_the_versions_that_are_allowed() {
    let own = authority::self_signed(&["a.example".to_owned()]).unwrap();
    let base = BASE.replace(
        "[[ingress]]\nmetadata = { name = \"web\" }",
        "[[ingress]]\nmetadata = { name = \"web\", annotations = \
         { \"networking.gke.io/v1beta1.FrontendConfig\" = \"front\" } }",
    );
    let lab = format!(
        "{base}\n[[ingress.spec.tls]]\nsecretName = \"a\"\n{}
[[frontend-config]]
metadata = {{ name = \"front\" }}
spec = {{ redirectToHttps = {{ enabled = true, responseCodeName = \"PERMANENT_REDIRECT\" }}, sslPolicy = \"new\" }}

[[ssl-policy]]
metadata = {{ name = \"new\" }}
spec = {{ minTlsVersion = \"TLS_1_3\" }}
",
        secret("a", &own)
    );
    let bed = Bed::new(&lab, |_, _| answer(200, &[], "in")).await;
    let told = bed.get("/x?y=1", &[]).await;
    assert_eq!((told.status, told.field("location")), (308, "https://a.example/x?y=1"));
    let trusted = &own.certificate;
    let (old, new) = (&[&rustls::version::TLS12], &[&rustls::version::TLS13]);
    assert_eq!(ask(&bed, "a.example", trusted, new).await.unwrap().0, 200);
    assert!(ask(&bed, "a.example", trusted, old).await.is_err());
}

/// A backend in TLS with a certificate, which answers with its own words.
async fn secured(issued: &Issued) -> std::net::SocketAddr {
    secured_by(issued, WebPkiClientVerifier::no_client_auth()).await
}

/// The same, which lets in whom a verifier lets in.
pub(crate) async fn secured_by(
    issued: &Issued,
    verifier: Arc<dyn ClientCertVerifier>,
) -> std::net::SocketAddr {
    let chain = CertificateDer::from_pem_slice(issued.certificate.as_bytes()).unwrap();
    let key = PrivateKeyDer::from_pem_slice(issued.key.as_bytes()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![chain], key)
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let name = stream.get_ref().1.server_name().unwrap_or("nobody").to_owned();
                let service = service_fn(move |_| {
                    let name = name.clone();
                    async move { Ok::<_, std::convert::Infallible>(answer(200, &[], &name)) }
                });
                let builder = hyper::server::conn::http1::Builder::new();
                let _ = builder.serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    at
}

#[tokio::test]
async fn backends_are_trusted_as_their_policy_says() {
    let authority = Authority::new("test").unwrap();
    let issued = authority.issue(&["backend.example".to_owned()]).unwrap();
    let policy = |ca: &str, hostname: &str, more: &str| {
        format!(
            "{BASE}
[[config-map]]
metadata = {{ name = \"ca\" }}
[config-map.data]
\"ca.crt\" = '''
{ca}'''

[[backend-tls-policy]]
metadata = {{ name = \"web\" }}
[backend-tls-policy.spec]
targetRefs = [{{ group = \"\", kind = \"Service\", name = \"web\" }}]
[backend-tls-policy.spec.validation]
hostname = \"{hostname}\"
caCertificateRefs = [{{ group = \"\", kind = \"ConfigMap\", name = \"ca\" }}]
{more}
"
        )
    };
    let ca = authority.certificate();
    let mut bed = Bed::new(&policy(ca, "backend.example", ""), |_, _| answer(200, &[], "")).await;
    let at = secured(&issued).await;
    bed.map.backends.write().unwrap().values_mut().for_each(|to| *to = at);
    let told = bed.get("/", &[]).await;
    assert_eq!((told.status, told.body.as_str()), (200, "backend.example"), "{told:?}");
    // another name, another authority
    bed.publish(&policy(ca, "other.example", "")).await;
    assert_eq!(bed.get("/", &[]).await.status, 502);
    let other = Authority::new("other").unwrap();
    bed.publish(&policy(other.certificate(), "backend.example", "")).await;
    assert_eq!(bed.get("/", &[]).await.status, 502);
    // asked for under one name, known by another
    let names = "subjectAltNames = [{ type = \"Hostname\", hostname = \"backend.example\" }]";
    bed.publish(&policy(ca, "other.example", names)).await;
    let told = bed.get("/", &[]).await;
    assert_eq!((told.status, told.body.as_str()), (200, "other.example"), "{told:?}");
    bed.publish(&policy("nothing\n", "backend.example", "")).await;
    assert_eq!(bed.get("/", &[]).await.status, 500);
}
