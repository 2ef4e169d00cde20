use super::*;
use crate::Prefix;

const WEB: IdentityId = IdentityId(0);
const DATA: IdentityId = IdentityId(1);
const NODE: IdentityId = IdentityId(2);
const ALL_WEB: SelectionId = SelectionId(0);
const HTTP: PortName = PortName(0);

fn address(text: &str) -> Address {
    text.parse::<std::net::IpAddr>().unwrap().into()
}

fn rule(action: Action, peers: Peers, ports: Ports) -> Rule {
    Rule { action, peers, ports }
}

fn from_web() -> Peers {
    Peers::Listed { selections: [ALL_WEB].into(), blocks: None }
}

fn from_block(range: &str, length: u8, except: &[(&str, u8)]) -> Peers {
    let prefix = |text, length| Prefix::new(address(text), length);
    let except = except.iter().map(|(text, length)| prefix(text, *length)).collect();
    let blocks = Blocks::new(1, &[(prefix(range, length), except)]);
    Peers::Listed { selections: Box::default(), blocks: Some(blocks) }
}

fn tcp(first: u16, last: u16) -> Ports {
    let ranges = [PortRange { protocol: Protocol::TCP, first, last }].into();
    Ports::Listed { ranges, names: Box::default() }
}

fn named(protocol: Option<Protocol>) -> Ports {
    Ports::Listed { ranges: Box::default(), names: [NamedPort { name: HTTP, protocol }].into() }
}

/// A policy about what its identities are sent.
fn ingress(rules: impl Into<Box<[Rule]>>) -> Policy {
    Policy { ingress: rules.into(), ..Policy::default() }
}

/// web 10.4.0.2 and data 10.4.1.2 behind routers 1 and 2, their nodes 10.128.0.1 and .2; the side of
/// data for what it is sent is given.
fn lab(policies: Vec<Policy>, side: Side) -> Policies {
    let mut addresses = Addresses::new(1);
    addresses.insert(address("10.4.0.2"), WEB);
    addresses.insert(address("10.4.1.2"), DATA);
    addresses.insert(address("10.128.0.1"), NODE);
    addresses.insert(address("10.128.0.2"), NODE);
    let names = [PortNumber { name: HTTP, protocol: Protocol::TCP, port: 8080 }];
    let data = Identity { names: names.into(), ingress: side, egress: Side::default() };
    let identities = [Identity::default(), data, Identity::default()].map(Arc::new);
    Policies {
        addresses: Arc::new(addresses),
        identities: Arc::new(identities.into()),
        policies: Arc::new(policies.into_iter().map(Arc::new).collect()),
        selections: Arc::new(vec![Arc::new([WEB].into_iter().collect())]),
        ..Policies::default()
    }
}

fn isolated_by(ids: &[u32]) -> Side {
    Side { isolation: ids.iter().copied().map(PolicyId).collect(), ..Side::default() }
}

fn party(policies: &Policies, text: &str) -> Party {
    let place = match text {
        "10.4.0.2" => Place::Behind(RouterId(1)),
        "10.4.1.2" => Place::Behind(RouterId(2)),
        "10.128.0.1" => Place::Host(RouterId(1)),
        "10.128.0.2" => Place::Host(RouterId(2)),
        _ => Place::Elsewhere,
    };
    let address = address(text);
    Party { address, identity: policies.addresses.find(address), place }
}

fn contact(policies: &Policies, source: &str, target: &str, port: u16) -> Contact {
    Contact {
        source: party(policies, source),
        target: party(policies, target),
        protocol: Protocol::TCP,
        port,
        is_translated: false,
    }
}

fn passes(policies: &Policies, source: &str, port: u16) -> bool {
    policies.check(&contact(policies, source, "10.4.1.2", port)).is_ok()
}

#[test]
fn nobody_is_refused_without_policies() {
    let policies = lab(vec![], Side::default());
    assert!(passes(&policies, "10.4.0.2", 1) && passes(&policies, "198.51.100.7", 1));
    assert!(Policies::default().check(&contact(&policies, "10.4.0.2", "10.4.1.2", 1)).is_ok());
}

#[test]
fn isolation_refuses_all_that_is_not_accepted() {
    let accept = rule(Action::Accept, from_web(), tcp(80, 90));
    let policies = lab(vec![ingress([]), ingress([accept])], isolated_by(&[0, 1]));
    assert!(passes(&policies, "10.4.0.2", 80) && passes(&policies, "10.4.0.2", 90));
    assert!(!passes(&policies, "10.4.0.2", 91) && !passes(&policies, "198.51.100.7", 80));
    let denied = policies.check(&contact(&policies, "198.51.100.7", "10.4.1.2", 80)).unwrap_err();
    let direction = Direction::Ingress;
    let expected = Denied { direction, identity: DATA, tier: Tier::Isolation, rule: None };
    assert_eq!(denied, expected);
    assert_eq!(policies.isolating(denied.identity, direction), [PolicyId(0), PolicyId(1)]);
    // the other direction of the same machine is not isolated
    assert!(policies.check(&contact(&policies, "10.4.1.2", "10.4.0.2", 7)).is_ok());
}

#[test]
fn its_own_router_always_reaches_a_machine_and_no_other_does() {
    let policies = lab(vec![ingress([])], isolated_by(&[0]));
    assert!(passes(&policies, "10.128.0.2", 80) && !passes(&policies, "10.128.0.1", 80));
}

