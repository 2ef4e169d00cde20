//! Judging load balancers: who answers a request, and what of it arrives where.

mod backend;
mod client;
mod edge;
mod shares;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use kswitch_config::matches;
use serde_json::Value;

use super::findings::Findings;
use super::format::l7::{Asked, AtBackend, Exchange, Expect, Redirect, RedirectPort, Step, Via};
use super::format::{Change, File, HostRef, PodName};
use super::topology::{self, Broken, Lab};
use client::{Answer, Speaking};
pub use edge::{Edge, Loopback};

/// How long copies of a request may take to arrive.
const MIRROR_PATIENCE: Duration = Duration::from_secs(5);

/// How often it is looked for them.
const MIRROR_POLL: Duration = Duration::from_millis(5);

/// The label by which an EndpointSlice says whose it is.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

impl topology::Step for Step {
    fn changes(&self) -> &[Change] {
        &self.changes
    }

    fn hosts(&self) -> Vec<&HostRef> {
        Vec::new()
    }
}

/// Carries a case out and judges it.
///
/// # Errors
/// It cannot be carried out.
pub fn judge(
    case: &File<Step>,
    lab: &mut Lab,
    edge: &mut impl Edge,
    findings: &mut Findings,
) -> Result<(), Broken> {
    for step in &case.steps {
        findings.step(&step.name);
        lab.step(&step.changes, |lab| edge.change(lab))?;
        let mut judge = Judge { lab, edge, findings };
        for exchange in &step.requests {
            judge.exchange(exchange)?;
        }
        for distribution in &step.distributions {
            judge.distribution(distribution)?;
        }
    }
    Ok(())
}

struct Judge<'j, E> {
    lab: &'j Lab,
    edge: &'j mut E,
    findings: &'j mut Findings,
}

