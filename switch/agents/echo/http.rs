//! The HTTP side.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Request, StatusCode};
use serde_json::{Map, Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{sleep, timeout};

use super::{Ends, Host, dial};
use crate::agents::http::{self, Answer, text};

/// How long a client may pause within a request's body.
const BODY_PATIENCE: Duration = Duration::from_secs(30);

/// The longest delay a request can ask for.
const MAX_DELAY: Duration = Duration::from_mins(1);

/// Paths of agnhost that run or end things, which are refused rather than answered by the default.
const REFUSED: [&str; 3] = ["/exit", "/shell", "/upload"];

/// Names the fields of the answer, `Name:value` each, separated by commas.
const SET_HEADER: &str = "x-echo-set-header";

/// Answers requests on one connection until either side ends it.
pub(super) async fn serve<I>(connection: I, host: Arc<Host>, ends: Ends) -> io::Result<()>
where
    I: AsyncRead + AsyncWrite + Unpin,
{
    let host = &host;
    http::serve(connection, |request| answer(request, host, ends)).await
}

async fn answer(mut request: Request<Incoming>, host: &Host, ends: Ends) -> Answer {
    if !drain(request.body_mut()).await {
        return text(StatusCode::BAD_REQUEST, "the request's body did not come whole\n");
    }
    let query = Query::of(request.uri().query());
    match query.get("delay").map(duration) {
        Some(Some(delay)) if delay <= MAX_DELAY => sleep(delay).await,
        Some(_) => {
            return text(
                StatusCode::BAD_REQUEST,
                "delay: a duration like 1.5s or 200ms, up to 1m\n",
            );
        }
        None => {}
    }
    let mut answer = match request.uri().path() {
        "/hostname" | "/hostName" => text(StatusCode::OK, host.identity.hostname.clone()),
        "/clientip" => text(StatusCode::OK, ends.client.to_string()),
        "/echo" => text(StatusCode::OK, query.get("msg").unwrap_or_default().to_owned()),
        "/header" => {
            let named = query.get("key").and_then(|key| request.headers().get(key));
            text(StatusCode::OK, named.map(HeaderValue::as_bytes).unwrap_or_default().to_vec())
        }
        "/healthz" if host.healthy.load(Ordering::Relaxed) => text(StatusCode::OK, "ok"),
        "/healthz" => text(StatusCode::SERVICE_UNAVAILABLE, "unhealthy"),
        "/dial" => match dial::answer(&host.dialer, &query).await {
            Ok(results) => http::json(StatusCode::OK, &results),
            Err(refusal) => text(StatusCode::BAD_REQUEST, refusal),
        },
        path if REFUSED.contains(&path) => {
            text(StatusCode::NOT_FOUND, "not offered by this server\n")
        }
        _ => http::json(StatusCode::OK, &seen(&request, host, ends)),
    };
    set_fields(request.headers(), answer.headers_mut());
    answer
}

/// Reads a body to its end and forgets it, so that uploads of any size can be tried.
async fn drain(body: &mut Incoming) -> bool {
    loop {
        match timeout(BODY_PATIENCE, body.frame()).await {
            Ok(None) => return true,
            Ok(Some(Ok(_))) => {}
            Ok(Some(Err(_))) | Err(_) => return false,
        }
    }
}

/// What the server knows of itself and saw of the request.
fn seen(request: &Request<Incoming>, host: &Host, ends: Ends) -> Value {
    let identity = &host.identity;
    let uri = request.uri();
    json!({
        "pod": identity.name,
        "namespace": identity.namespace,
        "node": identity.node,
        "addresses": identity.addresses,
        "method": request.method().as_str(),
        "path": uri.path_and_query().map_or(uri.path(), |path| path.as_str()),
        "host": request.headers().get(header::HOST).map(lossy),
        "protocol": format!("{:?}", request.version()),
        "headers": fields(request.headers()),
        "client": ends.client,
        "server": ends.server,
        "now": now(),
    })
}

/// Each field once, several values joined by a comma.
///
/// Source: RFC 9110 §5.3.
fn fields(headers: &HeaderMap) -> Map<String, Value> {
    let joined = |name| headers.get_all(name).iter().map(lossy).collect::<Vec<_>>().join(",");
    headers.keys().map(|name| (name.as_str().to_owned(), joined(name).into())).collect()
}

fn lossy(value: &HeaderValue) -> String {
    String::from_utf8_lossy(value.as_bytes()).into_owned()
}

/// Seconds since 1970, by the machine's clock.
fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

/// Sets the fields that the client wishes to see, but for those that frame the message.
fn set_fields(asked: &HeaderMap, answer: &mut HeaderMap) {
    let framing = [header::CONNECTION, header::CONTENT_LENGTH, header::TRANSFER_ENCODING];
    let wishes = asked.get_all(SET_HEADER).iter().filter_map(|value| value.to_str().ok());
    for (name, value) in wishes.flat_map(|value| value.split(',')).filter_map(|x| x.split_once(':'))
    {
        let name = name.trim().parse::<HeaderName>().ok();
        let value = value.trim().parse::<HeaderValue>().ok();
        if let (Some(name), Some(value)) = (name, value)
            && !framing.contains(&name)
        {
            // Sets, as opposed to adds, only where the server itself said something.
            if name == header::CONTENT_TYPE {
                answer.insert(name, value);
            } else {
                answer.append(name, value);
            }
        }
    }
}

/// The decoded pairs of a query.
#[derive(Debug)]
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    pub(super) fn of(query: Option<&str>) -> Self {
        Self(form_urlencoded::parse(query.unwrap_or_default().as_bytes()).into_owned().collect())
    }

    /// The first value of this name.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// A duration as Go writes it, of one unit: `1s`, `1.5s`, `200ms`, `1m`.
fn duration(text: &str) -> Option<Duration> {
    let (number, unit) = text.split_at(text.find(|c: char| c.is_ascii_alphabetic())?);
    let seconds = match unit {
        "us" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "m" => 60.0,
        _ => return None,
    };
    Duration::try_from_secs_f64(number.parse::<f64>().ok()? * seconds).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_those_of_go() {
        assert_eq!(duration("1s"), Some(Duration::from_secs(1)));
        assert_eq!(duration("1.5s"), Some(Duration::from_millis(1_500)));
        assert_eq!(duration("200ms"), Some(Duration::from_millis(200)));
        assert_eq!(duration("1m"), Some(Duration::from_mins(1)));
        for wrong in ["", "1", "s", "-1s", "1h", "1sec", "NaNs", "infs", "1e99s", "1m1s"] {
            assert_eq!(duration(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_client_sets_fields_but_none_that_frame() {
        let mut asked = HeaderMap::new();
        let wish = "A:x, B : y:z ,content-length:7,Transfer-Encoding:chunked,:,bad name:1,A:w";
        asked.insert(SET_HEADER, HeaderValue::from_static(wish));
        let mut answer = HeaderMap::new();
        set_fields(&asked, &mut answer);
        assert_eq!(fields(&answer), json!({ "a": "x,w", "b": "y:z" }).as_object().unwrap().clone());
    }

    #[test]
    fn queries_are_decoded() {
        let query = Query::of(Some("msg=a%20b+c&msg=2&empty"));
        assert_eq!(query.get("msg"), Some("a b c"));
        assert_eq!(query.get("empty"), Some(""));
        assert_eq!(query.get("absent"), None);
    }
}
