//! The life of a pod whose programs run here.

use std::io::ErrorKind;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::PodSpec;
use kswitch_config::{Hook, PodProgram, Program, Restart, Role};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{sleep, timeout};

use super::ask::Target;
use super::container::{self, Ears};
use super::kept::{Entry, Register};
use super::log::Log;
use super::probe::{Asking, BackOff, Verdict};
use super::state::{Doing, Phase, PodState};
use crate::threads;

/// A pod's programs; they end when this is dropped.
#[derive(Debug)]
pub(super) struct Life {
    /// What it was made from.
    pub(super) spec: Option<PodSpec>,
    /// The namespace that its programs are in.
    pub(super) namespace: String,
    shared: Arc<Shared>,
    task: AbortHandle,
}

/// What a pod's tasks share.
#[derive(Debug)]
struct Shared {
    program: PodProgram,
    target: Target,
    state: Mutex<PodState>,
    logs: Vec<Arc<Log>>,
    register: Register,
    /// What a run before this one has started, by container.
    adopted: Mutex<Vec<Option<Entry>>>,
    /// Hears of every change of the state.
    changed: Sender<()>,
    /// Whether all is to end.
    ending: watch::Sender<bool>,
}

impl Life {
    /// Starts a pod's programs.
    pub(super) fn start(
        runtime: &Handle,
        program: PodProgram,
        spec: Option<PodSpec>,
        target: Target,
        changed: Sender<()>,
        register: &Register,
    ) -> Self {
        let namespace = target.pod.clone();
        let pod = (program.namespace.as_str(), program.pod.as_str());
        let register = register.of(spec.as_ref());
        let found = program.containers.iter().map(|container| {
            register.end_other(pod, container);
            register.find(pod, container)
        });
        let adopted: Vec<_> = found.collect();
        let mut state = PodState::new(&program);
        state.resume(&adopted);
        let (state, adopted) = (Mutex::new(state), Mutex::new(adopted));
        let logs = program.containers.iter().map(|_| Arc::default()).collect();
        let shared = Arc::new(Shared {
            program,
            target,
            state,
            logs,
            register,
            adopted,
            changed,
            ending: watch::Sender::new(false),
        });
        let task = runtime.spawn(live(Arc::clone(&shared))).abort_handle();
        Self { spec, namespace, shared, task }
    }

    /// Asks its programs to end, and insists after the pod's grace.
    pub(super) fn end(&self) {
        self.shared.ending.send_replace(true);
    }

    /// Whether its programs were asked to end.
    pub(super) fn is_ending(&self) -> bool {
        self.shared.is_ending()
    }

    /// How it is.
    pub(super) fn state(&self) -> PodState {
        self.shared.state().clone()
    }

