//! Which source ports to try for a flow whose own is taken.

/// Ports tried before a flow is refused. Tries are spread over all that a target has, so that of a
/// hundred flows one fails when only one port in fifty is free.
pub const ATTEMPTS_MAX: u32 = 256;

/// How far apart ports tried one after the other are, in places of their range: a prime that divides
/// the size of no range, and near the golden section of the largest, which spreads them evenly. Taken
/// ports often lie in a row, as clients number them, and a search along the row would find none.
const STRIDE: u32 = 20_011;

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

/// Source ports to try in order where the flow's own is taken: others of its parity, from a random
/// start.
///
/// Keeping the port where possible keeps the mapping the same for every target; keeping it even or
/// odd keeps pairs apart, as RTP's.
/// Source: RFC 4787 REQ-1, REQ-3, REQ-4.
pub fn substitutes(own: u16, random: u32) -> impl Iterator<Item = u16> {
    let (low, high) = range(own);
    let first = u32::from(low) + u32::from((own ^ low) & 1);
    let count = (u32::from(high) - first) / 2 + 1;
    (0..ATTEMPTS_MAX.min(count))
        .filter_map(move |n| u16::try_from(first + (random % count + n * STRIDE) % count * 2).ok())
        .filter(move |port| *port != own)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn privilege_and_parity_are_kept_and_no_port_comes_twice() {
        for (own, low, high) in [(80, 1, 511), (600, 600, 1023), (5000, 1024, 65535)] {
            for random in [0, 1, 77_777, u32::MAX] {
                let tried: Vec<u16> = substitutes(own, random).collect();
                assert!(tried.iter().all(|port| (low..=high).contains(port)));
                assert!(tried.iter().all(|port| port % 2 == own % 2));
                assert!(!tried.contains(&own));
                let unique: std::collections::HashSet<_> = tried.iter().collect();
                assert_eq!(unique.len(), tried.len());
            }
        }
    }

    #[test]
    fn a_gap_is_found_behind_a_long_row_of_taken_ports() {
        for random in (0..u32::MAX).step_by(1_000_003) {
            let tried = substitutes(1024, random).position(|port| port > 61_000);
            assert!(tried.is_some_and(|tried| tried < 32), "{random}: {tried:?}");
        }
    }
}
