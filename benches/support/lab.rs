//! A cluster to be measured: clients on one node, backends on two, any number of Services and
//! policies; its tables, and frames of its flows.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kswitch::control::switch::shared;
use kswitch::dataplane::burst::{BURST, Burst};
use kswitch::dataplane::pipeline::Output;
use kswitch::dataplane::{Counters, Pipeline, Shared};
use kswitch::port::VNET_HEADER;
use kswitch::sim::World;
use kswitch::sim::craft::Craft;
use kswitch_config::{Cluster, Draft, Observed, PortKind};
use kswitch_tables::{Endpoint, PortId, Snapshot, Tick};
use serde_json::json;

/// Pods that send.
pub(crate) const CLIENTS: usize = 64;

/// Pods that are sent to, half of them on the clients' node.
const BACKENDS: usize = 8;

/// Source ports of each client begin here.
const FIRST_PORT: usize = 1024;

/// Namespaces over which policies are spread, beside the one that is measured.
const NAMESPACES: usize = 500;

/// Policies that select the backends, of however many there are.
const SELECTING: usize = 5;

/// What a client's frames are sent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// A pod on the same bridge.
    SameNode,
    /// A pod on another node, by two routers.
    AcrossNodes,
    /// A Service: translated to one of the pods behind it.
    ClusterIp,
}

impl Fate {
    /// All.
    pub(crate) const ALL: [Self; 3] = [Self::SameNode, Self::AcrossNodes, Self::ClusterIp];

    /// How benches call it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::SameNode => "same-node",
            Self::AcrossNodes => "across-nodes",
            Self::ClusterIp => "cluster-ip",
        }
    }
}

/// The tables of a cluster, shared state of its own, and one frame of every client.
pub(crate) struct Lab {
    /// The tables.
    pub(crate) snapshot: Arc<Snapshot>,
    /// What workers share.
    pub(crate) shared: Arc<Shared>,
    world: World,
    services: usize,
}

fn service_address(number: usize) -> Ipv4Addr {
    let offset = u32::try_from(number).unwrap() + 10;
    Ipv4Addr::from_bits(Ipv4Addr::new(10, 96, 0, 0).to_bits() + offset)
}

fn service(number: usize) -> Arc<Service> {
    let object = json!({
        "metadata": { "name": format!("s{number}"), "namespace": "default" },
        "spec": {
            "clusterIP": service_address(number).to_string(),
            "clusterIPs": [service_address(number).to_string()],
            "ipFamilies": ["IPv4"],
            "selector": { "app": "web" },
            "ports": [{ "port": 80, "targetPort": 8080, "protocol": "UDP" }],
        },
    });
    Arc::new(serde_json::from_value(object).unwrap())
}

/// The first few are about the backends and allow the clients; the others are about pods elsewhere.
fn policy(number: usize) -> Arc<NetworkPolicy> {
    let is_ours = number < SELECTING;
    let namespace =
        if is_ours { "default".to_owned() } else { format!("ns-{}", number % NAMESPACES) };
    let app = |name: String| json!({ "matchLabels": { "app": name } });
    let selector = if is_ours { app("web".into()) } else { app(format!("app-{}", number % 10)) };
    let from = if is_ours { app("client".into()) } else { app(format!("app-{}", number % 7)) };
    let object = json!({
        "metadata": { "name": format!("np-{number}"), "namespace": namespace },
        "spec": {
            "podSelector": selector,
            "ingress": [
                { "from": [{ "podSelector": from }], "ports": [{ "port": 8080, "protocol": "UDP" }] },
                { "from": [{ "ipBlock": { "cidr": "192.0.2.0/24", "except": ["192.0.2.64/26"] } }] },
            ],
        },
    });
    Arc::new(serde_json::from_value(object).unwrap())
}

/// A cluster of so many Services, with eight backends each, and policies.
pub(crate) fn cluster(services: usize, policies: usize) -> Cluster {
    let mut text = String::from(
        "[lab]\nname = \"bench\"\n[cluster]\nservice-cidrs = [\"10.96.0.0/12\"]\n\
         [[node]]\nname = \"a\"\n[[node]]\nname = \"b\"\n",
    );
    let mut pod = |name: &str, app: &str, node: &str| {
        text.push_str(&format!(
            "[[pod]]\nmetadata = {{ name = \"{name}\", labels = {{ app = \"{app}\" }} }}\n\
             spec.nodeName = \"{node}\"\n"
        ));
    };
    for number in 0..CLIENTS {
        pod(&format!("client-{number}"), "client", "a");
    }
    for number in 0..BACKENDS {
        pod(&format!("web-{number}"), "web", if number % 2 == 0 { "a" } else { "b" });
    }
    let draft = Draft::read_text("bench.toml", &text, Path::new("."));
    let mut cluster = draft.validate(None).expect("the lab is valid");
    cluster.services.extend((0..services).map(service));
    for number in 0..NAMESPACES {
        cluster.namespaces.insert(format!("ns-{number}"), BTreeMap::new());
    }
    cluster.network_policies.extend((0..policies).map(policy));
    cluster
}

