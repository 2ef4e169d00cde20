//! A frame's fate, decided.
//!
//! Three tiers, by cost:
//! 1. **established**: the flow's binding is in conntrack and was judged under this snapshot: one
//!    look-up, one rewrite (`unicast`);
//! 2. **stale**: the binding is older than the snapshot: judged again without choosing anew
//!    ([`super::readmit`]), then as established;
//! 3. **new**: every table is asked ([`super::admit`]), and the flow is recorded only once all
//!    have agreed. A dropped frame leaves nothing behind but a counter.
//!
//! A frame sees one snapshot: the worker changes it only between bursts.

use std::sync::Arc;

use kswitch_tables::affinity::Affinities;
use kswitch_tables::conntrack::{self, Found, Signal, TcpFlags};
use kswitch_tables::{
    Address, Binding, Conntrack, Contests, Fdb, Flow, Gateway, Hop, Neighbours, Port, PortId,
    PortRole, RouterId, Snapshot, Tick,
};

use super::admit::{self, Admitted};
use super::burst::Arrival;
use super::clock::Ahead;
use super::cut::{self, Cutter};
use super::decision::{Decision, Trail};
use super::fragment::Fragments;
use super::icmp::{self, Envelope, Error, Message};
use super::keeper::Keeper;
use super::pending::Pending;
use super::rewrite;
use super::watch::{Account, Event, Watch, What};
use super::{Counters, DropReason, Frame, Kind, Packet, Parsed};

/// State that all workers share and write.
#[derive(Debug)]
pub struct Shared {
    /// Live flows.
    pub conntrack: Conntrack,
    /// Learned Ethernet addresses.
    pub fdb: Fdb,
    /// Learned neighbours.
    pub neighbours: Neighbours,
    /// Addresses that are claimed twice.
    pub contests: Contests,
    /// Who is told of either.
    pub keeper: Keeper,
    /// Which client sticks to which backend.
    pub affinity: Affinities,
    /// How far the clock was put forward.
    pub ahead: Ahead,
}

/// Where the pipeline puts what is to be sent.
pub trait Output {
    /// Hears which frame of its burst is to be carried next. What is sent from this very buffer is
    /// not changed any more, and may as well be sent once the burst is done.
    fn begin(&mut self, _number: usize, _buffer: &[u8]) {}

    /// Hears the fate of that frame.
    fn end(&mut self, _verdict: Verdict) {}

    /// Sends a buffer, virtio header first, on a port; what cannot be sent is counted there.
    fn send(&mut self, port: PortId, buffer: &[u8]);
}

/// A frame's fate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Sent on to this port.
    Forwarded(PortId),
    /// Sent to every other port of its bridge.
    Flooded,
    /// Answered by the switch itself.
    Answered,
    /// Waiting for the first fragment of its packet, or for a neighbour to answer.
    Held,
    /// Gone.
    Dropped(DropReason),
}

/// Where and when a frame is judged, and by what.
#[derive(Clone, Copy, Debug)]
pub(super) struct At<'s> {
    /// The tables.
    pub(super) snapshot: &'s Snapshot,
    /// The moment.
    pub(super) now: Tick,
    /// The port it came in at.
    pub(super) ingress: PortId,
    /// What is known of that port.
    pub(super) port: &'s Port,
}

impl At<'_> {
    /// Something that befell a flow here and now.
    pub(super) const fn event(
        &self,
        flow: Option<Flow>,
        frontend: Option<u32>,
        what: What,
    ) -> Event {
        let At { now, ingress, .. } = *self;
        Event { at: now, generation: self.snapshot.generation, ingress, flow, frontend, what }
    }
}

/// Why a frame was refused, and who says so if anyone does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The reason.
    pub reason: DropReason,
    /// The router at which it was refused; the first one where it does not matter.
    pub router: Option<RouterId>,
    /// For [`DropReason::TooBig`], what would fit, octets.
    pub mtu: u16,
    /// The neighbour whose answer would change that.
    pub neighbour: Option<Address>,
}

impl Refusal {
    /// A refusal unless this neighbour answers.
    pub(super) fn of_neighbour(reason: DropReason, neighbour: Address) -> Self {
        Self { neighbour: Some(neighbour), ..reason.into() }
    }
}

