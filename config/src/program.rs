//! What the containers of a pod run.

mod hook;
mod probe;

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::{
    Container, EnvVar, ObjectFieldSelector, PodSpec, Probe as Object,
};

use crate::{Cluster, Pod, SecurityContext, security_context};
pub use hook::Hook;
pub use probe::{Action, Probe};

/// Where programs are looked for that are named without a way to them.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// How long a pod may take to end if it does not say.
///
/// Source: `PodSpec.terminationGracePeriodSeconds`.
const GRACE_SECONDS: i64 = 30;

/// What a pod runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodProgram {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub pod: String,
    /// What becomes of programs that end.
    pub restart: Restart,
    /// How long they may take to end when they are told to.
    pub grace: Duration,
    /// Whether conditions that somebody else sets allow it to be ready.
    ///
    /// Source: `PodSpec.readinessGates`.
    pub gates_are_open: bool,
    /// Its containers, in the order in which they start.
    pub containers: Vec<Program>,
}

/// What becomes of programs that end.
///
/// Source: `PodSpec.restartPolicy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restart {
    /// They are started again.
    Always,
    /// They are started again if they failed.
    OnFailure,
    /// They have ended.
    Never,
}

/// A container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// Its name.
    pub name: String,
    /// When it runs.
    pub role: Role,
    /// The program and its arguments; empty: nothing, the echo server stands in.
    pub command: Vec<String>,
    /// The whole environment.
    pub environment: Vec<(String, String)>,
    /// Where it starts.
    pub directory: String,
    /// What it may do on the machine.
    pub security: SecurityContext,
    /// Whether it has come up; others are not asked before.
    pub startup: Option<Probe>,
    /// Whether it can be used.
    pub readiness: Option<Probe>,
    /// Whether it is better started again.
    pub liveness: Option<Probe>,
    /// What is done once it was started.
    pub post_start: Option<Hook>,
    /// What is done before it is told to end.
    pub pre_stop: Option<Hook>,
}

/// When a container runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Before the next, and to its end.
    Init,
    /// Before the next, and on.
    Sidecar,
    /// With all others of this kind.
    Main,
}

impl Cluster {
    /// Whether a container has a command, and commands are run in this lab.
    pub fn runs(&self, container: &Container) -> bool {
        self.settings.lab.run_commands
            && container.command.as_ref().is_some_and(|it| !it.is_empty())
    }

    /// What a pod runs; `None` if the echo server stands in for all of it.
    pub fn program(&self, pod: &Pod) -> Option<PodProgram> {
        let spec = pod.object.spec.as_ref()?;
        let inits = spec.init_containers.iter().flatten();
        let all = inits.map(|init| (init, true)).chain(spec.containers.iter().map(|c| (c, false)));
        if !all.clone().any(|(container, _)| self.runs(container)) || pod.is_finished() {
            return None;
        }
        let containers = all.filter_map(|(container, is_init)| {
            let role = match (is_init, container.restart_policy.as_deref()) {
                (false, _) => Role::Main,
                (true, Some("Always")) => Role::Sidecar,
                (true, _) => Role::Init,
            };
            // nothing can be said of what an image would do and come to an end with
            (role != Role::Init || self.runs(container))
                .then(|| self.container(container, role, pod, spec))
        });
        let grace = spec.termination_grace_period_seconds.unwrap_or(GRACE_SECONDS);
        Some(PodProgram {
            namespace: pod.namespace.clone(),
            pod: pod.name.clone(),
            restart: match spec.restart_policy.as_deref() {
                Some("Never") => Restart::Never,
                Some("OnFailure") => Restart::OnFailure,
                _ => Restart::Always,
            },
            grace: Duration::from_secs(u64::try_from(grace).unwrap_or_default()),
            gates_are_open: pod.other_gates_are_open(),
            containers: containers.collect(),
        })
    }

