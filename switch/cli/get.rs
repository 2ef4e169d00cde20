//! `get`: which objects there are.

mod columns;
mod watch;

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::Args;
use serde_json::Value;

use super::error::Error;
use super::lab::Lab;
use super::output::{self, Format};
use super::table::Table;
use crate::control::request::{Kind, Request, Response, Selector};

/// Namespace of a name that stands alone.
pub(super) const DEFAULT_NAMESPACE: &str = "default";

/// Show what the lab is made of
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// nodes, pods, services, endpointslices, networkpolicies, deployments, ingresses, gateways,
    /// httproutes, backendservices, forwardingrules, healthchecks, firewallrules, ports, links,
    /// workers, routes, fdb, neighbours, ...
    #[arg(value_parser = kind)]
    kind: Kind,

    /// Only the one of this name: NAME or NAMESPACE/NAME
    name: Option<String>,

    /// Only those of this namespace; by default all, for a NAME `default`
    #[arg(short, long)]
    namespace: Option<String>,

    /// Those of all namespaces, as without -n
    #[arg(short = 'A', long, conflicts_with_all = ["namespace", "name"])]
    all_namespaces: bool,

    /// How to show them; by default as a table
    #[arg(short, long, value_name = "FORMAT")]
    output: Option<Format>,

    /// Go on, and show what changes
    #[arg(short, long)]
    watch: bool,
}

const EXAMPLES: &str = "\
Examples:
  kswitch get pods -o wide
  kswitch get service frontend -o yaml
  kswitch get pods --watch";

pub(super) fn kind(text: &str) -> Result<Kind, String> {
    let text = text.to_ascii_lowercase();
    let is_called = |kind: &Kind| {
        let plural = kind.plural();
        text == plural || text == singular(plural) || shorts(*kind).contains(&text.as_str())
    };
    Kind::ALL.into_iter().find(is_called).ok_or_else(|| {
        let all: Vec<_> = Kind::ALL.into_iter().map(Kind::plural).collect();
        match all.split_last() {
            Some((last, all)) => format!("expected {} or {last}", all.join(", ")),
            None => String::new(),
        }
    })
}

/// One of what a plural names.
fn singular(plural: &str) -> String {
    match (plural.strip_suffix("ies"), plural.strip_suffix("sses")) {
        (Some(stem), _) => format!("{stem}y"),
        (_, Some(stem)) => format!("{stem}ss"),
        _ => plural.strip_suffix('s').unwrap_or(plural).to_owned(),
    }
}

/// What a kind is called by those who are in a hurry, or from elsewhere.
const fn shorts(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Nodes => &["no"],
        Kind::Pods => &["po"],
        Kind::Services => &["svc"],
        Kind::Namespaces => &["ns"],
        Kind::NetworkPolicies => &["netpol"],
        Kind::ClusterNetworkPolicies => &["cnp"],
        Kind::Deployments => &["deploy"],
        Kind::ReplicaSets => &["rs"],
        Kind::StatefulSets => &["sts"],
        Kind::DaemonSets => &["ds"],
        Kind::Ingresses => &["ing"],
        Kind::GatewayClasses => &["gc"],
        Kind::Gateways => &["gtw"],
        Kind::ListenerSets => &["lset"],
        Kind::BackendTlsPolicies => &["btlspolicy"],
        Kind::ManagedCertificates => &["mcrt"],
        Kind::Neighbours => &["neighbors", "neighbor"],
        _ => &[],
    }
}

pub(super) fn run(lab: &Lab, arguments: &Arguments) -> Result<ExitCode, Error> {
    let Arguments { kind, output, .. } = *arguments;
    let select = arguments.select()?;
    if arguments.watch {
        return watch::run(lab, kind, &select, output);
    }
    let items = fetch(lab, kind, &select)?;
    if items.is_empty()
        && let Some(name) = &select.name
    {
        let within = match &select.namespace {
            Some(namespace) => format!(" in namespace {namespace}"),
            None => String::new(),
        };
        let kind = kind.plural();
        return Err(Error::new(format_args!("no {name:?} among the {kind}{within}")));
    }
    match output {
        Some(Format::Json) => output::json(&whole(&select, items))?,
        Some(Format::Yaml) => output::yaml(&whole(&select, items))?,
        Some(Format::Wide) => show(kind, &items, columns::wide(kind))?,
        // a text to be put in a file, not in a table
        None if kind == Kind::Authorities => {
            items
                .iter()
                .try_for_each(|item| output::text(&columns::member(item, "/certificate")))?;
        }
        None => show(kind, &items, columns::usual(kind))?,
    }
    Ok(ExitCode::SUCCESS)
}

/// The objects that are meant.
fn fetch(lab: &Lab, kind: Kind, select: &Selector) -> Result<Vec<Value>, Error> {
    let mut items = Vec::new();
    for response in lab.ask(&Request::Get { kind, select: select.clone() })? {
        match response? {
            Response::Objects { items: more } => items.extend(more),
            other => return Err(Error::of(other)),
        }
    }
    Ok(items)
}

