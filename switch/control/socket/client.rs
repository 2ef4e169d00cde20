//! The asking side.

use std::fs;
use std::io::{self, BufReader, ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use nix::sys::socket::getsockopt;
use nix::sys::socket::sockopt::PeerCredentials;
use socket2::{Domain, SockAddr, Socket, Type};

use super::{Line, MAX_LINE, MAX_REQUEST, Request, Response, line, path_of};

/// The responses to a request, as they come.
#[derive(Debug)]
pub struct Answers {
    stream: BufReader<UnixStream>,
    ended: bool,
}

/// Asks the switch of a lab whose socket is in this directory.
///
/// # Errors
///
/// No switch runs that lab (`NotFound` or `ConnectionRefused`), its socket belongs to somebody else
/// (`PermissionDenied`), the request is larger than [`MAX_REQUEST`], or the switch went away.
pub fn ask(directory: &Path, lab: &str, request: &Request) -> io::Result<Answers> {
    let mut line = serde_json::to_vec(request)?;
    if line.len() > MAX_REQUEST {
        let message = format!("the request is larger than {MAX_REQUEST} octets");
        return Err(io::Error::new(ErrorKind::FileTooLarge, message));
    }
    line.push(b'\n');
    let mut stream = UnixStream::connect(path_of(directory, lab))?;
    // A switch that refuses says why before it closes, which is worth more than the broken pipe.
    if let Err(error) = stream.write_all(&line)
        && !matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset)
    {
        return Err(error);
    }
    Ok(Answers { stream: BufReader::new(stream), ended: false })
}

/// Asks for what is answered by a single response.
///
/// # Errors
///
/// Those of [`ask`]; `UnexpectedEof` if there was no response.
pub fn ask_one(directory: &Path, lab: &str, request: &Request) -> io::Result<Response> {
    ask(directory, lab, request)?.next().unwrap_or_else(|| Err(ErrorKind::UnexpectedEof.into()))
}

impl Iterator for Answers {
    type Item = io::Result<Response>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let read = line::read(&mut self.stream, MAX_LINE, None).and_then(|line| {
            let line = line.ok_or(ErrorKind::UnexpectedEof)?;
            Ok(serde_json::from_slice(&line)?)
        });
        self.ended = !matches!(read, Ok(Line::More(_)));
        match read {
            Ok(Line::More(response) | Line::Last(response)) => Some(Ok(response)),
            Ok(Line::End) => None,
            Err(error) => Some(Err(error)),
        }
    }
}

/// The labs whose switches run, in order of name.
///
/// # Errors
///
/// The directory exists but cannot be read.
pub fn running_labs(directory: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let mut labs = Vec::new();
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        let lab = name.to_str().and_then(|name| name.strip_suffix(".sock"));
        if let Some(lab) = lab
            && !lab.starts_with('.')
            && listener(&entry.path()).is_some()
        {
            labs.push(lab.to_owned());
        }
    }
    labs.sort_unstable();
    Ok(labs)
}

/// Who listens on a socket.
#[derive(Clone, Copy, Debug)]
pub(super) struct Listener {
    /// Its process, if it could be asked for.
    pub(super) process: Option<u32>,
}

/// Who listens on the socket, though it may be busy, or somebody else's; `None`: nobody.
pub(super) fn listener(path: &Path) -> Option<Listener> {
    let connected = Socket::new(Domain::UNIX, Type::STREAM.nonblocking().cloexec(), None)
        .and_then(|socket| socket.connect(&SockAddr::unix(path)?).map(|()| socket));
    match connected {
        Ok(socket) => {
            // unix(7), SO_PEERCRED: whoever called `listen`
            let peer = getsockopt(&socket, PeerCredentials).ok();
            let process = peer.and_then(|peer| peer.pid().try_into().ok());
            Some(Listener { process: process.filter(|process| *process != 0) })
        }
        Err(error) => matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::PermissionDenied)
            .then_some(Listener { process: None }),
    }
}
