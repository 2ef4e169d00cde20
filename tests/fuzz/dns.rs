//! A message to a name server.

use std::sync::{Arc, LazyLock};

use hickory_proto::op::Message;
use kswitch::agents::dns::message::{Outcome, Transport, answer};
use kswitch_config::Zones;

use super::pipeline::world;

static ZONES: LazyLock<Arc<Zones>> = LazyLock::new(|| Arc::clone(world().zones()));

pub fn enter(octets: &[u8]) {
    for transport in [Transport::Udp, Transport::Tcp] {
        if let Outcome::Answered(reply) = answer(&ZONES, octets, transport) {
            let limit = if transport == Transport::Udp { 4_096 } else { usize::from(u16::MAX) };
            assert!(reply.octets.len() <= limit, "{} octets", reply.octets.len());
            let message = Message::from_vec(&reply.octets).expect("an answer can be read");
            assert_eq!(octets.get(..2), Some(&message.metadata.id.to_be_bytes()[..]));
        }
    }
}
