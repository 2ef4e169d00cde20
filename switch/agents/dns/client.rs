//! The side that asks: requests, and answers as they are read.

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, Record, RecordType};

/// The request for records of a type (as in `A`, `SRV`) at a name; with `size`, in octets, it says
/// how much it takes. `None` if either is none.
pub fn request(id: u16, name: &str, kind: &str, size: Option<u16>) -> Option<Vec<u8>> {
    let mut message = Message::new(id, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    let name =
        Name::from_labels(name.strip_suffix('.').unwrap_or(name).split('.').map(str::as_bytes));
    message.add_query(Query::query(name.ok()?, kind.parse::<RecordType>().ok()?));
    message.edns = size.map(|size| {
        let mut edns = Edns::new();
        edns.set_max_payload(size);
        edns
    });
    message.to_vec().ok()
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    /// Which request it is of.
    pub id: u16,
    /// `NOERROR`, `NXDOMAIN` and so on.
    pub code: String,
    /// Whether it was too long for the transport.
    pub is_cut: bool,
    /// What was asked for.
    pub answers: Vec<Seen>,
    /// Who says that there is nothing.
    pub authorities: Vec<Seen>,
    /// What was told beside it.
    pub additionals: Vec<Seen>,
}

/// A record in words; names in lower case and with a final dot.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seen {
    /// Whose it is.
    pub owner: String,
    /// Its type.
    pub kind: String,
    /// What it says: an address, a name, a text; of SRV the target, of SOA nothing.
    pub data: String,
    /// The port of SRV, host order.
    pub port: Option<u16>,
    /// How long it may be kept, seconds.
    pub ttl: u32,
}

/// Reads an answer; `None` if it is none.
pub fn read(octets: &[u8]) -> Option<Reading> {
    let message = Message::from_vec(octets).ok()?;
    let all = |records: &[Record]| records.iter().map(seen).collect();
    let metadata = &message.metadata;
    (metadata.message_type == MessageType::Response).then(|| Reading {
        id: metadata.id,
        code: code(metadata.response_code),
        is_cut: metadata.truncation,
        answers: all(&message.answers),
        authorities: all(&message.authorities),
        additionals: all(&message.additionals),
    })
}

fn code(code: ResponseCode) -> String {
    match code {
        ResponseCode::NoError => "NOERROR".to_owned(),
        ResponseCode::NXDomain => "NXDOMAIN".to_owned(),
        ResponseCode::FormErr => "FORMERR".to_owned(),
        ResponseCode::ServFail => "SERVFAIL".to_owned(),
        ResponseCode::NotImp => "NOTIMP".to_owned(),
        ResponseCode::Refused => "REFUSED".to_owned(),
        other => other.to_string(),
    }
}

fn lower(name: &Name) -> String {
    name.to_lowercase().to_ascii()
}

fn seen(record: &Record) -> Seen {
    let mut port = None;
    let data = match &record.data {
        RData::A(address) => address.to_string(),
        RData::AAAA(address) => address.to_string(),
        RData::CNAME(name) => lower(name),
        RData::PTR(name) => lower(name),
        RData::NS(name) => lower(name),
        RData::SRV(srv) => {
            port = Some(srv.port);
            lower(&srv.target)
        }
        RData::TXT(text) => {
            text.txt_data.iter().map(|part| String::from_utf8_lossy(part)).collect()
        }
        RData::SOA(_) => String::new(),
        other => other.to_string(),
    };
    let kind = record.record_type().to_string();
    Seen { owner: lower(&record.name), kind, data, port, ttl: record.ttl }
}