impl From<DropReason> for Refusal {
    fn from(reason: DropReason) -> Self {
        Self { reason, router: None, mtu: 0, neighbour: None }
    }
}

/// A worker's part of the switch that judges frames.
#[derive(Debug)]
pub struct Pipeline {
    /// Tables all workers share.
    pub shared: Arc<Shared>,
    /// What this worker counts.
    pub counters: Arc<Counters>,
    /// Keeps what was decided about first packets, where somebody asks why; a worker has none.
    pub trail: Option<Box<Trail>>,
    /// Where new flows and refusals are told, if anywhere.
    pub watch: Option<Arc<Watch>>,
    pub(super) account: Account,
    pub(super) random: Random,
    pub(super) message: Message,
    pub(super) fragments: Fragments,
    pub(super) pending: Pending,
    cutter: Cutter,
    error_budget: ErrorBudget,
}

/// A stream of random numbers for choices that need not be secret (`xorshift64*`).
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The next 32 bits.
    pub(super) const fn next(&mut self) -> u32 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) as u32
    }
}

/// ICMP errors a worker may still send: a bucket of [`ErrorBudget::BURST`], refilled at
/// [`ErrorBudget::PER_SECOND`].
///
/// Source: RFC 1812 §4.3.2.8; RFC 4443 §2.4 (f).
#[derive(Clone, Copy, Debug)]
struct ErrorBudget {
    left: u32,
    at: Tick,
}

impl ErrorBudget {
    const BURST: u32 = 1000;
    const PER_SECOND: u32 = 1000;

    const fn take(&mut self, now: Tick) -> bool {
        let earned = now.since(self.at).saturating_mul(Self::PER_SECOND / Tick::PER_SECOND);
        if earned > 0 {
            let left = self.left.saturating_add(earned);
            self.left = if left > Self::BURST { Self::BURST } else { left };
            self.at = now;
        }
        match self.left.checked_sub(1) {
            Some(left) => {
                self.left = left;
                true
            }
            None => false,
        }
    }
}

impl Pipeline {
    /// A pipeline over these tables; `seed` starts its random choices.
    pub fn new(shared: Arc<Shared>, counters: Arc<Counters>, seed: u64) -> Self {
        Self {
            shared,
            counters,
            trail: None,
            watch: None,
            account: Account::default(),
            random: Random(seed | 1),
            message: Message::default(),
            fragments: Fragments::default(),
            pending: Pending::default(),
            cutter: Cutter::default(),
            error_budget: ErrorBudget { left: ErrorBudget::BURST, at: Tick(0) },
        }
    }

    /// Carries one frame, and what is known of it, to its fate.
    ///
    /// **Cost**: established, one conntrack slot and the port's record; no allocation.
    #[inline]
    pub fn forward(
        &mut self,
        snapshot: &Snapshot,
        now: Tick,
        ingress: PortId,
        frame: &mut Frame<'_>,
        arrival: &Arrival,
        out: &mut impl Output,
    ) -> Verdict {
        let Some(port) = snapshot.topology.port(ingress) else {
            self.counters.count_drop(ingress, DropReason::PortGone);
            return Verdict::Dropped(DropReason::PortGone);
        };
        let at = At { snapshot, now, ingress, port };
        let Arrival { parsed, hash } = arrival;
        let judged = match parsed {
            _ if port.is_down => Err(DropReason::NodeDown.into()),
            Ok(parsed) => self.judge(at, frame, parsed, *hash, out),
            Err(reason) => Err((*reason).into()),
        };
        match judged {
            Ok(verdict) => {
                match verdict {
                    Verdict::Answered => self.counters.answered.add(1),
                    Verdict::Flooded => self.counters.flooded.add(1),
                    _ => {}
                }
                verdict
            }
            Err(refusal) => {
                let packet = match parsed {
                    Ok(Parsed::Ip(packet)) => Some(packet),
                    _ => None,
                };
                self.refuse(at, frame, packet, refusal, out)
            }
        }
    }

