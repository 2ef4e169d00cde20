//! Those whose traffic must get to the right place, or to none.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use kswitch::lab::namespace;

use super::findings::{Findings, Invariant, Tally};
use super::site::{CHURN, COLOURS, PAINT, PORT, STORE, Service, Site, VAULT};
use super::talk::{Answer, Connection, by_tcp, by_udp};

/// Connections that stay.
const CONNECTIONS: usize = 8;

/// How long a connection that stays may be without an answer: a restart, and what TCP then waits for.
const LASTING: Duration = Duration::from_mins(1);

/// How long others wait for an answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// Pause between two questions of one client.
const PAUSE: Duration = Duration::from_millis(25);

/// Pause between two datagrams of the traffic that looks for silences.
const BEAT: Duration = Duration::from_millis(5);

/// Silences that are noted: shorter ones are the machine's.
const SILENCE: Duration = Duration::from_millis(40);

/// A client.
#[derive(Debug)]
pub struct Client {
    /// What it does.
    pub name: &'static str,
    /// How it fared.
    pub tally: Arc<Tally>,
    /// Whether it is meant to get answers.
    pub is_let_in: bool,
    thread: JoinHandle<()>,
}

impl Client {
    /// Waits for its end; it has to be told before.
    pub fn join(self) {
        // a panic in it has been printed, and what it would have found is missing from the report
        let _ = self.thread.join();
    }
}

/// What a client knows.
#[derive(Clone, Debug)]
struct Scene {
    findings: Arc<Findings>,
    tally: Arc<Tally>,
}

impl Scene {
    /// Asks again and again until all is over; quiet where it has to be.
    fn repeat(&self, pause: Duration, mut ask: impl FnMut(u64)) {
        let mut number = 0;
        while !self.findings.is_over() {
            if !self.findings.is_quiet() {
                number += 1;
                ask(number);
            }
            thread::sleep(pause);
        }
    }

    fn count(&self, is_answered: bool) {
        let counter = if is_answered { &self.tally.answered } else { &self.tally.silent };
        counter.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    }
}

/// Whose answers are right.
type Expect = fn(&str) -> bool;

/// Starts all of them.
///
/// # Errors
/// What the system says; connections that stay are there when this comes back.
pub fn start(site: &Site, findings: &Arc<Findings>, store: SocketAddr) -> io::Result<Vec<Client>> {
    let of = |name: &'static str, pod: &str, is_let_in: bool, go: fn(&Scene, SocketAddr)| {
        let scene = Scene { findings: Arc::clone(findings), tally: Arc::default() };
        let (tally, namespace) = (Arc::clone(&scene.tally), site.namespace(pod));
        let thread = thread::Builder::new().name(name.into()).spawn(move || {
            let findings = Arc::clone(&scene.findings);
            if let Err(error) = namespace::enter(&namespace, || go(&scene, store)) {
                findings.breach(Invariant::Answers, &format!("{name} cannot enter: {error}"));
            }
        })?;
        io::Result::Ok(Client { name, tally, is_let_in, thread })
    };
    Ok(vec![
        of("connections that stay", "client", true, |scene, _| lasting(scene))?,
        of("datagrams every 5 ms", "client", true, beats)?,
        of("TCP to the colour in force", "client", true, |scene, _| painted(scene, by_tcp))?,
        of("UDP to the colour in force", "client", true, |scene, _| painted(scene, by_udp))?,
        of("TCP over a faulty link", "fickle", true, |scene, _| painted(scene, by_tcp))?,
        of("TCP to pods that come and go", "client", true, |scene, _| churning(scene))?,
        of("TCP and UDP that is let in", "client", true, |scene, _| let_in(scene))?,
        of("TCP and UDP that is forbidden", "thief", false, |scene, _| forbidden(scene))?,
    ])
}

/// The addresses of a Service in turn.
fn target(service: Service, number: u64) -> SocketAddr {
    let [v4, v6] = service.addresses;
    let text = format!("{}:{PORT}", if number.is_multiple_of(2) { v4 } else { v6 });
    // a mistake in a constant shows as a client that never hears an answer
    text.parse().unwrap_or_else(|_| SocketAddr::from(([0, 0, 0, 0], PORT)))
}

/// Whether an answer is the one to this word, from one who should give it.
fn judge(scene: &Scene, answer: &Answer, word: &str, expect: Expect) {
    if answer.word != word || !expect(&answer.server) {
        let what = format!("asked {word}, heard {} from {}", answer.word, answer.server);
        scene.findings.breach(Invariant::RightPod, &what);
    }
}

