//! Asking a container for something, or having it do something, from the node that it is on.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use kswitch_config::{Action, Program};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use super::container::{self, Ears};
use crate::agents::grpc;
use crate::agents::proxy::tls;
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

impl Target {
    /// Whether a container answers well; connections are given up after `patience`.
    ///
    /// # Errors
    /// It cannot be asked.
    pub(super) async fn ask(
        &self,
        action: &Action,
        patience: Duration,
        program: &Program,
    ) -> io::Result<bool> {
        match action {
            Action::Tcp { host, port } => {
                self.connect(host.as_ref(), *port, patience).await.map(|_| true)
            }
            Action::Http { host, port, path, headers, is_secure } => {
                let stream = self.connect(host.as_ref(), *port, patience).await?;
                let head = self.head(*port, path, headers);
                let status = if *is_secure {
                    status(tls::connect(stream).await?, &head).await?
                } else {
                    status(stream, &head).await?
                };
                Ok((200..400).contains(&status))
            }
            Action::Grpc { port, service } => {
                let stream = self.connect(None, *port, patience).await?;
                Ok(grpc::is_serving(stream, &self.address(*port).to_string(), service).await)
            }
            Action::Exec(command) => {
                let run = container::start(&self.pod, program, command, Ears::None);
                Ok(run.await?.end().await == 0)
            }
        }
    }

    fn head(&self, port: u16, path: &str, headers: &[(String, String)]) -> String {
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        let mut head = format!("GET {path} HTTP/1.1\r\nUser-Agent: kube-probe/kswitch\r\n");
        if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
            head.push_str(&format!("Host: {}\r\n", self.address(port)));
        }
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("Accept: */*\r\nConnection: close\r\n\r\n");
        head
    }

    const fn address(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.address, port)
    }

    /// A connection from the node.
    async fn connect(
        &self,
        host: Option<&String>,
        port: u16,
        patience: Duration,
    ) -> io::Result<TcpStream> {
        let to = match host {
            None => self.address(port),
            Some(host) => {
                let host = host.parse().map_err(|_| io::ErrorKind::InvalidInput)?;
                SocketAddr::new(host, port)
            }
        };
        let node = self.node.clone();
        let connected = keeper::done(move || {
            namespace::enter(&node, || std::net::TcpStream::connect_timeout(&to, patience))?
        });
        let stream = connected.await?;
        stream.set_nonblocking(true)?;
        TcpStream::from_std(stream)
    }
}

/// The status of the answer to a head, over HTTP.
async fn status(mut stream: impl AsyncRead + AsyncWrite + Unpin, head: &str) -> io::Result<u16> {
    stream.write_all(head.as_bytes()).await?;
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
