//! The server that pods run: it says who it is.

use std::collections::BTreeSet;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{IpAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use super::site::PORT;
use super::talk::Answer;

/// Peers that an answer names at most.
const PEERS_MAX: usize = 16;

/// How long a connection may say nothing.
const SILENCE: Duration = Duration::from_mins(10);

/// The server's name, and who has reached it.
#[derive(Debug)]
struct Server {
    name: String,
    peers: Mutex<BTreeSet<IpAddr>>,
}

impl Server {
    fn answer(&self, peer: IpAddr, word: &str) -> String {
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        if peers.len() < PEERS_MAX {
            peers.insert(peer.to_canonical());
        }
        let peers = peers.iter().map(ToString::to_string).collect();
        let word = word.split_whitespace().next().unwrap_or("-").to_owned();
        Answer { server: self.name.clone(), word, peers }.line()
    }

    fn converse(&self, stream: &TcpStream) -> io::Result<()> {
        stream.set_read_timeout(Some(SILENCE))?;
        stream.set_nodelay(true)?;
        let peer = stream.peer_addr()?.ip();
        let mut lines = BufReader::new(stream);
        let mut word = String::new();
        while lines.read_line(&mut word)? > 0 {
            lines.get_mut().write_all(self.answer(peer, &word).as_bytes())?;
            word.clear();
        }
        Ok(())
    }
}

/// Answers by TCP and UDP, until the process ends.
///
/// # Errors
/// What the system says.
pub fn serve() -> io::Result<()> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname")?.trim().to_owned();
    let server = Arc::new(Server { name, peers: Mutex::default() });
    let datagrams = UdpSocket::bind(("::", PORT))?;
    let for_datagrams = Arc::clone(&server);
    thread::spawn(move || {
        let mut room = [0; 2048];
        loop {
            // an error is of an answer that could not be delivered
            let Ok((octets, peer)) = datagrams.recv_from(&mut room) else { continue };
            let word = room.get(..octets).map(String::from_utf8_lossy).unwrap_or_default();
            let _ = datagrams.send_to(for_datagrams.answer(peer.ip(), &word).as_bytes(), peer);
        }
    });
    for stream in TcpListener::bind(("::", PORT))?.incoming().map_while(Result::ok) {
        let server = Arc::clone(&server);
        // whoever has gone is not told
        thread::spawn(move || server.converse(&stream));
    }
    Ok(())
}
