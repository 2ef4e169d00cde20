//! From text to a filter.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::{IpNet, Ipv4Net};
use kswitch_tables::{MacAddress, Protocol};

use super::octets::{Header, Octets, Operation, Relation, number};
use super::{Filter, Side};
use crate::dataplane::frame::{ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_IPV6};

/// Brackets within brackets at most.
const DEPTH_MAX: usize = 64;

/// Operators that are more than one character.
const LONG: [&str; 8] = ["&&", "||", "!=", "==", "<=", ">=", "<<", ">>"];

/// Ports that have names.
///
/// Source: IANA, Service Name and Transport Protocol Port Number Registry.
const SERVICES: [(&str, u16); 8] = [
    ("domain", 53),
    ("ftp", 21),
    ("http", 80),
    ("https", 443),
    ("ntp", 123),
    ("smtp", 25),
    ("ssh", 22),
    ("telnet", 23),
];

pub(super) fn filter(text: &str) -> Result<Filter, String> {
    let words = words(text);
    let mut words =
        Words { words: &words, at: 0, depth: 0, last: (None, Side::Either, Type::Host) };
    let filter = words.any()?;
    match words.peek() {
        None => Ok(filter),
        Some(word) => Err(format!("did not expect {word:?}")),
    }
}

/// The words of a text. Within square brackets `:`, `-` and `/` stand for themselves; elsewhere they
/// are part of addresses, ranges and names, but between spaces.
fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut brackets = 0_usize;
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let is_part = |at: char| {
            at.is_ascii_alphanumeric()
                || "._\\".contains(at)
                || (brackets == 0 && ":-/".contains(at))
        };
        let named = rest.starts_with("tcp-") || rest.starts_with("icmp");
        let length = if let Some(long) = LONG.iter().find(|long| rest.starts_with(**long)) {
            long.len()
        } else if is_part(first) {
            rest.find(|at| !(is_part(at) || (named && at == '-'))).unwrap_or(rest.len())
        } else {
            first.len_utf8()
        };
        brackets = match first {
            '[' => brackets + 1,
            ']' => brackets.saturating_sub(1),
            _ => brackets,
        };
        let (word, after) = rest.split_at(length);
        words.push(word.to_owned());
        rest = after.trim_start();
    }
    words
}

/// What is said of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Type {
    Host,
    Net,
    Port,
    Range,
    Proto,
}

/// What may stand before a value: whose, which end, of what type.
type Qualifiers<'w> = (Option<&'w str>, Side, Type);

struct Words<'w> {
    words: &'w [String],
    at: usize,
    depth: usize,
    /// The qualifiers that stood last.
    last: Qualifiers<'w>,
}

