//! Connections: accepted within limits, then HTTP or text.

use std::io::{self, Cursor};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

use super::text::Lines;
use super::{Ends, Host, Speaks, http};
use crate::agents::listen;

/// How long a text connection may be silent.
const IDLE: Duration = Duration::from_mins(15);

/// How long a client may take to read an answer.
const WRITING: Duration = Duration::from_mins(1);

/// How long octets that may be the start of something longer are held back.
const UNDECIDED: Duration = Duration::from_millis(200);

/// Octets read from a text connection at a time.
const CHUNK: usize = 16 * 1_024;

/// Accepts until the task is aborted, which ends its connections too.
pub(super) async fn accept(listener: TcpListener, speaks: Speaks, host: Arc<Host>) {
    let serve = |stream| Some(serve(stream, speaks, Arc::clone(&host), permits(&host)?));
    listen::accept(listener, serve).await;
}

fn permits(host: &Host) -> Option<[OwnedSemaphorePermit; 2]> {
    let own = Arc::clone(&host.connections).try_acquire_owned().ok()?;
    let overall = Arc::clone(&host.connections_overall).try_acquire_owned().ok()?;
    Some([own, overall])
}

async fn serve(
    stream: TcpStream,
    speaks: Speaks,
    host: Arc<Host>,
    _permits: [OwnedSemaphorePermit; 2],
) {
    // SCTP has no such option; nor does anything depend on it.
    let _ = stream.set_nodelay(true);
    // A client that has gone, or stalls, ends its connection: there is nobody to tell.
    let _ = match speaks {
        Speaks::Http => match ends(&stream) {
            Ok(ends) => http::serve(stream, host, ends).await,
            Err(error) => Err(error),
        },
        Speaks::HttpOrText => http_or_text(stream, host).await,
        Speaks::Text | Speaks::Sctp | Speaks::Datagrams => text(stream, &host, &[]).await,
    };
}

fn ends(stream: &TcpStream) -> io::Result<Ends> {
    Ok(Ends::new(stream.peer_addr()?, stream.local_addr()?))
}

/// Reads until the first octets tell which it is.
async fn http_or_text(mut stream: TcpStream, host: Arc<Host>) -> io::Result<()> {
    let mut start = Vec::with_capacity(CHUNK);
    let is_http = loop {
        let patience = if start.is_empty() { IDLE } else { UNDECIDED };
        match timeout(patience, stream.read_buf(&mut start)).await {
            Err(_) if start.is_empty() => return Ok(()),
            Err(_) => break false,
            Ok(read) => {
                let ended = read? == 0;
                match begins_http(&start) {
                    Some(answer) => break answer,
                    None if ended => break false,
                    None => {}
                }
            }
        }
    };
    if !is_http {
        return text(stream, &host, &start).await;
    }
    let ends = ends(&stream)?;
    let (reader, writer) = stream.into_split();
    let whole = tokio::io::join(Cursor::new(start).chain(reader), writer);
    http::serve(whole, host, ends).await
}

/// Whether this is the start of an HTTP request; `None` while it may become one.
///
/// Source: RFC 9110 §9.1, RFC 5789 §2 (methods), RFC 9112 §3 (request line).
fn begins_http(start: &[u8]) -> Option<bool> {
    let methods: [&[u8]; 9] = [
        b"GET ",
        b"HEAD ",
        b"POST ",
        b"PUT ",
        b"DELETE ",
        b"CONNECT ",
        b"OPTIONS ",
        b"TRACE ",
        b"PATCH ",
    ];
    if methods.iter().any(|method| start.starts_with(method)) {
        Some(true)
    } else if methods.iter().any(|method| method.starts_with(start)) {
        None
    } else {
        Some(false)
    }
}

/// Commands and plain echo, beginning with octets that were read before.
async fn text(mut stream: TcpStream, host: &Host, start: &[u8]) -> io::Result<()> {
    let mut lines = Lines::new(&host.identity, ends(&stream)?);
    let mut input = Vec::with_capacity(CHUNK);
    let mut output = Vec::new();
    lines.feed(start, &mut output);
    loop {
        if !output.is_empty() {
            timeout(WRITING, stream.write_all(&output)).await??;
            output.clear();
        }
        input.clear();
        let patience = if lines.is_undecided() { UNDECIDED } else { IDLE };
        match timeout(patience, stream.read_buf(&mut input)).await {
            Err(_) if lines.is_undecided() => lines.settle(&mut output),
            Err(_) => return Ok(()),
            Ok(Err(error)) => return Err(error),
            Ok(Ok(0)) => break,
            Ok(Ok(_)) => lines.feed(&input, &mut output),
        }
    }
    lines.settle(&mut output);
    timeout(WRITING, stream.write_all(&output)).await??;
    stream.shutdown().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn http_is_told_from_text_by_its_method() {
        let cases: [(&[u8], Option<bool>); 8] = [
            (b"", None),
            (b"GE", None),
            (b"GET", None),
            (b"GET / HTTP/1.1\r\n", Some(true)),
            (b"OPTIONS * HTTP/1.1\r\n", Some(true)),
            (b"GETTING", Some(false)),
            (b"get / HTTP/1.1\r\n", Some(false)),
            (b"hostname\n", Some(false)),
        ];
        for (start, expected) in cases {
            assert_eq!(begins_http(start), expected, "{}", start.escape_ascii());
        }
    }
}