fn pod(name: String) -> PortKind {
    PortKind::Pod { namespace: "default".into(), name }
}

impl Lab {
    /// A cluster of so many Services and policies, with room for so many connections.
    pub(crate) fn new(services: usize, policies: usize, connections: usize) -> Self {
        let world = World::new(Arc::new(cluster(services, policies)), Observed::default(), 1);
        Self {
            snapshot: Arc::clone(world.snapshot()),
            shared: shared(connections, 1),
            world,
            services,
        }
    }

    fn address(&self, name: &str) -> IpAddr {
        let port = self.world.port(&pod(name.to_owned())).expect("the pod has a port");
        port.addresses.first().expect("and an address").addr()
    }

    /// A worker's judgement over the lab's tables.
    pub(crate) fn pipeline(&self) -> Pipeline {
        Pipeline::new(Arc::clone(&self.shared), Arc::new(Counters::new(256)), 7)
    }

    /// Frames of every client to targets of this fate.
    pub(crate) fn sender(&self, fate: Fate) -> Sender {
        let clients = (0..CLIENTS).map(|number| {
            let kind = pod(format!("client-{number}"));
            let source = Endpoint::new(self.address(&format!("client-{number}")).into(), 0);
            let target: IpAddr = match fate {
                Fate::SameNode => self.address(&format!("web-{}", (number % BACKENDS) & !1)),
                Fate::AcrossNodes => self.address(&format!("web-{}", (number % BACKENDS) | 1)),
                // spread over all of them
                Fate::ClusterIp => service_address(number * self.services / CLIENTS).into(),
            };
            let port = if fate == Fate::ClusterIp { 80 } else { 8080 };
            let craft = Craft::udp(source, Endpoint::new(target.into(), port), &[0x5a; 18]);
            let frame = self.world.frame(&kind, &craft).expect("the client has a link");
            (self.world.port(&kind).expect("the client has a port").id, frame)
        });
        Sender { clients: clients.collect(), burst: Burst::default() }
    }
}

/// Sends bursts of 60-octet frames, as a queue of each client would bring them.
pub(crate) struct Sender {
    clients: Vec<(PortId, Vec<u8>)>,
    burst: Burst,
}

/// Where frames end: nothing is measured but the switch.
#[derive(Debug, Default)]
pub(crate) struct Nowhere(pub(crate) u64);

impl Output for Nowhere {
    #[inline]
    fn send(&mut self, port: PortId, _: &[u8]) {
        self.0 += u64::from(port.0);
    }
}

impl Sender {
    /// Carries one burst of frames of one client; flow by flow as `flow` numbers them. A client has
    /// a flow for every port above the first 1024.
    #[inline]
    pub(crate) fn carry(
        &mut self,
        lab: &Lab,
        pipeline: &mut Pipeline,
        client: usize,
        mut flow: impl FnMut() -> usize,
        out: &mut Nowhere,
    ) {
        self.fill(client, &mut flow);
        self.prepare(lab);
        self.judge(lab, pipeline, client, out);
    }

    /// Copies a burst of frames into the buffers.
    #[inline]
    pub(crate) fn fill(&mut self, client: usize, mut flow: impl FnMut() -> usize) {
        let (_, template) = &self.clients[client % CLIENTS];
        let mut left = BURST;
        self.burst.fill(BURST, |room| {
            left = left.checked_sub(1)?;
            let frame = &mut room[..template.len()];
            frame.copy_from_slice(template);
            let port = u16::try_from(FIRST_PORT + flow()).unwrap();
            // the source port, behind virtio, Ethernet and IPv4 header
            frame[VNET_HEADER + 34..][..2].copy_from_slice(&port.to_be_bytes());
            Some(template.len())
        });
    }

    /// Parses and hashes the burst, and looks at its places in conntrack.
    #[inline]
    pub(crate) fn prepare(&mut self, lab: &Lab) {
        self.burst.prepare(&lab.shared.conntrack);
    }

    /// Looks the burst up, judges and rewrites it.
    #[inline]
    pub(crate) fn judge(
        &mut self,
        lab: &Lab,
        pipeline: &mut Pipeline,
        client: usize,
        out: &mut Nowhere,
    ) {
        let (ingress, _) = self.clients[client % CLIENTS];
        self.burst.carry(pipeline, &lab.snapshot, Tick(1), ingress, out);
    }

    /// Admits `flows` flows, the same number for each client.
    pub(crate) fn establish(&mut self, lab: &Lab, pipeline: &mut Pipeline, flows: usize) {
        let each = flows.div_ceil(CLIENTS);
        for client in 0..CLIENTS.min(flows) {
            for start in (0..each).step_by(BURST) {
                let mut next = start;
                let flow = || {
                    next += 1;
                    (next - 1) % each
                };
                self.carry(lab, pipeline, client, flow, &mut Nowhere::default());
            }
        }
    }
}
