//! Looks on, by `kswitch monitor`, for flows that one generation sends where the same one forbids.

use std::io::{self, BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::findings::{Findings, Invariant};

/// How long until a monitor that has ended, as with its switch, is begun anew.
const AGAIN: Duration = Duration::from_millis(100);

/// What is told of flows to the Service whose colour changes.
#[derive(Debug)]
pub struct Witness {
    monitor: Arc<Mutex<Option<Child>>>,
    thread: JoinHandle<()>,
    /// Flows that began and were told of.
    pub seen: Arc<AtomicU64>,
}

impl Witness {
    /// Looks on until all is over.
    ///
    /// # Errors
    /// What the system says.
    pub fn start(program: &Path, lab: &str, findings: &Arc<Findings>) -> io::Result<Self> {
        let monitor = Arc::<Mutex<Option<Child>>>::default();
        let seen = Arc::<AtomicU64>::default();
        let (program, lab, findings) = (program.to_owned(), lab.to_owned(), Arc::clone(findings));
        let (held, counted) = (Arc::clone(&monitor), Arc::clone(&seen));
        let thread = thread::Builder::new().name("witness".into()).spawn(move || {
            while !findings.is_over() {
                let mut command = Command::new(&program);
                let arguments = ["monitor", "--service", "default/paint", "-o", "json"];
                command.args(["--lab", &lab]).args(arguments);
                command.stdout(Stdio::piped()).stderr(Stdio::null());
                if let Ok(mut child) = command.spawn() {
                    let said = child.stdout.take();
                    *held.lock().unwrap_or_else(PoisonError::into_inner) = Some(child);
                    for line in said.into_iter().flat_map(|said| BufReader::new(said).lines()) {
                        let Ok(line) = line else { break };
                        counted.fetch_add(1, Ordering::Relaxed);
                        if is_of_two_generations(&line) {
                            findings.breach(Invariant::OneGeneration, &line);
                        }
                    }
                    end(&held);
                }
                thread::sleep(AGAIN);
            }
        })?;
        Ok(Self { monitor, thread, seen })
    }

    /// Ends it; all has to be over before.
    pub fn join(self) {
        end(&self.monitor);
        let _ = self.thread.join();
    }
}

fn end(monitor: &Mutex<Option<Child>>) {
    if let Some(mut child) = monitor.lock().unwrap_or_else(PoisonError::into_inner).take() {
        // it may have ended by itself
        let _ = child.kill();
        let _ = child.wait();
    }
}

/// A new flow of one that is let in wherever the Service sends him, and that was refused by a policy.
fn is_of_two_generations(line: &str) -> bool {
    let squeezed: String = line.chars().filter(|c| !c.is_whitespace()).collect();
    squeezed.contains("\"event\":\"refused\"") && squeezed.contains("\"reason\":\"policy_ingress\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_of_new_flows_by_policies_are_told_from_others() {
        let line = |event, reason| format!("{{\"event\": \"{event}\", \"reason\": \"{reason}\"}}");
        assert!(is_of_two_generations(&line("refused", "policy_ingress")));
        assert!(!is_of_two_generations(&line("closed", "policy_ingress")));
        assert!(!is_of_two_generations(&line("refused", "no_endpoints")));
    }
}
