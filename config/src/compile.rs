//! From the desired state to the tables that frames are judged by.
//!
//! A [`Compiler`] makes one [`Snapshot`] after another and remembers what it made them of: a Service
//! is compiled again only if something that it follows from was replaced. Objects are shared between
//! states, so that "replaced" means another [`Arc`]. What is left to do for every snapshot is to put
//! the parts together, which is copying.
//!
//! Numbers that outlive a snapshot (ports, routers, bridges, labels of frontends, counters of
//! backends) are given out by the compiler too, and stay with what they were given to.

mod addresses;
pub mod balancing;
mod categories;
mod changes;
mod fabric;
#[cfg(test)]
pub(crate) mod fixture;
mod forwarding;
mod host_ports;
mod ids;
mod loads;
mod merge;
mod names;
mod plan;
mod policy;
mod routes;
mod serve;
mod service;
mod services;
mod topology;

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

use ipnet::IpNet;
use kswitch_tables::{Generation, Limits, Prefix, RouterId, Snapshot};

pub use balancing::Balancing;
pub(crate) use changes::are_same;
pub use names::{FrontendName, Names};
pub use plan::{Plan, PlannedGateway, PlannedPort, PortKind};
pub use policy::{PolicyNames, PolicyObject};

use crate::dns::{ZoneMaker, Zones};
use crate::endpoints::{NodeIndex, Places, key};
use crate::network_balancer::NetworkBalancer;
use crate::settings::SwitchSettings;
use crate::{Cluster, Observed};
use fabric::Fabrics;
use forwarding::{Balanced, Forwarding};
use ids::Ids;
use serve::Serving;
use service::Part;
use services::{Labels, Services, State};

/// The hash map of everything here. Keys come from the configuration, so that the hash is fixed and
/// a compilation can be repeated.
pub(crate) type Map<K, V> = hashbrown::HashMap<K, V, ahash::RandomState>;

/// A state, compiled.
#[derive(Debug)]
pub struct Compiled {
    /// The tables.
    pub snapshot: Snapshot,
    /// What must be attached.
    pub plan: Arc<Plan>,
    /// What the numbers in the tables are called.
    pub names: Names,
    /// The health checks that nodes answer.
    pub health_checks: Vec<HealthCheck>,
    /// The network load balancers, with the health of their nodes.
    pub balancers: Vec<NetworkBalancer>,
    /// What is answered to who asks for a name.
    pub zones: Arc<Zones>,
}

/// A health check that every node answers for a Service.
///
/// Source: `ServiceSpec.healthCheckNodePort`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    /// Namespace of the Service.
    pub namespace: String,
    /// Name of the Service.
    pub service: String,
    /// The port of the nodes, host order.
    pub port: u16,
    /// Ready endpoints on each node that has any, by name of the node.
    pub ready: Vec<(String, usize)>,
}

/// Nodes by number.
#[derive(Debug, Default)]
pub(crate) struct Layout {
    /// The router of each node of the cluster, in order.
    routers: Vec<RouterId>,
    places: Places,
}

impl Layout {
    fn router(&self, node: NodeIndex) -> Option<RouterId> {
        self.routers.get(node as usize).copied()
    }
}

/// Makes snapshots of one lab.
#[derive(Debug)]
pub struct Compiler {
    seed: u64,
    node_ids: Ids<String>,
    layout: Arc<Layout>,
    fabrics: Fabrics,
    services: Services,
    policies: policy::Engine,
    forwarding: Forwarding,
    zones: ZoneMaker,
    serving: Serving,
    labels: Labels,
    previous: Option<(Arc<Cluster>, Observed)>,
}