    fn container(&self, container: &Container, role: Role, pod: &Pod, spec: &PodSpec) -> Program {
        let environment = self.environment(container, pod, spec);
        let known: BTreeMap<&str, &str> =
            environment.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let words = container.command.iter().flatten().chain(container.args.iter().flatten());
        let command = if self.runs(container) {
            words.map(|word| expand(word, &known)).collect()
        } else {
            Vec::new()
        };
        // what stands in would answer for what is not there
        let probe = |object: &Option<Object>| {
            object
                .as_ref()
                .filter(|_| !command.is_empty())
                .and_then(|it| probe::read(it, container))
        };
        let hooks = container.lifecycle.as_ref().filter(|_| !command.is_empty());
        Program {
            name: container.name.clone(),
            role,
            startup: probe(&container.startup_probe),
            readiness: probe(&container.readiness_probe),
            liveness: probe(&container.liveness_probe),
            post_start: hooks.and_then(|it| hook::read(it.post_start.as_ref()?, container)),
            pre_stop: hooks.and_then(|it| hook::read(it.pre_stop.as_ref()?, container)),
            directory: container.working_dir.clone().unwrap_or_else(|| "/".to_owned()),
            environment: environment.clone(),
            security: security_context::of(container, spec),
            command,
        }
    }

    /// The environment: what every container has, then what is written, in order.
    fn environment(
        &self,
        container: &Container,
        pod: &Pod,
        spec: &PodSpec,
    ) -> Vec<(String, String)> {
        let hostname = spec.hostname.as_ref().unwrap_or(&pod.name);
        let mut environment = vec![
            ("PATH".to_owned(), PATH.to_owned()),
            ("HOME".to_owned(), "/root".to_owned()),
            ("HOSTNAME".to_owned(), hostname.clone()),
        ];
        if spec.enable_service_links != Some(false) {
            environment.extend(self.service_links(&pod.namespace));
        }
        for EnvVar { name, value, value_from } in container.env.iter().flatten() {
            let field = value_from.as_ref().and_then(|from| from.field_ref.as_ref());
            let value = match (value, field) {
                (Some(value), _) => {
                    let known: BTreeMap<&str, &str> =
                        environment.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
                    expand(value, &known)
                }
                (None, Some(field)) => field_of(field, pod).unwrap_or_default(),
                // from ConfigMaps and Secrets, which are not carried
                (None, None) => String::new(),
            };
            environment.retain(|(own, _)| own != name);
            environment.push((name.clone(), value));
        }
        environment
    }

    /// Where Services of the namespace are.
    ///
    /// Source: Kubernetes "Service", Discovering services, Environment variables.
    fn service_links(&self, namespace: &str) -> Vec<(String, String)> {
        let mut links = Vec::new();
        for service in &self.services {
            let metadata = &service.metadata;
            let is_own = metadata.namespace.as_deref().unwrap_or("default") == namespace;
            let (Some(name), Some(spec), true) = (&metadata.name, &service.spec, is_own) else {
                continue;
            };
            let ip = spec.cluster_ip.as_deref().filter(|ip| !ip.is_empty() && *ip != "None");
            let (Some(ip), Some(port)) = (ip, spec.ports.iter().flatten().next()) else { continue };
            let name = name.to_uppercase().replace('-', "_");
            links.push((format!("{name}_SERVICE_HOST"), ip.to_owned()));
            links.push((format!("{name}_SERVICE_PORT"), port.port.to_string()));
            for port in spec.ports.iter().flatten() {
                let Some(own) = &port.name else { continue };
                let own = own.to_uppercase().replace('-', "_");
                links.push((format!("{name}_SERVICE_PORT_{own}"), port.port.to_string()));
            }
        }
        links
    }
}

/// A field of a pod.
///
/// Source: `EnvVarSource.fieldRef`.
fn field_of(field: &ObjectFieldSelector, pod: &Pod) -> Option<String> {
    let (object, spec) = (&pod.object, pod.object.spec.as_ref()?);
    let status = object.status.as_ref();
    let path = field.field_path.as_str();
    let key = |list: &str| {
        let rest = path.strip_prefix(list)?.strip_prefix("['")?;
        rest.strip_suffix("']").map(str::to_owned)
    };
    match path {
        "metadata.name" => Some(pod.name.clone()),
        "metadata.namespace" => Some(pod.namespace.clone()),
        "metadata.uid" => object.metadata.uid.clone(),
        "spec.nodeName" => spec.node_name.clone(),
        "spec.serviceAccountName" => spec.service_account_name.clone(),
        "status.hostIP" => status?.host_ip.clone(),
        "status.podIP" => pod.addresses.first().map(ToString::to_string),
        "status.podIPs" => {
            let all: Vec<String> = pod.addresses.iter().map(ToString::to_string).collect();
            Some(all.join(","))
        }
        _ => {
            let label = key("metadata.labels")
                .and_then(|key| object.metadata.labels.as_ref()?.get(&key).cloned());
            let annotation = || {
                let key = key("metadata.annotations")?;
                object.metadata.annotations.as_ref()?.get(&key).cloned()
            };
            label.or_else(annotation)
        }
    }
}

