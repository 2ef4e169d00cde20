//! Requests at a steady rate, each by a connection of its own, and what became of them.

use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use libtest_mimic::Failed;

use super::lab::{Lab, fetch};

/// Clients that ask at the same time.
const CLIENTS: u32 = 8;

/// What became of all requests.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// How many were made.
    pub(crate) asked: usize,
    /// Requests a second.
    pub(crate) rate: f64,
    /// When those were begun that were not answered, and why they were not.
    pub(crate) lost: Vec<(Instant, String)>,
}

/// Asks `http://TARGET/PATH` from the pod `client` so many times a second, while something is done.
pub(crate) fn under_load(
    lab: &Lab,
    place: (&str, &str),
    rate: u32,
    meanwhile: impl FnOnce() -> Result<(), Failed>,
) -> Result<Outcome, Failed> {
    under_load_from(lab, "default.client", place, rate, meanwhile)
}

/// The same from another machine, by its name in the lab.
pub(crate) fn under_load_from(
    lab: &Lab,
    machine: &str,
    (target, path): (&str, &str),
    rate: u32,
    meanwhile: impl FnOnce() -> Result<(), Failed>,
) -> Result<Outcome, Failed> {
    let stop = AtomicBool::new(false);
    let begun = Instant::now();
    let pause = Duration::from_secs(1) * CLIENTS / rate;
    let ask = |client: u32| {
        let (mut asked, mut lost) = (0, Vec::new());
        // clients take turns, and who is late does not wait
        let mut next = begun + pause * client / CLIENTS;
        while !stop.load(Ordering::Relaxed) {
            thread::sleep(next.saturating_duration_since(Instant::now()));
            next += pause;
            let start = Instant::now();
            if let Err(error) = fetch(target, path) {
                lost.push((start, format!("{error:?}")));
            }
            asked += 1;
        }
        (asked, lost)
    };
    thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| scope.spawn(move || lab.inside(machine, || ask(client))))
            .collect();
        thread::sleep(Duration::from_millis(300));
        let done = meanwhile();
        thread::sleep(Duration::from_millis(300));
        stop.store(true, Ordering::Relaxed);
        let mut outcome = Outcome::default();
        for client in clients {
            let (asked, lost) = client.join().map_err(|_| "a client panicked")??;
            outcome.asked += asked;
            outcome.lost.extend(lost);
        }
        outcome.rate = f64::from(u32::try_from(outcome.asked)?) / begun.elapsed().as_secs_f64();
        done.map(|()| outcome)
    })
}

/// Says what was measured, for who reads along.
pub(crate) fn say(text: &str) {
    // a closed standard output is the reader's choice
    let _ = writeln!(std::io::stdout(), "{text}");
}