impl Compiler {
    /// A compiler that has made nothing yet; tables hash by `seed`.
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            node_ids: Ids::default(),
            layout: Arc::default(),
            fabrics: Fabrics::default(),
            services: Services::default(),
            policies: policy::Engine::new(seed),
            forwarding: Forwarding::default(),
            zones: ZoneMaker::default(),
            serving: Serving::default(),
            labels: Labels::default(),
            previous: None,
        }
    }

    /// The tables of a state.
    ///
    /// **Cost**: proportional to what differs from the state before, plus a copy of the tables.
    pub fn compile(
        &mut self,
        cluster: &Arc<Cluster>,
        observed: &Observed,
        generation: Generation,
    ) -> Compiled {
        let previous = self.previous.take();
        let previous = previous.as_ref().map(|(cluster, observed)| (&**cluster, observed));
        self.lay_out(cluster, previous.map(|(cluster, _)| cluster));
        let layout = Arc::clone(&self.layout);

        let state = State { cluster, observed, layout: &layout, seed: self.seed };
        self.services.update(state, previous, &mut self.labels);
        let parts = Arc::clone(self.services.parts());
        let entries = fabric::entries(&parts, cluster, observed, &layout);
        let before = previous.map(|(cluster, _)| cluster);
        let fabric = self.fabrics.update(cluster, before, &layout, entries, observed, self.seed);

        let balanced =
            Balanced { cluster, observed, layout: &layout, parts: &parts, seed: self.seed };
        let (balancers, forwarding) = self.forwarding.make(balanced);
        let records = parts.iter().map(|part| Arc::clone(&part.records));
        let zones = self.zones.make(cluster, records, generation);
        let (policies, policy_names) = self.policies.update(cluster, before);

        let all = host_ports::all(cluster, &layout);
        let (served, host_ports) = self.serving.make(&parts, all, self.seed, &mut self.labels);
        let health_checks = health_checks(cluster, &parts);
        let names = Names {
            ports: Arc::clone(&fabric.ports),
            routers: Arc::clone(&fabric.routers),
            cluster: Arc::clone(cluster),
            parts,
            host_ports,
            policies: policy_names,
            by_label: OnceLock::new(),
        };

        let settings = &cluster.settings.cluster;
        let snapshot = Snapshot {
            generation,
            topology: Arc::clone(&fabric.topology),
            forwarding,
            served,
            lagging: Vec::new(),
            policies,
            inside: fabric.inside.clone(),
            unmasqueraded: fabric.unmasqueraded.clone(),
            masquerade_egress: settings.masquerade.egress,
            limits: limits(&cluster.settings.switch),
        };
        let plan = Arc::clone(&fabric.plan);
        self.previous = Some((Arc::clone(cluster), observed.clone()));
        Compiled { snapshot, plan, names, health_checks, balancers, zones }
    }

    /// Gives nodes their numbers, unless they have them already.
    fn lay_out(&mut self, cluster: &Cluster, previous: Option<&Cluster>) {
        let is_same = |before: &Cluster| changes::are_same(&before.nodes, &cluster.nodes);
        if previous.is_some_and(is_same) {
            return;
        }
        let ids = self.node_ids.assign(cluster.nodes.iter().map(|node| node.name.clone()));
        // the edge comes first; numbers beyond the last router are those of no router
        let router = |id: u32| RouterId(u16::try_from(id + 1).unwrap_or(u16::MAX));
        let routers = ids.into_iter().map(router).collect();
        self.layout = Arc::new(Layout { routers, places: Places::new(cluster) });
    }
}

fn health_checks(cluster: &Cluster, parts: &[Arc<Part>]) -> Vec<HealthCheck> {
    let name = |node: &NodeIndex| cluster.nodes.get(*node as usize).map(|n| n.name.clone());
    let checks = cluster.services.iter().zip(parts).filter_map(|(service, part)| {
        let health = part.health.as_ref()?;
        let (namespace, service) = key(service);
        let ready = health.ready.iter().filter_map(|(node, count)| Some((name(node)?, *count)));
        Some(HealthCheck {
            namespace: namespace.to_owned(),
            service: service.to_owned(),
            port: health.port,
            ready: ready.collect(),
        })
    });
    checks.collect()
}

/// The tables of a state on its own.
pub fn compile(
    cluster: &Cluster,
    observed: &Observed,
    generation: Generation,
    seed: u64,
) -> Compiled {
    Compiler::new(seed).compile(&Arc::new(cluster.clone()), observed, generation)
}

/// A prefix as tables have it.
fn prefix(net: IpNet) -> Prefix {
    Prefix::new(net.addr().into(), net.prefix_len())
}

/// A prefix as people write it, blanks around it or not; a single address is one too.
fn parse_net(text: &str) -> Option<Prefix> {
    let text = text.trim();
    let net = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
    net.ok().map(prefix)
}

/// What one port may take, as the settings have it.
fn limits(settings: &SwitchSettings) -> Limits {
    Limits {
        half_open: settings.half_open_flows(),
        neighbours: settings.limits.neighbours,
        stations: settings.limits.learned_addresses,
    }
}

#[cfg(test)]
mod tests {
    use super::fixture::{at, cluster, members, pod, service};
    use super::*;
    use serde_json::json;

    const GENERATION: Generation = Generation(1);

    fn spec(ip: &str, app: &str) -> serde_json::Value {
        json!({
            "clusterIP": ip,
            "selector": { "app": app },
            "ports": [{ "name": "web", "port": 80, "targetPort": "web" }],
        })
    }