impl<E: Edge> Judge<'_, E> {
    fn exchange(&mut self, exchange: &Exchange) -> Result<(), Broken> {
        let Exchange { via, request, expect, expected_from: _ } = exchange;
        self.findings.item(called(via, request));
        self.edge.forget();
        let answer = match self.ask(via, request)? {
            Ok(answer) => answer,
            Err(error) => {
                self.findings.differs(format!("{expect:?}"), error.to_string(), Vec::new());
                return Ok(());
            }
        };
        self.judge(via, expect, &answer);
        Ok(())
    }

    /// Sends a request.
    fn ask(&self, via: &Via, request: &Asked) -> Result<io::Result<Answer>, Broken> {
        let to = self.place(via)?;
        let address = match to.port() {
            80 | 443 => to.ip().to_string(),
            port => format!("{}:{port}", to.ip()),
        };
        let is_tls = via.scheme.as_deref() == Some("https");
        let how = Speaking { address, is_tls, sni: via.sni.as_deref() };
        let connected = self.edge.connect(to);
        let sent = connected.and_then(|stream| {
            self.edge.block_on(async {
                stream.set_nonblocking(true)?;
                let stream = tokio::net::TcpStream::from_std(stream)?;
                client::request(stream, &how, request).await
            })
        });
        Ok(sent)
    }

    /// Where a load balancer is.
    fn place(&self, via: &Via) -> Result<SocketAddr, Broken> {
        let cluster = self.lab.cluster();
        let gateway = via.gateway.as_ref().map(|wanted| {
            let found = cluster.gateway_api.gateways.iter().find(|at| {
                at.metadata.name.as_ref() == Some(&wanted.name)
                    && at.metadata.namespace.as_ref() == Some(&wanted.namespace)
            });
            let status = found.and_then(|at| at.status.as_ref());
            let address = status.and_then(|status| status.addresses.first());
            let address = address.and_then(|at| at.value.parse::<IpAddr>().ok());
            address.ok_or_else(|| Broken(format!("the Gateway {wanted} has no address")))
        });
        let address = match (gateway, via.ingress) {
            (Some(address), _) => address?,
            (None, Some(address)) => address,
            (None, None) => return Err(Broken("`via` names no load balancer".to_owned())),
        };
        Ok(SocketAddr::new(address, via.port.unwrap_or(80)))
    }

    fn judge(&mut self, via: &Via, expect: &Expect, answer: &Answer) {
        let mut wrong = Vec::new();
        let Expect { status, backend, at_backend, response, redirect, mirrored_to, .. } = expect;
        if let Some(status) = status
            && !status.all().contains(&answer.status)
        {
            wrong.push((format!("status {:?}", status.all()), answer.status.to_string()));
        }
        let told = answer.told.as_ref();
        if let Some(backend) = backend {
            let pods = self.pods_of(backend);
            let served = told.and_then(pod_of);
            if served.as_ref().is_none_or(|pod| !pods.contains(pod)) {
                let got = served.map_or_else(|| "nobody".to_owned(), |pod| pod.to_string());
                wrong.push((format!("served by {backend}"), format!("served by {got}")));
            }
        }
        at_backend_wrong(at_backend, told, &mut wrong);
        fields_wrong(&response.headers, &response.absent_headers, &answer.headers, &mut wrong);
        for (name, any) in &response.headers_any {
            let have = answer.headers.get(&name.to_ascii_lowercase());
            if have.is_none_or(|have| !any.contains(have)) {
                wrong.push((format!("{name}: any of {any:?}"), format!("{have:?}")));
            }
        }
        if let Some(redirect) = redirect {
            let scheme = via.scheme.as_deref().unwrap_or("http");
            redirect_wrong(redirect, scheme, answer, &mut wrong);
        }
        if let Some(name) = &expect.certificate_for
            && !answer.certificate.as_ref().is_some_and(|shown| carries(shown, name))
        {
            wrong.push((format!("a certificate for {name}"), "another one".to_owned()));
        }
        let is_kept = self.edge.arrived().is_some();
        for service in mirrored_to.iter().filter(|_| is_kept) {
            if !self.is_mirrored(service, at_backend) {
                let got = format!("{:?}", self.edge.arrived());
                wrong.push((format!("a copy at {service}"), got));
            }
        }
        for (expected, got) in wrong {
            self.findings.differs(expected, got, Vec::new());
        }
    }

    /// Whether a copy arrives at a pod of a Service.
    fn is_mirrored(&self, service: &PodName, at_backend: &AtBackend) -> bool {
        let pods = self.pods_of(service);
        let end = Instant::now() + MIRROR_PATIENCE;
        loop {
            let arrived = self.edge.arrived().unwrap_or_default();
            let is_copy = |told: &&Value| {
                let mut wrong = Vec::new();
                at_backend_wrong(at_backend, Some(told), &mut wrong);
                wrong.is_empty() && pod_of(told).is_some_and(|pod| pods.contains(&pod))
            };
            if arrived.iter().any(|told| is_copy(&told)) {
                return true;
            }
            if Instant::now() >= end {
                return false;
            }
            std::thread::sleep(MIRROR_POLL);
        }
    }

    /// The pods of a Service: those that slices name by address, and those that it selects.
    fn pods_of(&self, service: &PodName) -> BTreeSet<PodName> {
        let cluster = self.lab.cluster();
        let of_service = |at: &k8s_openapi::api::discovery::v1::EndpointSlice| {
            let labels = at.metadata.labels.as_ref();
            at.metadata.namespace.as_ref() == Some(&service.namespace)
                && labels.and_then(|labels| labels.get(SERVICE_NAME)) == Some(&service.name)
        };
        let slices = cluster.endpoint_slices.iter().filter(|slice| of_service(slice));
        let endpoints = slices.flat_map(|slice| slice.endpoints.iter().flatten());
        let addresses: Vec<IpAddr> = endpoints
            .flat_map(|endpoint| &endpoint.addresses)
            .filter_map(|address| address.parse().ok())
            .collect();
        let spec = cluster.service(&service.namespace, &service.name);
        let selector = spec.and_then(|at| at.spec.as_ref()?.selector.clone());
        let selector = selector.filter(|labels| !labels.is_empty()).map(|labels| {
            k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector {
                match_labels: Some(labels),
                match_expressions: None,
            }
        });
        let is_one = |name: &PodName, pod: &super::format::Pod| {
            pod.ips.iter().any(|ip| addresses.contains(ip))
                || (name.namespace == service.namespace
                    && selector.as_ref().is_some_and(|selector| matches(selector, &pod.labels)))
        };
        let pods = self.lab.pods().filter(|(name, pod)| is_one(name, pod));
        pods.map(|(name, _)| name.clone()).collect()
    }
}

