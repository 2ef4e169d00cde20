//! `[dns]` of lab.toml.

use std::net::{IpAddr, SocketAddr};

use super::fields::Fields;
use crate::dns::{Data, Name};
use crate::dns_settings::{DnsSettings, EmptyServices, PodRecords, ReverseEndpoints};
use crate::error::{Findings, Origin};
use crate::path::Field;
use crate::syntax::Refused;
use crate::tree::{Tree, Value};

/// Name servers that may be asked for.
const REPLICAS: i64 = 64;

/// The port of name servers.
const PORT: u16 = 53;

/// `[dns]`.
pub(super) fn dns(tree: &Tree<'_>, origin: &Origin, findings: &mut Findings) -> DnsSettings {
    let default = DnsSettings::default();
    let mut fields = Fields::new(tree, origin, findings);
    let modes = [
        ("disabled", PodRecords::Disabled),
        ("insecure", PodRecords::Insecure),
        ("verified", PodRecords::Verified),
    ];
    let empty = [("exist", EmptyServices::Exist), ("nxdomain", EmptyServices::DoNotExist)];
    let reverse = [("headless", ReverseEndpoints::Headless), ("all", ReverseEndpoints::All)];
    let settings = DnsSettings {
        enabled: fields.bool("enabled").unwrap_or(default.enabled),
        replicas: fields.number("replicas", 1..=REPLICAS).unwrap_or(default.replicas),
        pod_records: fields.choice("pod-records", &modes).unwrap_or(default.pod_records),
        empty_services: fields.choice("empty-services", &empty).unwrap_or(default.empty_services),
        reverse_endpoints: fields
            .choice("reverse-endpoints", &reverse)
            .unwrap_or(default.reverse_endpoints),
        reverse_zones: fields.cidrs("reverse-zones"),
        outside: outside(&mut fields),
        upstream: upstream(&mut fields),
        log: fields.bool("log").unwrap_or(default.log),
    };
    fields.finish();
    settings
}

/// `upstream = ["192.0.2.53"]`, with a port where it is another one.
fn upstream(fields: &mut Fields<'_, '_>) -> Vec<SocketAddr> {
    let parse = |text: &str| {
        let socket = text.parse::<SocketAddr>().ok();
        let address = || Some(SocketAddr::new(text.parse::<IpAddr>().ok()?, PORT));
        socket.or_else(address).ok_or_else(|| Refused {
            message: format!("{text:?} is not an address of a name server"),
            help: "write it as in \"192.0.2.53\" or \"192.0.2.53:5353\"".into(),
        })
    };
    let parsed = fields.all_parsed("upstream", parse).unwrap_or_default();
    parsed.into_iter().map(|(_, server)| server).collect()
}

/// `[dns.names]`: for each name its addresses, or the name that it stands for.
fn outside(fields: &mut Fields<'_, '_>) -> Vec<(Name, Data)> {
    let Some((tree, origin)) = fields.table("names") else { return Vec::new() };
    let mut known = Vec::new();
    let mut fields = fields.below(tree, &origin);
    let Value::Table(members) = &tree.value else { return known };
    for member in members {
        let key = member.key.as_ref();
        let Some(name) = Name::parse(key).filter(|name| name.labels().next().is_some()) else {
            fields.error(Field::of(key), format!("{key:?} is not a domain name"), NAMES);
            continue;
        };
        let items = match &member.tree.value {
            Value::List(items) => items.iter().collect(),
            _ => vec![&member.tree],
        };
        for (index, item) in items.iter().enumerate() {
            let Some(text) = fields.text_at(key, item) else { continue };
            let alias = || (items.len() == 1).then(|| Name::parse(text)).flatten();
            let data = match text.parse::<IpAddr>() {
                Ok(address) => Some(Data::address(address)),
                Err(_) => alias().map(Data::Cname),
            };
            match data {
                Some(data) => known.push((name.clone(), data)),
                None => {
                    let field = Field::of(key).index(index);
                    let message = format!("{text:?} is no address, nor the only name given");
                    fields.error(field, message, NAMES);
                }
            }
        }
    }
    known
}

const NAMES: &str =
    "write \"www.example.com\" = [\"198.51.100.7\"], or the name that it stands for";
