//! `graph`: the lab as a picture.

mod svg;
mod write;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, ValueEnum};
use kswitch_config::{Draft, Observed, endpoint_slices};
use serde::Serialize;
use serde_json::{Value, json};

use super::error::Error;
use super::lab::Lab;
use super::output;
use crate::control::request::{Kind, Request, Response, Selector};

/// Exit code for a bad config.
const BAD_CONFIG: u8 = 2;

/// Draw nodes, pods, services and hosts outside
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// In which form
    #[arg(short, long, value_name = "FORM", default_value = "svg")]
    output: Form,

    /// Draw the lab of this file, which need not run; needs no rights
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Form {
    Svg,
    Dot,
    Mermaid,
}

const EXAMPLES: &str = "\
Examples:
  kswitch graph --config config/labs/quickstart.toml -o mermaid
  kswitch graph -o svg > lab.svg";

pub(super) fn run(
    choose: impl FnOnce() -> Result<Lab, Error>,
    arguments: &Arguments,
) -> Result<ExitCode, Error> {
    let picture = match &arguments.config {
        None => of_running(&choose()?)?,
        Some(config) => of_file(config)?,
    };
    output::text(&match arguments.output {
        Form::Svg => svg::write(&picture),
        Form::Dot => write::dot(&picture),
        Form::Mermaid => write::mermaid(&picture),
    })?;
    Ok(ExitCode::SUCCESS)
}

/// What is drawn.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Picture {
    /// Nodes and their pods, `namespace/name`.
    nodes: BTreeMap<String, Vec<String>>,
    /// Services, `namespace/name`, and the pods behind them.
    services: BTreeMap<String, Vec<String>>,
    /// Hosts outside.
    externals: Vec<String>,
}

fn of_running(lab: &Lab) -> Result<Picture, Error> {
    let get = |kind| -> Result<Vec<Value>, Error> {
        let mut all = Vec::new();
        for response in lab.ask(&Request::Get { kind, select: Selector::default() })? {
            match response? {
                Response::Objects { items } => all.extend(items),
                other => return Err(Error::of(other)),
            }
        }
        Ok(all)
    };
    let ports = get(Kind::Ports)?;
    let externals = ports.iter().filter(|port| port["role"] == "external");
    let externals =
        externals.filter_map(|port| Some(json!({ "name": bare(port["name"].as_str()?) })));
    Ok(Picture::new(&Objects {
        nodes: get(Kind::Nodes)?,
        pods: get(Kind::Pods)?,
        services: get(Kind::Services)?,
        slices: get(Kind::EndpointSlices)?,
        externals: externals.collect(),
    }))
}

fn of_file(path: &std::path::Path) -> Result<Picture, Error> {
    let cluster = Draft::read(path).validate(None);
    let cluster = Arc::new(cluster.map_err(|errors| Error::with_code(errors, BAD_CONFIG))?);
    let slices = endpoint_slices(&cluster, &Observed::default());
    let externals = cluster.externals.iter().map(|external| json!({ "name": external.name }));
    Ok(Picture::new(&Objects {
        nodes: values(cluster.nodes.iter().map(|node| &*node.object)),
        pods: values(cluster.pods.iter().map(|pod| &*pod.object)),
        services: values(cluster.services.iter().map(|service| &**service)),
        slices: values(slices.iter().map(|slice| &**slice)),
        externals: externals.collect(),
    }))
}

fn values<T: Serialize>(objects: impl Iterator<Item = T>) -> Vec<Value> {
    objects.filter_map(|object| serde_json::to_value(object).ok()).collect()
}

/// Kubernetes objects, and `name`s of hosts outside.
struct Objects {
    nodes: Vec<Value>,
    pods: Vec<Value>,
    services: Vec<Value>,
    slices: Vec<Value>,
    externals: Vec<Value>,
}

impl Picture {
    fn new(objects: &Objects) -> Self {
        let mut picture = Self::default();
        for node in &objects.nodes {
            picture.nodes.entry(text(node, "/metadata/name")).or_default();
        }
        for pod in &objects.pods {
            let node = text(pod, "/spec/nodeName");
            picture.nodes.entry(node).or_default().push(full_name(pod));
        }
        for service in &objects.services {
            picture.services.entry(full_name(service)).or_default();
        }
        for slice in &objects.slices {
            let name = text(slice, "/metadata/labels/kubernetes.io~1service-name");
            let service = format!("{}/{name}", text(slice, "/metadata/namespace"));
            let Some(pods) = picture.services.get_mut(&service) else { continue };
            let endpoints = slice["endpoints"].as_array().into_iter().flatten();
            pods.extend(endpoints.filter(|end| text(end, "/targetRef/kind") == "Pod").map(|end| {
                let namespace = text(end, "/targetRef/namespace");
                format!("{namespace}/{}", text(end, "/targetRef/name"))
            }));
        }
        for pods in picture.services.values_mut() {
            pods.sort_unstable();
            pods.dedup();
        }
        picture.externals = objects.externals.iter().map(|host| text(host, "/name")).collect();
        picture
    }
}

fn text(object: &Value, pointer: &str) -> String {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn full_name(object: &Value) -> String {
    format!("{}/{}", text(object, "/metadata/namespace"), text(object, "/metadata/name"))
}

/// A name without what stands before it.
fn bare(name: &str) -> &str {
    name.split_once('/').map_or(name, |(_, bare)| bare)
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn picture() -> Picture {
        let pods = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Picture {
            nodes: [
                ("node-a".to_owned(), pods(&["default/a", "shop/b<&>"])),
                ("node-b".to_owned(), pods(&[])),
            ]
            .into(),
            services: [("default/web".to_owned(), pods(&["default/a", "shop/b<&>"]))].into(),
            externals: pods(&["internet"]),
        }
    }

    #[test]
    fn a_lab_file_is_drawn_whole() {
        let picture = of_file(std::path::Path::new("config/labs/quickstart.toml")).unwrap();
        assert_eq!(picture.nodes["node-a"], ["default/frontend-a", "default/client"]);
        let frontends = ["default/frontend-a", "default/frontend-b"];
        assert_eq!(picture.services["default/frontend"], frontends);
        assert_eq!(picture.externals, ["internet"]);
    }
}
