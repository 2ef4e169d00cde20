//! What clients and servers say to each other: a word goes there, and comes back with who answered.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

/// An answer: who gave it, to which word, and who had asked it before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The server's host name.
    pub server: String,
    /// The word that was said.
    pub word: String,
    /// The addresses of those who ever reached the server, some of them.
    pub peers: Vec<String>,
}

impl Answer {
    /// An answer as it goes over the wire.
    pub fn line(&self) -> String {
        format!("{} {} {}\n", self.server, self.word, self.peers.join(","))
    }

    /// What came over the wire.
    ///
    /// # Errors
    /// `InvalidData` for what no server says.
    pub fn read(line: &str) -> io::Result<Self> {
        let mut parts = line.trim_end().splitn(3, ' ').map(str::to_owned);
        match (parts.next(), parts.next(), parts.next()) {
            (Some(server), Some(word), Some(peers)) => {
                let peers = peers.split(',').map(str::to_owned).collect();
                Ok(Self { server, word, peers })
            }
            _ => Err(io::Error::new(io::ErrorKind::InvalidData, format!("answered {line:?}"))),
        }
    }
}

/// A connection on which words are said.
#[derive(Debug)]
pub struct Connection(BufReader<TcpStream>);

impl Connection {
    /// Connects; nothing may take longer than `patience` from here on.
    ///
    /// # Errors
    /// What the system says.
    pub fn open(target: SocketAddr, patience: Duration) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&target, patience)?;
        stream.set_read_timeout(Some(patience))?;
        stream.set_write_timeout(Some(patience))?;
        stream.set_nodelay(true)?;
        Ok(Self(BufReader::new(stream)))
    }

    /// Says a word.
    ///
    /// # Errors
    /// What the system says.
    pub fn say(&mut self, word: &str) -> io::Result<()> {
        self.0.get_mut().write_all(format!("{word}\n").as_bytes())
    }

    /// Waits for the answer.
    ///
    /// # Errors
    /// What the system says; `UnexpectedEof` if the connection has ended.
    pub fn hear(&mut self) -> io::Result<Answer> {
        let mut line = String::new();
        if self.0.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Answer::read(&line)
    }
}

/// Says a word on a connection of its own, and hears the answer.
///
/// # Errors
/// What the system says.
pub fn by_tcp(target: SocketAddr, word: &str, patience: Duration) -> io::Result<Answer> {
    let mut connection = Connection::open(target, patience)?;
    connection.say(word)?;
    connection.hear()
}

/// Says a word in a datagram from a port of its own, and hears the answer.
///
/// # Errors
/// What the system says.
pub fn by_udp(target: SocketAddr, word: &str, patience: Duration) -> io::Result<Answer> {
    let any = if target.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(any)?;
    socket.set_read_timeout(Some(patience))?;
    socket.connect(target)?;
    socket.send(word.as_bytes())?;
    let mut room = [0; 2048];
    let octets = socket.recv(&mut room)?;
    let text = room.get(..octets).map(String::from_utf8_lossy).unwrap_or_default();
    Answer::read(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_survives_the_wire() {
        let peers = vec!["10.4.0.2".to_owned(), "fd00:4::2".to_owned()];
        let answer = Answer { server: "store".into(), word: "7".into(), peers };
        assert_eq!(Answer::read(&answer.line()).unwrap(), answer);
        assert!(Answer::read("store 7\n").is_err());
    }
}
