//! One check of health over HTTP: good is what answers 200.

use http_body_util::Empty;
use hyper::Request;
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// Whether a connection answers a request for this path and host with 200.
///
/// Source: Google Cloud, "Health checks overview": `User-Agent: GoogleHC/1.0`.
pub(crate) async fn is_ok(stream: TcpStream, path: &str, host: &str) -> bool {
    let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
    let Ok((mut sender, connection)) = handshake else { return false };
    let driver = tokio::spawn(connection);
    let request = Request::get(path)
        .header("host", host)
        .header("user-agent", "GoogleHC/1.0")
        .header("connection", "close")
        .body(Empty::<Bytes>::new());
    let Ok(request) = request else { return false };
    let answer = sender.send_request(request).await;
    driver.abort();
    answer.is_ok_and(|answer| answer.status() == 200)
}
