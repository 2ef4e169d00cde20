//! `[load-balancers]` of lab.toml.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::fields::Fields;
use crate::error::{Findings, Origin};
use crate::gateway_settings::{GatewaySettings, NodeCheckSettings};
use crate::path::Field;
use crate::syntax;
use crate::tree::{Tree, Value};

/// `[load-balancers]`.
pub(super) fn balancers(
    tree: &Tree<'_>,
    origin: &Origin,
    findings: &mut Findings,
) -> GatewaySettings {
    let default = GatewaySettings::default();
    let mut fields = Fields::new(tree, origin, findings);
    let owned = |texts: Vec<(_, &str)>| {
        texts.into_iter().map(|(_, text)| text.to_owned()).collect::<Vec<String>>()
    };
    let addresses = addresses(&mut fields);
    let settings = GatewaySettings {
        gateway_classes: fields.texts("gateway-classes").map_or(default.gateway_classes, owned),
        ingress_classes: fields.texts("ingress-classes").map_or(default.ingress_classes, owned),
        addresses,
        ingress_address: fields.parsed("ingress-address", syntax::address),
        proxy_subnet: fields
            .parsed("proxy-only-subnet", syntax::cidr)
            .unwrap_or(default.proxy_subnet),
        health_checks: fields.bool("health-checks").unwrap_or(default.health_checks),
        draining: fields
            .parsed("connection-draining", syntax::duration)
            .unwrap_or(default.draining),
        subsetting: fields.bool("subsetting").unwrap_or(default.subsetting),
        node_check: node_check(&mut fields),
    };
    fields.finish();
    settings
}

/// `node-check = { interval = "1s", unhealthy = 2 }`.
fn node_check(fields: &mut Fields<'_, '_>) -> NodeCheckSettings {
    let Some((tree, origin)) = fields.table("node-check") else {
        return NodeCheckSettings::default();
    };
    let mut below = fields.below(tree, &origin);
    let settings = NodeCheckSettings {
        interval: below.parsed("interval", syntax::duration).filter(|time| !time.is_zero()),
        timeout: below.parsed("timeout", syntax::duration).filter(|time| !time.is_zero()),
        healthy: below.number("healthy", 1..=10),
        unhealthy: below.number("unhealthy", 1..=10),
    };
    below.finish();
    settings
}

/// `addresses = { web = "203.0.113.10" }`.
fn addresses(fields: &mut Fields<'_, '_>) -> BTreeMap<String, IpAddr> {
    let Some((tree, origin)) = fields.table("addresses") else { return BTreeMap::new() };
    let mut below = fields.below(tree, &origin);
    let Value::Table(members) = &tree.value else { return BTreeMap::new() };
    let mut all = BTreeMap::new();
    for member in members {
        let Some(text) = below.text_at(&member.key, &member.tree) else { continue };
        match syntax::address(text) {
            Ok(address) => {
                all.insert(member.key.to_string(), address);
            }
            Err(refused) => {
                below.error(Field::of(&member.key), refused.message, refused.help);
            }
        }
    }
    all
}