    /// Two Services, each with a pod.
    fn two() -> Cluster {
        let mut cluster = cluster();
        cluster.pods = vec![pod("a", 0, &["10.4.0.5"], "a"), pod("b", 1, &["10.4.1.5"], "b")];
        cluster.services =
            vec![service("a", &spec("10.8.0.1", "a")), service("b", &spec("10.8.0.2", "b"))];
        cluster
    }

    fn set_at<'c>(compiled: &'c Compiled, to: &str) -> &'c Arc<kswitch_tables::BackendSet> {
        let set = at(compiled, to).sets.at(fixture::router(0)).unwrap();
        compiled.snapshot.served.backends.get(set).unwrap()
    }

    #[test]
    fn what_did_not_change_is_shared() {
        let mut compiler = Compiler::new(7);
        let first = Arc::new(two());
        let before = compiler.compile(&first, &Observed::default(), GENERATION);
        let mut second = (*first).clone();
        second.pods[0] = pod("a", 0, &["10.4.0.5"], "b");
        let after = compiler.compile(&second.into(), &Observed::default(), GENERATION);
        assert!(!at(&after, "10.8.0.1:80").has_backends);
        assert_eq!(
            members(&after, at(&after, "10.8.0.2:80"), 0),
            ["10.4.0.5:8080", "10.4.1.5:8080"]
        );
        assert!(Arc::ptr_eq(&before.plan, &after.plan));
        assert!(Arc::ptr_eq(&before.snapshot.topology, &after.snapshot.topology));
        assert!(!Arc::ptr_eq(&before.snapshot.served, &after.snapshot.served));
        let cluster = Arc::new(two());
        let before = compiler.compile(&cluster, &Observed::default(), GENERATION);
        let after = compiler.compile(&cluster, &Observed::default(), GENERATION);
        assert!(Arc::ptr_eq(&before.snapshot.served, &after.snapshot.served));

        let mut third = (*first).clone();
        third.services.insert(0, service("c", &spec("10.8.0.3", "c")));
        let again = compiler.compile(&third.into(), &Observed::default(), GENERATION);
        let last = compiler.compile(&first, &Observed::default(), GENERATION);
        assert!(Arc::ptr_eq(set_at(&again, "10.8.0.1:80"), set_at(&last, "10.8.0.1:80")));
    }

    #[test]
    fn readiness_that_is_seen_overrides_what_is_written() {
        let mut compiler = Compiler::new(7);
        let cluster = Arc::new(two());
        let ready = |is_ready| Observed {
            ready_pods: [(("default".to_owned(), "a".to_owned()), is_ready)].into(),
            ..Observed::default()
        };
        for is_ready in [true, false, true] {
            let compiled = compiler.compile(&cluster, &ready(is_ready), GENERATION);
            assert_eq!(at(&compiled, "10.8.0.1:80").has_backends, is_ready);
            assert!(at(&compiled, "10.8.0.2:80").has_backends);
        }
    }

    #[test]
    fn numbers_stay_with_what_they_were_given_to() {
        let mut compiler = Compiler::new(7);
        let first = Arc::new(two());
        let before = compiler.compile(&first, &Observed::default(), GENERATION);
        let mut second = (*first).clone();
        let mut specs = spec("10.8.0.2", "b");
        specs["ports"][0]["port"] = 8000.into();
        second.nodes.remove(0);
        second.pods = vec![pod("c", 0, &["10.4.1.9"], "b"), pod("b", 0, &["10.4.1.5"], "b")];
        second.services = vec![service("b", &specs)];
        let after = compiler.compile(&second.into(), &Observed::default(), GENERATION);
        let port = |compiled: &Compiled, name: &str| {
            compiled.plan.ports.iter().find(|port| port.kind.to_string() == name).unwrap().id
        };
        for name in ["default/b", "node/node-b", "ext/internet"] {
            assert_eq!(port(&before, name), port(&after, name), "{name}");
        }
        assert!(before.plan.ports.iter().all(|before| before.id != port(&after, "default/c")));
        assert_eq!(after.names.router(fixture::router(1)), Some("node-b"));
        assert_eq!(after.names.router(fixture::router(0)), None);
        let label = at(&after, "10.8.0.2:8000").label;
        assert_eq!(label, at(&before, "10.8.0.2:80").label);
        assert_eq!(after.names.frontend(label).unwrap().to_string(), "service default/b:web");
        assert_eq!(
            after.names.frontend(at(&before, "10.8.0.1:80").label).map(|n| n.to_string()),
            None
        );
    }
}
