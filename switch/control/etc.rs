//! What a pod's processes find under `/etc`, as the kubelet writes it.

use std::fmt::Write;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{PodDNSConfigOption, PodSpec};
use kswitch_config::{Cluster, Pod};

/// Name servers that a resolver takes.
///
/// Source: resolv.conf(5), `MAXNS`; `ValidateDNSNameservers` of Kubernetes.
const NAME_SERVERS_MAX: usize = 3;

/// Domains in a search list, and octets of it.
///
/// Source: KEP-2595.
const SEARCHES_MAX: usize = 32;
const SEARCH_LIST_MAX: usize = 2_048;

/// `options ndots` of a cluster.
///
/// Source: kubelet, `defaultDNSOptions`.
const NDOTS: &str = "5";

/// Octets of the longest host name.
///
/// Source: Linux, `__NEW_UTS_LEN`; RFC 1123 §2.1 for a label.
const HOSTNAME_MAX: usize = 64;
const LABEL_MAX: usize = 63;

/// The name that a pod's processes have for their host.
///
/// Source: `PodSpec.hostname`, `.subdomain`, `.setHostnameAsFQDN`.
pub(super) fn hostname(cluster: &Cluster, pod: &Pod) -> String {
    let spec = pod.object.spec.as_ref();
    if pod.host_network {
        let node = cluster.nodes.get(pod.node);
        return node.map_or_else(String::new, |node| node.name.clone());
    }
    let own = label(pod);
    let is_wanted = spec.is_some_and(|spec| spec.set_hostname_as_fqdn == Some(true));
    let whole = domain(cluster, pod).map(|domain| format!("{own}.{domain}"));
    whole.filter(|whole| is_wanted && whole.len() <= HOSTNAME_MAX).unwrap_or(own)
}

/// The first label of its name.
fn label(pod: &Pod) -> String {
    let spec = pod.object.spec.as_ref();
    let name = spec.and_then(|spec| spec.hostname.as_ref()).unwrap_or(&pod.name);
    let cut = name.get(..LABEL_MAX).unwrap_or(name);
    cut.trim_end_matches(['-', '.']).to_owned()
}

/// The domain of a pod that has one.
fn domain(cluster: &Cluster, pod: &Pod) -> Option<String> {
    let subdomain = pod.object.spec.as_ref()?.subdomain.as_ref().filter(|it| !it.is_empty())?;
    let domain = &cluster.settings.cluster.domain;
    Some(format!("{subdomain}.{}.svc.{domain}", pod.namespace))
}

/// `/etc/hosts` of a pod.
///
/// Source: kubelet, `managedHostsFileContent`; `PodSpec.hostAliases`.
pub(super) fn hosts(cluster: &Cluster, pod: &Pod) -> String {
    let mut text = "\
# Kubernetes-managed hosts file.
127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::0\tip6-localnet
fe00::0\tip6-mcastprefix
fe00::1\tip6-allnodes
fe00::2\tip6-allrouters
"
    .to_owned();
    let own = label(pod);
    for address in &pod.addresses {
        // writing to a string cannot fail
        let _ = match domain(cluster, pod) {
            Some(domain) => writeln!(text, "{address}\t{own}.{domain}\t{own}"),
            None => writeln!(text, "{address}\t{own}"),
        };
    }
    let spec = pod.object.spec.iter();
    let aliases: Vec<_> = spec.flat_map(|spec| spec.host_aliases.iter().flatten()).collect();
    if !aliases.is_empty() {
        text.push_str("\n# Entries added by HostAliases.\n");
    }
    for alias in aliases {
        let names: Vec<&str> = alias.hostnames.iter().flatten().map(String::as_str).collect();
        let _ = writeln!(text, "{}\t{}", alias.ip, names.join("\t"));
    }
    text
}

/// What a resolver is told.
#[derive(Debug, Default)]
struct Resolver {
    servers: Vec<IpAddr>,
    search: Vec<String>,
    options: Vec<(String, Option<String>)>,
}

/// `/etc/resolv.conf` of a node, which resolves as the machine outside the cluster that it is.
pub(super) fn of_node(cluster: &Cluster) -> String {
    Resolver::of_node(cluster).text()
}

/// `/etc/resolv.conf` of a pod.
///
/// Source: `PodSpec.dnsPolicy`, `.dnsConfig`.
pub(super) fn of_pod(cluster: &Cluster, pod: &Pod) -> String {
    let spec = pod.object.spec.as_ref();
    let policy = spec.and_then(|spec| spec.dns_policy.as_deref()).unwrap_or("ClusterFirst");
    let mut resolver = match policy {
        "None" => Resolver::default(),
        "Default" => Resolver::of_node(cluster),
        "ClusterFirst" if pod.host_network => Resolver::of_node(cluster),
        _ => Resolver::of_cluster(cluster, &pod.namespace),
    };
    resolver.add(spec);
    resolver.text()
}

impl Resolver {
    fn of_node(cluster: &Cluster) -> Self {
        Self { servers: cluster.settings.cluster.dns_addresses.clone(), ..Self::default() }
    }

    fn of_cluster(cluster: &Cluster, namespace: &str) -> Self {
        let domain = &cluster.settings.cluster.domain;
        Self {
            servers: cluster.settings.cluster.dns_addresses.clone(),
            search: vec![
                format!("{namespace}.svc.{domain}"),
                format!("svc.{domain}"),
                domain.clone(),
            ],
            options: vec![("ndots".to_owned(), Some(NDOTS.to_owned()))],
        }
    }

