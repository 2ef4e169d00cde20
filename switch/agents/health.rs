//! Health check node ports: what a node answers a load balancer that asks for a Service.
//!
//! Under `externalTrafficPolicy: Local` a load balancer sends only to nodes that have an endpoint of
//! their own, and asks each node whether it has.
//!
//! Source: `ServiceSpec.healthCheckNodePort`; kube-proxy's answer, `pkg/proxy/healthcheck`.

use kswitch_config::HealthCheck;
use serde_json::{Value, json};

/// An answer over HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status: 200 with an endpoint on the node, else 503.
    pub status: u16,
    /// Fields of the head.
    pub headers: [(&'static str, String); 3],
    /// The body.
    pub body: Value,
}

/// What `node` answers a request for the health of a Service.
///
/// Endpoints that are terminating do not count, though they may still serve: so a load balancer
/// turns away from the node before the last of them ends.
pub fn answer(check: &HealthCheck, node: &str) -> Answer {
    let HealthCheck { namespace, service, port: _, ready } = check;
    let ready = ready.iter().find(|(name, _)| name == node).map_or(0, |(_, count)| *count);
    Answer {
        status: if ready > 0 { 200 } else { 503 },
        headers: [
            ("Content-Type", "application/json".to_owned()),
            ("X-Content-Type-Options", "nosniff".to_owned()),
            ("X-Load-Balancing-Endpoint-Weight", ready.to_string()),
        ],
        body: json!({
            "service": { "namespace": namespace, "name": service },
            "localEndpoints": ready,
            "serviceProxyHealthy": true,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_healthy_while_it_has_an_endpoint() {
        let check = HealthCheck {
            namespace: "shop".into(),
            service: "front".into(),
            port: 30_376,
            ready: vec![("node-a".into(), 2)],
        };
        let healthy = answer(&check, "node-a");
        assert_eq!(healthy.status, 200);
        assert_eq!(healthy.body["localEndpoints"], 2);
        assert_eq!(healthy.headers[2].1, "2");
        let other = answer(&check, "node-b");
        assert_eq!(other.status, 503);
        assert_eq!(other.body["localEndpoints"], 0);
        assert_eq!(other.body["service"]["name"], "front");
    }
}