impl Arguments {
    fn select(&self) -> Result<Selector, Error> {
        select(self.kind, self.name.as_deref(), self.namespace.as_deref())
    }
}

/// Which objects of a kind are meant by a name and a namespace.
///
/// # Errors
/// They are two namespaces.
pub(super) fn select(
    kind: Kind,
    name: Option<&str>,
    namespace: Option<&str>,
) -> Result<Selector, Error> {
    // A port is named after what is behind it: `default/client`, `node/node-a`.
    let has_namespaces = kind.is_namespaced() || matches!(kind, Kind::Ports | Kind::Links);
    if !has_namespaces {
        return Ok(Selector { namespace: None, name: name.map(str::to_owned) });
    }
    let (within, name) = match name.map(|name| (name.split_once('/'), name)) {
        Some((Some((within, name)), _)) => (Some(within), Some(name)),
        Some((None, name)) => (None, Some(name)),
        None => (None, None),
    };
    if let (Some(within), Some(namespace)) = (within, namespace)
        && within != namespace
    {
        let message = format!("two namespaces: {within} and {namespace}");
        return Err(Error::new(message));
    }
    let default = name.filter(|_| kind.is_namespaced()).map(|_| DEFAULT_NAMESPACE);
    let namespace = within.or(namespace).or(default);
    Ok(Selector { namespace: namespace.map(str::to_owned), name: name.map(str::to_owned) })
}

/// The one that was named, or the list of all.
fn whole(select: &Selector, mut items: Vec<Value>) -> Value {
    match items.pop() {
        Some(only) if select.name.is_some() && items.is_empty() => only,
        last => {
            items.extend(last);
            output::list(&items)
        }
    }
}

fn show(kind: Kind, items: &[Value], columns: Vec<columns::Column>) -> Result<(), Error> {
    if items.is_empty() {
        // Not on standard output: a program that counts lines is right to find none.
        let _ = writeln!(io::stderr(), "no {}", kind.plural());
        return Ok(());
    }
    let namespaces: BTreeSet<_> = items.iter().map(columns::namespace).collect();
    let mut columns = columns;
    if kind.is_namespaced() && namespaces.iter().any(|namespace| namespace != DEFAULT_NAMESPACE) {
        columns.insert(0, columns::NAMESPACE);
    }
    let mut table = Table::new(columns.iter().map(|column| column.heading));
    for item in items {
        table.push(columns.iter().map(|column| (column.cell)(item)).collect());
    }
    output::text(&table.render())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selected(kind: Kind, name: Option<&str>, namespace: Option<&str>) -> (String, String) {
        let arguments = Arguments {
            kind,
            name: name.map(str::to_owned),
            namespace: namespace.map(str::to_owned),
            all_namespaces: false,
            output: None,
            watch: false,
        };
        let Selector { namespace, name } = arguments.select().unwrap();
        (namespace.unwrap_or("*".into()), name.unwrap_or("*".into()))
    }

    #[test]
    fn a_name_alone_is_in_the_default_namespace_and_no_name_in_all() {
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(selected(Kind::Pods, None, None), pair("*", "*"));
        assert_eq!(selected(Kind::Pods, None, Some("shop")), pair("shop", "*"));
        assert_eq!(selected(Kind::Pods, Some("web"), None), pair("default", "web"));
        assert_eq!(selected(Kind::Pods, Some("shop/web"), None), pair("shop", "web"));
        assert_eq!(selected(Kind::Ports, Some("shop/web"), None), pair("shop", "web"));
        assert_eq!(selected(Kind::Ports, Some("web"), None), pair("*", "web"));
        assert_eq!(selected(Kind::Nodes, Some("a"), Some("shop")), pair("*", "a"));
    }

    #[test]
    fn kinds_are_called_by_many_or_one_of_them_or_in_short() {
        for known in Kind::ALL {
            assert_eq!(kind(known.plural()), Ok(known));
            assert_eq!(kind(&known.plural().to_uppercase()), Ok(known));
        }
        for (text, expected) in [
            ("pod", Kind::Pods),
            ("networkpolicy", Kind::NetworkPolicies),
            ("ingress", Kind::Ingresses),
            ("gatewayclass", Kind::GatewayClasses),
            ("svc", Kind::Services),
            ("backendtlspolicy", Kind::BackendTlsPolicies),
            ("endpointslice", Kind::EndpointSlices),
            ("neighbor", Kind::Neighbours),
        ] {
            assert_eq!(kind(text), Ok(expected), "{text}");
        }
        let told = kind("policy").unwrap_err();
        assert!(told.starts_with("expected nodes, pods, ") && told.contains(" or "), "{told}");
    }

    #[test]
    fn one_that_was_named_stands_alone() {
        let named = Selector { name: Some("a".into()), namespace: None };
        assert_eq!(whole(&named, vec![1.into()]), 1);
        assert_eq!(whole(&Selector::default(), vec![1.into()])["items"][0], 1);
        assert_eq!(whole(&Selector::default(), vec![])["items"], Value::Array(vec![]));
    }
}
