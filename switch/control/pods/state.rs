//! What is seen of a pod whose programs run here.

use k8s_openapi::api::core::v1::{
    ContainerState as StateObject, ContainerStateRunning, ContainerStateTerminated,
    ContainerStateWaiting, ContainerStatus, Pod,
};
use kswitch_config::{PodProgram, Role};

use super::kept::Entry;

/// What a container does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Doing {
    /// Nothing yet, or nothing for now.
    Waiting {
        /// Why, in a word, as Kubernetes has it.
        reason: &'static str,
        /// For people.
        message: String,
    },
    /// It runs.
    Running,
    /// It has ended, and is not started again.
    Ended {
        /// Its exit code; 128 and the signal that ended it.
        code: i32,
    },
}

/// A container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ContainerState {
    pub(crate) name: String,
    pub(crate) role: Role,
    pub(crate) doing: Doing,
    /// Whether it has come up.
    pub(crate) is_started: bool,
    /// Whether it can be used.
    pub(crate) is_ready: bool,
    /// How often it was started again.
    pub(crate) restarts: u32,
    /// How it ended the last time.
    pub(crate) last_code: Option<i32>,
}

/// How far a pod is.
///
/// Source: `PodStatus.phase`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Its first containers have not all ended well.
    Pending,
    /// Its containers run, or are to.
    Running,
    /// All have ended well.
    Succeeded,
    /// All have ended, not all well.
    Failed,
}

/// A pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PodState {
    pub(crate) phase: Phase,
    pub(crate) containers: Vec<ContainerState>,
}

impl PodState {
    /// Nothing of a pod runs yet.
    pub(super) fn new(program: &PodProgram) -> Self {
        let container = |own: &kswitch_config::Program| ContainerState {
            name: own.name.clone(),
            role: own.role,
            doing: Doing::Waiting { reason: "PodInitializing", message: String::new() },
            is_started: false,
            is_ready: false,
            restarts: 0,
            last_code: None,
        };
        let containers = program.containers.iter().map(container).collect();
        Self { phase: Phase::Pending, containers }
    }

    /// Takes note of what a run before this one has started.
    pub(super) fn resume(&mut self, adopted: &[Option<Entry>]) {
        for (container, entry) in self.containers.iter_mut().zip(adopted) {
            let Some(entry) = entry else { continue };
            container.doing = Doing::Running;
            container.restarts = entry.restarts;
            (container.is_started, container.is_ready) = (entry.is_started, entry.is_ready);
            if container.role == Role::Main {
                self.phase = Phase::Running;
            }
        }
        if self.phase == Phase::Running {
            // they ended well before the others began
            let first = self.containers.iter_mut().filter(|it| it.role == Role::Init);
            first.for_each(|container| container.doing = Doing::Ended { code: 0 });
        }
    }

    /// Whether all containers that have to be are ready.
    pub(super) fn is_ready(&self) -> bool {
        self.phase == Phase::Running
            && self.containers.iter().filter(|it| it.role != Role::Init).all(|it| it.is_ready)
    }

    /// The object of the pod, with what is seen of it.
    pub(crate) fn told(&self, pod: &Pod, is_ready: bool) -> Pod {
        let mut pod = pod.clone();
        let status = pod.status.get_or_insert_default();
        let phase = match self.phase {
            Phase::Pending => "Pending",
            Phase::Running => "Running",
            Phase::Succeeded => "Succeeded",
            Phase::Failed => "Failed",
        };
        status.phase = Some(phase.to_owned());
        for condition in status.conditions.iter_mut().flatten() {
            let is = match condition.type_.as_str() {
                "Ready" => is_ready,
                "ContainersReady" => self.is_ready(),
                "Initialized" => self.phase != Phase::Pending,
                _ => continue,
            };
            let word = if is { "True" } else { "False" };
            word.clone_into(&mut condition.status);
        }
        let of = |is_main: bool| -> Vec<ContainerStatus> {
            let own = self.containers.iter().filter(|it| (it.role == Role::Main) == is_main);
            own.map(ContainerState::told).collect()
        };
        status.container_statuses = Some(of(true));
        status.init_container_statuses = Some(of(false)).filter(|all| !all.is_empty());
        pod
    }
}

impl ContainerState {
    fn told(&self) -> ContainerStatus {
        let ended = |code: i32| ContainerStateTerminated {
            exit_code: code,
            reason: Some(if code == 0 { "Completed" } else { "Error" }.to_owned()),
            ..ContainerStateTerminated::default()
        };
        let mut state = StateObject::default();
        match &self.doing {
            Doing::Waiting { reason, message } => {
                let message = Some(message.clone()).filter(|text| !text.is_empty());
                let reason = Some((*reason).to_owned());
                state.waiting = Some(ContainerStateWaiting { reason, message });
            }
            Doing::Running => state.running = Some(ContainerStateRunning::default()),
            Doing::Ended { code } => state.terminated = Some(ended(*code)),
        }
        let last = self
            .last_code
            .map(|code| StateObject { terminated: Some(ended(code)), ..StateObject::default() });
        ContainerStatus {
            name: self.name.clone(),
            ready: self.is_ready,
            started: Some(self.is_started),
            restart_count: i32::try_from(self.restarts).unwrap_or(i32::MAX),
            state: Some(state),
            last_state: last,
            ..ContainerStatus::default()
        }
    }
}
