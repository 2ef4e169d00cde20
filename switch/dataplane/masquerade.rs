//! Which source ports to try for a flow whose own is taken.

/// Ports tried before a flow is refused. The space of one target holds 32,256 of them; a run of
/// this length that is wholly taken means that it is nearly full.
pub const ATTEMPTS_MAX: u32 = 256;

/// The range in which the substitute of `port` must lie, so that a privileged port stays one.
///
/// Source: RFC 4787 REQ-3 (b); RFC 6056 §3.2 on the span.
const fn range(port: u16) -> (u16, u16) {
    match port {
        0..=511 => (1, 511),
        512..=1023 => (600, 1023),
        _ => (1024, u16::MAX),
    }
}

/// Source ports to try in order: the flow's own, then others of its parity from a random start
/// onward.
///
/// Keeping the port where possible also keeps the mapping the same for every target; keeping it
/// even or odd keeps pairs apart, as RTP's.
/// Source: RFC 4787 REQ-1, REQ-3, REQ-4.
pub fn candidates(own: u16, random: u32) -> impl Iterator<Item = u16> {
    let (low, high) = range(own);
    let first = u32::from(low) + u32::from((own ^ low) & 1);
    let count = (u32::from(high) - first) / 2 + 1;
    let others = (0..ATTEMPTS_MAX.min(count))
        .filter_map(move |n| u16::try_from(first + (random % count + n) % count * 2).ok());
    std::iter::once(own).chain(others.filter(move |port| *port != own))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_port_comes_first_and_privilege_and_parity_are_kept() {
        for (own, low, high) in [(80, 1, 511), (600, 600, 1023), (5000, 1024, 65535)] {
            for random in [0, 1, 77_777, u32::MAX] {
                let tried: Vec<u16> = candidates(own, random).collect();
                assert_eq!(tried[0], own);
                assert!(tried.iter().all(|port| (low..=high).contains(port)));
                assert!(tried.iter().all(|port| port % 2 == own % 2));
                let unique: std::collections::HashSet<_> = tried.iter().collect();
                assert_eq!(unique.len(), tried.len());
            }
        }
    }
}
