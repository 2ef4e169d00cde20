//! The UDP side: each datagram is answered at once.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::UdpSocket;

use super::{Ends, Host, text};
use crate::agents::datagrams;

/// Answers until the task is aborted.
pub(super) async fn answer_all(socket: UdpSocket, host: Arc<Host>) {
    let Ok(port) = socket.local_addr().map(|address| address.port()) else { return };
    let mut ration = Ration::default();
    datagrams::answer_all(&socket, |datagram, sender| {
        if host.is_echoing(sender.address.port()) && !ration.take(Instant::now()) {
            return None;
        }
        let ends = Ends { client: sender.address, server: SocketAddr::new(sender.asked(), port) };
        Some(text::answer(datagram, &host.identity, ends))
    })
    .await;
}

/// Answers that a socket has for clients which may be servers that will answer in turn.
///
/// A client's port may well be one of theirs by chance, so it is answered, but not for ever.
#[derive(Debug, Default)]
struct Ration {
    since: Option<Instant>,
    taken: u32,
}

impl Ration {
    /// Answers in [`Ration::PERIOD`] at most.
    const SIZE: u32 = 10;

    /// How long a ration lasts.
    const PERIOD: Duration = Duration::from_secs(1);

    /// Takes one, if there is one left.
    fn take(&mut self, now: Instant) -> bool {
        if self.since.is_none_or(|since| now.duration_since(since) >= Self::PERIOD) {
            *self = Self { since: Some(now), taken: 0 };
        }
        self.taken += 1;
        self.taken <= Self::SIZE
    }
}
