//! Asking a container how it is, from the node that it is on.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use kswitch_config::{Action, Probe, Program};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::container::{self, Ears};
use crate::lab::namespace;
use crate::rights::keeper;

/// Octets of an answer's first line that are looked at.
const FIRST_LINE: usize = 64;

/// Whom to ask, and from where.
#[derive(Clone, Debug)]
pub(super) struct Target {
    /// The namespace of the node.
    pub(super) node: String,
    /// The namespace of the pod.
    pub(super) pod: String,
    /// The pod's address.
    pub(super) address: IpAddr,
}

/// What has come of asking again and again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Often enough in a row it was well.
    Good,
    /// Often enough in a row it was not.
    Bad,
}

/// Asks until one of the verdicts is reached that was not the last.
#[derive(Debug)]
pub(super) struct Asking<'p> {
    probe: &'p Probe,
    target: &'p Target,
    program: &'p Program,
    is_first: bool,
}

impl<'p> Asking<'p> {
    pub(super) const fn new(probe: &'p Probe, target: &'p Target, program: &'p Program) -> Self {
        Self { probe, target, program, is_first: true }
    }

    /// The next verdict, `last` being the one before it.
    pub(super) async fn next(&mut self, last: Option<Verdict>) -> Verdict {
        let (mut good, mut bad) = (0, 0);
        loop {
            let pause = if self.is_first { self.probe.delay } else { self.probe.period };
            self.is_first = false;
            sleep(pause).await;
            let asked = timeout(self.probe.timeout, self.ask()).await;
            if matches!(asked, Ok(Ok(true))) {
                (good, bad) = (good + 1, 0);
            } else {
                (good, bad) = (0, bad + 1);
            }
            if good >= self.probe.successes && last != Some(Verdict::Good) {
                return Verdict::Good;
            }
            if bad >= self.probe.failures && last != Some(Verdict::Bad) {
                return Verdict::Bad;
            }
        }
    }

    async fn ask(&self) -> io::Result<bool> {
        match &self.probe.action {
            Action::Tcp { host, port } => self.connect(host.as_ref(), *port).await.map(|_| true),
            Action::Http { host, port, path, headers } => {
                let mut stream = self.connect(host.as_ref(), *port).await?;
                let path = if path.starts_with('/') { path.clone() } else { format!("/{path}") };
                let is_host = |name: &str| name.eq_ignore_ascii_case("host");
                let mut head = format!("GET {path} HTTP/1.1\r\nUser-Agent: kube-probe/kswitch\r\n");
                if !headers.iter().any(|(name, _)| is_host(name)) {
                    head.push_str(&format!("Host: {}\r\n", self.address(*port)));
                }
                for (name, value) in headers {
                    head.push_str(&format!("{name}: {value}\r\n"));
                }
                head.push_str("Accept: */*\r\nConnection: close\r\n\r\n");
                stream.write_all(head.as_bytes()).await?;
                status(&mut stream).await.map(|status| (200..400).contains(&status))
            }
            Action::Exec(command) => {
                let run = container::start(&self.target.pod, self.program, command, Ears::None);
                Ok(run.await?.end().await == 0)
            }
        }
    }

    const fn address(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.target.address, port)
    }

    /// A connection from the node.
    async fn connect(&self, host: Option<&String>, port: u16) -> io::Result<TcpStream> {
        let to = match host {
            None => self.address(port),
            Some(host) => {
                let host = host.parse().map_err(|_| io::ErrorKind::InvalidInput)?;
                SocketAddr::new(host, port)
            }
        };
        let (node, patience) = (self.target.node.clone(), self.probe.timeout);
        let connected = keeper::done(move || {
            namespace::enter(&node, || std::net::TcpStream::connect_timeout(&to, patience))?
        });
        let stream = connected.await?;
        stream.set_nonblocking(true)?;
        TcpStream::from_std(stream)
    }
}

/// The status of an answer over HTTP.
async fn status(stream: &mut TcpStream) -> io::Result<u16> {
    let mut line = Vec::with_capacity(FIRST_LINE);
    while line.len() < FIRST_LINE && !line.contains(&b'\n') {
        if stream.read_buf(&mut line).await? == 0 {
            break;
        }
    }
    let text = String::from_utf8_lossy(&line);
    let mut words = text.split_ascii_whitespace();
    let is_http = words.next().is_some_and(|word| word.starts_with("HTTP/1."));
    let status = words.next().and_then(|word| word.parse().ok());
    status.filter(|_| is_http).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// How long to wait before a program is started again.
///
/// Source: kubelet, container restart back-off: from ten seconds, doubled each time, up to five
/// minutes; from the start again after a run of ten minutes.
#[derive(Debug, Default)]
pub(super) struct BackOff {
    next: Duration,
}

impl BackOff {
    const FIRST: Duration = Duration::from_secs(10);
    const LONGEST: Duration = Duration::from_mins(5);
    const FORGOTTEN: Duration = Duration::from_mins(10);

    /// The wait after a run that took so long: none after the first.
    pub(super) fn after(&mut self, run: Duration) -> Duration {
        if run >= Self::FORGOTTEN {
            self.next = Duration::ZERO;
        }
        let now = self.next;
        self.next = if now.is_zero() { Self::FIRST } else { (now * 2).min(Self::LONGEST) };
        now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_fails_again_and_again_is_left_alone_for_longer() {
        let mut back_off = BackOff::default();
        let mut after = |seconds| back_off.after(Duration::from_secs(seconds)).as_secs();
        assert_eq!([1; 8].map(&mut after), [0, 10, 20, 40, 80, 160, 300, 300]);
        assert_eq!([600, 1].map(&mut after), [0, 10]);
    }
}
