//! What one port may take of the tables that all share.

/// How much of each kind a port may have at the same time: enough for any machine that is well, and
/// so little that one which is not leaves the others theirs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Flows that came in there first and that nobody has answered.
    pub half_open: u32,
    /// Neighbours asked for on its behalf that have not answered.
    pub neighbours: u32,
    /// Ethernet addresses learned there.
    pub stations: u32,
}

impl Limits {
    /// As much as there is.
    pub const NONE: Self = Self { half_open: u32::MAX, neighbours: u32::MAX, stations: u32::MAX };
}