impl<'w> Words<'w> {
    fn peek(&self) -> Option<&'w str> {
        self.words.get(self.at).map(String::as_str)
    }

    fn next(&mut self, what: &str) -> Result<&'w str, String> {
        let word = self.peek().ok_or_else(|| format!("expected {what} at the end"))?;
        self.at += 1;
        Ok(word)
    }

    fn take(&mut self, any: &[&str]) -> Option<&'w str> {
        let word = self.peek().filter(|word| any.contains(word))?;
        self.at += 1;
        Some(word)
    }

    fn deeper(&mut self) -> Result<(), String> {
        self.depth += 1;
        if self.depth > DEPTH_MAX { Err("too many brackets".into()) } else { Ok(()) }
    }

    /// Conditions with `and` and `or` between them, which bind alike.
    fn any(&mut self) -> Result<Filter, String> {
        self.deeper()?;
        let mut one = self.not()?;
        while let Some(word) = self.take(&["or", "||", "and", "&&"]) {
            let other = Box::new(self.not()?);
            one = match word {
                "or" | "||" => Filter::Or(Box::new(one), other),
                _ => Filter::And(Box::new(one), other),
            };
        }
        self.depth -= 1;
        Ok(one)
    }

    fn not(&mut self) -> Result<Filter, String> {
        if self.take(&["not", "!"]).is_some() {
            self.deeper()?;
            let inner = self.not()?;
            self.depth -= 1;
            return Ok(Filter::Not(Box::new(inner)));
        }
        if let Some(comparison) = self.comparison()? {
            return Ok(comparison);
        }
        if self.take(&["("]).is_some() {
            let inner = self.any()?;
            return self.take(&[")"]).map(|_| inner).ok_or_else(|| "expected )".into());
        }
        self.primitive()
    }

    /// Two numbers in a relation, if that is what stands here.
    fn comparison(&mut self) -> Result<Option<Filter>, String> {
        let (at, depth) = (self.at, self.depth);
        let is_octets = Header::of(self.peek().unwrap_or_default()).is_some()
            && self.words.get(at + 1).is_some_and(|word| word == "[");
        let one = match self.number(0) {
            Ok(one) => one,
            Err(message) if is_octets || message.starts_with("too") || message.contains("zero") => {
                return Err(message);
            }
            Err(_) => {
                (self.at, self.depth) = (at, depth);
                return Ok(None);
            }
        };
        let relation = match self.take(&["=", "==", "!=", "<", "<=", ">", ">="]) {
            Some("=" | "==") => Relation::Equal,
            Some("!=") => Relation::NotEqual,
            Some("<") => Relation::Less,
            Some("<=") => Relation::LessOrEqual,
            Some(">") => Relation::Greater,
            Some(_) => Relation::GreaterOrEqual,
            None => {
                (self.at, self.depth) = (at, depth);
                return Ok(None);
            }
        };
        Ok(Some(Filter::Compare(one, relation, self.number(0)?)))
    }

    /// A number, computed by operators that bind at least so tightly.
    fn number(&mut self, least: usize) -> Result<Octets, String> {
        self.deeper()?;
        let mut one = self.atom()?;
        while let Some((operation, strength)) = self.peek().and_then(operation) {
            if strength < least {
                break;
            }
            self.at += 1;
            let other = self.number(strength + 1)?;
            if matches!(operation, Operation::Divide | Operation::Remainder) && other.is_zero() {
                return Err("division by zero".into());
            }
            one = Octets::Of(Box::new(one), operation, Box::new(other));
        }
        self.depth -= 1;
        Ok(one)
    }

    fn atom(&mut self) -> Result<Octets, String> {
        let word = self.next("a number")?;
        if word == "(" {
            let inner = self.number(0)?;
            return self.take(&[")"]).map(|_| inner).ok_or_else(|| "expected )".into());
        }
        if word == "len" {
            return Ok(Octets::Length);
        }
        if let Some(header) = Header::of(word)
            && self.take(&["["]).is_some()
        {
            let offset = Box::new(self.number(0)?);
            let count = match self.take(&[":"]).map(|_| self.next("a number of octets")) {
                None => 1,
                Some(count) => match count? {
                    "1" => 1,
                    "2" => 2,
                    "4" => 4,
                    other => return Err(format!("1, 2 or 4 octets are a number, not {other}")),
                },
            };
            self.take(&["]"]).ok_or("expected ]")?;
            return Ok(Octets::At(header, offset, count));
        }
        number(word).map(Octets::Number).ok_or_else(|| format!("{word:?} is no number"))
    }

    fn primitive(&mut self) -> Result<Filter, String> {
        let word = self.next("a condition")?;
        match word {
            "greater" | "less" => {
                let octets = self.next("a length")?;
                let octets = number(octets).ok_or_else(|| format!("{octets:?} is no length"))?;
                let relation =
                    if word == "less" { Relation::LessOrEqual } else { Relation::GreaterOrEqual };
                return Ok(Filter::Compare(Octets::Length, relation, Octets::Number(octets)));
            }
            "broadcast" => return Ok(broadcast()),
            "multicast" => return Ok(Filter::Multicast),
            _ => {}
        }
        if let Some(own) = alone(word) {
            let next = self.peek().unwrap_or_default();
            return match (word, next) {
                ("ether" | "ip" | "ip6", "broadcast" | "multicast") => {
                    self.at += 1;
                    Ok(to_many(word, next))
                }
                (_, "src" | "dst" | "host" | "net" | "port" | "portrange" | "proto") => {
                    self.qualified(Some(word))
                }
                ("ether", _) => Err("expected host, src, dst or proto after ether".into()),
                _ => Ok(own),
            };
        }
        self.at -= 1;
        if matches!(word, "src" | "dst" | "host" | "net" | "port" | "portrange" | "proto") {
            return self.qualified(None);
        }
        if word.starts_with(|first: char| first.is_ascii_hexdigit()) && word.contains(['.', ':']) {
            let qualifiers = self.last;
            return self.value(qualifiers);
        }
        if word.starts_with(|first: char| first.is_ascii_digit()) && self.last.2 != Type::Host {
            let qualifiers = self.last;
            return self.value(qualifiers);
        }
        Err(format!("does not know {word:?}"))
    }

    /// Qualifiers, of which one may be known already, and the value.
    fn qualified(&mut self, own: Option<&'w str>) -> Result<Filter, String> {
        let side = match self.take(&["src", "dst"]) {
            None => Side::Either,
            Some(one) => match self.take(&["or", "and"]) {
                Some(word) => {
                    self.take(&["src", "dst"]).ok_or("expected src or dst")?;
                    if word == "or" { Side::Either } else { Side::Both }
                }
                None if one == "src" => Side::Source,
                None => Side::Target,
            },
        };
        let kind = match self.take(&["host", "net", "port", "portrange", "proto"]) {
            Some("net") => Type::Net,
            Some("port") => Type::Port,
            Some("portrange") => Type::Range,
            Some("proto") => Type::Proto,
            _ => Type::Host,
        };
        self.last = (own, side, kind);
        self.value((own, side, kind))
    }

    fn value(&mut self, (own, side, kind): Qualifiers<'w>) -> Result<Filter, String> {
        let filter = match (own, kind) {
            (Some("ether"), Type::Host) => Filter::Mac(side, mac(self.next("an address")?)?),
            (Some("ether"), Type::Proto) => ethertype(self.next("a protocol")?)?,
            (Some("ether"), _) => return Err("ether has hosts and protocols alone".into()),
            (_, Type::Host) => {
                let text = self.next("an address")?;
                let address: IpAddr =
                    text.parse().map_err(|_| format!("{text:?} is no address"))?;
                Filter::Net(side, address.into())
            }
            (_, Type::Net) => {
                let text = self.next("a CIDR")?;
                let mask = self.take(&["mask"]).map(|_| self.next("a mask")).transpose()?;
                Filter::Net(side, net(text, mask)?)
            }
            (_, Type::Port) => {
                let port = port(self.next("a port")?)?;
                Filter::Ports(side, port, port)
            }
            (_, Type::Range) => {
                let text = self.next("two ports")?;
                let (first, last) = text.split_once('-').unwrap_or((text, text));
                Filter::Ports(side, port(first)?, port(last)?)
            }
            (_, Type::Proto) => protocol(self.next("a protocol")?)?,
        };
        Ok(match own.filter(|own| *own != "ether").and_then(alone) {
            Some(own) => Filter::And(Box::new(own), Box::new(filter)),
            None => filter,
        })
    }
}

