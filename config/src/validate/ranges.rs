//! The ranges of addresses of a cluster: none lies in another.

use ipnet::IpNet;

use crate::draft::Draft;
use crate::error::{Finding, Findings};
use crate::path::Field;
use crate::settings::{Addressing, ClusterSettings};

/// A range and the setting it is from.
struct Named {
    field: Field,
    key: &'static str,
    range: IpNet,
}

impl Draft {
    /// Notes that a setting of the lab file is wrong.
    pub(super) fn setting_error<'f>(
        &self,
        findings: &'f mut Findings,
        field: Field,
        message: String,
        help: String,
    ) -> &'f mut Finding {
        let finding = findings.error(field, message, help);
        finding.origin.clone_from(&self.lab);
        finding
    }
}

/// Whether two ranges have an address in common: then one lies in the other.
pub(super) fn overlap(a: IpNet, b: IpNet) -> bool {
    a.contains(&b) || b.contains(&a)
}

pub(super) fn check(draft: &Draft, findings: &mut Findings) {
    let settings = &draft.settings.cluster;
    one_per_family(draft, "service-cidrs", &settings.service_cidrs, findings);
    one_per_family(draft, "node-cidrs", &settings.node_cidrs, findings);
    let dns: Vec<_> = settings.dns_addresses.iter().map(|at| IpNet::from(*at)).collect();
    one_per_family(draft, "dns-addresses", &dns, findings);
    if settings.addressing == Addressing::Checked {
        overlaps(draft, findings);
        families(draft, settings, findings);
    }
}

fn one_per_family(draft: &Draft, key: &'static str, ranges: &[IpNet], findings: &mut Findings) {
    for (index, range) in ranges.iter().enumerate() {
        let is_v4 = range.addr().is_ipv4();
        if ranges.iter().take(index).any(|before| before.addr().is_ipv4() == is_v4) {
            let family = family(is_v4);
            let field = Field::of("cluster").key(key).index(index);
            let message = format!("`{key}` has a second {family} entry");
            draft.setting_error(findings, field, message, format!("keep one for {family}"));
        }
    }
}

fn overlaps(draft: &Draft, findings: &mut Findings) {
    let settings = &draft.settings.cluster;
    let lists = [
        ("pod-cidrs", &settings.pod_cidrs),
        ("service-cidrs", &settings.service_cidrs),
        ("node-cidrs", &settings.node_cidrs),
        ("load-balancer-pools", &settings.load_balancer_pools),
    ];
    let named: Vec<_> = lists
        .into_iter()
        .flat_map(|(key, ranges)| {
            ranges.iter().enumerate().map(move |(index, range)| Named {
                field: Field::of("cluster").key(key).index(index),
                key,
                range: *range,
            })
        })
        .collect();
    for (index, Named { field, key, range }) in named.iter().enumerate() {
        let Some(other) = named.iter().take(index).find(|before| overlap(before.range, *range))
        else {
            continue;
        };
        let message = format!("{range} of `{key}` overlaps {} of `{}`", other.range, other.key);
        let help = "choose ranges that have no address in common".to_owned();
        let error = draft.setting_error(findings, field.clone(), message, help);
        if let Some(lab) = &draft.lab {
            error.beside(lab, other.field.clone(), "the other");
        }
    }
}

/// Every family of the cluster has ranges for pods and nodes.
fn families(draft: &Draft, settings: &ClusterSettings, findings: &mut Findings) {
    let has = |ranges: &[IpNet], is_v4| ranges.iter().any(|at| at.addr().is_ipv4() == is_v4);
    let lists = [
        ("pod-cidrs", &settings.pod_cidrs, ClusterSettings::POD_CIDRS),
        ("node-cidrs", &settings.node_cidrs, ClusterSettings::NODE_CIDRS),
    ];
    for (is_v4, default) in [(true, 0), (false, 1)] {
        for (key, ranges, defaults) in &lists {
            let (user, others) = if *key == "pod-cidrs" {
                ("service-cidrs", &settings.service_cidrs)
            } else {
                ("pod-cidrs", &settings.pod_cidrs)
            };
            if has(others, is_v4) && !has(ranges, is_v4) {
                let family = family(is_v4);
                let message = format!("`{key}` has no {family} range, but `{user}` has one");
                let example = defaults.get(default).map_or_else(String::new, ToString::to_string);
                let help = format!("add one to `{key}`, for example \"{example}\"");
                draft.setting_error(findings, Field::of("cluster").key(key), message, help);
            }
        }
    }
}

/// As people call it.
pub(super) fn family(is_v4: bool) -> &'static str {
    if is_v4 { "IPv4" } else { "IPv6" }
}