    /// Counts and tells a refusal, aloud where it is of that kind; where a neighbour's answer would
    /// change it, the frame waits for that.
    #[cold]
    #[inline(never)]
    pub(super) fn refuse(
        &mut self,
        at: At<'_>,
        frame: &Frame<'_>,
        packet: Option<&Packet>,
        mut refusal: Refusal,
        out: &mut impl Output,
    ) -> Verdict {
        if let Some(neighbour) = refusal.neighbour.take() {
            match self.await_neighbour(at, frame, (refusal, neighbour), out) {
                Ok(verdict) => return verdict,
                Err(other) => refusal = other,
            }
        }
        self.counters.count_drop(at.ingress, refusal.reason);
        self.note(|| Decision::Refused(refusal));
        self.tell_refusal(at, packet, refusal.reason);
        if let Some(packet) = packet {
            self.speak(at, frame, packet, refusal, out);
        }
        Verdict::Dropped(refusal.reason)
    }

    /// Tells of a refusal, if anybody wants to know.
    fn tell_refusal(&mut self, at: At<'_>, packet: Option<&Packet>, reason: DropReason) {
        let account = std::mem::take(&mut self.account);
        let Some(watch) = &self.watch else { return };
        if account.denied.is_none() && !watch.is_on() {
            return;
        }
        let flow = packet.map(|packet| packet.flow);
        let Account { frontend, denied, is_end } = account;
        watch.tell(at.event(flow, frontend, What::Refused { reason, denied, is_end }));
    }

    /// Keeps a decision, if they are kept.
    #[inline]
    pub(super) fn note(&mut self, decision: impl FnOnce() -> Decision) {
        if let Some(trail) = &mut self.trail {
            trail.decisions.push(decision());
        }
    }

    /// By kind of frame: neighbours, floods, unicast.
    #[inline]
    fn judge(
        &mut self,
        at: At<'_>,
        frame: &mut Frame<'_>,
        parsed: &Parsed,
        hash: u64,
        out: &mut impl Output,
    ) -> Result<Verdict, Refusal> {
        let At { port, .. } = at;
        let (target_mac, source_mac) = frame.macs().ok_or(DropReason::FrameTooShort)?;
        if source_mac != port.mac {
            if port.anti_spoof || source_mac.is_group() {
                return Err(DropReason::SpoofedMac.into());
            }
            if let PortRole::Bridged(segment) = port.role {
                self.learn(at, segment, source_mac);
            }
        }
        let packet = match parsed {
            Parsed::Ip(packet) => packet,
            Parsed::Arp => return Ok(self.arp(at, frame, out)?),
            Parsed::Other => return Ok(self.bridge(at, frame, out)?),
        };
        if matches!(packet.kind, Kind::NeighbourDiscovery(_)) {
            return Ok(self.discovery(at, frame, packet, out)?);
        }
        if target_mac.is_group() || packet.flow.target.address.is_multicast() {
            check_group(at, packet)?;
            return Ok(self.bridge(at, frame, out)?);
        }
        if let Some(fragment) = packet.fragment {
            return self.piece(at, frame, packet, fragment, out);
        }
        self.unicast(at, frame, packet, hash, out)
    }

    /// A packet from one machine to one machine.
    #[inline]
    pub(super) fn unicast(
        &mut self,
        at: At<'_>,
        frame: &mut Frame<'_>,
        packet: &Packet,
        hash: u64,
        out: &mut impl Output,
    ) -> Result<Verdict, Refusal> {
        if packet.kind == Kind::IcmpError {
            return self.related(at, frame, packet, out);
        }
        let Some(found) = self.shared.conntrack.find(&packet.flow, hash) else {
            return self.begin(at, frame, packet, out);
        };
        let is_current = found.binding.generation == at.snapshot.generation
            && found.binding.ingress == at.ingress;
        if is_current {
            self.counters.established.add(1);
            if self.follow(&found, packet, at.now)? {
                return self.send(at.snapshot, frame, packet, &found.binding, out);
            }
            return self.begin(at, frame, packet, out);
        }
        // a copy, so that what was found need not lie in memory for those that are sent on at once
        self.resume(at, frame, packet, &{ found }, out)
    }

