//! What a cluster comes with beside what was written: its name servers.

use std::net::IpAddr;

use serde_json::{Value, json};

use crate::draft::{Draft, KeyRef};
use crate::kind::Kind;
use crate::object::Object;

/// Where the name servers are.
///
/// Source: kubeadm, add-on coredns, whose Service has kept the name of its predecessor.
pub(crate) const NAMESPACE: &str = "kube-system";
pub(crate) const SERVICE: &str = "kube-dns";
const WORKLOAD: &str = "coredns";

/// What messages call these objects.
const ORIGIN: &str = "name servers of the lab (see [dns] of the lab file)";

impl Draft {
    /// The draft with name servers behind the cluster's DNS addresses, unless `[dns]` or the objects
    /// say otherwise: with a Service of theirs, or with one that has those addresses.
    #[must_use]
    pub fn with_addons(mut self) -> Self {
        if self.settings.dns.enabled && !self.is_broken && self.has_room() {
            for object in [self.service(), self.workload()] {
                // what is wrong with them by themselves is wrong with the settings, which are told of
                let _ = self.apply(&object, ORIGIN);
            }
        }
        self
    }

    /// The draft with name servers, even if `[dns]` says otherwise.
    #[must_use]
    pub fn with_name_servers(mut self) -> Self {
        self.settings.dns.enabled = true;
        self.with_addons()
    }

    /// Whether name servers are wanted and would be in nobody's way.
    fn has_room(&self) -> bool {
        let cluster = &self.settings.cluster;
        let is_own =
            |address: &IpAddr| cluster.service_cidrs.iter().any(|range| range.contains(address));
        let is_there =
            |kind, name| self.of(kind).contains_key(&KeyRef { namespace: NAMESPACE, name });
        let has_nodes = !self.of(Kind::Node).is_empty();
        has_nodes
            && !cluster.dns_addresses.is_empty()
            && cluster.dns_addresses.iter().all(is_own)
            && !is_there(Kind::Service, SERVICE)
            && !is_there(Kind::Deployment, WORKLOAD)
            && !self.is_taken(&cluster.dns_addresses)
    }

    fn is_taken(&self, addresses: &[IpAddr]) -> bool {
        self.of(Kind::Service).values().any(|entry| {
            let Object::Service(service) = &entry.object else { return false };
            let spec = service.spec.iter();
            let mut ips =
                spec.flat_map(|spec| spec.cluster_ips.iter().flatten().chain(&spec.cluster_ip));
            ips.any(|ip| ip.parse().is_ok_and(|ip: IpAddr| addresses.contains(&ip)))
        })
    }

    fn service(&self) -> Value {
        let addresses = &self.settings.cluster.dns_addresses;
        json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {
                "name": SERVICE,
                "namespace": NAMESPACE,
                "labels": { "k8s-app": "kube-dns", "kubernetes.io/name": "CoreDNS" },
            },
            "spec": {
                "selector": { "k8s-app": "kube-dns" },
                "clusterIP": addresses.first(),
                "clusterIPs": addresses,
                "ipFamilyPolicy": if addresses.len() > 1 { "RequireDualStack" } else { "SingleStack" },
                "ports": [
                    { "name": "dns", "port": 53, "protocol": "UDP", "targetPort": 53 },
                    { "name": "dns-tcp", "port": 53, "protocol": "TCP", "targetPort": 53 },
                ],
            },
        })
    }

    fn workload(&self) -> Value {
        let labels = json!({ "k8s-app": "kube-dns" });
        json!({
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": { "name": WORKLOAD, "namespace": NAMESPACE, "labels": labels },
            "spec": {
                "replicas": self.settings.dns.replicas,
                "selector": { "matchLabels": labels },
                "template": {
                    "metadata": { "labels": labels },
                    "spec": {
                        "dnsPolicy": "Default",
                        "tolerations": [{ "operator": "Exists" }],
                        "containers": [{
                            "name": WORKLOAD,
                            "image": "kswitch/dns",
                            "ports": [
                                { "name": "dns", "containerPort": 53, "protocol": "UDP" },
                                { "name": "dns-tcp", "containerPort": 53, "protocol": "TCP" },
                            ],
                        }],
                    },
                },
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::{Cluster, name_servers};

    use super::*;

    fn cluster(text: &str) -> Cluster {
        let text = format!("[lab]\nname = \"t\"\n{text}");
        let draft = Draft::read_text("lab.toml", &text, Path::new("")).with_addons();
        draft.validate(None).unwrap_or_else(|errors| panic!("{errors}"))
    }

    const NODES: &str = "[[node]]\nname = \"a\"\n[[node]]\nname = \"b\"\n";

    #[test]
    fn name_servers_are_pods_like_others() {
        let cluster =
            cluster(&format!("[cluster]\npod-cidrs = [\"10.4.0.0/14\", \"fd00:4::/48\"]\n{NODES}"));
        let service = cluster.service(NAMESPACE, SERVICE).unwrap();
        let ips = service.spec.as_ref().unwrap().cluster_ips.clone().unwrap();
        assert_eq!(ips, ["10.8.0.10", "fd00:8::a"]);
        let servers = name_servers(&cluster);
        assert_eq!(servers.len(), 2);
        assert!(servers.iter().all(|server| server.udp == [53] && server.tcp == [53]));
        let nodes: Vec<_> = servers.iter().map(|server| server.pod.node).collect();
        assert!(nodes.contains(&0) && nodes.contains(&1));
    }

    #[test]
    fn what_was_written_comes_first() {
        assert!(name_servers(&cluster(&format!("[dns]\nenabled = false\n{NODES}"))).is_empty());
        assert!(cluster("").pods.is_empty());
        let other = "[[service]]\nmetadata = { name = \"own\" }\nspec.clusterIP = \"10.8.0.10\"\n\
            spec.ports = [{ port = 53, protocol = \"UDP\" }]\n";
        assert!(name_servers(&cluster(&format!("{NODES}{other}"))).is_empty());
        let own = "[[service]]\nmetadata = { name = \"kube-dns\", namespace = \"kube-system\" }\n\
            spec.selector = { app = \"dns\" }\n\
            spec.ports = [{ port = 53, protocol = \"UDP\", targetPort = \"names\" }]\n\
            [[pod]]\nmetadata = { name = \"x\", namespace = \"kube-system\", labels = { app = \"dns\" } }\n\
            spec.containers = [{ name = \"c\", COMMAND ports = [{ name = \"names\", containerPort = 5353, protocol = \"UDP\" }] }]\n";
        let ours = cluster(&format!("{NODES}{}", own.replace("COMMAND", "")));
        let servers = name_servers(&ours);
        assert_eq!((servers.len(), &*servers[0].udp, &*servers[0].tcp), (1, &[5353][..], &[][..]));
        let theirs = own.replace("COMMAND", "command = [\"dnsmasq\", \"-k\"],");
        assert!(name_servers(&cluster(&format!("{NODES}{theirs}"))).is_empty());
        let elsewhere = "[cluster]\ndns-addresses = [\"192.0.2.53\"]\n";
        assert!(name_servers(&cluster(&format!("{elsewhere}{NODES}"))).is_empty());
    }
}
