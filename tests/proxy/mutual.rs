//! Certificates that clients have to show, and one that a Gateway shows to backends.

use std::sync::Arc;

use kswitch::agents::proxy::authority::{Authority, Issued, self_signed};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::server::WebPkiClientVerifier;

use crate::bed::{BASE, Bed, answer};
use crate::secure::{ask_as, secret, secured_by};

fn config_map(name: &str, ca: &str) -> String {
    format!(
        "\n[[config-map]]\nmetadata = {{ name = \"{name}\" }}\n[config-map.data]\n\"ca.crt\" = \
         '''\n{ca}'''\n"
    )
}

/// A Gateway in front of what the other tests have behind an Ingress.
fn gateway(spec: &str) -> String {
    format!(
        "{BASE}
[[gateway]]
metadata = {{ name = \"edge\" }}
[gateway.spec]
gatewayClassName = \"kswitch\"
addresses = [{{ value = \"203.0.113.9\" }}]
{spec}

[[http-route]]
metadata = {{ name = \"web\" }}
[http-route.spec]
parentRefs = [{{ name = \"edge\" }}]
rules = [{{ backendRefs = [{{ name = \"web\", port = 80 }}] }}]
"
    )
}

#[tokio::test]
async fn clients_show_a_certificate_where_that_is_asked() {
    let made = |name: &str| self_signed(&[name.to_owned()]).unwrap();
    let (own, mine, theirs) = (made("a.example"), made("client.example"), made("client.example"));
    let lab = |mode: &str| {
        let spec = format!(
            "listeners = [{{ name = \"s\", port = 8443, protocol = \"HTTPS\", tls = {{ \
             certificateRefs = [{{ name = \"own\" }}] }} }}]
[gateway.spec.tls.frontend.default.validation]
caCertificateRefs = [{{ kind = \"ConfigMap\", group = \"\", name = \"ca\" }}]
mode = \"{mode}\"
"
        );
        format!("{}{}{}", gateway(&spec), secret("own", &own), config_map("ca", &mine.certificate))
    };
    let mut bed = Bed::new(&lab("AllowValidOnly"), |_, _| answer(200, &[], "in")).await;
    let trusted = &own.certificate;
    let good = Ok((200, "in".to_owned()));
    let rows = [(Some(&mine), true), (Some(&theirs), false), (None, false)];
    for (client, is_let_in) in rows {
        let told = ask_as(&bed, (8_443, "a.example"), trusted, client).await;
        assert_eq!(told.is_ok(), is_let_in, "{told:?}");
    }
    bed.publish(&lab("AllowInsecureFallback")).await;
    for client in [Some(&mine), Some(&theirs), None] {
        assert_eq!(ask_as(&bed, (8_443, "a.example"), trusted, client).await, good);
    }
}

/// A backend that wants to see a certificate.
async fn careful(issued: &Issued, wanted: &Issued) -> std::net::SocketAddr {
    let mut roots = RootCertStore::empty();
    let wanted = wanted.certificate.as_bytes();
    roots.add(CertificateDer::from_pem_slice(wanted).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    secured_by(issued, verifier.build().unwrap()).await
}

#[tokio::test]
async fn backends_are_shown_the_certificate_of_the_gateway() {
    let authority = Authority::new("test").unwrap();
    let issued = authority.issue(&["backend.example".to_owned()]).unwrap();
    let shown = self_signed(&["gateway.example".to_owned()]).unwrap();
    let lab = |tls: &str| {
        let listener = "listeners = [{ name = \"p\", port = 8080, protocol = \"HTTP\" }]";
        format!(
            "{}{}{}
[[backend-tls-policy]]
metadata = {{ name = \"web\" }}
[backend-tls-policy.spec]
targetRefs = [{{ group = \"\", kind = \"Service\", name = \"web\" }}]
[backend-tls-policy.spec.validation]
hostname = \"backend.example\"
caCertificateRefs = [{{ group = \"\", kind = \"ConfigMap\", name = \"ca\" }}]
",
            gateway(&format!("{listener}\n{tls}")),
            secret("shown", &shown),
            config_map("ca", authority.certificate()),
        )
    };
    let with = lab("tls = { backend = { clientCertificateRef = { name = \"shown\" } } }");
    let mut bed = Bed::new(&lab(""), |_, _| answer(200, &[], "")).await;
    let at = careful(&issued, &shown).await;
    bed.map.backends.write().unwrap().values_mut().for_each(|to| *to = at);
    assert_eq!(bed.get_at(8_080, "/").await.status, 502);
    bed.publish(&with).await;
    let told = bed.get_at(8_080, "/").await;
    assert_eq!((told.status, told.body.as_str()), (200, "backend.example"), "{told:?}");
    // one that cannot be had is not shown, and the rest goes on as it can
    bed.publish(&with.replace("name = \"shown\" } } }", "name = \"none\" } } }")).await;
    assert_eq!(bed.get("/", &[]).await.status, 502);
}

#[tokio::test]
async fn what_was_in_tls_goes_on_in_other_tls_where_a_policy_says_so() {
    let authority = Authority::new("test").unwrap();
    let issued = authority.issue(&["backend.example".to_owned()]).unwrap();
    let own = self_signed(&["a.example".to_owned()]).unwrap();
    let lab = |hostname: &str| {
        let listener = "listeners = [{ name = \"t\", port = 8443, protocol = \"TLS\", tls = { mode = \
                        \"Terminate\", certificateRefs = [{ name = \"own\" }] } }]";
        format!(
            "{}{}{}
[[tls-route]]
metadata = {{ name = \"web\" }}
[tls-route.spec]
parentRefs = [{{ name = \"edge\" }}]
hostnames = [\"a.example\"]
rules = [{{ backendRefs = [{{ name = \"web\", port = 80 }}] }}]
[[backend-tls-policy]]
metadata = {{ name = \"web\" }}
[backend-tls-policy.spec]
targetRefs = [{{ group = \"\", kind = \"Service\", name = \"web\" }}]
[backend-tls-policy.spec.validation]
hostname = \"{hostname}\"
caCertificateRefs = [{{ group = \"\", kind = \"ConfigMap\", name = \"ca\" }}]
",
            gateway(listener),
            secret("own", &own),
            config_map("ca", authority.certificate()),
        )
    };
    let mut bed = Bed::new(&lab("backend.example"), |_, _| answer(200, &[], "")).await;
    let at = secured_by(&issued, rustls::server::WebPkiClientVerifier::no_client_auth()).await;
    bed.map.backends.write().unwrap().values_mut().for_each(|to| *to = at);
    let told = ask_as(&bed, (8_443, "a.example"), &own.certificate, None).await;
    assert_eq!(told, Ok((200, "backend.example".to_owned())));
    // and to nobody else
    bed.publish(&lab("other.example")).await;
    assert!(ask_as(&bed, (8_443, "a.example"), &own.certificate, None).await.is_err());
}
