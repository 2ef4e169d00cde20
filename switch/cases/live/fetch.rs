//! Questions over HTTP, without a client library: one request, one answer, the end.

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::super::stage::Fetched;

/// Octets of an answer at most.
const LONGEST: u64 = 1 << 20;

/// Asks for a path on a connection just made.
///
/// # Errors
/// What the system says; `InvalidData` for what is no answer.
pub(super) async fn fetch(mut stream: TcpStream, host: &str, path: &str) -> io::Result<Fetched> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(LONGEST).read_to_end(&mut answer).await?;
    let text = String::from_utf8_lossy(&answer);
    read(&text).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, format!("{text:?}")))
}

/// Status, fields and body of an answer.
fn read(text: &str) -> Option<Fetched> {
    let (head, body) = text.split_once("\r\n\r\n")?;
    let mut lines = head.lines();
    let status = lines.next()?.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    let field = |line: &str| {
        let (name, value) = line.split_once(':')?;
        Some((name.to_ascii_lowercase(), value.trim().to_owned()))
    };
    let headers = lines.filter_map(field).collect();
    Some(Fetched::Answer { status, headers, json: serde_json::from_str(body).ok() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_taken_apart() {
        let text = "HTTP/1.1 503 Service Unavailable\r\nX-Weight: 0\r\n\r\n{\"n\": 0}\n";
        let Some(Fetched::Answer { status, headers, json }) = read(text) else { panic!("{text}") };
        assert_eq!(status, 503);
        assert_eq!(headers, [("x-weight".to_owned(), "0".to_owned())]);
        assert_eq!(json, Some(serde_json::json!({ "n": 0 })));
        assert!(read("hello").is_none());
    }
}
