//! The pods whose containers bring programs: each lives here as it would under a kubelet.
//!
//! [`life`] is that of one pod: its first containers, then the others, started again as its restart
//! policy has it. [`container`] runs a program once, [`probe`] asks how it is ([`ask`]), [`state`] is what is
//! seen of all that, and [`log`] what was said; [`kept`] is how a run after this one knows of it. Pods without programs of their own are not here: the
//! echo server stands in for them.

mod ask;
mod container;
mod kept;
mod life;
pub(crate) mod log;
mod probe;
pub(crate) mod state;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};

use kswitch_config::{Cluster, Pod, PodProgram, PortKind};
use tokio::runtime::Handle;

use super::hosts::home;
use ask::Target;
use kept::Register;
use life::Life;
use log::Log;
use state::{Phase, PodState};

/// Namespace and name.
type Key = (String, String);

/// The pods that have programs.
#[derive(Debug)]
pub(super) struct Pods {
    runtime: Handle,
    changed: Sender<()>,
    lives: BTreeMap<Key, Life>,
    register: Register,
    /// The pods of which the register may know.
    known: BTreeSet<String>,
}

impl Pods {
    /// None yet; the receiver hears whenever something is seen to be other than before.
    pub(super) fn new(runtime: Handle) -> (Self, Receiver<()>) {
        let (changed, changes) = mpsc::channel();
        let register = Register::default();
        let (lives, known) = (BTreeMap::new(), BTreeSet::new());
        (Self { runtime, changed, lives, register, known }, changes)
    }

    /// Has programs outlive this run, and adopts those that outlived the one before; what is needed for
    /// that is in this directory.
    pub(super) fn survive(&mut self, directory: &Path) {
        match Register::open(directory) {
            Ok(register) => self.register = register,
            Err(error) => tracing::warn!("programs of pods will end with this run: {error}"),
        }
    }

    /// What hears whenever something is seen to be other than before.
    pub(super) fn teller(&self) -> Sender<()> {
        self.changed.clone()
    }

    /// Which pods with programs are ready; others are as they were written.
    pub(super) fn readiness(&self, cluster: &Cluster) -> BTreeMap<Key, bool> {
        let with_programs = cluster.pods.iter().filter_map(|pod| {
            let program = cluster.program(pod)?;
            let key = (pod.namespace.clone(), pod.name.clone());
            let life = self.lives.get(&key).filter(|life| life.spec == pod.object.spec);
            let is_ready = match life {
                Some(life) => life.state().is_ready(),
                None => self.was_ready(pod, &program),
            };
            Some((key, is_ready && program.gates_are_open))
        });
        with_programs.collect()
    }

    /// Whether a pod that is about to be adopted was ready.
    fn was_ready(&self, pod: &Pod, program: &PodProgram) -> bool {
        let register = self.register.of(pod.object.spec.as_ref());
        let pod = (program.namespace.as_str(), program.pod.as_str());
        let adopted = program.containers.iter().map(|own| register.find(pod, own));
        let mut state = PodState::new(program);
        state.resume(&adopted.collect::<Vec<_>>());
        state.is_ready()
    }

    /// How a pod is; `None` for those without programs.
    pub(super) fn state(&self, pod: &Pod) -> Option<PodState> {
        let key = (pod.namespace.clone(), pod.name.clone());
        self.lives.get(&key).map(Life::state)
    }

    /// What a container of a pod has said: that of this name, or the first.
    pub(super) fn log(&self, pod: &Pod, container: Option<&str>) -> Option<Arc<Log>> {
        let key = (pod.namespace.clone(), pod.name.clone());
        self.lives.get(&key)?.log(container).map(Arc::clone)
    }

    /// Whether everything that a pod ran has ended.
    pub(super) fn has_ended(&self, pod: &Pod) -> bool {
        let phase = self.state(pod).map(|state| state.phase);
        matches!(phase, Some(Phase::Succeeded | Phase::Failed))
    }

    /// Ends the programs of a namespace that is about to go.
    pub(super) fn leave(&mut self, namespace: &str) {
        self.lives.retain(|_, life| life.namespace != namespace);
    }

    /// Ends what is not wanted any more, and starts what is wanted and does not run.
    pub(super) fn keep(&mut self, cluster: &Cluster) {
        let wanted = cluster.pods.iter().filter_map(|pod| Some((pod, cluster.program(pod)?)));
        let wanted: BTreeMap<Key, _> = wanted
            .map(|(pod, program)| ((pod.namespace.clone(), pod.name.clone()), (pod, program)))
            .collect();
        self.lives.retain(|key, life| {
            // who comes after one that ends is another, even where all else is the same
            let is_same = |pod: &Pod| {
                pod.object.spec == life.spec && (pod.is_terminating() || !life.is_ending())
            };
            wanted.get(key).is_some_and(|(pod, _)| is_same(pod))
        });
        let known = wanted.keys().map(|(namespace, name)| format!("{namespace}.{name}")).collect();
        if known != self.known {
            self.register.forget_others(&known);
            self.known = known;
        }
        for (key, (pod, program)) in wanted {
            if pod.is_terminating() {
                if let Some(life) = self.lives.get(&key) {
                    life.end();
                }
                continue;
            }
            let (false, Some(target)) = (self.lives.contains_key(&key), target(cluster, pod))
            else {
                continue;
            };
            let spec = pod.object.spec.clone();
            let changed = self.changed.clone();
            let register = &self.register;
            let life = Life::start(&self.runtime, program, spec, target, changed, register);
            self.lives.insert(key, life);
        }
    }
}

fn target(cluster: &Cluster, pod: &Pod) -> Option<Target> {
    let lab = &cluster.settings.lab.name;
    let node = cluster.nodes.get(pod.node)?.name.clone();
    Some(Target {
        node: PortKind::Node { name: node }.namespace(lab),
        pod: home(cluster, pod).namespace(lab),
        address: *pod.addresses.first()?,
    })
}
