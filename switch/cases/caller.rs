//! The side of a connection that opens it, in memory.

use kswitch_tables::{Endpoint, Flow, Protocol};

use super::format::Transport;
use super::hosts::{TCP_PSH, advance, socket, tcp_numbers, with_data};
use super::stage::{Outcome, Witness};
use crate::dataplane::Kind;
use crate::dataplane::frame::{TCP_ACK, TCP_RST, TCP_SYN};
use crate::sim::craft::Craft;
use crate::sim::icmp;
use crate::sim::read::Received;
use crate::sim::sctp::{self, Chunk};

/// First sequence number of callers.
const SEQUENCE: u32 = 1_000;

/// The tag by which SCTP callers are addressed.
const TAG: u32 = 0x0ca1_1e40;

/// What a caller sends once it is connected.
const QUESTION: &[u8] = b"who";

/// A connection, as its opener has it.
#[derive(Clone, Debug)]
pub struct Caller {
    local: Endpoint,
    remote: Endpoint,
    transport: Transport,
    state: State,
    /// The next sequence number to send.
    send: u32,
    /// The next one expected.
    receive: u32,
    /// The listener's report, until the connection is known to work.
    report: Option<Witness>,
    /// What came of what was sent last.
    outcome: Outcome,
    /// What was odd.
    remarks: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Opening,
    Open,
    Closed,
}

impl Caller {
    /// A connection about to be opened, and the first packet of it.
    pub fn open(local: Endpoint, remote: Endpoint, transport: Transport) -> (Self, Craft) {
        let first = match transport {
            Transport::Tcp => Craft::syn(local, remote).numbered(SEQUENCE, 0),
            Transport::Udp => Craft::udp(local, remote, QUESTION),
            Transport::Sctp => sctp::packet(local, remote, 0, sctp::INIT, &sctp::init(TAG, &[])),
        };
        let caller = Self {
            local,
            remote,
            transport,
            state: State::Opening,
            send: SEQUENCE.wrapping_add(1),
            receive: 0,
            report: None,
            outcome: Outcome::Silent,
            remarks: Vec::new(),
        };
        (caller, first)
    }

    /// Asks once more on an open connection.
    pub fn ask(&mut self) -> Craft {
        self.outcome = Outcome::Silent;
        self.remarks.clear();
        match self.transport {
            Transport::Tcp => {
                let flags = TCP_PSH | TCP_ACK;
                let segment = self.segment(flags);
                self.send = advance(self.send, QUESTION);
                with_data(segment, QUESTION)
            }
            Transport::Udp => Craft::udp(self.local, self.remote, QUESTION),
            Transport::Sctp => {
                sctp::packet(self.local, self.remote, 0, sctp::INIT, &sctp::init(TAG, &[]))
            }
        }
    }

    /// The protocol of the connection.
    pub const fn protocol(&self) -> Protocol {
        self.transport.protocol()
    }

    /// What came of what was sent last.
    pub const fn outcome(&self) -> &Outcome {
        &self.outcome
    }

    /// What was odd about the answers.
    pub fn take_remarks(&mut self) -> Vec<String> {
        std::mem::take(&mut self.remarks)
    }

    /// Whether a packet that came to the caller's machine is for the caller.
    pub fn expects(&self, packet: &Received) -> bool {
        let flow = packet.packet.flow;
        match packet.packet.kind {
            Kind::IcmpError => self.is_about_us(packet),
            _ => flow.protocol == self.transport.protocol() && flow.target == self.local,
        }
    }

    fn is_about_us(&self, packet: &Received) -> bool {
        let quoted = packet.upper().get(8..).and_then(icmp::quoted_ends);
        quoted == Some((self.transport.protocol(), self.local, self.remote))
    }

    /// Takes an answer, and gives what is said to it.
    pub fn hear(&mut self, packet: &Received) -> Option<Craft> {
        let Flow { source, .. } = packet.packet.flow;
        if matches!(packet.packet.kind, Kind::IcmpError) {
            let (kind, code) = packet.icmp().unwrap_or_default();
            self.refused(format!("ICMP type {kind} code {code} from {}", source.address));
            return None;
        }
        if source != self.remote {
            let remark = format!("an answer came from {source}, not from {}", self.remote);
            self.remarks.push(remark);
            return None;
        }
        match packet.packet.kind {
            Kind::Tcp(flags) => self.hear_tcp(packet, flags),
            Kind::Udp => {
                self.reported(packet.data());
                None
            }
            Kind::Sctp(_) => self.hear_sctp(packet),
            _ => None,
        }
    }

    fn hear_tcp(&mut self, packet: &Received, flags: u8) -> Option<Craft> {
        let (sequence, acknowledged) = tcp_numbers(packet);
        let is_ours = acknowledged == self.send;
        if flags & TCP_RST != 0 {
            if self.state == State::Opening && !is_ours {
                self.remarks.push("a reset does not acknowledge the SYN".to_owned());
                return None;
            }
            self.refused("TCP RST".to_owned());
            return None;
        }
        if flags & TCP_SYN != 0 {
            if self.state != State::Opening || !is_ours {
                return None;
            }
            self.state = State::Open;
            self.receive = sequence.wrapping_add(1);
            return Some(self.ask());
        }
        let data = packet.data();
        if data.is_empty() || sequence != self.receive {
            return None;
        }
        self.receive = advance(sequence, data);
        self.reported(data);
        Some(self.segment(TCP_ACK))
    }

    fn hear_sctp(&mut self, packet: &Received) -> Option<Craft> {
        let Some(chunk) = Chunk::read(packet) else {
            self.remarks.push("an SCTP packet came with a wrong checksum".to_owned());
            return None;
        };
        match chunk.kind {
            sctp::INIT_ACK => {
                let cookie = chunk.cookie()?;
                self.report = std::str::from_utf8(cookie).ok().and_then(Witness::from_text);
                let tag = chunk.tag()?;
                Some(sctp::packet(self.local, self.remote, tag, sctp::COOKIE_ECHO, cookie))
            }
            sctp::COOKIE_ACK => {
                if let Some(witness) = self.report.take() {
                    self.state = State::Open;
                    self.outcome = Outcome::Served(witness);
                }
                None
            }
            sctp::ABORT => {
                self.refused("SCTP ABORT".to_owned());
                None
            }
            _ => None,
        }
    }

    fn segment(&self, flags: u8) -> Craft {
        Craft::tcp(self.local, self.remote, flags).numbered(self.send, self.receive)
    }

    fn refused(&mut self, how: String) {
        self.state = State::Closed;
        self.outcome = Outcome::Refused(how);
    }

    fn reported(&mut self, data: &[u8]) {
        let text = String::from_utf8_lossy(data);
        match Witness::from_text(&text) {
            Some(witness) => self.outcome = Outcome::Served(witness),
            None => self.remarks.push(format!("{} said {text:?}", socket(self.remote))),
        }
    }
}
