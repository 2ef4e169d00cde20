//! `kswitch test`: cases of how a Kubernetes network must behave, carried out and judged.
//!
//! A case file ([`mod@format`]) describes a lab ([`topology`]) and what must come of packets in it. One
//! file for each area judges it ([`services`], [`nat`], [`l3`], [`policy`], [`maglev`], [`dns`]), on
//! a [`Ground`]: in [`memory`] on a virtual clock, or [`live`] on real TAPs with real sockets.
//! [`report`] and [`junit`] say what came of it.

pub mod caller;
pub mod converse;
pub mod dns;
pub mod explain;
pub mod findings;
pub mod format;
pub mod hosts;
pub mod junit;
pub mod l3;
pub mod l7;
pub mod live;
pub mod maglev;
pub mod memory;
pub mod names;
pub mod nat;
pub mod packets;
pub mod place;
pub mod policy;
pub mod read;
pub mod report;
pub mod services;
pub mod stage;
pub mod topology;
pub mod wire;

use std::path::{Path, PathBuf};
use std::time::Instant;

use dns::NameServer;
use findings::Findings;
use format::{Area, File, Level};
use l7::{Edge, Loopback};
use memory::Memory;
use read::Case;
use report::{CaseReport, Verdict};
use stage::Stage;
use topology::{Broken, Lab, Step};
use wire::Wire;

/// Features that a case may require.
///
/// Source: the `requires` of the case format.
const FEATURES: [&str; 58] = [
    "bridged-pods",
    "ClusterNetworkPolicy",
    "egress-masquerade",
    "empty-services-setting",
    "fragments",
    "gateway",
    "GatewayAddressEmpty",
    "GatewayHTTPListenerIsolation",
    "GatewayHTTPSListenerDetectMisdirectedRequests",
    "GatewayPort8080",
    "GatewayStaticAddresses",
    "GRPCRoute",
    "GRPCRouteNamedRouteRule",
    "hostport",
    "HTTPRoute303RedirectStatusCode",
    "HTTPRoute307RedirectStatusCode",
    "HTTPRoute308RedirectStatusCode",
    "HTTPRouteBackendProtocolH2C",
    "HTTPRouteBackendProtocolWebSocket",
    "HTTPRouteBackendRequestHeaderModification",
    "HTTPRouteBackendRequestRedirect",
    "HTTPRouteBackendResponseHeaderModification",
    "HTTPRouteBackendTimeout",
    "HTTPRouteBackendURLRewrite",
    "HTTPRouteCORS",
    "HTTPRouteDestinationPortMatching",
    "HTTPRouteHostRewrite",
    "HTTPRouteMethodMatching",
    "HTTPRouteNamedRouteRule",
    "HTTPRouteParentRefPort",
    "HTTPRoutePathRedirect",
    "HTTPRoutePathRewrite",
    "HTTPRoutePortRedirect",
    "HTTPRouteQueryParamMatching",
    "HTTPRouteRequestMirror",
    "HTTPRouteRequestMultipleMirrors",
    "HTTPRouteRequestPercentageMirror",
    "HTTPRouteRequestTimeout",
    "HTTPRouteResponseHeaderModification",
    "HTTPRouteSchemeRedirect",
    "ipv6",
    "link-mtu",
    "ListenerSet",
    "localhost-nodeports",
    "masquerade-all",
    "nodeport-addresses",
    "pod-records",
    "ReferenceGrant",
    "sctp",
    "tcp-raw",
    "TCPRoute",
    "tls",
    "TLSRoute",
    "TLSRouteModeMixed",
    "TLSRouteModeTerminate",
    "topology-hints",
    "upstream",
    "UDPRoute",
];

/// Where cases are carried out: makes the lab that a case describes.
pub trait Ground {
    /// A lab in which connections are opened.
    type Stage: Stage + NameServer;

    /// A lab at which frames are sent and received by hand.
    type Wire: Wire;

    /// A lab with load balancers in front of it.
    type Edge: Edge;

    /// The lab of a case, for connections.
    ///
    /// # Errors
    /// The case is wrong, or its lab cannot be made.
    fn stage<S: Step>(&self, case: &File<S>) -> Result<(Lab, Self::Stage), Broken>;

    /// The lab of a case, for frames.
    ///
    /// # Errors
    /// As [`Ground::stage`].
    fn wire<S: Step>(&self, case: &File<S>) -> Result<(Lab, Self::Wire), Broken>;

    /// The lab of a case, for load balancers.
    ///
    /// # Errors
    /// As [`Ground::stage`].
    fn edge<S: Step>(&self, case: &File<S>) -> Result<(Lab, Self::Edge), Broken>;

    /// Whether the run was broken off: what is judged after that says nothing.
    fn is_interrupted(&self) -> bool {
        false
    }
}

/// In memory, on a virtual clock.
#[derive(Clone, Copy, Debug)]
pub struct InMemory;

impl Ground for InMemory {
    type Stage = Memory;
    type Wire = Memory;
    type Edge = Loopback;

    fn stage<S: Step>(&self, case: &File<S>) -> Result<(Lab, Memory), Broken> {
        let lab = Lab::new("test", case)?;
        let memory = Memory::new(&lab);
        Ok((lab, memory))
    }

    fn wire<S: Step>(&self, case: &File<S>) -> Result<(Lab, Memory), Broken> {
        self.stage(case)
    }