#[test]
fn a_machine_reaches_itself_unless_ordered_rules_refuse_what_was_translated() {
    let deny = || rule(Action::Deny, Peers::Everyone, Ports::All);
    let to_itself = |policies: &Policies, is_translated| {
        let contact = contact(policies, "10.4.1.2", "10.4.1.2", 80);
        policies.check(&Contact { is_translated, ..contact }).is_ok()
    };
    let isolated = lab(vec![ingress([])], isolated_by(&[0]));
    assert!(to_itself(&isolated, false) && to_itself(&isolated, true));
    let side = Side { admin: [PolicyId(0)].into(), ..Side::default() };
    let refused = lab(vec![ingress([deny()])], side);
    assert!(to_itself(&refused, false) && !to_itself(&refused, true));
    let side = Side { fallback: Fallback::Deny, ..Side::default() };
    assert!(to_itself(&lab(vec![], side), true));
}

#[test]
fn tiers_are_asked_in_turn_and_the_first_match_of_an_ordered_one_decides() {
    let admin = || {
        ingress([
            rule(Action::Accept, from_web(), tcp(1, 1)),
            rule(Action::Deny, from_web(), tcp(1, 2)),
            rule(Action::Pass, from_web(), tcp(3, 4)),
            rule(Action::Deny, from_web(), Ports::All),
        ])
    };
    let baseline = || ingress([rule(Action::Deny, from_web(), tcp(3, 3))]);
    let side = |isolation: &[u32]| Side {
        admin: [PolicyId(0)].into(),
        baseline: [PolicyId(1)].into(),
        ..isolated_by(isolation)
    };
    let answers = |policies: &Policies| {
        [1, 2, 3, 4, 5].map(|port| {
            let contact = contact(policies, "10.4.0.2", "10.4.1.2", port);
            policies.check(&contact).map_err(|denied| denied.tier).map(|allowed| allowed.ingress)
        })
    };
    let grant = |policy, index| {
        let policy = PolicyId(policy);
        Ok(Grant::Rule(RuleId { policy, direction: Direction::Ingress, index }))
    };
    let open = lab(vec![admin(), baseline()], side(&[]));
    assert_eq!(
        answers(&open),
        [grant(0, 0), Err(Tier::Admin), Err(Tier::Baseline), Ok(Grant::Fallback), Err(Tier::Admin)]
    );
    let accept = ingress([rule(Action::Accept, Peers::Everyone, tcp(3, 3))]);
    let closed = lab(vec![admin(), baseline(), accept], side(&[2]));
    assert_eq!(
        answers(&closed),
        [grant(0, 0), Err(Tier::Admin), grant(2, 0), Err(Tier::Isolation), Err(Tier::Admin)]
    );
}

#[test]
fn blocks_hold_whoever_has_the_address() {
    let peers = from_block("0.0.0.0", 0, &[("198.51.100.0", 24)]);
    let policies = lab(vec![ingress([rule(Action::Accept, peers, Ports::All)])], isolated_by(&[0]));
    assert!(passes(&policies, "10.4.0.2", 1) && passes(&policies, "203.0.113.1", 1));
    assert!(!passes(&policies, "198.51.100.7", 1) && !passes(&policies, "2001:db8::1", 1));
}

#[test]
fn a_name_stands_for_the_port_the_target_gives_it() {
    for (protocol, is_tcp) in
        [(None, true), (Some(Protocol::TCP), true), (Some(Protocol::UDP), false)]
    {
        let accept = rule(Action::Accept, Peers::Everyone, named(protocol));
        let policies = lab(vec![ingress([accept])], isolated_by(&[0]));
        assert_eq!(passes(&policies, "10.4.0.2", 8080), is_tcp);
        assert!(!passes(&policies, "10.4.0.2", 80));
    }
}

#[test]
fn protocols_without_ports_need_rules_about_all_ports() {
    let echo = |ports, echo| {
        let accept = rule(Action::Accept, Peers::Everyone, ports);
        let policies = Policies { echo, ..lab(vec![ingress([accept])], isolated_by(&[0])) };
        let contact = contact(&policies, "10.4.0.2", "10.4.1.2", 1);
        policies.check(&Contact { protocol: Protocol::ICMP, ..contact }).is_ok()
    };
    assert!(echo(Ports::All, Echo::Judged) && !echo(tcp(0, 65_535), Echo::Judged));
    assert!(echo(tcp(0, 65_535), Echo::Allowed));
}

#[test]
fn what_is_watched_only_tells() {
    let watched = Policy { is_audited: true, ..ingress([]) };
    let side = Side { has_audited: true, ..isolated_by(&[0]) };
    let policies = lab(vec![watched.clone()], side);
    let asked = contact(&policies, "10.4.0.2", "10.4.1.2", 80);
    let audited = policies.check(&asked).unwrap().audited.unwrap();
    assert_eq!((audited.tier, audited.identity), (Tier::Isolation, DATA));

    // a watched policy opens nothing that another one closes
    let open =
        Policy { is_audited: true, ..ingress([rule(Action::Accept, Peers::Everyone, Ports::All)]) };
    let side = Side { has_audited: true, ..isolated_by(&[0, 1]) };
    let policies = lab(vec![ingress([]), open], side);
    assert!(policies.check(&asked).is_err());

    // and where all is watched, nothing is refused
    let policies = Policies { is_audit: true, ..lab(vec![ingress([])], isolated_by(&[0])) };
    assert!(policies.check(&asked).unwrap().audited.is_some());
}

#[test]
fn the_fallback_may_refuse() {
    let side = Side { fallback: Fallback::Deny, ..Side::default() };
    let policies = lab(vec![], side);
    let denied = policies.check(&contact(&policies, "10.4.0.2", "10.4.1.2", 80)).unwrap_err();
    assert_eq!((denied.tier, denied.rule), (Tier::Fallback, None));
    assert!(passes(&policies, "10.128.0.2", 80));
}
