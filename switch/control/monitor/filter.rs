//! Which events a client wants.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use super::EventRecord;

/// What an event must have to be told; what is `None` does not matter.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Filter {
    /// A pod, node or external host at one end: `[namespace/]name`, `node/NAME`, `ext/NAME`.
    pub machine: Option<String>,
    /// A namespace at one end, or of the Service.
    pub namespace: Option<String>,
    /// The Service: `[namespace/]name`.
    pub service: Option<String>,
    /// A policy that has a part in it: `[namespace/]name`.
    pub policy: Option<String>,
    /// `forward`, `drop` or `audit`.
    pub verdict: Option<String>,
    /// `new`, `closed`, `refused` or `audited`.
    pub event: Option<String>,
    /// Why it went no further.
    pub reason: Option<String>,
    /// `tcp`, `udp`, `sctp`, `icmp` or `icmpv6`.
    pub protocol: Option<String>,
    /// A port at one end, before or after rewriting, host order.
    pub port: Option<u16>,
    /// An address at one end, before or after rewriting.
    pub address: Option<IpAddr>,
    /// One flow in so many; 0 and 1 for all.
    pub sample: u64,
}

impl Filter {
    /// Whether it takes a record; `hash` is the same for all events of a flow.
    pub(super) fn takes(&self, record: &EventRecord, hash: u64) -> bool {
        let Self {
            machine,
            namespace,
            service,
            policy,
            verdict,
            event,
            reason,
            protocol,
            port,
            address,
            sample,
        } = self;
        if *sample > 1 && !hash.is_multiple_of(*sample) {
            return false;
        }
        let machines = [&record.source_name, &record.target_name, &record.endpoint_name];
        let machines = || machines.into_iter().flatten();
        let ends =
            [&record.source, &record.target, &record.rewritten_source, &record.rewritten_target];
        let ends = || ends.into_iter().flatten().filter_map(|end| end.parse::<SocketAddr>().ok());
        let named = |wanted: &Option<String>, found: &Option<String>| {
            wanted.as_ref().is_none_or(|wanted| {
                found.as_ref().is_some_and(|found| wanted.eq_ignore_ascii_case(found))
            })
        };
        let mut namespaces = machines().chain(&record.service).filter_map(|name| {
            let (namespace, _) = name.split_once('/')?;
            Some(namespace)
        });
        machine.as_ref().is_none_or(|wanted| machines().any(|name| is_called(name, wanted)))
            && namespace.as_ref().is_none_or(|wanted| namespaces.any(|found| found == wanted))
            && service.as_ref().is_none_or(|wanted| {
                record.service.as_ref().is_some_and(|name| is_called(name, wanted))
            })
            && policy
                .as_ref()
                .is_none_or(|wanted| record.policies.iter().any(|name| is_called(name, wanted)))
            && named(verdict, &Some(record.verdict.clone()))
            && named(event, &Some(record.event.clone()))
            && named(reason, &record.reason)
            && named(protocol, &record.protocol)
            && port.is_none_or(|wanted| ends().any(|end| end.port() == wanted))
            && address.is_none_or(|wanted| ends().any(|end| end.ip() == wanted))
    }
}

/// Whether something is called so, its namespace left out or not.
fn is_called(name: &str, wanted: &str) -> bool {
    name == wanted
        || name
            .split_once('/')
            .is_some_and(|(namespace, bare)| bare == wanted && !matches!(namespace, "node" | "ext"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> EventRecord {
        EventRecord {
            event: "refused".into(),
            verdict: "drop".into(),
            reason: Some("policy_ingress".into()),
            policies: vec!["shop/db-ingress".into()],
            protocol: Some("TCP".into()),
            source: Some("10.4.0.3:40000".into()),
            source_name: Some("default/client".into()),
            target: Some("[fd00:8::80]:80".into()),
            service: Some("shop/db".into()),
            rewritten_target: Some("10.4.1.2:5432".into()),
            endpoint_name: Some("node/node-b".into()),
            ..EventRecord::default()
        }
    }

    #[test]
    fn each_condition_counts() {
        let text = |text: &str| Some(text.to_owned());
        let filter = Filter::default;
        for (takes, wants) in [
            (true, filter()),
            (true, Filter { machine: text("client"), ..filter() }),
            (true, Filter { machine: text("default/client"), ..filter() }),
            (true, Filter { machine: text("node/node-b"), ..filter() }),
            (false, Filter { machine: text("node-b"), ..filter() }),
            (false, Filter { machine: text("shop/client"), ..filter() }),
            (true, Filter { namespace: text("shop"), ..filter() }),
            (false, Filter { namespace: text("kube-system"), ..filter() }),
            (true, Filter { service: text("db"), ..filter() }),
            (true, Filter { policy: text("db-ingress"), ..filter() }),
            (true, Filter { verdict: text("DROP"), ..filter() }),
            (false, Filter { event: text("new"), ..filter() }),
            (true, Filter { reason: text("policy_ingress"), ..filter() }),
            (true, Filter { protocol: text("tcp"), ..filter() }),
            (false, Filter { protocol: text("udp"), ..filter() }),
            (true, Filter { port: Some(5432), ..filter() }),
            (false, Filter { port: Some(5433), ..filter() }),
            (true, Filter { address: "fd00:8::80".parse().ok(), ..filter() }),
            (false, Filter { address: "10.4.0.4".parse().ok(), ..filter() }),
            (false, Filter { machine: text("client"), port: Some(1), ..filter() }),
        ] {
            assert_eq!(wants.takes(&record(), 7), takes, "{wants:?}");
        }
        let sampled = Filter { sample: 4, ..filter() };
        assert_eq!((0..100).filter(|hash| sampled.takes(&record(), *hash)).count(), 25);
    }
}
