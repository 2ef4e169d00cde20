//! Names outside the cluster, as far as the lab has them.

use std::net::IpAddr;

use ahash::RandomState;

use super::reverse::{self, name_of};
use super::{Data, Found, Home, Name, Zones};
use crate::compile::Map;

/// What is known outside.
#[derive(Debug)]
pub(super) struct Outside {
    /// Also the names that only have names below them.
    names: Map<Name, Vec<Data>>,
}

impl Outside {
    /// From what lab.toml says.
    pub(super) fn new(known: &[(Name, Data)]) -> Self {
        let mut names: Map<Name, Vec<Data>> = Map::with_hasher(RandomState::default());
        let of_address = |(name, data): &(Name, Data)| {
            let address: IpAddr = match data {
                Data::A(address) => (*address).into(),
                Data::Aaaa(address) => (*address).into(),
                _ => return None,
            };
            Some((name_of(address, usize::MAX)?, Data::Ptr(name.clone())))
        };
        let reverse: Vec<_> = known.iter().filter_map(of_address).collect();
        for (name, data) in known.iter().chain(&reverse) {
            let have = names.entry(name.clone()).or_default();
            if !have.contains(data) {
                have.push(data.clone());
            }
            for parent in name.parents() {
                names.entry(Name::from_octets(parent)).or_default();
            }
        }
        Self { names }
    }
}

impl Zones {
    /// What there is at a name outside.
    pub(super) fn outside(&self, name: &Name) -> Home {
        let has_upstream = !self.settings().upstream.is_empty();
        match self.names_outside().names.get(name) {
            // parents of what is known may have more outside than is known here
            Some(records) if records.is_empty() && has_upstream => Home::Unknown,
            Some(records) => match records.iter().find(|data| matches!(data, Data::Cname(_))) {
                Some(Data::Cname(alias)) => Home::Outside(Found::Alias(alias.clone())),
                _ => Home::Outside(Found::Records(records.clone())),
            },
            None if has_upstream => Home::Unknown,
            None => Home::Outside(Found::if_exists(self.is_above_zone(name), Vec::new())),
        }
    }

    /// Whether one of the zones that are answered for is below a name.
    fn is_above_zone(&self, name: &Name) -> bool {
        self.domain().within(name).is_some()
            || self.reverse_zones().iter().any(|range| reverse::is_above(name, range))
    }
}
