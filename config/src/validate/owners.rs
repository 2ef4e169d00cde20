//! Whose an address is: no two machines have the same.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;

/// Who has an address.
#[derive(Clone, Debug)]
pub(super) enum Owner {
    /// The router to the outside.
    Edge,
    /// A node.
    Node(Arc<str>),
    /// A node, towards its pods.
    Gateway(Arc<str>),
    /// A pod with a network of its own.
    Pod(Arc<Pod>),
    /// A host outside.
    External(Arc<str>),
    /// The load balancer of an object.
    Balancer(Arc<str>),
}

impl fmt::Display for Owner {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Edge => formatter.write_str("the edge router"),
            Self::Node(name) => write!(formatter, "Node {name}"),
            Self::Gateway(name) => write!(formatter, "the gateway of Node {name}"),
            Self::Pod(pod) => {
                let namespace = pod.metadata.namespace.as_deref().unwrap_or("");
                write!(formatter, "Pod {namespace}/{}", pod.metadata.name.as_deref().unwrap_or(""))
            }
            Self::External(name) => write!(formatter, "external {name}"),
            Self::Balancer(name) => write!(formatter, "the load balancer of {name}"),
        }
    }
}

/// Every address that is taken.
#[derive(Debug, Default)]
pub(super) struct Owners {
    by_address: HashMap<IpAddr, Owner, ahash::RandomState>,
}

impl Owners {
    /// Takes an address.
    ///
    /// # Errors
    /// What is wrong: who has it already.
    pub(super) fn claim(&mut self, address: IpAddr, owner: Owner) -> Result<(), String> {
        match self.by_address.get(&address) {
            // one router may answer to one address on several links
            Some(Owner::Edge) if matches!(owner, Owner::Edge) => Ok(()),
            Some(other) => Err(format!("{address} is the address of {other} already")),
            None => {
                self.by_address.insert(address, owner);
                Ok(())
            }
        }
    }

    /// Whether nobody has it.
    pub(super) fn is_free(&self, address: IpAddr) -> bool {
        !self.by_address.contains_key(&address)
    }
}
