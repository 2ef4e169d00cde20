//! The lab, for real: namespaces, TAPs, addresses and routes of the running kernel.
//!
//! Everything here needs root rights and says so; nothing outside the namespaces it makes itself
//! is touched, and no frame leaves them.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::fs;
use std::io::{self, Read};
use std::net::IpAddr;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use kswitch::lab::{Error, Host, HostSpec, Lab, namespace, process};
use libtest_mimic::{Arguments, Failed, Trial};

mod frames;
mod reclaim;

/// A test by its name.
macro_rules! tests {
    ($($path:path),* $(,)?) => {
        [$((stringify!($path), $path as fn())),*]
    };
}

/// Without root, what needs it is counted as ignored, never as passed.
fn main() {
    let arguments = Arguments::from_args();
    let is_root = nix::unistd::geteuid().is_root();
    let needs_root = tests![
        a_host_has_what_its_spec_says,
        a_failure_in_the_middle_leaves_nothing_of_the_call_and_all_of_what_was_before,
        what_somebody_else_made_is_refused_and_left_alone,
        labs_run_side_by_side_but_one_only_once,
        processes_left_inside_are_ended_the_stubborn_ones_too,
        the_state_directory_is_for_roots_eyes_only,
        frames::frames_cross_both_ways_with_offloads_and_without,
        frames::a_plain_tap_refuses_what_it_could_only_spoil,
        frames::a_device_that_is_down_takes_nothing_until_it_is_up_again,
        frames::a_flow_comes_out_of_the_queue_it_was_sent_through,
        frames::a_node_reaches_a_gateway_outside_its_prefix_and_hears_from_addresses_it_shares,
        reclaim::a_lab_is_made_and_closed,
        reclaim::what_a_killed_run_left_is_reclaimed_by_the_next_of_the_same_lab,
        reclaim::who_was_killed_and_is_not_gone_yet_is_waited_for_and_who_lives_is_not,
        reclaim::a_namespace_made_anew_under_a_reclaimed_name_is_not_ours,
    ];
    let anywhere = tests![without_root_rights_the_error_says_so,];
    let trial = |(name, test): (&'static str, fn()), is_ignored| {
        let run = move || -> Result<(), Failed> {
            test();
            Ok(())
        };
        Trial::test(name.replace(' ', ""), run).with_ignored_flag(is_ignored)
    };
    let trials = needs_root.into_iter().map(|test| trial(test, !is_root));
    let trials = trials.chain(anywhere.into_iter().map(|test| trial(test, false)));
    libtest_mimic::run(&arguments, trials.collect()).exit();
}

/// How long something that must happen may take on a busy machine.
const SOON: Duration = Duration::from_secs(5);