    /// Adds what a pod asks for itself, which comes after what the cluster says, but options.
    fn add(&mut self, spec: Option<&PodSpec>) {
        let Some(config) = spec.and_then(|spec| spec.dns_config.as_ref()) else { return };
        for server in config.nameservers.iter().flatten().filter_map(|text| text.parse().ok()) {
            if !self.servers.contains(&server) {
                self.servers.push(server);
            }
        }
        for domain in config.searches.iter().flatten() {
            if !self.search.contains(domain) {
                self.search.push(domain.clone());
            }
        }
        for PodDNSConfigOption { name, value } in config.options.iter().flatten() {
            let Some(name) = name else { continue };
            match self.options.iter_mut().find(|(own, _)| own == name) {
                Some((_, own)) => own.clone_from(value),
                None => self.options.push((name.clone(), value.clone())),
            }
        }
    }

    /// As resolv.conf(5) has it; what is over the limits is left out, the last first.
    fn text(&self) -> String {
        let Self { servers, search, options } = self;
        let mut text = String::new();
        let mut list = String::new();
        for domain in search.iter().take(SEARCHES_MAX) {
            if list.len() + 1 + domain.len() > SEARCH_LIST_MAX {
                break;
            }
            list.push(' ');
            list.push_str(domain);
        }
        if !list.is_empty() {
            let _ = writeln!(text, "search{list}");
        }
        for server in servers.iter().take(NAME_SERVERS_MAX) {
            let _ = writeln!(text, "nameserver {server}");
        }
        if !options.is_empty() {
            let words = options.iter().map(|(name, value)| match value {
                Some(value) => format!(" {name}:{value}"),
                None => format!(" {name}"),
            });
            let _ = writeln!(text, "options{}", words.collect::<String>());
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use kswitch_config::load_text;

    use super::*;

    fn cluster(pod: &str) -> Cluster {
        let text = format!(
            "[lab]\nname = \"t\"\n[[node]]\nname = \"node-a\"\n[[pod]]\n\
             metadata = {{ name = \"a\", namespace = \"kube-public\" }}\n\
             spec.containers = [{{ name = \"c\" }}]\n{pod}"
        );
        load_text("lab.toml", &text, Path::new("")).unwrap_or_else(|errors| panic!("{errors}"))
    }

    fn resolv_conf(pod: &str) -> String {
        let cluster = cluster(pod);
        of_pod(&cluster, &cluster.pods[0])
    }

    const CLUSTER: &str = "search kube-public.svc.cluster.local svc.cluster.local cluster.local\n\
                           nameserver 10.8.0.10\noptions ndots:5\n";

    #[test]
    fn each_policy_has_its_resolver() {
        assert_eq!(resolv_conf(""), CLUSTER);
        assert_eq!(resolv_conf("spec.dnsPolicy = \"Default\""), "nameserver 10.8.0.10\n");
        assert_eq!(resolv_conf("spec.hostNetwork = true"), "nameserver 10.8.0.10\n");
        let host = "spec.hostNetwork = true\nspec.dnsPolicy = \"ClusterFirstWithHostNet\"";
        assert_eq!(resolv_conf(host), CLUSTER);
        let none = "spec.dnsPolicy = \"None\"\n[pod.spec.dnsConfig]\n\
                    nameservers = [\"192.0.2.53\"]\nsearches = [\"example.com\"]\n\
                    options = [{ name = \"ndots\", value = \"2\" }, { name = \"edns0\" }]";
        let expected = "search example.com\nnameserver 192.0.2.53\noptions ndots:2 edns0\n";
        assert_eq!(resolv_conf(none), expected);
    }

    #[test]
    fn what_a_pod_asks_for_is_added() {
        let text = resolv_conf(
            "[pod.spec.dnsConfig]\nnameservers = [\"10.8.0.10\", \"192.0.2.53\"]\n\
             searches = [\"svc.cluster.local\", \"example.com\"]\n\
             options = [{ name = \"ndots\", value = \"1\" }]",
        );
        let expected = "search kube-public.svc.cluster.local svc.cluster.local cluster.local \
                        example.com\nnameserver 10.8.0.10\nnameserver 192.0.2.53\n\
                        options ndots:1\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn a_pod_knows_itself_and_its_aliases() {
        let pod = "[pod.spec]\nhostname = \"pet\"\nsubdomain = \"pets\"\n\
                   hostAliases = [{ ip = \"192.0.2.7\", hostnames = [\"x.test\", \"y.test\"] }]";
        let own = cluster(
            &pod.replace("[pod.spec]\n", "")
                .replace("\nsub", "\nspec.sub")
                .replace("hostname =", "spec.hostname =")
                .replace("\nhostA", "\nspec.hostA"),
        );
        let text = hosts(&own, &own.pods[0]);
        let address = own.pods[0].addresses[0];
        let line = format!("{address}\tpet.pets.kube-public.svc.cluster.local\tpet\n");
        assert!(text.contains(&line), "{text}");
        assert!(text.ends_with("\n# Entries added by HostAliases.\n192.0.2.7\tx.test\ty.test\n"));
        assert_eq!(hostname(&own, &own.pods[0]), "pet");
        let plain = cluster("");
        assert!(hosts(&plain, &plain.pods[0]).contains(&format!("{address}\ta\n")));
        let whole = "spec.setHostnameAsFQDN = true\nspec.subdomain = \"s\"";
        let whole = cluster(whole);
        assert_eq!(hostname(&whole, &whole.pods[0]), "a.s.kube-public.svc.cluster.local");
    }
}
