//! Questions that containers are asked.

use std::time::Duration;

use k8s_openapi::api::core::v1::{
    Container, ExecAction, HTTPGetAction, Probe as Object, TCPSocketAction,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// A question that a container is asked again and again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// How it is asked.
    pub action: Action,
    /// When it is asked first.
    pub delay: Duration,
    /// How often it is asked.
    pub period: Duration,
    /// How long it may take to answer.
    pub timeout: Duration,
    /// Good answers in a row after which it is well.
    pub successes: u32,
    /// Bad answers in a row after which it is not.
    pub failures: u32,
    /// How long the container may take to end because of it, where that is another time than the
    /// pod's.
    ///
    /// Source: `Probe.terminationGracePeriodSeconds`; KEP-2238.
    pub grace: Option<Duration>,
}

/// How a container is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// By a GET, which any status from 200 to 399 answers well.
    Http {
        /// Whom to ask; `None`: the pod.
        host: Option<String>,
        /// The port, host order.
        port: u16,
        /// What to ask for.
        path: String,
        /// Fields of the head.
        headers: Vec<(String, String)>,
        /// Whether it is asked in TLS, whatever certificate is shown.
        is_secure: bool,
    },
    /// By a connection.
    Tcp {
        /// Whom to ask; `None`: the pod.
        host: Option<String>,
        /// The port, host order.
        port: u16,
    },
    /// By a call of gRPC's health service, which `SERVING` answers well.
    ///
    /// Source: gRPC Health Checking Protocol, `grpc.health.v1.Health/Check`.
    Grpc {
        /// The port of the pod, host order.
        port: u16,
        /// The service whose health is asked for; empty: the server's.
        service: String,
    },
    /// By a program in the pod that has to end with 0.
    Exec(Vec<String>),
}

impl Action {
    pub(super) fn get(get: &HTTPGetAction, container: &Container) -> Option<Self> {
        let host = get.host.clone().filter(|host| !host.is_empty());
        let port = number(&get.port, container)?;
        let headers = get.http_headers.iter().flatten();
        Some(Self::Http {
            host,
            port,
            path: get.path.clone().filter(|path| !path.is_empty()).unwrap_or("/".to_owned()),
            headers: headers.map(|field| (field.name.clone(), field.value.clone())).collect(),
            is_secure: get.scheme.as_deref() == Some("HTTPS"),
        })
    }

    pub(super) fn connect(tcp: &TCPSocketAction, container: &Container) -> Option<Self> {
        let host = tcp.host.clone().filter(|host| !host.is_empty());
        Some(Self::Tcp { host, port: number(&tcp.port, container)? })
    }

    pub(super) fn exec(exec: &ExecAction) -> Option<Self> {
        exec.command.clone().filter(|command| !command.is_empty()).map(Self::Exec)
    }
}

/// A port by its number or by its name.
fn number(port: &IntOrString, container: &Container) -> Option<u16> {
    match port {
        IntOrString::Int(number) => u16::try_from(*number).ok(),
        IntOrString::String(name) => {
            let mut ports = container.ports.iter().flatten();
            let named = ports.find(|port| port.name.as_deref() == Some(name.as_str()))?;
            u16::try_from(named.container_port).ok()
        }
    }
}

/// A probe that can be asked.
pub(super) fn read(object: &Object, container: &Container) -> Option<Probe> {
    let action = if let Some(get) = &object.http_get {
        Action::get(get, container)?
    } else if let Some(tcp) = &object.tcp_socket {
        Action::connect(tcp, container)?
    } else if let Some(grpc) = &object.grpc {
        let service = grpc.service.clone().unwrap_or_default();
        Action::Grpc { port: u16::try_from(grpc.port).ok()?, service }
    } else {
        Action::exec(object.exec.as_ref()?)?
    };
    let seconds = |value: Option<i32>, default: u64| {
        let value = value.and_then(|value| u64::try_from(value).ok()).filter(|value| *value > 0);
        Duration::from_secs(value.unwrap_or(default))
    };
    let count = |value: Option<i32>, default: u32| {
        value.and_then(|value| u32::try_from(value).ok()).filter(|n| *n > 0).unwrap_or(default)
    };
    let grace = object.termination_grace_period_seconds.and_then(|grace| u64::try_from(grace).ok());
    Some(Probe {
        action,
        delay: seconds(object.initial_delay_seconds, 0),
        period: seconds(object.period_seconds, 10),
        timeout: seconds(object.timeout_seconds, 1),
        successes: count(object.success_threshold, 1),
        failures: count(object.failure_threshold, 3),
        grace: grace.map(Duration::from_secs),
    })
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::GRPCAction;

    use super::*;

    #[test]
    fn health_is_asked_for_by_service_and_a_probe_has_a_grace_of_its_own() {
        let grpc = GRPCAction { port: 9000, service: Some("shop".into()) };
        let object = Object {
            grpc: Some(grpc),
            termination_grace_period_seconds: Some(7),
            ..Object::default()
        };
        let probe = read(&object, &Container::default()).unwrap();
        assert_eq!(probe.action, Action::Grpc { port: 9000, service: "shop".into() });
        assert_eq!(probe.grace, Some(Duration::from_secs(7)));
        let object = Object { grpc: None, ..object };
        assert_eq!(read(&object, &Container::default()), None, "nothing to ask");
    }
}