/// A text in which `$(NAME)` stands for a variable; `$$` for a dollar.
///
/// Source: `Container.command`, `.args`, `EnvVar.value`.
fn expand(text: &str, known: &BTreeMap<&str, &str>) -> String {
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        expanded.push_str(before);
        if let Some(after) = after.strip_prefix('$') {
            expanded.push('$');
            rest = after;
            continue;
        }
        let reference = after.strip_prefix('(').and_then(|inner| inner.split_once(')'));
        match reference {
            Some((name, after)) if known.contains_key(name) => {
                expanded.push_str(known.get(name).copied().unwrap_or_default());
                rest = after;
            }
            _ => {
                // what is not known stays as it is
                expanded.push('$');
                rest = after;
            }
        }
    }
    expanded.push_str(rest);
    expanded
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::load_text;

    const LAB: &str = r#"
[lab]
name = "t"
[[node]]
name = "node-a"
[[service]]
metadata = { name = "my-web" }
spec.clusterIP = "10.8.0.80"
spec.ports = [{ name = "http", port = 80 }]
[[pod]]
metadata = { name = "a", labels = { app = "x" } }
[pod.spec]
initContainers = [
    { name = "image-only" },
    { name = "first", command = ["true"] },
    { name = "beside", command = ["sleep", "9"], restartPolicy = "Always" },
]
[[pod.spec.containers]]
name = "main"
command = ["sh", "-c", "echo $(GREETING) $$(GREETING) $(UNKNOWN) $HOME"]
args = ["$(MY_WEB_SERVICE_HOST)"]
workingDir = "/tmp"
ports = [{ name = "http", containerPort = 8080 }]
env = [
    { name = "WHO", valueFrom = { fieldRef = { fieldPath = "metadata.labels['app']" } } },
    { name = "GREETING", value = "hello $(WHO)" },
]
readinessProbe = { httpGet = { path = "/ready", port = "http" }, periodSeconds = 2 }
livenessProbe = { exec = { command = ["true"] }, failureThreshold = 1 }
[[pod.spec.containers]]
name = "image"
readinessProbe = { exec = { command = ["redis-cli", "ping"] } }
"#;

    fn program(lab: &str) -> Option<PodProgram> {
        let cluster = load_text("lab.toml", lab, Path::new("")).unwrap();
        cluster.program(&cluster.pods[0])
    }

    #[test]
    fn containers_run_what_they_say() {
        let program = program(LAB).unwrap();
        let roles: Vec<_> = program.containers.iter().map(|it| (&*it.name, it.role)).collect();
        let expected = [
            ("first", Role::Init),
            ("beside", Role::Sidecar),
            ("main", Role::Main),
            ("image", Role::Main),
        ];
        assert_eq!(roles, expected);
        let main = &program.containers[2];
        let shell = "echo hello x $(GREETING) $(UNKNOWN) $HOME";
        assert_eq!(main.command, ["sh", "-c", shell, "10.8.0.80"]);
        assert_eq!(main.directory, "/tmp");
        let port = ("MY_WEB_SERVICE_PORT_HTTP".to_owned(), "80".to_owned());
        assert!(main.environment.contains(&port));
        let readiness = main.readiness.as_ref().unwrap();
        let Action::Http { port, path, .. } = &readiness.action else { panic!("{readiness:?}") };
        assert_eq!((*port, path.as_str(), readiness.period.as_secs()), (8080, "/ready", 2));
        assert_eq!(main.liveness.as_ref().unwrap().failures, 1);
        let image = &program.containers[3];
        assert!(image.command.is_empty() && image.readiness.is_none());
    }

    #[test]
    fn commands_may_be_left_to_the_echo_server() {
        let ignored = LAB.replace("name = \"t\"", "name = \"t\"\nrun-commands = false");
        assert_eq!(program(&ignored), None);
    }
}
