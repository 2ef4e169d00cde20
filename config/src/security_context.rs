//! What a container's programs may do on the machine.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Container, PodSpec};

/// Every capability that a container can name.
///
/// Source: capabilities(7).
pub const CAPABILITIES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// What a container has that does not say.
///
/// Source: containerd, default Unix capabilities.
const DEFAULT: [&str; 14] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "NET_BIND_SERVICE",
    "NET_RAW",
    "SYS_CHROOT",
    "MKNOD",
    "AUDIT_WRITE",
    "SETFCAP",
];

/// With which rights a container's programs start.
///
/// Source: `Container.securityContext`, `PodSpec.securityContext`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecurityContext {
    /// Capabilities that they may have, without `CAP_`; those of [`CAPABILITIES`].
    pub capabilities: BTreeSet<&'static str>,
    /// As which user they run; `None`: as the switch does.
    pub user: Option<u32>,
    /// As which group.
    pub group: Option<u32>,
    /// Whether programs with more rights of their own, as setuid ones, have them.
    pub may_escalate: bool,
}

impl Default for SecurityContext {
    fn default() -> Self {
        Self { capabilities: DEFAULT.into(), user: None, group: None, may_escalate: true }
    }
}

/// The rights of a container of a pod: its own word counts more than the pod's.
pub(crate) fn of(container: &Container, pod: &PodSpec) -> SecurityContext {
    let (own, shared) = (container.security_context.as_ref(), pod.security_context.as_ref());
    let id = |id: i64| u32::try_from(id).ok();
    let user = own.and_then(|own| own.run_as_user).or(shared.and_then(|it| it.run_as_user));
    let group = own.and_then(|own| own.run_as_group).or(shared.and_then(|it| it.run_as_group));
    let lists = own.and_then(|own| own.capabilities.as_ref());
    let lists = lists.map(|lists| {
        (lists.add.as_deref().unwrap_or_default(), lists.drop.as_deref().unwrap_or_default())
    });
    let (add, drop) = lists.unwrap_or_default();
    let is_privileged = own.and_then(|own| own.privileged) == Some(true);
    SecurityContext {
        capabilities: if is_privileged { CAPABILITIES.into() } else { capabilities(add, drop) },
        user: user.and_then(id),
        group: group.and_then(id),
        may_escalate: own.and_then(|own| own.allow_privilege_escalation) != Some(false),
    }
}

/// The default ones, less what is dropped, and what is added.
fn capabilities(add: &[String], drop: &[String]) -> BTreeSet<&'static str> {
    let is = |list: &[String], name: &str| {
        list.iter().any(|each| {
            let each = each
                .get(..4)
                .filter(|head| head.eq_ignore_ascii_case("CAP_"))
                .map_or(each.as_str(), |head| each.strip_prefix(head).unwrap_or(each));
            each.eq_ignore_ascii_case(name)
        })
    };
    let all = (is(add, "ALL"), is(drop, "ALL"));
    CAPABILITIES
        .into_iter()
        .filter(|name| match all {
            (_, true) => is(add, name),
            (true, false) => !is(drop, name),
            (false, false) => (DEFAULT.contains(name) || is(add, name)) && !is(drop, name),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(add: &[&str], drop: &[&str]) -> BTreeSet<&'static str> {
        let owned = |list: &[&str]| list.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        capabilities(&owned(add), &owned(drop))
    }

    #[test]
    fn capabilities_are_added_and_dropped() {
        assert_eq!(given(&[], &[]), DEFAULT.into());
        assert_eq!(given(&["ALL"], &["SYS_TIME"]).len(), CAPABILITIES.len() - 1);
        assert_eq!(given(&["NET_ADMIN"], &["all"]), ["NET_ADMIN"].into());
        assert_eq!(given(&["CAP_NET_ADMIN"], &[]).len(), DEFAULT.len() + 1);
        assert!(!given(&["NET_RAW"], &["NET_RAW"]).contains("NET_RAW"));
    }

    #[test]
    fn a_container_says_more_than_its_pod() {
        let container: Container = serde_json::from_value(serde_json::json!({
            "name": "c", "securityContext": {"runAsUser": 7, "allowPrivilegeEscalation": false},
        }))
        .unwrap();
        let pod: PodSpec = serde_json::from_value(serde_json::json!({
            "containers": [], "securityContext": {"runAsUser": 5, "runAsGroup": 6},
        }))
        .unwrap();
        let context = of(&container, &pod);
        assert_eq!((context.user, context.group, context.may_escalate), (Some(7), Some(6), false));
    }
}
