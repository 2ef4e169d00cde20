//! HTTP/1.1 servers whose limits hold against any client.

use std::convert::Infallible;
use std::io;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{self, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};

/// How long a client may take to send a request's head, or be idle between two.
const HEAD_PATIENCE: Duration = Duration::from_mins(1);

/// Fields of a request's head at most.
const MAX_FIELDS: usize = 100;

/// Octets of a request's head at most.
const MAX_HEAD: usize = 16 * 1_024;

/// Octets buffered of a connection at most.
const MAX_BUFFER: usize = 32 * 1_024;

const _: () = assert!(MAX_HEAD < MAX_BUFFER, "a head is read whole");

/// What a request is answered with.
pub(crate) type Answer = Response<Full<Bytes>>;

/// Answers requests on one connection until either side ends it.
///
/// # Errors
///
/// The client broke a limit, or the protocol, or went away.
pub(crate) async fn serve<I, F>(
    connection: I,
    answer: impl Fn(Request<Incoming>) -> F,
) -> io::Result<()>
where
    I: AsyncRead + AsyncWrite + Unpin,
    F: Future<Output = Answer>,
{
    let service = service_fn(|request| {
        let answer = answer(request);
        async { Ok::<_, Infallible>(answer.await) }
    });
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_PATIENCE)
        .max_headers(MAX_FIELDS)
        .max_header_size(MAX_HEAD)
        .max_buf_size(MAX_BUFFER)
        .half_close(true)
        .serve_connection(TokioIo::new(connection), service)
        .await
        .map_err(io::Error::other)
}

/// An answer in plain text.
pub(crate) fn text(status: StatusCode, body: impl Into<Bytes>) -> Answer {
    typed(status, "text/plain; charset=utf-8", body)
}

/// An answer in JSON, for people and programs.
pub(crate) fn json(status: StatusCode, body: &serde_json::Value) -> Answer {
    typed(status, "application/json", format!("{body:#}\n"))
}

/// An answer of this media type.
pub(crate) fn typed(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    answer
}
