//! Messages: from a request to the octets of its answer.

use hickory_proto::op::{Edns, Message, MessageType, Metadata, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, CNAME, NS, PTR, SOA, SRV, TXT};
use hickory_proto::rr::{self, DNSClass, RData, RecordType};
use kswitch_config::{Answer, Data, Existence, Name, Question, Record, TTL, Type, Zones};

/// Octets of an answer over UDP to those who do not say what they can take, and the most for those
/// who do.
///
/// Source: RFC 1035 §4.2.1; RFC 6891 §6.2.5.
const UDP_LEAST: u16 = 512;
const UDP_MOST: u16 = 4_096;

/// How long somebody who copies a zone waits between looks, tries, and until giving up, seconds.
/// Nobody copies these.
const REFRESH: [i32; 3] = [7_200, 1_800, 86_400];

/// By which transport a request came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// A datagram, whose answer may be too long.
    Udp,
    /// A stream.
    Tcp,
}

/// What comes of a request.
#[derive(Debug)]
pub enum Outcome {
    /// Octets to send.
    Answered(Box<Reply>),
    /// Somebody else has to be asked for the rest.
    Unknown(Box<Unknown>),
    /// It is no request: there is nobody to answer.
    Ignored,
}

/// An answer ready to be sent.
#[derive(Debug)]
pub struct Reply {
    /// The message.
    pub octets: Vec<u8>,
    asked: Option<Query>,
    /// How it went.
    pub code: Code,
}

impl Reply {
    /// What was asked, in words: type and name.
    pub fn question(&self) -> String {
        let words = |query: &Query| format!("{} {}", query.query_type(), query.name());
        self.asked.as_ref().map_or_else(String::new, words)
    }
}

/// How a request went, as counters have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Code {
    /// The name exists.
    NoError,
    /// The request could not be read.
    FormErr,
    /// Whoever knows could not be asked.
    ServFail,
    /// The name does not exist.
    NxDomain,
    /// It asks for something that no name server here does.
    NotImp,
    /// It asks for something that nobody gets here.
    Refused,
}

impl Code {
    /// Every code.
    pub const ALL: [Self; 6] =
        [Self::NoError, Self::FormErr, Self::ServFail, Self::NxDomain, Self::NotImp, Self::Refused];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::NoError => "NOERROR",
            Self::FormErr => "FORMERR",
            Self::ServFail => "SERVFAIL",
            Self::NxDomain => "NXDOMAIN",
            Self::NotImp => "NOTIMP",
            Self::Refused => "REFUSED",
        }
    }

    fn of(code: ResponseCode) -> Self {
        match code {
            ResponseCode::NoError => Self::NoError,
            ResponseCode::FormErr | ResponseCode::BADVERS => Self::FormErr,
            ResponseCode::NXDomain => Self::NxDomain,
            ResponseCode::NotImp => Self::NotImp,
            ResponseCode::Refused => Self::Refused,
            _ => Self::ServFail,
        }
    }
}

/// What was answered so far, and what somebody else has to be asked.
#[derive(Debug)]
pub struct Unknown {
    message: Message,
    transport: Transport,
    limit: u16,
    name: Name,
}

/// Answers a request.
pub fn answer(zones: &Zones, request: &[u8], transport: Transport) -> Outcome {
    let Ok(request) = Message::from_vec(request) else { return unreadable(request) };
    if request.metadata.message_type != MessageType::Query {
        return Outcome::Ignored;
    }
    let limit = match transport {
        Transport::Udp => request.max_payload().clamp(UDP_LEAST, UDP_MOST),
        Transport::Tcp => u16::MAX,
    };
    let mut message = Message::response(request.metadata.id, request.metadata.op_code);
    message.metadata = Metadata::response_from_request(&request.metadata);
    message.metadata.recursion_available = true;
    message.edns = request.edns.as_ref().map(|_| edns());
    message.queries.clone_from(&request.queries);
    let refused = |mut message: Message, code| {
        message.metadata.response_code = code;
        answered(message, limit)
    };
    if request.metadata.op_code != OpCode::Query {
        return refused(message, ResponseCode::NotImp);
    }
    let [query] = &*request.queries else { return refused(message, ResponseCode::FormErr) };
    if request.version() > 0 {
        return refused(message, ResponseCode::BADVERS);
    }
    let is_transfer = matches!(query.query_type(), RecordType::AXFR | RecordType::IXFR);
    if is_transfer || !matches!(query.query_class(), DNSClass::IN | DNSClass::ANY) {
        return refused(message, ResponseCode::Refused);
    }
    let Some(name) = Name::of(query.name().iter()) else {
        return refused(message, ResponseCode::FormErr);
    };
    let question = Question { name, wanted: wanted(query.query_type()) };
    let Answer { existence, is_authoritative, answers, authority, additional, unknown } =
        zones.answer(&question);
    message.metadata.authoritative = is_authoritative;
    if existence == Existence::DoesNotExist {
        message.metadata.response_code = ResponseCode::NXDomain;
    }
    let written = |record: Record| record_of(record, &question.name, query.name());
    message.answers = answers.into_iter().filter_map(written).collect();
    message.authorities = authority.into_iter().filter_map(written).collect();
    message.additionals = additional.into_iter().filter_map(written).collect();
    match unknown {
        Some(name) => Outcome::Unknown(Box::new(Unknown { message, transport, limit, name })),
        None => answered(message, limit),
    }
}

