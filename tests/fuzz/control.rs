//! A line on the control socket, and the filters that people write.

use kswitch::control::capture::filter::Filter;
use kswitch::control::request::Request;

/// A request is what its first octet does not turn into something else: 0 a filter for captures
/// and a frame to judge.
pub fn enter(octets: &[u8]) {
    match octets {
        [0, rest @ ..] => filter(rest),
        octets => request(octets),
    }
}

fn request(octets: &[u8]) {
    if let Ok(request) = serde_json::from_slice::<Request>(octets) {
        let text = serde_json::to_vec(&request).expect("it was text before");
        let again: Request = serde_json::from_slice(&text).expect("what was written can be read");
        assert_eq!(request, again);
    }
}

fn filter(octets: &[u8]) {
    let mut halves = octets.splitn(2, |&octet| octet == 0);
    let Some(Ok(text)) = halves.next().map(str::from_utf8) else { return };
    if let Ok(filter) = Filter::parse(text) {
        let _ = filter.takes(halves.next().unwrap_or_default());
    }
}