    fn edge<S: Step>(&self, case: &File<S>) -> Result<(Lab, Loopback), Broken> {
        let lab = Lab::new("test", case)?;
        let edge = Loopback::new(&lab)?;
        Ok((lab, edge))
    }
}

/// Carries out the case in a file in memory and judges it.
pub fn run_file(path: &Path) -> CaseReport {
    run_on(&InMemory, path)
}

/// Carries out the case in a file and judges it.
pub fn run_on(ground: &impl Ground, path: &Path) -> CaseReport {
    let begun = Instant::now();
    let mut findings = Findings::default();
    let case = read::file(path);
    let has_lab = case.as_ref().is_ok_and(has_lab);
    let (name, area, title, verdict) = match case {
        Err(error) => {
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            (name, "", String::new(), Verdict::Broken(error.to_string()))
        }
        Ok(case) => {
            let verdict = verdict(&case, ground, &mut findings);
            let read::Heading { name, area, title, .. } = case.heading();
            (name.to_owned(), area_name(area), title.to_owned(), verdict)
        }
    };
    let file = path.to_owned();
    CaseReport { file, name, area, title, verdict, has_lab, findings, took: begun.elapsed() }
}

/// Whether a case has a lab: tables of consistent hashing, checksums and packets before and after
/// translation need none.
const fn has_lab(case: &Case) -> bool {
    match case {
        Case::Maglev(_) => false,
        Case::Nat(case) => !case.steps.is_empty(),
        _ => true,
    }
}

fn verdict(case: &Case, ground: &impl Ground, findings: &mut Findings) -> Verdict {
    let read::Heading { requires, level, .. } = case.heading();
    if let Some(feature) = requires.iter().find(|at| !FEATURES.contains(&at.as_str())) {
        return Verdict::Skipped(format!("requires {feature}"));
    }
    let carried_out = match case {
        Case::Services(case) => ground
            .stage(case)
            .and_then(|(mut lab, mut on)| services::judge(case, &mut lab, &mut on, findings)),
        Case::Maglev(case) => maglev::judge(&case.vectors, findings),
        Case::Policy(case) => ground
            .stage(case)
            .and_then(|(mut lab, mut on)| policy::judge(case, &mut lab, &mut on, findings)),
        Case::Nat(case) => packets::judge_sums(&case.sums, findings)
            .and_then(|()| packets::judge_updates(&case.updates, findings))
            .and_then(|()| packets::judge_packets(&case.packets, findings))
            .and_then(|()| match case.steps.as_slice() {
                [] => Ok(()),
                _ => ground
                    .wire(case)
                    .and_then(|(mut lab, mut on)| nat::judge(case, &mut lab, &mut on, findings)),
            }),
        Case::L3(case) => ground
            .wire(case)
            .and_then(|(mut lab, mut on)| l3::judge(case, &mut lab, &mut on, findings)),
        Case::Dns(case) => ground
            .stage(case)
            .and_then(|(mut lab, mut on)| dns::judge(case, &mut lab, &mut on, findings)),
        Case::L7(case) => ground
            .edge(case)
            .and_then(|(mut lab, mut on)| l7::judge(case, &mut lab, &mut on, findings)),
    };
    if ground.is_interrupted() {
        return Verdict::Broken("interrupted".to_owned());
    }
    match carried_out {
        Err(Broken(why)) => Verdict::Broken(why),
        Ok(()) if level == Level::Report => Verdict::Reported,
        Ok(()) if !findings.differences.is_empty() => Verdict::Failed,
        Ok(()) if findings.judged == 0 => match findings.left_out.first() {
            Some(_) => Verdict::Skipped(std::mem::take(&mut findings.left_out).join("; ")),
            None => Verdict::Broken("the case judges nothing".to_owned()),
        },
        Ok(()) => Verdict::Passed,
    }
}

const fn area_name(area: Area) -> &'static str {
    match area {
        Area::Services => "services",
        Area::NetworkPolicy => "networkpolicy",
        Area::ClusterNetworkPolicy => "clusternetworkpolicy",
        Area::Dns => "dns",
        Area::L7 => "l7",
        Area::Maglev => "maglev",
        Area::Nat => "nat",
        Area::L3 => "l3",
    }
}

/// The case files that paths stand for: files as they are, directories with all below them.
///
/// # Errors
/// A path that cannot be read, or a directory without a case file.
pub fn files(paths: &[PathBuf]) -> Result<Vec<PathBuf>, Broken> {
    let mut files = Vec::new();
    for path in paths {
        let before = files.len();
        collect(path, &mut files)?;
        if files.len() == before {
            return Err(Broken(format!("there is no case file (*.yaml) in {}", path.display())));
        }
    }
    Ok(files)
}

fn collect(path: &Path, files: &mut Vec<PathBuf>) -> Result<(), Broken> {
    let broken = |error: std::io::Error| Broken(format!("cannot read {}: {error}", path.display()));
    if !path.metadata().map_err(broken)?.is_dir() {
        files.push(path.to_owned());
        return Ok(());
    }
    let entries = path.read_dir().map_err(broken)?;
    let mut entries: Vec<PathBuf> =
        entries.map(|entry| Ok(entry?.path())).collect::<Result<_, _>>().map_err(broken)?;
    entries.sort();
    for entry in entries {
        let is_case = entry.extension().is_some_and(|end| end == "yaml" || end == "yml");
        if is_case || entry.is_dir() {
            collect(&entry, files)?;
        }
    }
    Ok(())
}
