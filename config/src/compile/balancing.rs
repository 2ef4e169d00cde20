//! How a Service wants its new flows spread.

use k8s_openapi::api::core::v1::Service;
use kswitch_tables::{Endpoint, Method, Protocol, maglev};

/// The annotation by which a Service chooses a method: `random`, `maglev` or `least-connections`.
pub const BALANCING: &str = "kswitch.dev/balancing";

/// The annotation that sizes the Maglev tables of a Service: a prime.
pub const MAGLEV_TABLE_SIZE: &str = "kswitch.dev/maglev-table-size";

/// Largest Maglev table; Cilium's.
pub const MAGLEV_TABLE_SIZE_MAX: usize = 131_071;

/// How new flows are spread over backends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Balancing {
    /// By chance, as kube-proxy does.
    #[default]
    Random,
    /// By the flow, with a table of so many slots.
    Maglev {
        /// A prime.
        size: usize,
    },
    /// To the backend with the fewest flows.
    LeastConnections,
}

impl Balancing {
    /// What the annotations of a Service ask for.
    ///
    /// # Errors
    /// The name of the annotation that says something else.
    pub fn of(service: &Service) -> Result<Self, &'static str> {
        let annotation = |name: &str| service.metadata.annotations.as_ref()?.get(name);
        let size = match annotation(MAGLEV_TABLE_SIZE) {
            None => maglev::TABLE_SIZE,
            Some(text) => match text.parse() {
                Ok(size) if size <= MAGLEV_TABLE_SIZE_MAX && maglev::is_prime(size) => size,
                _ => return Err(MAGLEV_TABLE_SIZE),
            },
        };
        match annotation(BALANCING).map(String::as_str) {
            None | Some("random") => Ok(Self::Random),
            Some("maglev") => Ok(Self::Maglev { size }),
            Some("least-connections") => Ok(Self::LeastConnections),
            Some(_) => Err(BALANCING),
        }
    }

    /// The method for a set of these members, which are in order.
    ///
    /// By chance where no table can be made, as with more members than slots.
    pub(super) fn method(self, members: &[Endpoint], protocol: Protocol, seed: u32) -> Method {
        match self {
            Self::Random => Method::Random,
            Self::LeastConnections => Method::LeastConnections,
            Self::Maglev { size } => {
                let names: Vec<(String, u32)> =
                    members.iter().map(|member| (maglev::name(*member, protocol), 1)).collect();
                let table = maglev::Table::of_names(size, seed, &names);
                table.map_or(Method::Random, |table| Method::Maglev { table, seed })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn annotated(annotations: &[(&str, &str)]) -> Service {
        let mut service = Service::default();
        let owned = annotations.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        service.metadata.annotations = Some(owned.collect());
        service
    }

    #[test]
    fn annotations_choose_the_method() {
        assert_eq!(Balancing::of(&Service::default()), Ok(Balancing::Random));
        let maglev = annotated(&[(BALANCING, "maglev"), (MAGLEV_TABLE_SIZE, "251")]);
        assert_eq!(Balancing::of(&maglev), Ok(Balancing::Maglev { size: 251 }));
        let least = annotated(&[(BALANCING, "least-connections")]);
        assert_eq!(Balancing::of(&least), Ok(Balancing::LeastConnections));
    }

    #[test]
    fn what_cannot_be_is_named() {
        assert_eq!(Balancing::of(&annotated(&[(BALANCING, "best")])), Err(BALANCING));
        for size in ["250", "0", "many", "262139"] {
            let service = annotated(&[(BALANCING, "maglev"), (MAGLEV_TABLE_SIZE, size)]);
            assert_eq!(Balancing::of(&service), Err(MAGLEV_TABLE_SIZE), "{size}");
        }
    }
}