/// Says that a request could not be read, if it was one.
fn unreadable(request: &[u8]) -> Outcome {
    // identification, then flags of which the first says that it is an answer
    let [first, second, flags, ..] = request else { return Outcome::Ignored };
    if request.len() < 12 || flags & 0x80 != 0 {
        return Outcome::Ignored;
    }
    let id = u16::from_be_bytes([*first, *second]);
    let message = Message::error_msg(id, OpCode::Query, ResponseCode::FormErr);
    answered(message, UDP_LEAST)
}

fn edns() -> Edns {
    let mut edns = Edns::new();
    edns.set_max_payload(UDP_MOST);
    edns
}

fn answered(message: Message, limit: u16) -> Outcome {
    let asked = message.queries.first().cloned();
    let code = Code::of(message.metadata.response_code);
    match encoded(message, limit) {
        Some(octets) => Outcome::Answered(Box::new(Reply { octets, asked, code })),
        None => Outcome::Ignored,
    }
}

/// The octets of a message: without what would only help if it is too long, without any records if
/// it still is, which says that it is to be asked for by TCP.
fn encoded(mut message: Message, limit: u16) -> Option<Vec<u8>> {
    let fits = |octets: &Vec<u8>| octets.len() <= usize::from(limit);
    if let Some(octets) = message.to_vec().ok().filter(fits) {
        return Some(octets);
    }
    message.additionals.clear();
    if let Some(octets) = message.to_vec().ok().filter(fits) {
        return Some(octets);
    }
    message.truncate().to_vec().ok().filter(fits)
}

impl Unknown {
    /// The request to pass on, under another identification.
    pub fn request(&self, id: u16) -> Option<Vec<u8>> {
        let query = self.message.queries.first()?;
        let mut message = Message::new(id, MessageType::Query, OpCode::Query);
        message.metadata.recursion_desired = self.message.metadata.recursion_desired;
        message.edns = Some(edns());
        let mut asked = Query::query(name_of(&self.name)?, query.query_type());
        asked.set_query_class(query.query_class());
        message.add_query(asked);
        message.to_vec().ok()
    }

    /// By which transport the request came.
    pub const fn transport(&self) -> Transport {
        self.transport
    }

    /// Whether `octets` answer the request that was passed on as `id`; `None`: they do not, and
    /// `true`: not wholly.
    pub fn is_cut(&self, id: u16, octets: &[u8]) -> Option<bool> {
        let message = Message::from_vec(octets).ok()?;
        let query = message.queries.first()?;
        let is_own = message.metadata.message_type == MessageType::Response
            && message.metadata.id == id
            && Name::of(query.name().iter()).as_ref() == Some(&self.name);
        is_own.then_some(message.metadata.truncation)
    }

    /// The answer with what somebody else has said; with nothing, that nobody could be asked.
    pub fn complete(self, said: Option<&[u8]>) -> Outcome {
        let Self { mut message, transport: _, limit, name: _ } = self;
        match said.and_then(|octets| Message::from_vec(octets).ok()) {
            Some(said) => {
                message.metadata.response_code = said.metadata.response_code;
                message.metadata.truncation = said.metadata.truncation;
                message.answers.extend(said.answers);
                message.authorities = said.authorities;
                message.additionals = said.additionals;
            }
            None => message.metadata.response_code = ResponseCode::ServFail,
        }
        answered(message, limit)
    }
}

const fn wanted(kind: RecordType) -> Type {
    match kind {
        RecordType::A => Type::A,
        RecordType::AAAA => Type::Aaaa,
        RecordType::CNAME => Type::Cname,
        RecordType::PTR => Type::Ptr,
        RecordType::SRV => Type::Srv,
        RecordType::TXT => Type::Txt,
        RecordType::NS => Type::Ns,
        RecordType::SOA => Type::Soa,
        RecordType::ANY => Type::Any,
        _ => Type::Other,
    }
}

fn name_of(name: &Name) -> Option<rr::Name> {
    rr::Name::from_labels(name.labels()).ok()
}

/// A record for the wire. Whoever asked sees its own spelling of the name again.
fn record_of(record: Record, asked: &Name, spelling: &rr::Name) -> Option<rr::Record> {
    let Record { owner, data } = record;
    let owner = if owner == *asked { spelling.clone() } else { name_of(&owner)? };
    let data = match data {
        Data::A(address) => RData::A(A(address)),
        Data::Aaaa(address) => RData::AAAA(AAAA(address)),
        Data::Cname(name) => RData::CNAME(CNAME(name_of(&name)?)),
        Data::Ptr(name) => RData::PTR(PTR(name_of(&name)?)),
        Data::Ns(name) => RData::NS(NS(name_of(&name)?)),
        Data::Srv { weight, port, target } => {
            RData::SRV(SRV::new(0, weight, port, name_of(&target)?))
        }
        Data::Txt(text) => RData::TXT(TXT::new(vec![text.into()])),
        Data::Soa { server, mailbox, serial } => {
            let [refresh, retry, expire] = REFRESH;
            let (server, mailbox) = (name_of(&server)?, name_of(&mailbox)?);
            RData::SOA(SOA::new(server, mailbox, serial, refresh, retry, expire, TTL))
        }
    };
    Some(rr::Record::from_rdata(owner, TTL, data))
}

#[cfg(test)]
mod tests;