fn operation(word: &str) -> Option<(Operation, usize)> {
    Some(match word {
        "|" => (Operation::Or, 1),
        "^" => (Operation::Xor, 1),
        "&" => (Operation::And, 2),
        "<<" => (Operation::Left, 3),
        ">>" => (Operation::Right, 3),
        "+" => (Operation::Add, 4),
        "-" => (Operation::Subtract, 4),
        "*" => (Operation::Multiply, 5),
        "/" => (Operation::Divide, 5),
        "%" => (Operation::Remainder, 5),
        _ => return None,
    })
}

/// A protocol that is a condition by itself.
fn alone(word: &str) -> Option<Filter> {
    Some(match word {
        // of this link every frame is
        "ether" => Filter::Compare(Octets::Number(0), Relation::Equal, Octets::Number(0)),
        "ip" => Filter::Ethertype(ETHERTYPE_IPV4),
        "ip6" => Filter::Ethertype(ETHERTYPE_IPV6),
        "arp" => Filter::Ethertype(ETHERTYPE_ARP),
        "tcp" => Filter::Protocol(Protocol::TCP),
        "udp" => Filter::Protocol(Protocol::UDP),
        "sctp" => Filter::Protocol(Protocol::SCTP),
        "icmp" => Filter::Protocol(Protocol::ICMP),
        "icmp6" => Filter::Protocol(Protocol::ICMPV6),
        _ => return None,
    })
}