    /// A packet whose flow was judged by older tables, or at another port.
    #[inline(never)]
    fn resume(
        &mut self,
        at: At<'_>,
        frame: &mut Frame<'_>,
        packet: &Packet,
        found: &Found,
        out: &mut impl Output,
    ) -> Result<Verdict, Refusal> {
        match self.readmit(at, packet, found)? {
            Some(binding) => self.send(at.snapshot, frame, packet, &binding, out),
            None => self.begin(at, frame, packet, out),
        }
    }

    /// The first packet of a flow.
    #[inline(never)]
    fn begin(
        &mut self,
        at: At<'_>,
        frame: &mut Frame<'_>,
        packet: &Packet,
        out: &mut impl Output,
    ) -> Result<Verdict, Refusal> {
        if packet.is_later_fragment() {
            return Err(DropReason::Fragmented.into());
        }
        match self.admit(at, frame, packet)? {
            Admitted::Bound(binding) => self.send(at.snapshot, frame, packet, &binding, out),
            Admitted::Router => {
                icmp::echo_in_place(frame, packet)?;
                out.send(at.ingress, frame.buffer());
                Ok(Verdict::Answered)
            }
        }
    }

    /// Rewrites a frame by its binding and sends it, in fragments where it must be.
    ///
    /// # Errors
    /// [`DropReason::TtlExceeded`] and [`DropReason::TooBig`]; the frame is untouched then.
    #[inline]
    pub(super) fn send(
        &mut self,
        snapshot: &Snapshot,
        frame: &mut Frame<'_>,
        packet: &Packet,
        binding: &Binding,
        out: &mut impl Output,
    ) -> Result<Verdict, Refusal> {
        let hop = snapshot.topology.hop(binding.hop).ok_or(DropReason::PortGone)?;
        if packet.ttl <= binding.hops && binding.hops > 0 {
            let binding = *binding;
            return Err(admit::ttl_exceeded(snapshot, &binding, packet));
        }
        if packet.ip_octets() > usize::from(hop.mtu) && !fits_by_segment(frame, packet, hop.mtu) {
            let binding = *binding;
            return self.send_cut(snapshot, (frame, packet), &binding, hop, out);
        }
        rewrite::apply(frame, packet, binding, hop);
        out.send(hop.port, frame.buffer());
        Ok(Verdict::Forwarded(hop.port))
    }