fn lasting(scene: &Scene) {
    let mut open = Vec::new();
    for number in 0..CONNECTIONS as u64 {
        match Connection::open(target(STORE, number), LASTING) {
            Ok(connection) => open.push(connection),
            Err(error) => scene.findings.breach(Invariant::Lasting, &format!("never: {error}")),
        }
    }
    let mut number = 0u64;
    // these go on while others are quiet: they are to stay
    while !scene.findings.is_over() {
        number += 1;
        let talk = |at: usize, connection: &mut Connection| {
            let word = format!("{at}-{number}");
            let answer = connection.say(&word).and_then(|()| connection.hear());
            scene.count(answer.is_ok());
            match answer {
                Ok(answer) => judge(scene, &answer, &word, |server| server == STORE.name),
                Err(error) => {
                    let what = format!("connection {at}, word {number}: {error}");
                    scene.findings.breach(Invariant::Lasting, &what);
                    return false;
                }
            }
            true
        };
        let mut at = 0;
        open.retain_mut(|connection| {
            at += 1;
            talk(at, connection)
        });
        thread::sleep(2 * PAUSE);
    }
}

/// Datagrams between two pods, by which it is seen how long nothing gets through.
fn beats(scene: &Scene, store: SocketAddr) {
    let Ok(socket) = UdpSocket::bind("0.0.0.0:0").and_then(|socket| {
        socket.connect(store)?;
        socket.set_nonblocking(true)?;
        Ok(socket)
    }) else {
        return scene.findings.breach(Invariant::Answers, "no socket");
    };
    let (mut room, mut number, mut heard) = ([0; 2048], 0u64, Instant::now());
    while !scene.findings.is_over() {
        number += 1;
        // what cannot be sent is a silence as well
        let _ = socket.send(number.to_string().as_bytes());
        thread::sleep(BEAT);
        let mut is_answered = false;
        while let Ok(octets) = socket.recv(&mut room) {
            let text = room.get(..octets).map(String::from_utf8_lossy).unwrap_or_default();
            if let Ok(answer) = Answer::read(&text)
                && answer.server != STORE.name
            {
                scene.findings.breach(Invariant::RightPod, &format!("store is {}", answer.server));
            }
            is_answered = true;
        }
        scene.count(is_answered);
        if is_answered {
            let silent = heard.elapsed();
            if silent > SILENCE {
                scene.findings.silence(heard, silent);
            }
            heard = Instant::now();
        }
    }
}

type Ask = fn(SocketAddr, &str, Duration) -> io::Result<Answer>;

/// Exchanges with whoever has the colour in force.
fn painted(scene: &Scene, ask: Ask) {
    scene.repeat(PAUSE, |number| {
        let word = format!("paint-{number}");
        let before = scene.findings.colours();
        let answer = ask(target(PAINT, number), &word, PATIENCE);
        let after = scene.findings.colours();
        scene.count(answer.is_ok());
        let Ok(answer) = answer else { return };
        judge(scene, &answer, &word, |server| server.starts_with("paint-"));
        let colour = COLOURS.iter().position(|colour| answer.server.contains(colour));
        let wanted = before / 2 % COLOURS.len() as u64;
        if before == after
            && before.is_multiple_of(2)
            && colour.is_some_and(|colour| colour as u64 != wanted)
        {
            let what = format!("{} answers after change {}", answer.server, before / 2);
            scene.findings.breach(Invariant::OneGeneration, &what);
        }
    });
}

fn churning(scene: &Scene) {
    scene.repeat(PAUSE, |number| {
        let word = format!("churn-{number}");
        let answer = by_tcp(target(CHURN, number), &word, PATIENCE);
        scene.count(answer.is_ok());
        if let Ok(answer) = answer {
            judge(scene, &answer, &word, |server| server.starts_with("churn-"));
        }
    });
}

/// By TCP and UDP in turn, IPv4 and IPv6.
fn ask_vault(number: u64, word: &str, patience: Duration) -> io::Result<Answer> {
    let ask = if (number / 2).is_multiple_of(2) { by_tcp } else { by_udp };
    ask(target(VAULT, number), word, patience)
}

fn let_in(scene: &Scene) {
    scene.repeat(2 * PAUSE, |number| {
        let word = format!("vault-{number}");
        let answer = ask_vault(number, &word, PATIENCE);
        scene.count(answer.is_ok());
        let Ok(answer) = answer else { return };
        judge(scene, &answer, &word, |server| server == VAULT.name);
        // the one client that is let in has one address of each family
        if answer.peers.len() > 2 {
            let what = format!("the vault was reached from {}", answer.peers.join(", "));
            scene.findings.breach(Invariant::Forbidden, &what);
        }
    });
}

fn forbidden(scene: &Scene) {
    scene.repeat(PAUSE, |number| {
        let answer = ask_vault(number, "let-me-in", Duration::from_millis(200));
        scene.count(answer.is_ok());
        let refused = matches!(&answer, Err(error) if error.kind() == ErrorKind::ConnectionRefused);
        if refused {
            // somebody's protocol stack has said so
            scene
                .findings
                .breach(Invariant::Forbidden, "the forbidden client was refused, not dropped");
        }
        if let Ok(answer) = answer {
            let what = format!("{} answers whom it may not", answer.server);
            scene.findings.breach(Invariant::Forbidden, &what);
        }
    });
}
