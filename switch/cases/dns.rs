//! Judging cluster DNS: questions go out as messages, and answers are read as such.

use std::net::IpAddr;

use super::findings::Findings;
use super::format::dns::{Expect, Query, Record, Resolve, Step, Transport};
use super::format::{Change, File, HostRef};
use super::topology::{self, Broken, Lab};
use crate::agents::dns::client::{self, Reading, Seen};

/// Octets of the largest answer that is taken where a case says nothing of it.
const SIZE: u16 = 4_096;

/// Where questions are put.
pub trait NameServer {
    /// Takes over a lab that was changed.
    ///
    /// # Errors
    /// It cannot be made as it is to be.
    fn change(&mut self, lab: &Lab) -> Result<(), Broken>;

    /// The octets of the answer to a request; `None`: there was none.
    fn ask(
        &mut self,
        from: Option<&HostRef>,
        request: &[u8],
        transport: Transport,
    ) -> Option<Vec<u8>>;
}

impl topology::Step for Step {
    fn changes(&self) -> &[Change] {
        &self.changes
    }

    fn hosts(&self) -> Vec<&HostRef> {
        self.resolve.iter().map(|resolve| &resolve.from).collect()
    }
}

/// Carries a case out and judges it.
///
/// # Errors
/// It cannot be carried out.
pub fn judge(
    case: &File<Step>,
    lab: &mut Lab,
    server: &mut impl NameServer,
    findings: &mut Findings,
) -> Result<(), Broken> {
    for step in &case.steps {
        findings.step(&step.name);
        lab.step(&step.changes, |lab| server.change(lab))?;
        for query in &step.queries {
            for transport in &query.transports {
                judge_query(query, *transport, server, findings)?;
            }
        }
        for resolve in &step.resolve {
            for transport in [Transport::Udp, Transport::Tcp] {
                judge_resolve(resolve, transport, server, findings)?;
            }
        }
    }
    Ok(())
}

fn ask(
    (name, kind): (&str, &str),
    size: Option<u16>,
    (from, transport): (Option<&HostRef>, Transport),
    server: &mut impl NameServer,
) -> Result<Option<Reading>, Broken> {
    let id = 0x6b73;
    let request = client::request(id, name, kind, size);
    let request = request.ok_or_else(|| Broken(format!("{kind} {name} cannot be asked for")))?;
    let reading = server.ask(from, &request, transport).and_then(|octets| client::read(&octets));
    Ok(reading.filter(|reading| reading.id == id))
}

fn judge_query(
    query: &Query,
    transport: Transport,
    server: &mut impl NameServer,
    findings: &mut Findings,
) -> Result<(), Broken> {
    let Query { name, kind, transports: _, edns_size, expect, expected_from: _ } = query;
    findings.item(format!("{kind} {name} by {transport}"));
    let size = match edns_size {
        Some(0) => None,
        Some(size) => Some(*size),
        None => Some(SIZE),
    };
    let Some(reading) = ask((name, kind), size, (None, transport), server)? else {
        findings.differs("an answer", "none", Vec::new());
        return Ok(());
    };
    let told = told(&reading);
    let mut differs = |expected: String, got: String| findings.differs(expected, got, told.clone());
    let Expect { rcode, answers, soa, additional, truncated } = expect;
    if !rcode.0.is_empty() && !rcode.0.contains(&reading.code) {
        differs(rcode.0.join(" or "), reading.code.clone());
    }
    if *truncated != reading.is_cut {
        let word = |is_cut| if is_cut { "a cut answer" } else { "a whole answer" }.to_owned();
        differs(word(*truncated), word(reading.is_cut));
    }
    if *truncated {
        return Ok(());
    }
    if let Err((expected, got)) = compare(answers, &reading.answers, name) {
        differs(expected, got);
    }
    if let Some(zone) = soa {
        let zone = zone.to_lowercase();
        if !reading.authorities.iter().any(|seen| seen.kind == "SOA" && seen.owner == zone) {
            let have: Vec<String> = reading.authorities.iter().map(words).collect();
            differs(format!("SOA of {zone} as authority"), listed(&have));
        }
    }
    if let Some(allowed) = additional {
        let is_address = |seen: &&Seen| matches!(seen.kind.as_str(), "A" | "AAAA");
        let is_allowed = |seen: &Seen| allowed.iter().any(|record| is_same(record, seen, name));
        let others = reading.additionals.iter().filter(is_address).filter(|seen| !is_allowed(seen));
        let others: Vec<String> = others.map(words).collect();
        if !others.is_empty() {
            differs("no other addresses beside the answer".to_owned(), listed(&others));
        }
    }
    Ok(())
}

