//! lab.toml: the settings, and objects written in it.

mod balancers;
mod dns;
mod fields;
mod links;
mod policy;
mod settings;
mod short;

use std::path::Path;

pub(crate) use short::short_field;

use crate::dns_settings::DnsSettings;
use crate::draft::{Entry, Host, WrittenLink};
use crate::error::{Finding, Findings, Origin};
use crate::gateway_settings::GatewaySettings;
use crate::kind::Kind;
use crate::manifest;
use crate::path::Field;
use crate::policy_settings::PolicySettings;
use crate::settings::{ClusterSettings, LabSettings, Settings, SwitchSettings};
use crate::source::Source;
use crate::tree::{Document, Format, Member, Tree, Value};

/// What a lab file says, as far as it could be read.
#[derive(Debug)]
pub(crate) struct Lab {
    pub(crate) settings: Settings,
    pub(crate) entries: Vec<Entry>,
    pub(crate) hosts: Vec<Host>,
    pub(crate) links: Vec<WrittenLink>,
    pub(crate) findings: Findings,
    pub(crate) origin: Origin,
    /// Whether so much is unknown that the whole cannot be judged.
    pub(crate) is_broken: bool,
}

const SETTINGS: [&str; 6] = ["lab", "cluster", "switch", "policy", "dns", "load-balancers"];
const EXTERNAL: &str = "external";
const LINK: &str = "link";
/// Keys of `[cluster]` that no address depends on.
const HARMLESS: [&str; 10] = [
    "mode",
    "pod-link",
    "domain",
    "mtu",
    "masquerade-egress",
    "masquerade-all",
    "localhost-node-ports",
    "routes",
    "node-monitor-grace-period",
    "default-unreachable-toleration",
];

/// Reads a lab file that is in `directory`.
pub(crate) fn read(source: &Source, directory: &Path) -> Lab {
    let origin = Origin::whole(Document::whole(source.clone(), Format::Toml));
    let mut lab = Lab {
        settings: Settings::default(),
        entries: Vec::new(),
        hosts: Vec::new(),
        links: Vec::new(),
        findings: Findings::default(),
        origin: origin.clone(),
        is_broken: false,
    };
    let (tree, errors) = crate::tree::parse_toml(source.text());
    for error in errors {
        lab.is_broken = true;
        lab.findings
            .error(Field::default(), error.message, error.help.unwrap_or_default())
            .within(&origin)
            .at(error.span);
    }
    let Value::Table(members) = tree.value else { return lab };
    if lab.is_broken {
        return lab;
    }
    let empty = Tree { value: Value::Table(Vec::new()), span: tree.span };
    let table = |key: &str| members.iter().find(|at| at.key == key).map_or(&empty, |at| &at.tree);
    let part = |key: &str| origin.part(Field::of(key));
    let mut of_cluster = Findings::default();
    lab.settings = Settings {
        lab: settings::lab(table("lab"), &part("lab"), directory, &mut lab.findings),
        cluster: settings::cluster(table("cluster"), &part("cluster"), &mut of_cluster),
        switch: settings::switch(table("switch"), &part("switch"), directory, &mut lab.findings),
        dns: dns::dns(table("dns"), &part("dns"), &mut lab.findings),
        policy: policy::policy(table("policy"), &part("policy"), &mut lab.findings),
        gateway: balancers::balancers(
            table("load-balancers"),
            &part("load-balancers"),
            &mut lab.findings,
        ),
    };
    // where ranges are not known, what lies in them cannot be judged
    lab.is_broken = of_cluster.0.iter().any(|finding| !is_harmless(finding));
    lab.findings.0.extend(of_cluster.0);
    for member in members {
        lab.member(member);
    }
    lab
}

/// Whether an error of `[cluster]` leaves the addresses known.
fn is_harmless(finding: &Finding) -> bool {
    let base = finding.origin.as_ref().map(|origin| &origin.base);
    let way = base.map_or_else(|| finding.field.clone(), |base| base.then(&finding.field));
    HARMLESS.iter().any(|key| way.is_within(&Field::of("cluster").key(key)))
}

impl Lab {
    fn member(&mut self, member: Member<'_>) {
        let key = member.key.as_ref();
        if SETTINGS.contains(&key) {
            return;
        }
        let kind = Kind::of_key(key);
        if kind.is_none() && ![EXTERNAL, LINK].contains(&key) {
            let known: Vec<_> = SETTINGS
                .into_iter()
                .chain([EXTERNAL, LINK])
                .chain(Kind::ALL.into_iter().map(Kind::key))
                .collect();
            fields::unknown_key(&member, &known, &self.origin, &mut self.findings);
            return;
        }
        let Value::List(items) = member.tree.value else {
            let message = format!("expected a list, found {}", member.tree.value);
            let help = format!("write it in double brackets: [[{key}]]");
            let error = self.findings.error(Field::of(key), message, help);
            error.within(&self.origin).at(member.key_span);
            return;
        };
        for (index, item) in items.into_iter().enumerate() {
            let mut origin = self.origin.part(Field::of(key).index(index));
            match kind {
                None if key == LINK => {
                    self.links.extend(links::link(&item, &origin, &mut self.findings));
                }
                None => self.hosts.extend(short::host(&item, &origin, &mut self.findings)),
                Some(kind) => {
                    origin.short = short::is_short(kind, &item);
                    self.object(kind, item, origin);
                }
            }
        }
    }

    fn object(&mut self, kind: Kind, mut tree: Tree<'_>, origin: Origin) {
        if origin.short {
            self.entries.extend(short::object(kind, &tree, &origin, &mut self.findings));
        } else {
            match manifest::entry(kind, &mut tree, origin) {
                Ok(entry) => self.entries.push(entry),
                Err(findings) => self.findings.0.extend(findings.0),
            }
        }
    }
}

impl Default for Lab {
    /// A lab of which nothing could be read.
    fn default() -> Self {
        let nothing = Document::whole(Source::new("", ""), Format::Toml);
        Self {
            settings: Settings {
                lab: LabSettings::default(),
                cluster: ClusterSettings::default(),
                switch: SwitchSettings::default(),
                policy: PolicySettings::default(),
                gateway: GatewaySettings::default(),
                dns: DnsSettings::default(),
            },
            entries: Vec::new(),
            hosts: Vec::new(),
            links: Vec::new(),
            findings: Findings::default(),
            origin: Origin::whole(nothing),
            is_broken: true,
        }
    }
}
