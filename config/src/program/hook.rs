//! What is done at the start of containers and before their end.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, LifecycleHandler};

use super::probe::Action;

/// What is done at a moment of a container's life.
///
/// Source: `Container.lifecycle`; `LifecycleHandler`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hook {
    /// Nothing, for so long.
    Sleep(Duration),
    /// It is asked for something, or a program is run in it.
    Act(Action),
}

/// A hook; `None` where nothing is to be done.
pub(super) fn read(handler: &LifecycleHandler, container: &Container) -> Option<Hook> {
    if let Some(sleep) = &handler.sleep {
        return Some(Hook::Sleep(Duration::from_secs(u64::try_from(sleep.seconds).ok()?)));
    }
    // connections are no hooks: the kubelet passes over `tcpSocket`
    let exec = handler.exec.as_ref().and_then(Action::exec);
    let get = || Action::get(handler.http_get.as_ref()?, container);
    exec.or_else(get).map(Hook::Act)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{ExecAction, SleepAction, TCPSocketAction};

    use super::*;

    #[test]
    fn hooks_sleep_run_or_ask() {
        let read = |handler| read(&handler, &Container::default());
        let none = LifecycleHandler::default;
        let sleep = LifecycleHandler { sleep: Some(SleepAction { seconds: 3 }), ..none() };
        assert_eq!(read(sleep), Some(Hook::Sleep(Duration::from_secs(3))));
        let command = Some(vec!["true".to_owned()]);
        let exec = LifecycleHandler { exec: Some(ExecAction { command }), ..none() };
        assert_eq!(read(exec), Some(Hook::Act(Action::Exec(vec!["true".to_owned()]))));
        let tcp = LifecycleHandler { tcp_socket: Some(TCPSocketAction::default()), ..none() };
        assert_eq!(read(tcp), None);
        assert_eq!(read(none()), None);
    }
}