    /// Sends a frame that is longer than the link takes, in fragments if it may be cut.
    #[cold]
    #[inline(never)]
    fn send_cut(
        &mut self,
        snapshot: &Snapshot,
        (frame, packet): (&mut Frame<'_>, &Packet),
        binding: &Binding,
        hop: &Hop,
        out: &mut impl Output,
    ) -> Result<Verdict, Refusal> {
        if !cut::may_cut(frame, packet) {
            return Err(admit::too_big(snapshot, binding, hop.mtu));
        }
        rewrite::apply(frame, packet, binding, hop);
        self.cutter.send(frame, packet, hop.mtu, hop.port, out);
        Ok(Verdict::Forwarded(hop.port))
    }

    /// Moves a connection on by a frame of it; `false` if the frame is of no connection any more,
    /// and begins one anew.
    ///
    /// # Errors
    /// [`DropReason::InvalidState`] for a frame that cannot belong to the connection.
    #[inline]
    pub(super) fn follow(
        &self,
        found: &Found,
        packet: &Packet,
        now: Tick,
    ) -> Result<bool, DropReason> {
        let signal = match packet.kind {
            Kind::Tcp(flags) => Signal::Tcp(TcpFlags(flags)),
            Kind::Sctp(chunk) => Signal::Sctp(chunk),
            _ => Signal::Frame,
        };
        match self.shared.conntrack.follow(found, signal, now) {
            conntrack::Verdict::Accept => Ok(true),
            conntrack::Verdict::Invalid => Err(DropReason::InvalidState),
            conntrack::Verdict::Gone => Ok(false),
            conntrack::Verdict::Reopen => {
                self.shared.conntrack.remove(found);
                Ok(false)
            }
        }
    }

    /// Says a refusal aloud, where it is of the kind that is said, and the sender may be told.
    pub(super) fn speak(
        &mut self,
        at: At<'_>,
        frame: &Frame<'_>,
        packet: &Packet,
        refusal: Refusal,
        out: &mut impl Output,
    ) {
        let error = match refusal.reason {
            DropReason::NoEndpoints | DropReason::NoServicePort | DropReason::RouterPort => {
                Error::PortUnreachable
            }
            DropReason::NoRoute => Error::NetUnreachable,
            DropReason::HostUnreachable => Error::HostUnreachable,
            DropReason::TtlExceeded => Error::TimeExceeded,
            DropReason::TooBig => Error::TooBig(refusal.mtu),
            _ => return,
        };
        let At { snapshot, now, ingress, port } = at;
        let Some((_, sender_mac)) = frame.macs() else { return };
        // what is said of a packet in pieces is said once, of the whole
        if packet.kind == Kind::Spread || !icmp::may_answer(frame, packet, error) {
            return;
        }
        if !self.error_budget.take(now) {
            self.counters.errors_withheld.add(1);
            return;
        }
        let asked = packet.flow.target.address;
        let source = match refusal.reason {
            // it was spoken to, and answers as itself
            DropReason::RouterPort => asked,
            _ => speaker(snapshot, port, refusal.router, asked),
        };
        let mut envelope = Envelope {
            source_mac: port.router_mac,
            target_mac: sender_mac,
            source,
            target: packet.flow.source.address,
        };
        let is_tcp = matches!(packet.kind, Kind::Tcp(_));
        if error == Error::PortUnreachable && is_tcp {
            envelope.source = packet.flow.target.address;
            if !self.message.reset(&envelope, frame, packet) {
                return;
            }
        } else {
            self.message.error(&envelope, error, frame, packet);
        }
        out.send(ingress, self.message.buffer());
    }
}

/// Whether a frame longer than the link's MTU is one that will be cut into segments that fit.
fn fits_by_segment(frame: &Frame<'_>, packet: &Packet, mtu: u16) -> bool {
    let vnet = frame.vnet();
    if vnet.gso_type == super::Vnet::GSO_NONE {
        return false;
    }
    let transport_octets = match packet.kind {
        Kind::Tcp(_) => frame
            .bytes()
            .get(packet.transport + 12)
            .map_or(20, |offset| usize::from(offset >> 4) * 4),
        _ => 8,
    };
    let headers = packet.transport - packet.ip + transport_octets;
    headers + usize::from(vnet.gso_size) <= usize::from(mtu)
}

/// The address under which an error is said: the router's on the sender's own link for the first
/// router, its address between routers for others.
fn speaker(snapshot: &Snapshot, port: &Port, router: Option<RouterId>, like: Address) -> Address {
    let first = router.is_none_or(|router| router == port.router);
    let gateways = snapshot.topology.gateways(port);
    // a link-local address would say nothing to a reader elsewhere
    let on_link = gateways
        .iter()
        .map(|gateway| gateway.address)
        .find(|address| address.is_v4() == like.is_v4() && !address.is_link_local());
    let between = || {
        let router = snapshot.topology.router(router.unwrap_or(port.router))?;
        router.address_like(like)
    };
    let chosen = if first { on_link.or_else(between) } else { between().or(on_link) };
    chosen.unwrap_or(like)
}

/// Refuses a packet to many whose source is not the port's own (or none yet), and one that would
/// reach a single machine behind the back of its policies.
///
/// Source: RFC 1122 §3.3.6 (unicast in a group frame).
fn check_group(at: At<'_>, packet: &Packet) -> Result<(), DropReason> {
    let At { snapshot, port, .. } = at;
    let (source, target) = (packet.flow.source.address, packet.flow.target.address);
    let is_own = port.addresses.contains(&source)
        || source.is_unspecified()
        || (!source.is_v4() && source.is_link_local());
    if port.anti_spoof && !is_own {
        return Err(DropReason::SpoofedAddress);
    }
    let is_broadcast = |gateway: &Gateway| target == gateway.on_link.last() && target.is_v4();
    if target.is_multicast() || snapshot.topology.gateways(port).iter().any(is_broadcast) {
        Ok(())
    } else {
        Err(DropReason::MartianTarget)
    }
}
