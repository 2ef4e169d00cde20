//! `[dns]` of lab.toml.

use std::net::SocketAddr;

use ipnet::IpNet;

use crate::dns::{Data, Name};

/// `[dns]`: what the cluster's name servers answer. Domain and addresses are in `[cluster]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsSettings {
    /// `enabled`: whether the lab gets name servers of its own, unless its objects have the Service
    /// `kube-system/kube-dns` themselves.
    pub enabled: bool,
    /// `replicas`: how many pods serve.
    pub replicas: u16,
    /// `pod-records`: what is known of names made of a pod's address.
    pub pod_records: PodRecords,
    /// `empty-services`: what a ClusterIP Service without ready endpoints is.
    pub empty_services: EmptyServices,
    /// `reverse-endpoints`: which Services' endpoints have names by their address.
    pub reverse_endpoints: ReverseEndpoints,
    /// `reverse-zones`: the addresses whose names are answered for; `None`: those of pods and
    /// Services.
    pub reverse_zones: Option<Vec<IpNet>>,
    /// `names`: what is known outside the cluster.
    pub outside: Vec<(Name, Data)>,
    /// `upstream`: who is asked for names that nobody here knows, in the namespace of the name
    /// servers; where nobody is, such names do not exist.
    pub upstream: Vec<SocketAddr>,
    /// `log`: whether each question is logged.
    pub log: bool,
}

impl Default for DnsSettings {
    fn default() -> Self {
        Self {
            enabled: true,
            replicas: 2,
            pod_records: PodRecords::Disabled,
            empty_services: EmptyServices::Exist,
            reverse_endpoints: ReverseEndpoints::Headless,
            reverse_zones: None,
            outside: Vec::new(),
            upstream: Vec::new(),
            log: false,
        }
    }
}

/// What is known of names like `10-4-0-2.default.pod.cluster.local`.
///
/// Source: CoreDNS, plugin kubernetes, `pods POD-MODE`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PodRecords {
    /// `disabled`: nothing.
    #[default]
    Disabled,
    /// `insecure`: any address, whether or not a pod has it.
    Insecure,
    /// `verified`: addresses of pods of that namespace.
    Verified,
}

/// What a Service with a cluster IP and without ready endpoints is.
///
/// Source: CoreDNS, plugin kubernetes, `ignore empty_service`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EmptyServices {
    /// `exist`: a Service like any other.
    #[default]
    Exist,
    /// `nxdomain`: a name that does not exist.
    DoNotExist,
}

/// Which endpoints have names by their address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReverseEndpoints {
    /// `headless`: those of headless Services, as the specification has it.
    #[default]
    Headless,
    /// `all`: those of every Service, as CoreDNS has it; their own names exist too, then.
    All,
}