/// A lab's name that no other test, and no other run of the tests, has.
fn unique(name: &str) -> String {
    format!("test-{}-{name}", std::process::id())
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn pod(lab: &str, number: u8) -> HostSpec {
    HostSpec {
        namespace: format!("{lab}.default.pod-{number}"),
        hostname: format!("pod-{number}"),
        interface: "eth0".to_owned(),
        mac: [2, 0, 0, 0, 1, number],
        mtu: 1450,
        addresses: vec![
            (ip(&format!("10.4.0.{number}")), 24),
            (ip(&format!("fd00:4::{number}")), 64),
        ],
        gateways: vec![ip("10.4.0.1"), ip("fd00:4::1")],
        loopback: vec![],
        forwards: false,
        resolv_conf: Some("nameserver 10.8.0.10\n".to_owned()),
        hosts: None,
        queues: 1,
        plain: false,
        existing: None,
    }
}

fn node(lab: &str) -> HostSpec {
    HostSpec {
        namespace: format!("{lab}.node.node-a"),
        hostname: "node-a".to_owned(),
        addresses: vec![(ip("192.168.7.10"), 32), (ip("fd00:7::10"), 128)],
        gateways: vec![ip("169.254.1.1"), ip("fe80::1")],
        loopback: vec![ip("10.4.0.1"), ip("fd00:4::1")],
        ..pod(lab, 200)
    }
}

fn made(lab: &mut Lab, spec: HostSpec) -> Host {
    lab.add_hosts(&[spec], &|_, _| ()).unwrap().remove(0)
}

/// What a shell prints inside a namespace.
fn shell(namespace: &str, script: &str) -> String {
    let mut command = Command::new("sh");
    command.args(["-c", script]).stdout(Stdio::piped());
    let output = process::spawn(namespace, &mut command).unwrap().wait_with_output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// A file of `/proc/net` inside a namespace.
fn proc_net(namespace: &str, file: &str) -> String {
    let path = format!("/proc/thread-self/net/{file}");
    namespace::enter(namespace, || fs::read_to_string(path)).unwrap().unwrap()
}

fn exists(namespace: &str) -> bool {
    namespace::path(namespace).exists()
        || Path::new("/etc/netns").join(namespace).symlink_metadata().is_ok()
}

fn wait_until(what: &str, happened: impl Fn() -> bool) {
    let start = Instant::now();
    while !happened() {
        assert!(start.elapsed() < SOON, "{what} did not happen in time");
        thread::sleep(Duration::from_millis(10));
    }
}

fn a_host_has_what_its_spec_says() {
    let name = unique("spec");
    let mut lab = Lab::open(&name).unwrap();
    let spec = pod(&name, 2);
    let host = made(&mut lab, spec.clone());

    let files = shell(
        &host.namespace,
        "hostname; cat /etc/hostname /etc/resolv.conf; cd /sys/class/net; ls; cd eth0; \
         cat address mtu tx_queue_len operstate",
    );
    let link = "02:00:00:00:01:02\n1450\n500\nunknown\n";
    assert_eq!(files, format!("pod-2\npod-2\nnameserver 10.8.0.10\neth0\nlo\n{link}"));

    let addresses = namespace::enter(&host.namespace, || {
        let addresses = nix::ifaddrs::getifaddrs().unwrap();
        let mut addresses: Vec<_> = addresses
            .filter_map(|entry| {
                let prefix = |storage: nix::sys::socket::SockaddrStorage| {
                    let v4 = storage.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
                    v4.or_else(|| storage.as_sockaddr_in6().map(|address| address.ip().into()))
                };
                let bits = match prefix(entry.netmask?)? {
                    IpAddr::V4(mask) => mask.to_bits().count_ones(),
                    IpAddr::V6(mask) => mask.to_bits().count_ones(),
                };
                Some(format!("{} {}/{bits}", entry.interface_name, prefix(entry.address?)?))
            })
            .collect();
        addresses.sort();
        addresses
    });
    let expect = [
        "eth0 10.4.0.2/24",
        "eth0 fd00:4::2/64",
        "eth0 fe80::ff:fe00:102/64",
        "lo 127.0.0.1/8",
        "lo ::1/128",
    ];
    assert_eq!(addresses.unwrap(), expect);
    // 0x80: permanent; nothing tentative (0x40) that could not be used at once
    let flags = proc_net(&host.namespace, "if_inet6");
    for line in flags.lines() {
        let flags = line.split_whitespace().nth(4).unwrap();
        assert!(matches!(flags, "80" | "82"), "{line}");
    }
    let routes = proc_net(&host.namespace, "route");
    assert!(
        routes.lines().any(|line| line.starts_with("eth0\t00000000\t0100040A\t0003")),
        "{routes}"
    );
    let routes = proc_net(&host.namespace, "ipv6_route");
    let (any, gateway) =
        (format!("{:032x} 00 {:032x} 00", 0, 0), "fd000004000000000000000000000001");
    assert!(routes.lines().any(|line| line.starts_with(&format!("{any} {gateway}"))), "{routes}");

    // a user without any rights may ping and may listen on port 80
    let settings = shell(
        &host.namespace,
        "cd /proc/sys/net; cat ipv4/ping_group_range ipv4/ip_unprivileged_port_start ipv4/ip_forward \
         ipv4/conf/all/rp_filter ipv4/conf/eth0/rp_filter ipv4/conf/all/accept_local; \
         cd ipv6/conf/eth0; cat accept_ra autoconf router_solicitations accept_dad addr_gen_mode",
    );
    assert_eq!(settings, "0\t2147483647\n0\n0\n0\n0\n0\n0\n0\n0\n0\n1\n");
    lab.close().unwrap();
    assert!(!exists(&spec.namespace));
}

fn a_failure_in_the_middle_leaves_nothing_of_the_call_and_all_of_what_was_before() {
    let name = unique("undo");
    let mut lab = Lab::open(&name).unwrap();
    let before = made(&mut lab, pod(&name, 2));
    let mut specs: Vec<_> = (3..40).map(|number| pod(&name, number)).collect();
    // a second default route of the same family
    specs[20].gateways.push(ip("10.4.0.99"));
    let names: Vec<_> = specs.iter().map(|spec| spec.namespace.clone()).collect();
    let error = lab.add_hosts(&specs, &|_, _| ()).unwrap_err();
    let task = format!("cannot add a default route by 10.4.0.99 in namespace {}", names[20]);
    assert_eq!(error.to_string(), task);
    let source = std::error::Error::source(&error).unwrap();
    assert_eq!(source.to_string(), io::Error::from_raw_os_error(libc::EEXIST).to_string());
    for name in names {
        assert!(!exists(&name), "{name}");
    }
    assert!(exists(&before.namespace));

    // a name twice, and a name that is there already
    for specs in [vec![pod(&name, 3), pod(&name, 3)], vec![pod(&name, 3), pod(&name, 2)]] {
        assert!(matches!(lab.add_hosts(&specs, &|_, _| ()), Err(Error::Taken { .. })));
        assert!(!exists(&pod(&name, 3).namespace));
    }
    assert!(exists(&before.namespace));
    let unknown = lab.remove_host(&pod(&name, 3).namespace);
    assert!(matches!(unknown, Err(Error::Unknown { .. })));
}

fn what_somebody_else_made_is_refused_and_left_alone() {
    let name = unique("taken");
    let mut other = Lab::open(&unique("taken-other")).unwrap();
    made(&mut other, pod(&name, 3));
    let mut lab = Lab::open(&name).unwrap();
    let specs = vec![pod(&name, 2), pod(&name, 3), pod(&name, 4)];
    match lab.add_hosts(&specs, &|_, _| ()) {
        Err(Error::Taken { namespace }) => assert_eq!(namespace, pod(&name, 3).namespace),
        result => panic!("{result:?}"),
    }
    assert!(!exists(&pod(&name, 2).namespace));
    drop(lab);
    assert!(exists(&pod(&name, 3).namespace));
    other.close().unwrap();
    assert!(!exists(&pod(&name, 3).namespace));
}

fn labs_run_side_by_side_but_one_only_once() {
    let (left, right) = (unique("left"), unique("right"));
    let mut one = Lab::open(&left).unwrap();
    let mut two = Lab::open(&right).unwrap();
    match Lab::open(&left) {
        Err(Error::Running { lab, process }) => {
            assert_eq!((lab, process), (left.clone(), Some(std::process::id())));
        }
        result => panic!("{result:?}"),
    }
    made(&mut one, pod(&left, 2));
    made(&mut two, pod(&right, 2));
    one.close().unwrap();
    assert!(!exists(&pod(&left, 2).namespace));
    assert_eq!(shell(&pod(&right, 2).namespace, "hostname"), "pod-2\n");
    let again = Lab::open(&left).unwrap();
    assert_eq!(again.reclaimed(), 0);
}

fn processes_left_inside_are_ended_the_stubborn_ones_too() {
    let name = unique("processes");
    let mut lab = Lab::open(&name).unwrap();
    let host = made(&mut lab, pod(&name, 2));
    let start = |script: &str| {
        let mut command = Command::new("sh");
        command.args(["-c", script]).stdout(Stdio::piped());
        process::spawn(&host.namespace, &mut command).unwrap()
    };
    let mut polite = start("exec sleep 60");
    let mut stubborn = start("trap '' TERM; echo ready; while :; do sleep 0.1; done");
    let mut ready = [0; 6];
    stubborn.stdout.take().unwrap().read_exact(&mut ready).unwrap();
    let mut elsewhere = Command::new("sleep").arg("60").spawn().unwrap();

    let inside = process::processes_in(&host.namespace).unwrap();
    assert!(inside.contains(&polite.id()) && inside.contains(&stubborn.id()), "{inside:?}");
    assert!(!inside.contains(&elsewhere.id()) && !inside.contains(&std::process::id()));

    lab.close().unwrap();
    for (child, signal) in [(&mut polite, libc::SIGTERM), (&mut stubborn, libc::SIGKILL)] {
        assert_eq!(child.try_wait().unwrap().unwrap().signal(), Some(signal));
    }
    assert_eq!(elsewhere.try_wait().unwrap(), None);
    elsewhere.kill().unwrap();
    elsewhere.wait().unwrap();
}

fn the_state_directory_is_for_roots_eyes_only() {
    let lab = Lab::open(&unique("mode")).unwrap();
    assert_eq!(fs::metadata("/run/kswitch").unwrap().mode() & 0o7777, 0o700);
    drop(lab);
}

/// Tells [`without_root_rights_the_error_says_so`] that it runs as somebody else.
const NOBODY: &str = "KSWITCH_TEST_NOBODY";

fn without_root_rights_the_error_says_so() {
    if nix::unistd::geteuid().is_root() {
        // again, as somebody else and from where anybody may read
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let copy = directory.path().join("lab");
        fs::copy(std::env::current_exe().unwrap(), &copy).unwrap();
        let mut again = Command::new(copy);
        again.args(["--exact", "without_root_rights_the_error_says_so"]).env(NOBODY, "");
        let output = again.uid(65_534).gid(65_534).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        return;
    }
    match Lab::open(&unique("nobody")) {
        Err(error @ Error::NotRoot { .. }) => {
            let text = "a lab needs root rights: this process lacks CAP_NET_ADMIN";
            assert_eq!(error.to_string(), text);
        }
        result => panic!("{result:?}"),
    }
}