    /// What a container has said: that of this name, or the first that is to run on; `None` if there
    /// is none.
    pub(super) fn log(&self, name: Option<&str>) -> Option<&Arc<Log>> {
        let containers = &self.shared.program.containers;
        let at = match name {
            Some(name) => containers.iter().position(|own| own.name == name),
            None => containers.iter().position(|own| own.role == Role::Main),
        };
        self.shared.logs.get(at?)
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, PodState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pod(&self) -> (&str, &str) {
        (&self.program.namespace, &self.program.pod)
    }

    /// The program of a container that a run before this one has started, once.
    fn adopted(&self, at: usize) -> Option<Entry> {
        let mut adopted = self.adopted.lock().unwrap_or_else(PoisonError::into_inner);
        adopted.get_mut(at)?.take()
    }

    /// Whether a run before this one had come as far as the containers that run on.
    fn is_resumed(&self) -> bool {
        let adopted = self.adopted.lock().unwrap_or_else(PoisonError::into_inner);
        let containers = self.program.containers.iter().zip(&*adopted);
        { containers }.any(|(own, entry)| own.role == Role::Main && entry.is_some())
    }

    /// Writes down how a container is.
    fn note(&self, at: usize) {
        let state = self.state().containers.get(at).cloned();
        if let (Some(state), Some(own)) = (state, self.program.containers.get(at)) {
            let noted = self.register.update(self.pod(), own, |entry| {
                (entry.is_started, entry.is_ready) = (state.is_started, state.is_ready);
            });
            if let Err(error) = noted {
                tracing::warn!("{}/{}: not noted: {error}", self.pod().0, self.pod().1);
            }
        }
    }

    fn is_ending(&self) -> bool {
        *self.ending.borrow()
    }

    /// Comes back once all is to end.
    async fn told_to_end(&self) {
        // the sender is here, too
        let _ = self.ending.subscribe().wait_for(|is_ending| *is_ending).await;
    }

    fn change(&self, change: impl FnOnce(&mut PodState)) {
        let mut state = self.state();
        let before = state.clone();
        change(&mut state);
        if *state != before {
            // nobody listens any more when the lab goes down
            let _ = self.changed.send(());
        }
    }

    fn set(&self, at: usize, doing: Doing, is_ready: bool) {
        self.change(|state| {
            if let Some(container) = state.containers.get_mut(at) {
                if let Doing::Ended { code } = doing {
                    container.last_code = Some(code);
                }
                (container.doing, container.is_ready) = (doing, is_ready);
                container.is_started &= container.doing == Doing::Running;
            }
        });
    }

    /// A container has come up, and can be used unless it is to be asked.
    fn set_started(&self, at: usize, is_ready: bool) {
        self.change(|state| {
            if let Some(container) = state.containers.get_mut(at) {
                (container.is_started, container.is_ready) = (true, is_ready);
            }
        });
        self.note(at);
    }

    fn set_ready(&self, at: usize, is_ready: bool) {
        self.change(|state| {
            if let Some(container) = state.containers.get_mut(at) {
                container.is_ready = is_ready;
            }
        });
        self.note(at);
    }
}

/// From the first container to the end of the last.
async fn live(shared: Arc<Shared>) {
    let mut running = JoinSet::new();
    let is_resumed = shared.is_resumed();
    let all = || shared.program.containers.iter().enumerate();
    for (at, container) in all() {
        match container.role {
            Role::Init if is_resumed => {}
            Role::Init if !begin(&shared, at, container).await => {
                shared.change(|state| state.phase = Phase::Failed);
                return;
            }
            Role::Init | Role::Main => {}
            Role::Sidecar => {
                running.spawn(run_on(Arc::clone(&shared), at));
                while !is_up(&shared, at) && !shared.is_ending() {
                    sleep(STARTED_POLL).await;
                }
            }
        }
    }
    shared.change(|state| state.phase = Phase::Running);
    let mut mains = JoinSet::new();
    for (at, _) in all().filter(|(_, container)| container.role == Role::Main) {
        mains.spawn(run_on(Arc::clone(&shared), at));
    }
    let mut codes = Vec::new();
    while let Some(ended) = mains.join_next().await {
        codes.push(ended.unwrap_or(1));
    }
    // those that only help end with those that they help
    running.shutdown().await;
    let phase = if codes.iter().all(|code| *code == 0) { Phase::Succeeded } else { Phase::Failed };
    shared.change(|state| {
        state.phase = phase;
        state.containers.iter_mut().for_each(|container| container.is_ready = false);
    });
}

/// How often is looked whether a container that others wait for has come up.
const STARTED_POLL: Duration = Duration::from_millis(20);

fn is_up(shared: &Shared, at: usize) -> bool {
    shared.state().containers.get(at).is_some_and(|container| container.is_started)
}

/// Runs a container to its good end; whether there was one.
async fn begin(shared: &Shared, at: usize, container: &Program) -> bool {
    let mut back_off = BackOff::default();
    loop {
        let begun = Instant::now();
        let code = run(shared, at, container).await;
        if code == 0 {
            return true;
        }
        if shared.program.restart == Restart::Never || shared.is_ending() {
            return false;
        }
        wait(shared, at, &mut back_off, begun).await;
    }
}

/// Runs a container again and again, as long as it is to; answers its last exit code.
async fn run_on(shared: Arc<Shared>, at: usize) -> i32 {
    let Some(container) = shared.program.containers.get(at) else { return 0 };
    let mut back_off = BackOff::default();
    loop {
        let begun = Instant::now();
        let code = run(&shared, at, container).await;
        let is_over = match (container.role, shared.program.restart) {
            (Role::Sidecar, _) | (_, Restart::Always) => false,
            (_, Restart::OnFailure) => code == 0,
            (_, Restart::Never) => true,
        };
        if is_over || shared.is_ending() {
            return code;
        }
        wait(&shared, at, &mut back_off, begun).await;
    }
}

/// Waits until a container may be started again.
async fn wait(shared: &Shared, at: usize, back_off: &mut BackOff, begun: Instant) {
    let pause = back_off.after(begun.elapsed());
    if !pause.is_zero() {
        let message = format!("back-off {} s restarting failed container", pause.as_secs());
        shared.set(at, Doing::Waiting { reason: "CrashLoopBackOff", message }, false);
    }
    tokio::select! {
        () = sleep(pause) => {}
        () = shared.told_to_end() => return,
    }
    shared.change(|state| {
        if let Some(container) = state.containers.get_mut(at) {
            container.restarts += 1;
        }
    });
}

/// Runs a container once; answers its exit code.
async fn run(shared: &Shared, at: usize, container: &Program) -> i32 {
    if container.command.is_empty() {
        // the echo server stands in, and runs on
        shared.set(at, Doing::Running, true);
        shared.set_started(at, true);
        shared.told_to_end().await;
        return 0;
    }
    let Some(log) = shared.logs.get(at) else { return 1 };
    let ears = Ears::Log(log, &shared.register, shared.pod());
    if let Some(entry) = shared.adopted(at) {
        // it was seen to run, started and ready from the first
        let is_started = entry.is_started;
        let run = container::adopt(entry, container, ears);
        return look_after(shared, at, container, run, is_started).await;
    }
    let namespace = &shared.target.pod;
    let mut is_told = false;
    let run = loop {
        let error = match container::start(namespace, container, &container.command, ears).await {
            Ok(run) => break run,
            Err(error) => threads::in_words(error),
        };
        let name = container.command.first().map_or("", String::as_str);
        let hint = if error.kind() == ErrorKind::NotFound {
            "; images are not pulled: programs are this machine's"
        } else {
            ""
        };
        let message = format!("{name}: {error}{hint}");
        if !is_told {
            is_told = true;
            log.push(message.clone());
            let PodProgram { namespace, pod, .. } = &shared.program;
            tracing::warn!("{namespace}/{pod}, container {}: {message}", container.name);
        }
        shared.set(at, Doing::Waiting { reason: "CreateContainerError", message }, false);
        // as the kubelet, which tries again whatever the policy: it has not run
        if error.kind() != ErrorKind::WouldBlock {
            return NOT_STARTED;
        }
        tokio::select! {
            () = sleep(SHORT) => {}
            () = shared.told_to_end() => return NOT_STARTED,
        }
    };
    let restarts = shared.state().containers.get(at).map_or(0, |own| own.restarts);
    if let Err(error) = shared.register.add(shared.pod(), container, run.id(), restarts) {
        tracing::warn!("container {} would not be known again: {error}", container.name);
    }
    if let Some(hook) = &container.post_start
        && !act(shared, container, hook).await
    {
        log.push("postStart failed, and the container with it".to_owned());
        return end(shared, at, container, run, shared.program.grace).await;
    }
    shared.set(at, Doing::Running, false);
    if container.startup.is_none() {
        shared.set_started(at, container.readiness.is_none());
    }
    look_after(shared, at, container, run, false).await
}

/// Asks a running container how it is until it ends; answers its exit code.
async fn look_after(
    shared: &Shared,
    at: usize,
    container: &Program,
    mut run: container::Run,
    is_started: bool,
) -> i32 {
    let grace = tokio::select! {
        code = run.end() => {
            shared.set(at, Doing::Ended { code }, false);
            return code;
        }
        grace = ask(shared, at, container, is_started) => grace.unwrap_or(shared.program.grace),
        () = shared.told_to_end() => shared.program.grace,
    };
    end(shared, at, container, run, grace).await
}

/// Has a container end within a grace; answers its exit code.
///
/// Source: kubelet, `killContainer`: what is done before the end is part of the grace, of which a
/// little is left even where it took all of it.
async fn end(
    shared: &Shared,
    at: usize,
    container: &Program,
    mut run: container::Run,
    grace: Duration,
) -> i32 {
    let begun = Instant::now();
    if let Some(hook) = container.pre_stop.as_ref().filter(|_| !grace.is_zero()) {
        tokio::select! {
            code = run.end() => {
                shared.set(at, Doing::Ended { code }, false);
                return code;
            }
            // what fails keeps nobody from ending
            _ = timeout(grace, act(shared, container, hook)) => {}
        }
    }
    let left = grace.saturating_sub(begun.elapsed());
    let code = run.stop(if grace.is_zero() { left } else { left.max(GRACE_LEAST) }).await;
    shared.set(at, Doing::Ended { code }, false);
    code
}

/// How long a program may take to end at least, once it is told to.
///
/// Source: kubelet, `minimumGracePeriodInSeconds`.
const GRACE_LEAST: Duration = Duration::from_secs(2);

/// Does what is to be done at a moment of a container's life; whether that went well.
async fn act(shared: &Shared, container: &Program, hook: &Hook) -> bool {
    match hook {
        Hook::Sleep(time) => {
            sleep(*time).await;
            true
        }
        Hook::Act(action) => {
            let asked = shared.target.ask(action, shared.program.grace, container).await;
            matches!(asked, Ok(true))
        }
    }
}

/// How long a container waits for room under a limit of processes.
const SHORT: Duration = Duration::from_secs(1);

/// The exit code of a program that could not be started.
const NOT_STARTED: i32 = 128;

/// Asks a container how it is; comes back only if it has to be started again, with the time that it
/// has to end if the question says so.
async fn ask(
    shared: &Shared,
    at: usize,
    container: &Program,
    is_started: bool,
) -> Option<Duration> {
    let Program { startup, readiness, liveness, .. } = container;
    if let Some(startup) = startup.as_ref().filter(|_| !is_started) {
        let verdict = Asking::new(startup, &shared.target, container).next(None).await;
        if verdict == Verdict::Bad {
            return startup.grace;
        }
        shared.set_started(at, readiness.is_none());
    }
    let readiness = async {
        let Some(readiness) = readiness else { return std::future::pending().await };
        let mut asking = Asking::new(readiness, &shared.target, container);
        let mut last = None;
        loop {
            let verdict = asking.next(last).await;
            shared.set_ready(at, verdict == Verdict::Good);
            last = Some(verdict);
        }
    };
    let liveness = async {
        let Some(liveness) = liveness else { return std::future::pending().await };
        let mut asking = Asking::new(liveness, &shared.target, container);
        let mut last = None;
        loop {
            last = Some(asking.next(last).await);
            if last == Some(Verdict::Bad) {
                return liveness.grace;
            }
        }
    };
    tokio::select! {
        () = readiness => None,
        grace = liveness => grace,
    }
}
