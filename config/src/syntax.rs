//! Words with a form: addresses, ranges, names, times.

mod address;
mod name;
mod time;

pub(crate) use address::{address, cidr, first_addresses, last_address, nth_address, port_range};
pub(crate) use name::{
    dns_label, dns_subdomain, label_key, label_value, port_name, qualified_name,
};
pub(crate) use time::duration;

/// Why a word is not what it should be, and what would be right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) message: String,
    pub(crate) help: String,
}

impl Refused {
    pub(crate) fn new(message: impl Into<String>, help: impl Into<String>) -> Self {
        Self { message: message.into(), help: help.into() }
    }

    /// Both in one line, for commands.
    pub(crate) fn told(self) -> String {
        format!("{}: {}", self.message, self.help)
    }
}