/// What a request is called in reports.
fn called(via: &Via, request: &Asked) -> String {
    let host = request.host.as_deref().unwrap_or("");
    let method = request.method.as_deref().unwrap_or("GET");
    let to = via.gateway.as_ref().map(ToString::to_string);
    let to = to.or_else(|| via.ingress.map(|at| at.to_string())).unwrap_or_default();
    let mut text = format!("{method} {host}{} at {to}", request.path);
    if let Some(sni) = &via.sni {
        text.push_str(&format!(" as {sni}"));
    }
    for (name, value) in &request.headers {
        text.push_str(&format!(" {name}: {value}"));
    }
    text
}

/// The pod that told something.
fn pod_of(told: &Value) -> Option<PodName> {
    let text = |key: &str| Some(told[key].as_str()?.to_owned());
    Some(PodName { namespace: text("namespace")?, name: text("pod")? })
}

type Wrong = Vec<(String, String)>;

fn at_backend_wrong(expect: &AtBackend, told: Option<&Value>, wrong: &mut Wrong) {
    let AtBackend { path, host, headers, absent_headers } = expect;
    let text = |key: &str| told.and_then(|told| told[key].as_str()).unwrap_or("nothing").to_owned();
    for (key, expected) in [("path", path), ("host", host)] {
        if let Some(expected) = expected
            && text(key) != *expected
        {
            wrong.push((format!("{key} {expected} at the backend"), text(key)));
        }
    }
    if headers.is_empty() && absent_headers.is_empty() {
        return;
    }
    let have = told.and_then(|told| told["headers"].as_object());
    let have = have.into_iter().flatten();
    let have = have.map(|(name, value)| (name.clone(), value.as_str().unwrap_or("").to_owned()));
    fields_wrong(headers, absent_headers, &have.collect(), wrong);
}

fn fields_wrong(
    expected: &BTreeMap<String, String>,
    absent: &[String],
    have: &BTreeMap<String, String>,
    wrong: &mut Wrong,
) {
    for (name, value) in expected {
        let got = have.get(&name.to_ascii_lowercase());
        // blanks after a comma say nothing
        let same = |got: &String| got.replace(", ", ",") == value.replace(", ", ",");
        if !got.is_some_and(same) {
            wrong.push((format!("{name}: {value}"), format!("{got:?}")));
        }
    }
    for name in absent {
        if let Some(got) = have.get(&name.to_ascii_lowercase()) {
            wrong.push((format!("no {name}"), got.clone()));
        }
    }
}

fn redirect_wrong(expect: &Redirect, scheme: &str, answer: &Answer, wrong: &mut Wrong) {
    let Redirect { scheme: wanted, host, port, path } = expect;
    let location = answer.headers.get("location").cloned().unwrap_or_default();
    let (got_scheme, rest) = location.split_once("://").unwrap_or((scheme, &location));
    let (authority, got_path) = match rest.find('/') {
        Some(at) => rest.split_at(at),
        None => (rest, "/"),
    };
    let (got_host, got_port) = match authority.rsplit_once(':') {
        Some((host, port)) => (host, port.parse::<u16>().ok()),
        None => (authority, None),
    };
    let usual = if got_scheme == "https" { 443 } else { 80 };
    let is_wrong = wanted.as_ref().is_some_and(|wanted| wanted != got_scheme)
        || host.as_ref().is_some_and(|host| host != got_host)
        || match port {
            RedirectPort::Any => false,
            RedirectPort::Usual => got_port.is_some_and(|got| got != usual),
            RedirectPort::Named(port) => got_port.unwrap_or(usual) != *port,
        }
        || path.as_ref().is_some_and(|path| path != got_path);
    if is_wrong {
        wrong.push((format!("{expect:?}"), format!("Location: {location}")));
    }
}

/// Whether a certificate carries a name, as it stands or by a wildcard.
fn carries(certificate: &rustls::pki_types::CertificateDer<'_>, name: &str) -> bool {
    let Ok(parsed) = webpki::EndEntityCert::try_from(certificate) else { return false };
    parsed.valid_dns_names().any(|have| {
        have == name
            || have
                .strip_prefix("*.")
                .is_some_and(|end| name.split_once('.').is_some_and(|(_, rest)| rest == end))
    })
}
