//! `kswitch test`: cases of how a Kubernetes network must behave, carried out and judged.
//!
//! A case file ([`mod@format`]) describes a lab ([`topology`]) and what must come of packets in it. One
//! file for each area judges it ([`services`], [`nat`], [`l3`], [`policy`], [`maglev`]), on a
//! [`stage`], which today is [`memory`] on a virtual clock. [`report`] and [`junit`] say what came
//! of it.

pub mod caller;
pub mod findings;
pub mod format;
pub mod hosts;
pub mod junit;
pub mod l3;
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

use findings::Findings;
use format::{Area, Level};
use memory::Memory;
use read::Case;
use report::{CaseReport, Verdict};
use topology::{Broken, Lab, Step};

/// Features that a case may require.
///
/// Source: the `requires` of the case format.
const FEATURES: [&str; 14] = [
    "bridged-pods",
    "ClusterNetworkPolicy",
    "egress-masquerade",
    "fragments",
    "gateway",
    "hostport",
    "ipv6",
    "link-mtu",
    "localhost-nodeports",
    "masquerade-all",
    "nodeport-addresses",
    "sctp",
    "tcp-raw",
    "topology-hints",
];

/// Carries out the case in a file and judges it.
pub fn run_file(path: &Path) -> CaseReport {
    let begun = Instant::now();
    let mut findings = Findings::default();
    let (name, area, title, verdict) = match read::file(path) {
        Err(error) => {
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            (name, "", String::new(), Verdict::Broken(error.to_string()))
        }
        Ok(case) => {
            let verdict = verdict(&case, &mut findings);
            let read::Heading { name, area, title, .. } = case.heading();
            (name.to_owned(), area_name(area), title.to_owned(), verdict)
        }
    };
    let file = path.to_owned();
    CaseReport { file, name, area, title, verdict, findings, took: begun.elapsed() }
}

fn verdict(case: &Case, findings: &mut Findings) -> Verdict {
    let read::Heading { requires, level, .. } = case.heading();
    if let Some(feature) = requires.iter().find(|at| !FEATURES.contains(&at.as_str())) {
        return Verdict::Skipped(format!("requires {feature}"));
    }
    let carried_out = match case {
        Case::Services(case) => {
            in_memory(case, |lab, memory| services::judge(case, lab, memory, findings))
        }
        Case::Maglev(case) => maglev::judge(&case.vectors, findings),
        Case::Policy(case) => {
            in_memory(case, |lab, memory| policy::judge(case, lab, memory, findings))
        }
        Case::Nat(case) => packets::judge_sums(&case.sums, findings)
            .and_then(|()| packets::judge_updates(&case.updates, findings))
            .and_then(|()| packets::judge_packets(&case.packets, findings))
            .and_then(|()| match case.steps.as_slice() {
                [] => Ok(()),
                _ => in_memory(case, |lab, memory| nat::judge(case, lab, memory, findings)),
            }),
        Case::L3(case) => in_memory(case, |lab, memory| l3::judge(case, lab, memory, findings)),
        Case::NotSupported(_) => return Verdict::Skipped("not supported yet".to_owned()),
    };
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

fn in_memory<S: Step>(
    case: &format::File<S>,
    judge: impl FnOnce(&mut Lab, &mut Memory) -> Result<(), Broken>,
) -> Result<(), Broken> {
    let mut lab = Lab::new("test", case)?;
    let mut memory = Memory::new(&lab);
    judge(&mut lab, &mut memory)
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