fn broadcast() -> Filter {
    Filter::Mac(Side::Target, MacAddress([0xff; 6]))
}

/// `ip multicast` and the like.
fn to_many(own: &str, what: &str) -> Filter {
    let net = |text: &str| text.parse::<IpNet>().map(|net| Filter::Net(Side::Target, net));
    match (own, what) {
        ("ether", "broadcast") => broadcast(),
        ("ip", "multicast") => net("224.0.0.0/4").unwrap_or(Filter::Multicast),
        ("ip6", "multicast") => net("ff00::/8").unwrap_or(Filter::Multicast),
        ("ip", _) => {
            let own = Box::new(Filter::Ethertype(ETHERTYPE_IPV4));
            Filter::And(own, Box::new(broadcast()))
        }
        _ => Filter::Multicast,
    }
}

fn mac(text: &str) -> Result<MacAddress, String> {
    let octets: Option<Vec<u8>> =
        text.split([':', '-']).map(|octet| u8::from_str_radix(octet, 16).ok()).collect();
    let octets: Option<[u8; 6]> = octets.and_then(|octets| octets.try_into().ok());
    octets.map(MacAddress).ok_or_else(|| format!("{text:?} is no Ethernet address"))
}

/// A CIDR, an address and a mask, or the first octets of an address.
fn net(text: &str, mask: Option<&str>) -> Result<IpNet, String> {
    let wrong = || format!("{text:?} is no CIDR");
    if let Some(mask) = mask {
        let (address, mask) =
            text.parse::<Ipv4Addr>().ok().zip(mask.parse().ok()).ok_or_else(wrong)?;
        return Ipv4Net::with_netmask(address, mask).map(Into::into).map_err(|_| wrong());
    }
    if let Ok(net) = text.parse::<IpNet>() {
        return Ok(net.trunc());
    }
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(address.into());
    }
    let octets: Option<Vec<u8>> = text.split('.').map(|octet| octet.parse().ok()).collect();
    let octets = octets.filter(|octets| octets.len() < 4).ok_or_else(wrong)?;
    let mut address = [0; 4];
    address.iter_mut().zip(&octets).for_each(|(room, octet)| *room = *octet);
    let length = u8::try_from(octets.len() * 8).unwrap_or(32);
    Ipv4Net::new(address.into(), length).map(Into::into).map_err(|_| wrong())
}

fn port(text: &str) -> Result<u16, String> {
    let named = SERVICES.iter().find(|(name, _)| *name == text).map(|(_, port)| *port);
    named.or_else(|| text.parse().ok()).ok_or_else(|| format!("{text:?} is no port"))
}

fn protocol(text: &str) -> Result<Filter, String> {
    let name = text.trim_start_matches('\\');
    match (alone(name), name.parse::<u8>()) {
        (Some(own @ Filter::Protocol(_)), _) => Ok(own),
        (_, Ok(number)) => Ok(Filter::Protocol(Protocol(number))),
        _ => Err(format!("{text:?} is no protocol")),
    }
}

fn ethertype(text: &str) -> Result<Filter, String> {
    let name = text.trim_start_matches('\\');
    match (alone(name), number(name).map(u16::try_from)) {
        (Some(own @ Filter::Ethertype(_)), _) => Ok(own),
        (_, Some(Ok(number))) => Ok(Filter::Ethertype(number)),
        _ => Err(format!("{text:?} is no protocol")),
    }
}
