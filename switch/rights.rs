//! What the switch's threads, and the programs they start, may do: as little as they can do with.
//!
//! A lab is made with root's rights. From its start on the process has those that changes of a
//! running lab need ([`keep_live`]), and can gain no others. Threads that read what others wrote have
//! fewer: workers none at all and few system calls ([`calls`]), load balancers and name servers
//! none. What they need of the rest now and then the [`keeper`] does for them. Containers' programs
//! start with what their security context says ([`container`]).
//!
//! Source: capabilities(7); `prctl(2)`, `PR_SET_NO_NEW_PRIVS`.

pub mod calls;
pub mod keeper;

use std::io;

use kswitch_config::SecurityContext;
use rustix::thread::{
    CapabilitySet, CapabilitySets, capability_is_in_bounding_set, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities, set_no_new_privs,
};

/// What changes of a running lab need beside what containers are given: namespaces, links and mounts;
/// locked memory of rings and sockets; programs in the kernel, and looks at processes of pods.
const OWN: CapabilitySet = CapabilitySet::SYS_ADMIN
    .union(CapabilitySet::NET_ADMIN)
    .union(CapabilitySet::BPF)
    .union(CapabilitySet::IPC_LOCK)
    .union(CapabilitySet::SYS_RESOURCE)
    .union(CapabilitySet::SYS_PTRACE);

/// What changes of a running lab need: raw and privileged sockets, and signals to pods that run as
/// somebody else, are among what a container is given if it does not say.
fn live() -> CapabilitySet {
    OWN.union(named(&SecurityContext::default()))
}

/// The capabilities of a container.
fn named(context: &SecurityContext) -> CapabilitySet {
    context.capabilities.iter().filter_map(|name| CapabilitySet::from_name(name)).collect()
}

/// Gives up what no change of a running lab needs, for this thread and those it starts.
///
/// # Errors
/// What the system says, as to a thread that has not even these.
pub fn keep_live() -> io::Result<()> {
    let live = live();
    bound_to(live)?;
    keep(live)
}

/// How far who empties what workers tell stands back behind the workers: others wait for it at times.
pub const ONLOOKER: i32 = 15;

/// How far who shows what workers do stands back: as far as there is.
pub const SHOWER: i32 = 19;

/// Leaves processors to workers first, for the calling thread: whoever looks on has what they leave.
///
/// Source: setpriority(2); on Linux a nice value is a thread's.
pub fn stand_back(by: i32) {
    // a system that does not allow that has all threads alike
    let _ = rustix::process::setpriority_process(None, by);
}

/// From here on no program that this thread starts, or those that it starts, gains any right, as by
/// being a setuid one.
///
/// # Errors
/// As [`keep_live`].
pub fn gain_none() -> io::Result<()> {
    Ok(set_no_new_privs(true)?)
}

/// Gives up all rights of the calling thread but signals to other users' programs, which ending
/// pods takes.
///
/// # Errors
/// As [`keep_live`].
pub fn keep_signals() -> io::Result<()> {
    keep(CapabilitySet::KILL)
}

/// Gives up all rights of the calling thread.
///
/// # Errors
/// As [`keep_live`].
pub fn keep_none() -> io::Result<()> {
    keep(CapabilitySet::empty())
}

/// Says that somebody could not give up rights; it does its work all the same.
pub fn told(who: &str, given_up: io::Result<()>) {
    if let Err(error) = given_up {
        tracing::warn!("{who} keep their capabilities: {error}");
    }
}

/// Bounds what a program that the calling thread starts may have.
///
/// The thread itself keeps what it has: becoming another user on the way to the program takes rights
/// that the program must not have.
///
/// # Errors
/// As [`keep_live`].
pub fn container(context: &SecurityContext) -> io::Result<()> {
    bound_to(named(context))?;
    if !context.may_escalate {
        set_no_new_privs(true)?;
    }
    Ok(())
}

/// No program started from here on gets more than these.
fn bound_to(kept: CapabilitySet) -> io::Result<()> {
    clear_ambient_capability_set()?;
    if !rustix::thread::capabilities(None)?.effective.contains(CapabilitySet::SETPCAP) {
        // what is not there cannot be passed on; what is missing is told where it is wanted
        return Ok(());
    }
    for capability in CapabilitySet::all().difference(kept) {
        // one that the kernel does not know, or that is gone already, cannot be removed
        if capability_is_in_bounding_set(capability).unwrap_or(false) {
            remove_capability_from_bounding_set(capability)?;
        }
    }
    Ok(())
}

/// The calling thread has these from here on, as far as it has them now.
fn keep(kept: CapabilitySet) -> io::Result<()> {
    let had = rustix::thread::capabilities(None)?;
    let permitted = had.permitted.intersection(kept);
    set_capabilities(
        None,
        CapabilitySets { effective: permitted, permitted, inheritable: CapabilitySet::empty() },
    )?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn who_stands_back_does_so_for_itself_alone() {
        let nice = || rustix::process::getpriority_process(None).unwrap();
        let before = nice();
        let behind = thread::spawn(move || {
            stand_back(SHOWER);
            nice()
        });
        assert_eq!((behind.join().unwrap(), nice()), (SHOWER, before));
    }

    #[test]
    fn every_capability_that_a_container_can_name_is_one() {
        for name in kswitch_config::CAPABILITIES {
            assert!(CapabilitySet::from_name(name).is_some(), "{name}");
        }
        // Source: linux/capability.h, containerd's default Unix capabilities
        assert_eq!(named(&SecurityContext::default()).bits(), 0xa804_25fb);
    }

    #[test]
    fn a_thread_that_gave_up_its_rights_has_none() {
        let left = thread::spawn(|| {
            keep_none().unwrap();
            rustix::thread::capabilities(None).unwrap()
        });
        let left = left.join().unwrap();
        assert!(left.effective.is_empty() && left.permitted.is_empty(), "{left:?}");
    }
}
