//! The commands that agnhost's netexec knows beside HTTP, and one that tells who was reached how.

use super::{Ends, Identity};

const HOSTNAME: &[u8] = b"hostname";
const CLIENT_ADDRESS: &[u8] = b"clientip";
const ECHO: &[u8] = b"echo ";

/// Answered with who the server is, at which of its addresses it was reached, and from where: what
/// became of the packet on its way. agnhost has no such command.
const WHO: &[u8] = b"whoami";

/// Octets of a line that are held back at most while it may yet become a command.
const LONGEST_COMMAND: usize = 16;

/// What one datagram is answered with.
pub(super) fn answer(datagram: &[u8], identity: &Identity, ends: Ends) -> Vec<u8> {
    let text = datagram.trim_ascii();
    if let Some(answer) = command(text, identity, ends) {
        answer
    } else if starts_with(text, ECHO) {
        text.iter().copied().skip(ECHO.len()).collect()
    } else {
        datagram.to_vec()
    }
}

fn command(text: &[u8], identity: &Identity, ends: Ends) -> Option<Vec<u8>> {
    if text.eq_ignore_ascii_case(HOSTNAME) {
        Some(identity.hostname.clone().into_bytes())
    } else if text.eq_ignore_ascii_case(CLIENT_ADDRESS) {
        Some(ends.client.to_string().into_bytes())
    } else if text.eq_ignore_ascii_case(WHO) {
        Some(format!("{identity} {} {}", ends.server, ends.client).into_bytes())
    } else {
        None
    }
}

fn starts_with(text: &[u8], word: &[u8]) -> bool {
    text.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word))
}

/// The commands on a stream of octets, line by line, whatever pieces it arrives in.
///
/// Only the beginning of a line is ever held back, and only while it may become a command, so
/// anything else streams through at the speed of the connection.
#[derive(Debug)]
pub(super) struct Lines<'a> {
    identity: &'a Identity,
    ends: Ends,
    place: Place,
    held: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// At the start of a line: what is held may become a command.
    Start,
    /// Within a line that is no command.
    Through,
    /// After a command whose line has not ended.
    Answered,
}

impl<'a> Lines<'a> {
    pub(super) fn new(identity: &'a Identity, ends: Ends) -> Self {
        Self { identity, ends, place: Place::Start, held: Vec::new() }
    }

    /// Whether octets are held back until it is clear what they are.
    pub(super) fn is_undecided(&self) -> bool {
        !self.held.is_empty()
    }

    /// Takes octets that arrived, and appends what is to be sent.
    pub(super) fn feed(&mut self, mut input: &[u8], output: &mut Vec<u8>) {
        while let Some((&first, rest)) = input.split_first() {
            match self.place {
                Place::Start => {
                    self.held.push(first);
                    self.judge(output);
                    input = rest;
                }
                Place::Through => {
                    let end = input.iter().position(|&octet| octet == b'\n');
                    let (line, after) = input.split_at(end.map_or(input.len(), |end| end + 1));
                    output.extend_from_slice(line);
                    if end.is_some() {
                        self.place = Place::Start;
                    }
                    input = after;
                }
                Place::Answered => match first {
                    b'\n' => (self.place, input) = (Place::Start, rest),
                    b'\r' => input = rest,
                    _ => self.place = Place::Start,
                },
            }
        }
    }

    /// Nothing more came for a while, or will come at all: what is held is a whole line.
    pub(super) fn settle(&mut self, output: &mut Vec<u8>) {
        if self.held.is_empty() {
            return;
        }
        if let Some(answer) = command(self.held.trim_ascii(), self.identity, self.ends) {
            output.extend_from_slice(&answer);
            output.push(b'\n');
            self.held.clear();
            self.place = Place::Answered;
        } else {
            self.release(output);
        }
    }

    /// Decides on the held start of a line, of which the last octet is new.
    fn judge(&mut self, output: &mut Vec<u8>) {
        if self.held.ends_with(b"\n") {
            match command(self.held.trim_ascii(), self.identity, self.ends) {
                Some(answer) => {
                    output.extend_from_slice(&answer);
                    output.push(b'\n');
                }
                None => output.extend_from_slice(&self.held),
            }
            self.held.clear();
        } else if self.held.eq_ignore_ascii_case(ECHO) {
            self.held.clear();
            self.place = Place::Through;
        } else if !self.may_become_command() {
            self.release(output);
        }
    }