/// Looks for a name as a resolver with a search list does, until something has it.
///
/// Source: resolv.conf(5), `search` and `ndots`.
fn judge_resolve(
    resolve: &Resolve,
    transport: Transport,
    server: &mut impl NameServer,
    findings: &mut Findings,
) -> Result<(), Broken> {
    let Resolve { from, name, kind, search, ndots, expect, expected_from: _ } = resolve;
    findings.item(format!("{kind} {name} in {} by {transport}", search.join(" ")));
    let whole = format!("{}.", name.trim_end_matches('.'));
    let mut names: Vec<String> =
        search.iter().map(|domain| format!("{whole}{}.", domain.trim_end_matches('.'))).collect();
    if name.ends_with('.') {
        names = vec![whole];
    } else if name.matches('.').count() >= *ndots {
        names.insert(0, whole);
    } else {
        names.push(whole);
    }
    for name in &names {
        let reading = ask((name, kind), Some(SIZE), (Some(from), transport), server)?;
        let Some(reading) = reading else {
            findings.differs("an answer", "none", vec![format!("asked for {name}")]);
            return Ok(());
        };
        if reading.answers.is_empty() {
            continue;
        }
        if !name.eq_ignore_ascii_case(&expect.found_as) {
            let expected = format!("found as {}", expect.found_as);
            findings.differs(expected, format!("found as {name}"), told(&reading));
        } else if let Err((expected, got)) = compare(&expect.answers, &reading.answers, name) {
            findings.differs(expected, got, told(&reading));
        }
        return Ok(());
    }
    let expected = format!("found as {}", expect.found_as);
    findings.differs(expected, "found nowhere", names.clone());
    Ok(())
}

/// Whether every record is there once and nothing else; what was expected and what is there if not.
fn compare(expected: &[Record], seen: &[Seen], name: &str) -> Result<(), (String, String)> {
    let mut open: Vec<&Seen> = seen.iter().collect();
    let differ = || {
        let expected: Vec<String> = expected.iter().map(|record| wanted(record, name)).collect();
        let seen: Vec<String> = seen.iter().map(words).collect();
        (listed(&expected), listed(&seen))
    };
    // those with a name of their own take theirs before those that take any
    let (any, own): (Vec<&Record>, Vec<&Record>) =
        expected.iter().partition(|record| record.data.starts_with("*."));
    for record in own.into_iter().chain(any) {
        let at = open.iter().position(|seen| is_same(record, seen, name)).ok_or_else(differ)?;
        open.remove(at);
    }
    // one record twice is no other record
    let mut distinct: Vec<_> = seen.iter().collect();
    distinct.sort_unstable();
    distinct.dedup();
    if open.is_empty() && distinct.len() == seen.len() { Ok(()) } else { Err(differ()) }
}

fn is_same(record: &Record, seen: &Seen, name: &str) -> bool {
    let Record { owner, kind, data, port } = record;
    let owner = owner.as_deref().unwrap_or(name);
    let is_data = match kind.as_str() {
        "A" | "AAAA" => data.parse::<IpAddr>().ok() == seen.data.parse::<IpAddr>().ok(),
        "SOA" => data.eq_ignore_ascii_case(&seen.owner),
        "TXT" => *data == seen.data,
        _ => match data.strip_prefix("*.") {
            Some(parent) => {
                let rest = seen.data.split_once('.').map(|(_, rest)| rest);
                rest.is_some_and(|rest| rest.eq_ignore_ascii_case(parent))
            }
            None => data.eq_ignore_ascii_case(&seen.data),
        },
    };
    owner.eq_ignore_ascii_case(&seen.owner) && *kind == seen.kind && *port == seen.port && is_data
}

fn wanted(record: &Record, name: &str) -> String {
    let Record { owner, kind, data, port } = record;
    let owner = owner.as_deref().unwrap_or(name);
    let port = port.map(|port| format!("{port} ")).unwrap_or_default();
    format!("{owner} {kind} {port}{data}")
}

fn words(seen: &Seen) -> String {
    let Seen { owner, kind, data, port, ttl: _ } = seen;
    let port = port.map(|port| format!("{port} ")).unwrap_or_default();
    format!("{owner} {kind} {port}{data}")
}

fn told(reading: &Reading) -> Vec<String> {
    let Reading { id: _, code, is_cut, answers, authorities, additionals } = reading;
    let mut told = vec![format!("{code}{}", if *is_cut { ", cut" } else { "" })];
    for (section, records) in
        [("answer", answers), ("authority", authorities), ("additional", additionals)]
    {
        told.extend(records.iter().map(|seen| format!("{section}: {}", words(seen))));
    }
    told
}

fn listed(records: &[String]) -> String {
    if records.is_empty() { "no records".to_owned() } else { records.join(", ") }
}
