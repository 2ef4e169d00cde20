//! The fields of heads: read for rules, changed by filters, kept from crossing hops.

use std::borrow::Cow;
use std::net::IpAddr;

use hyper::HeaderMap;
use hyper::header::{self, HeaderName, HeaderValue};
use kswitch_config::routing::{HeaderEdit, HeaderTemplate, Headers};

/// What this load balancer calls itself.
///
/// Source: RFC 9110, 7.6.3.
const VIA: &str = "1.1 kswitch";

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// The fields of a head, as rules ask for them.
#[derive(Clone, Copy, Debug)]
pub struct Fields<'h>(pub &'h HeaderMap);

impl Headers for Fields<'_> {
    fn value(&self, name: &str) -> Option<Cow<'_, str>> {
        let mut values = self.0.get_all(name).iter().filter_map(|value| value.to_str().ok());
        let first = values.next()?;
        let Some(second) = values.next() else { return Some(Cow::Borrowed(first)) };
        let rest: Vec<_> = [first, second].into_iter().chain(values).collect();
        Some(Cow::Owned(rest.join(",")))
    }
}

/// Takes out what is for the next hop only.
///
/// Source: RFC 9110, 7.6.1.
pub fn end_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    // gRPC asks every hop for trailers
    let has_trailers = headers.get(header::TE).is_some_and(|te| te == "trailers");
    for name in named {
        headers.remove(name);
    }
    for name in [
        header::CONNECTION,
        KEEP_ALIVE,
        PROXY_CONNECTION,
        header::PROXY_AUTHENTICATE,
        header::PROXY_AUTHORIZATION,
        header::TE,
        header::TRANSFER_ENCODING,
        header::UPGRADE,
    ] {
        headers.remove(name);
    }
    if has_trailers {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
}

/// Says for whom a request is sent on.
///
/// Source: GKE, "X-Forwarded-For": the client's address, then the load balancer's.
pub fn forwarded(headers: &mut HeaderMap, client: IpAddr, balancer: IpAddr, scheme: &str) {
    let before = Fields(headers).value(FORWARDED_FOR.as_str()).map(Cow::into_owned);
    let own = format!("{client},{balancer}");
    let all = before.map_or_else(|| own.clone(), |before| format!("{before},{own}"));
    if let Ok(value) = HeaderValue::try_from(all) {
        headers.insert(FORWARDED_FOR, value);
    }
    if let Ok(value) = HeaderValue::try_from(scheme) {
        headers.insert(FORWARDED_PROTO, value);
    }
    via(headers);
}

/// Says that a message came by here.
pub fn via(headers: &mut HeaderMap) {
    headers.append(header::VIA, HeaderValue::from_static(VIA));
}

/// Changes fields; those that no head can have are left out.
pub fn edit(headers: &mut HeaderMap, edits: &[HeaderEdit]) {
    for HeaderEdit { set, add, remove } in edits {
        for (name, value) in set {
            if let Some((name, value)) = field(name, value) {
                headers.insert(name, value);
            }
        }
        for (name, value) in add {
            if let Some((name, value)) = field(name, value) {
                headers.append(name, value);
            }
        }
        for name in remove {
            headers.remove(name.as_str());
        }
    }
}

/// Adds fields whose values have variables; those that a head has already are replaced.
pub fn fill(
    headers: &mut HeaderMap,
    templates: &[HeaderTemplate],
    variable: impl Fn(&str) -> Option<String>,
) {
    for template in templates {
        if let Some((name, value)) = field(&template.name, &template.value(&variable)) {
            headers.insert(name, value);
        }
    }
}

/// The value of a cookie.
pub fn cookie(headers: &HeaderMap, name: &str) -> Option<String> {
    let mut cookies = headers.get_all(header::COOKIE).iter().filter_map(|it| it.to_str().ok());
    cookies.find_map(|cookies| among(cookies, &[';'], name)).map(str::to_owned)
}

/// The same in the value of a field; of several fields, with commas between them.
pub fn cookie_of<'c>(cookies: &'c str, name: &str) -> Option<&'c str> {
    among(cookies, &[';', ','], name)
}

/// The value of a name among pairs with any of these between them.
fn among<'c>(pairs: &'c str, between: &[char], name: &str) -> Option<&'c str> {
    let mut pairs = pairs.split(between).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(at, _)| *at == name).map(|(_, value)| value)
}

/// A field of a head, if it can be one.
pub fn field(name: &str, value: &str) -> Option<(HeaderName, HeaderValue)> {
    Some((name.parse().ok()?, HeaderValue::try_from(value).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_for_one_hop_goes_no_further() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "close, x-mine"),
            ("x-mine", "1"),
            ("x-yours", "2"),
            ("te", "trailers"),
            ("transfer-encoding", "chunked"),
        ] {
            let (name, value) = field(name, value).unwrap();
            headers.append(name, value);
        }
        end_hop(&mut headers);
        let mut names: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["te", "x-yours"]);
    }

    #[test]
    fn the_client_and_the_balancer_are_added_to_those_before() {
        let mut headers = HeaderMap::new();
        headers.insert(FORWARDED_FOR, HeaderValue::from_static("192.0.2.1"));
        let [client, balancer] = ["198.51.100.7", "203.0.113.1"].map(|at| at.parse().unwrap());
        forwarded(&mut headers, client, balancer, "https");
        assert_eq!(headers[FORWARDED_FOR], "192.0.2.1,198.51.100.7,203.0.113.1");
        assert_eq!(headers[FORWARDED_PROTO], "https");
    }
}