    fn release(&mut self, output: &mut Vec<u8>) {
        output.append(&mut self.held);
        self.place = Place::Through;
    }

    fn may_become_command(&self) -> bool {
        if self.held.len() > LONGEST_COMMAND {
            return false;
        }
        [HOSTNAME, CLIENT_ADDRESS, ECHO, WHO].into_iter().any(|word| {
            let (start, rest) = self.held.split_at(self.held.len().min(word.len()));
            starts_with(word, start) && rest.iter().all(u8::is_ascii_whitespace)
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn identity() -> Identity {
        Identity {
            name: "web-0".into(),
            hostname: "web-0".into(),
            namespace: Some("shop".into()),
            ..Identity::default()
        }
    }

    fn ends() -> Ends {
        Ends::new("10.4.0.9:40001".parse().unwrap(), "10.4.0.2:8081".parse().unwrap())
    }

    #[test]
    fn datagrams_are_answered_as_agnhost_does() {
        let cases: [(&[u8], &[u8]); 10] = [
            (b"hostname", b"web-0"),
            (b"whoami\n", b"shop/web-0 10.4.0.2:8081 10.4.0.9:40001"),
            (b"hostName\n", b"web-0"),
            (b" HOSTNAME \r\n", b"web-0"),
            (b"clientip", b"10.4.0.9:40001"),
            (b"echo Hello, You", b"Hello, You"),
            (b"echo", b"echo"),
            (b"hostnames", b"hostnames"),
            (b"", b""),
            (b"\x00\xff\n", b"\x00\xff\n"),
        ];
        for (datagram, expected) in cases {
            assert_eq!(answer(datagram, &identity(), ends()), expected, "{datagram:?}");
        }
    }

    fn stream(pieces: &[&[u8]]) -> Vec<u8> {
        let identity = identity();
        let mut lines = Lines::new(&identity, ends());
        let mut output = Vec::new();
        for piece in pieces {
            lines.feed(piece, &mut output);
        }
        lines.settle(&mut output);
        output
    }

    #[test]
    fn lines_of_a_stream_are_commands_or_echoed() {
        let cases: [(&[u8], &[u8]); 8] = [
            (b"hostname\n", b"web-0\n"),
            (b"hostname", b"web-0\n"),
            (b"hostname\r\nclientip\r\n", b"web-0\n10.4.0.9:40001\n"),
            (b"echo one\necho\ntwo", b"one\necho\ntwo"),
            (b"host\nhostnamehostname\n", b"host\nhostnamehostname\n"),
            (b"hostname                 \n", b"hostname                 \n"),
            (b" hostname\n", b" hostname\n"),
            (b"\n\n", b"\n\n"),
        ];
        for (input, expected) in cases {
            assert_eq!(stream(&[input]), expected, "{}", input.escape_ascii());
        }
    }

    #[test]
    fn a_command_answered_before_its_line_ended_swallows_the_end() {
        let identity = identity();
        let mut lines = Lines::new(&identity, ends());
        let mut output = Vec::new();
        lines.feed(b"hostname", &mut output);
        assert!(output.is_empty() && lines.is_undecided());
        lines.settle(&mut output);
        lines.feed(b"\r\nabc\n", &mut output);
        assert_eq!(output, b"web-0\nabc\n");
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(
            input in proptest::collection::vec(
                prop_oneof![
                    Just(&b"hostname"[..]), Just(&b"echo "[..]), Just(&b"\n"[..]),
                    Just(&b"\r\n"[..]), Just(&b"x"[..]), Just(&b"clientip"[..]), Just(&b" "[..]), Just(&b"whoami"[..]),
                ],
                0..12,
            ),
            cut in 1usize..7,
        ) {
            let whole = input.concat();
            let pieces: Vec<&[u8]> = whole.chunks(cut).collect();
            prop_assert_eq!(stream(&pieces), stream(&[&whole]));
        }

        #[test]
        fn what_names_no_command_is_echoed_as_is(input in "[^eEhHcCwW]*") {
            prop_assert_eq!(stream(&[input.as_bytes()]), input.as_bytes());
        }

        #[test]
        fn little_is_ever_held(input in proptest::collection::vec(any::<u8>(), 0..200)) {
            let identity = identity();
            let mut lines = Lines::new(&identity, ends());
            let mut output = Vec::new();
            lines.feed(&input, &mut output);
            prop_assert!(lines.held.len() <= LONGEST_COMMAND);
        }
    }
}
