//! Judging who answers how many.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::time::Instant;

use super::super::format::l7::{Asked, Distribution, Shares};
use super::super::format::{PodName, Transport};
use super::super::topology::Broken;
use super::{Edge, Judge, MIRROR_PATIENCE, MIRROR_POLL, at_backend_wrong, client, pod_of};

/// How often a distribution is tried until it is as it must be.
///
/// Source: the case format.
const TRIES: usize = 10;

/// What came of many requests.
#[derive(Debug, Default)]
struct Counted {
    by_pod: BTreeMap<PodName, u32>,
    by_status: BTreeMap<u16, u32>,
    failures: Vec<String>,
    wrong: Vec<(String, String)>,
}

impl<E: Edge> Judge<'_, E> {
    pub(super) fn distribution(&mut self, distribution: &Distribution) -> Result<(), Broken> {
        let Distribution { via, expect, count, .. } = distribution;
        let port = via.port.unwrap_or(80);
        self.findings.item(format!("{count} at port {port}"));
        let mut last = Vec::new();
        for _ in 0..TRIES {
            self.edge.forget();
            let counted = self.count(distribution)?;
            last = self.wrong(expect, *count, counted);
            last.extend(self.copies_wrong(expect, *count));
            // what went wrong but for chance goes wrong again
            if last.is_empty() {
                return Ok(());
            }
        }
        for (expected, got) in last {
            self.findings.differs(expected, got, Vec::new());
        }
        Ok(())
    }

    fn count(&self, distribution: &Distribution) -> Result<Counted, Broken> {
        let Distribution { via, request, protocol, count, expect, .. } = distribution;
        // who is connected to is asked over HTTP
        let plain = Asked {
            method: None,
            path: "/".to_owned(),
            host: None,
            headers: BTreeMap::new(),
            backend_sets: BTreeMap::new(),
        };
        let mut counted = Counted::default();
        for _ in 0..*count {
            let told = if request.is_none() && *protocol == Some(Transport::Udp) {
                let to = self.place(via)?;
                let socket = self.edge.associate(to);
                let answered = socket.and_then(|socket| {
                    self.edge.block_on(async {
                        socket.set_nonblocking(true)?;
                        client::datagram(tokio::net::UdpSocket::from_std(socket)?).await
                    })
                });
                note(answered, &mut counted)
            } else {
                let answered = self.ask(via, request.as_ref().unwrap_or(&plain))?;
                let answered = answered.map(|answer| {
                    *counted.by_status.entry(answer.status).or_default() += 1;
                    answer.told
                });
                note(answered, &mut counted)
            };
            let Some(told) = told else { continue };
            let Some(pod) = pod_of(&told) else { continue };
            for (service, at_backend) in &expect.at_backend_per_share {
                if self.pods_of(service).contains(&pod) {
                    at_backend_wrong(at_backend, Some(&told), &mut counted.wrong);
                }
            }
            *counted.by_pod.entry(pod).or_default() += 1;
        }
        Ok(counted)
    }

    /// What is wrong with the number of copies, once no more can be under way.
    fn copies_wrong(&self, expect: &Shares, count: u32) -> Vec<(String, String)> {
        let share = |service: &PodName| -> Option<f64> {
            let pods = self.pods_of(service);
            let arrived = self.edge.arrived()?;
            let copies =
                arrived.iter().filter(|told| pod_of(told).is_some_and(|at| pods.contains(&at)));
            let copies = u32::try_from(copies.count()).unwrap_or(u32::MAX);
            Some(f64::from(copies) / f64::from(count))
        };
        let is_off = |got: f64, wanted: f64| {
            let is_never = wanted == 0.0;
            (is_never && got > 0.0) || (got - wanted).abs() > expect.tolerance + 1e-9
        };
        let end = Instant::now() + MIRROR_PATIENCE;
        let mut wrong = Vec::new();
        for (service, wanted) in &expect.mirrored {
            let Some(mut got) = share(service) else { continue };
            while is_off(got, *wanted) && got < *wanted && Instant::now() < end {
                std::thread::sleep(MIRROR_POLL);
                got = share(service).unwrap_or(got);
            }
            if is_off(got, *wanted) {
                wrong
                    .push((format!("copies of a share of {wanted} at {service}"), got.to_string()));
            }
        }
        wrong
    }

    fn wrong(&self, expect: &Shares, count: u32, counted: Counted) -> Vec<(String, String)> {
        let Counted { by_pod, by_status, failures, mut wrong } = counted;
        let all = f64::from(count);
        let mut known = BTreeSet::new();
        for (service, share) in &expect.shares {
            let pods = self.pods_of(service);
            let served: u32 =
                by_pod.iter().filter(|(pod, _)| pods.contains(*pod)).map(|(_, count)| *count).sum();
            known.extend(pods);
            let got = f64::from(served) / all;
            let is_never = *share == 0.0;
            if (is_never && served > 0) || (got - share).abs() > expect.tolerance + 1e-9 {
                wrong.push((format!("a share of {share} at {service}"), format!("{got}")));
            }
        }
        if let Some(stranger) = by_pod.keys().find(|pod| !known.contains(*pod)) {
            wrong.push(("no other backend".to_owned(), format!("served by {stranger}")));
        }
        if let Some(errors) = expect.errors {
            let got = f64::from(by_status.get(&errors.status).copied().unwrap_or(0)) / all;
            if (got - errors.share).abs() > expect.tolerance + 1e-9 {
                let expected = format!("a share of {} of status {}", errors.share, errors.status);
                wrong.push((expected, format!("{got}")));
            }
        }
        if let Some(least) = expect.pods_min
            && by_pod.len() < least
        {
            wrong.push((format!("at least {least} pods"), format!("{}", by_pod.len())));
        }
        if let Some(failure) = failures.first() {
            wrong.push(("an answer each time".to_owned(), failure.clone()));
        }
        wrong
    }
}

/// What was told; what failed is noted.
fn note(
    answered: io::Result<Option<serde_json::Value>>,
    counted: &mut Counted,
) -> Option<serde_json::Value> {
    match answered {
        Ok(told) => told,
        Err(error) => {
            counted.failures.push(error.to_string());
            None
        }
    }
}
