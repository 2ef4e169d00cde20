//! The names of a cluster, and what is answered when somebody asks for one.
//!
//! Nothing here knows of messages or sockets: a [`Question`] goes in, an [`Answer`] comes out. The
//! records of a Service follow from it and its endpoints alone ([`service`]) and are kept for as
//! long as those are; what they are asked by is made anew only if Services come or go ([`zones`]).
//!
//! Source: Kubernetes DNS-Based Service Discovery, schema version 1.1.0; where that leaves a choice,
//! CoreDNS, plugin kubernetes.

mod cluster;
mod name;
mod outside;
mod record;
mod reverse;
mod servers;
mod service;
#[cfg(test)]
mod tests;
mod zones;

pub use name::{Labels, Name};
pub use record::{Answer, Data, Existence, Record, TTL, Type};
pub use servers::{NameServer, name_servers};
pub use zones::Zones;

pub(crate) use service::ServiceRecords;
pub(crate) use zones::ZoneMaker;

/// A name and what is wanted of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// The name.
    pub name: Name,
    /// What is wanted.
    pub wanted: Type,
}

/// Aliases that are followed for one question.
const ALIASES_MAX: usize = 8;

/// Records of addresses that are added for those who asked for who serves something.
const ADDITIONAL_MAX: usize = 64;

/// What there is at a name.
#[derive(Debug)]
enum Found {
    /// Neither it nor anything below it.
    Nothing,
    /// It, or something below it; with these of the records that were asked for.
    Records(Vec<Data>),
    /// An alias for another name.
    Alias(Name),
}

impl Found {
    /// What there is, if anything is.
    fn if_exists(exists: bool, records: Vec<Data>) -> Self {
        if exists { Self::Records(records) } else { Self::Nothing }
    }
}

/// Whose name it is.
#[derive(Debug)]
enum Home {
    /// Of a zone that is answered for first hand, and what there is.
    Zone(Name, Found),
    /// Of the world outside, and what there is.
    Outside(Found),
    /// Nobody's here; there is somebody outside to ask.
    Unknown,
}

impl Zones {
    /// What is answered.
    ///
    /// **Cost**: a hash look-up or two, plus the records; aliases as many times as there are.
    pub fn answer(&self, question: &Question) -> Answer {
        let wanted = question.wanted;
        let mut answer = Answer {
            existence: Existence::Exists,
            is_authoritative: true,
            answers: Vec::new(),
            authority: None,
            additional: Vec::new(),
            unknown: None,
        };
        let mut owner = question.name.clone();
        for step in 0..=ALIASES_MAX {
            let (zone, found) = match self.find(&owner, wanted) {
                Home::Zone(zone, found) => (zone, found),
                // an alias that leads outside is answered as far as it is known
                Home::Outside(Found::Nothing) if step > 0 => break,
                Home::Outside(found) => {
                    answer.is_authoritative &= step > 0;
                    (Name::default(), found)
                }
                Home::Unknown => {
                    answer.is_authoritative &= step > 0;
                    answer.unknown = Some(owner);
                    return answer;
                }
            };
            match found {
                Found::Alias(alias) => {
                    let data = Data::Cname(alias.clone());
                    let is_wanted = data.is_a(wanted);
                    answer.answers.push(Record { owner, data });
                    if is_wanted {
                        break;
                    }
                    owner = alias;
                }
                Found::Nothing => {
                    answer.existence = Existence::DoesNotExist;
                    answer.authority = Some(self.authority(zone));
                    break;
                }
                Found::Records(records) => {
                    let wanted = records.into_iter().filter(|data| data.is_a(wanted));
                    let records = wanted.map(|data| Record { owner: owner.clone(), data });
                    let before = answer.answers.len();
                    answer.answers.extend(records);
                    if answer.answers.len() == before {
                        answer.authority = Some(self.authority(zone));
                    }
                    break;
                }
            }
        }
        self.add_addresses(&mut answer);
        answer
    }

    /// What there is at a name.
    fn find(&self, name: &Name, wanted: Type) -> Home {
        if let Some(labels) = name.within(self.domain()) {
            let found = self.in_cluster(name, &labels, wanted);
            return Home::Zone(self.domain().clone(), found);
        }
        if let Some((zone, found)) = self.in_reverse(name) {
            return Home::Zone(zone, found);
        }
        self.outside(name)
    }

    /// Adds the addresses of those who serve what was asked for.
    fn add_addresses(&self, answer: &mut Answer) {
        let Answer { answers, additional, .. } = answer;
        let targets = answers.iter().filter_map(|record| match &record.data {
            Data::Srv { target, .. } | Data::Ns(target) => Some(target),
            _ => None,
        });
        let mut seen: Vec<&Name> = Vec::new();
        for target in targets {
            if additional.len() >= ADDITIONAL_MAX {
                return;
            }
            // records are sorted by target as a rule
            if seen.last() == Some(&target) || seen.contains(&target) {
                continue;
            }
            seen.push(target);
            for wanted in [Type::A, Type::Aaaa] {
                let Home::Zone(_, Found::Records(records)) = self.find(target, wanted) else {
                    continue;
                };
                let addresses = records.into_iter().filter(|data| data.is_a(wanted));
                let record = |data| Record { owner: target.clone(), data };
                additional.extend(addresses.map(record));
            }
        }
    }
}
