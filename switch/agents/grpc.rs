//! One check of health over gRPC: good is what says `SERVING`.
//!
//! Source: gRPC Health Checking Protocol (`grpc.health.v1.Health`); gRPC over HTTP/2, Requests and
//! Responses; Protocol Buffers, Encoding.

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::{HeaderMap, Request, header};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

/// Octets of an answer at most.
const ANSWER_MAX: usize = 16 * 1_024;

/// Octets before a message: whether it is compressed, and its length.
const PREFIX: usize = 5;

/// `ServingStatus.SERVING`.
const SERVING: u64 = 1;

/// Whether the server at the other end of a connection says that this service is served; an empty
/// name asks for the server as a whole.
pub(crate) async fn is_serving(stream: TcpStream, authority: &str, service: &str) -> bool {
    let io = TokioIo::new(stream);
    let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await;
    let Ok((mut sender, connection)) = handshake else { return false };
    let driver = tokio::spawn(connection);
    let uri = format!("http://{authority}/grpc.health.v1.Health/Check");
    let request = Request::post(uri)
        .header(header::CONTENT_TYPE, "application/grpc")
        .header(header::TE, "trailers")
        .header(header::USER_AGENT, "kube-probe/kswitch")
        .body(Full::new(Bytes::from(question(service))));
    let is_serving = match request {
        Ok(request) => match sender.send_request(request).await {
            Ok(answer) => {
                // a call that fails at once says so in its head
                let failed = answer.headers().get(STATUS).is_some() && !is_ok(answer.headers());
                let body = Limited::new(answer.into_body(), ANSWER_MAX).collect().await;
                !failed
                    && body.is_ok_and(|body| {
                        let is_ok = body.trailers().is_some_and(is_ok);
                        is_ok && status(&body.to_bytes()) == Some(SERVING)
                    })
            }
            Err(_) => false,
        },
        Err(_) => false,
    };
    driver.abort();
    is_serving
}

/// The field in which a call's fate stands.
const STATUS: &str = "grpc-status";

fn is_ok(fields: &HeaderMap) -> bool {
    fields.get(STATUS).is_some_and(|status| status == "0")
}

/// `HealthCheckRequest`, with what stands before a message.
fn question(service: &str) -> Vec<u8> {
    let mut message = Vec::with_capacity(service.len() + 12);
    if !service.is_empty() {
        // field 1, of a length that is told
        message.push(0x0a);
        let mut length = service.len();
        while length > 0 {
            let [low, ..] = length.to_le_bytes();
            length >>= 7;
            message.push(low & 0x7f | if length > 0 { 0x80 } else { 0 });
        }
        message.extend_from_slice(service.as_bytes());
    }
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
    [&[0][..], &length.to_be_bytes(), &message].concat()
}

/// `HealthCheckResponse.status` of an answer; `None` for what is none.
fn status(body: &[u8]) -> Option<u64> {
    let (prefix, message) = body.split_at_checked(PREFIX)?;
    let (is_compressed, length) = prefix.split_first()?;
    let length = u32::from_be_bytes(length.try_into().ok()?);
    if *is_compressed != 0 || usize::try_from(length).ok()? != message.len() {
        return None;
    }
    // of a number that is not sent: zero, which is `UNKNOWN`
    let (mut rest, mut status) = (message, 0);
    while !rest.is_empty() {
        let tag = number(&mut rest)?;
        match tag & 7 {
            0 => {
                let value = number(&mut rest)?;
                status = if tag >> 3 == 1 { value } else { status };
            }
            1 => rest = rest.get(8..)?,
            2 => {
                let length = usize::try_from(number(&mut rest)?).ok()?;
                rest = rest.get(length..)?;
            }
            5 => rest = rest.get(4..)?,
            _ => return None,
        }
    }
    Some(status)
}

/// A number of variable length at the start of `rest`, which goes on after it.
fn number(rest: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (octet, after) = rest.split_first()?;
        *rest = after;
        number |= u64::from(octet & 0x7f) << shift;
        if octet & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use http_body_util::StreamBody;
    use hyper::body::{Frame, Incoming};
    use hyper::service::service_fn;
    use hyper::{Response, StatusCode};
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn messages_are_those_of_protocol_buffers() {
        assert_eq!(question(""), [0, 0, 0, 0, 0]);
        assert_eq!(question("ab"), [0, 0, 0, 0, 4, 0x0a, 2, b'a', b'b']);
        let long = question(&"x".repeat(300));
        assert_eq!(long[..8], [0, 0, 0, 1, 0x2f, 0x0a, 0xac, 0x02]);
        assert_eq!(status(&[0, 0, 0, 0, 2, 0x08, 1]), Some(1));
        assert_eq!(status(&[0, 0, 0, 0, 0]), Some(0));
        // fields that nobody knows yet are passed over
        assert_eq!(status(&[0, 0, 0, 0, 6, 0x12, 2, 8, 9, 0x08, 2]), Some(2));
        for broken in [&[][..], &[0, 0, 0, 0], &[1, 0, 0, 0, 2, 8, 1], &[0, 0, 0, 0, 2, 8]] {
            assert_eq!(status(broken), None, "{broken:?}");
        }
        assert_eq!(status(&[0, 0, 0, 0, 3, 0x12, 9, 1]), None, "longer than what there is");
    }

    /// A server that says of each service how it is by its name.
    async fn answer(
        request: Request<Incoming>,
    ) -> Result<
        Response<StreamBody<impl futures_util::Stream<Item = Result<Frame<Bytes>, Infallible>>>>,
        Infallible,
    > {
        assert_eq!(request.uri().path(), "/grpc.health.v1.Health/Check");
        assert_eq!(request.headers()[header::CONTENT_TYPE], "application/grpc");
        assert_eq!(request.headers()[header::TE], "trailers");
        let asked = request.into_body().collect().await.unwrap().to_bytes();
        let (code, status) = match asked.get(7..).unwrap_or_default() {
            b"" | b"good" => ("0", 1),
            b"bad" => ("0", 2),
            _ => ("5", 0),
        };
        let message = Bytes::copy_from_slice(&[0, 0, 0, 0, 2, 8, status]);
        let trailers = HeaderMap::from_iter([(
            header::HeaderName::from_static(STATUS),
            header::HeaderValue::from_static(code),
        )]);
        let frames = [Frame::data(message), Frame::trailers(trailers)].map(Ok);
        let mut answer = Response::new(StreamBody::new(futures_util::stream::iter(frames)));
        *answer.status_mut() = StatusCode::OK;
        Ok(answer)
    }

    #[tokio::test]
    async fn what_serves_is_told_from_what_does_not() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let io = TokioIo::new(stream);
                let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                tokio::spawn(server.serve_connection(io, service_fn(answer)));
            }
        });
        for (service, serves) in [("", true), ("good", true), ("bad", false), ("other", false)] {
            let stream = TcpStream::connect(address).await.unwrap();
            let said = is_serving(stream, &address.to_string(), service).await;
            assert_eq!(said, serves, "{service}");
        }
    }
}
