//! Lines of bounded length, within bounded time.

use std::io::{self, BufRead, BufReader, ErrorKind};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// A line without its end; `None` if there was nothing but the end of the stream.
///
/// # Errors
///
/// `InvalidData` if it is longer than `limit` octets; `UnexpectedEof` if the stream ended within;
/// `TimedOut` if it did not come whole within `patience`.
pub(super) fn read(
    stream: &mut BufReader<UnixStream>,
    limit: usize,
    patience: Option<Duration>,
) -> io::Result<Option<Vec<u8>>> {
    let deadline = patience.map(|patience| Instant::now() + patience);
    let mut line = Vec::new();
    loop {
        if let Some(deadline) = deadline {
            // A timeout of zero is refused by the system.
            let left = deadline.saturating_duration_since(Instant::now());
            stream.get_ref().set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
        }
        let read = match stream.fill_buf() {
            Ok(read) => read,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                return Err(ErrorKind::TimedOut.into());
            }
            Err(error) => return Err(error),
        };
        if read.is_empty() {
            return if line.is_empty() { Ok(None) } else { Err(ErrorKind::UnexpectedEof.into()) };
        }
        let end = read.iter().position(|&octet| octet == b'\n');
        let (part, _) = read.split_at(end.unwrap_or(read.len()));
        if line.len() + part.len() > limit {
            let message = format!("a line is longer than {limit} octets");
            return Err(io::Error::new(ErrorKind::InvalidData, message));
        }
        line.extend_from_slice(part);
        let taken = part.len() + usize::from(end.is_some());
        stream.consume(taken);
        if end.is_some() {
            return Ok(Some(line));
        }
    }
}
