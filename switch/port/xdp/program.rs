//! The program at the interface, and the map by which it finds sockets: made by the `bpf` system
//! call alone, of instructions written down here.
//!
//! Source: `bpf(2)`; Linux `include/uapi/linux/bpf.h`, RFC 9669 (instructions).

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use super::owned;

const MAP_CREATE: libc::c_int = 0;
const MAP_UPDATE: libc::c_int = 2;
const PROGRAM_LOAD: libc::c_int = 5;
const LINK_CREATE: libc::c_int = 28;

const MAP_OF_SOCKETS: u32 = 17;
const PROGRAM_AT_INTERFACE: u32 = 6;
const AT_INTERFACE: u32 = 37;

/// Where a frame's queue stands in what a program is given.
const QUEUE_OFFSET: u64 = 16;
/// `XDP_PASS`: to the kernel's own stack, of a queue that has no socket.
const PASS: u64 = 2;
/// `bpf_redirect_map`.
const REDIRECT_MAP: u64 = 51;

/// What the call is asked, in words as they lie in memory: two fields of 32 bits, or one of 64.
type Words = [u64; 18];

const fn pair(first: u32, second: u32) -> u64 {
    // the first lies lower
    if cfg!(target_endian = "little") {
        (second as u64) << 32 | first as u64
    } else {
        (first as u64) << 32 | second as u64
    }
}

fn descriptor(of: &impl AsRawFd) -> u32 {
    of.as_raw_fd().cast_unsigned()
}

#[expect(unsafe_code, reason = "a system call that names memory")]
fn bpf(command: libc::c_int, words: &Words) -> libc::c_long {
    // SAFETY: the words are borrowed across the call, which reads as many octets of them as told;
    // the callers see to the memory that words point to.
    unsafe { libc::syscall(libc::SYS_bpf, command, words.as_ptr(), size_of::<Words>()) }
}

fn words(first: &[u64]) -> Words {
    let mut words = [0; 18];
    words.iter_mut().zip(first).for_each(|(word, value)| *word = *value);
    words
}

/// Which socket receives from which queue.
#[derive(Debug)]
pub(super) struct Map(OwnedFd);

impl Map {
    /// A map for so many queues.
    pub(super) fn new(queues: u32) -> io::Result<Self> {
        let asked = words(&[pair(MAP_OF_SOCKETS, 4), pair(4, queues)]);
        owned("BPF_MAP_CREATE", bpf(MAP_CREATE, &asked)).map(Self)
    }

    /// Has a socket receive what comes in at a queue.
    pub(super) fn put(&self, queue: u32, socket: &impl AsRawFd) -> io::Result<()> {
        let value = descriptor(socket);
        let (key, value) = (&raw const queue, &raw const value);
        let asked = words(&[pair(descriptor(&self.0), 0), key.addr() as u64, value.addr() as u64]);
        let answer = bpf(MAP_UPDATE, &asked);
        super::tap::checked("BPF_MAP_UPDATE_ELEM", libc::c_int::try_from(answer).unwrap_or(-1))
    }
}

/// A program at an interface, until it is dropped.
#[derive(Debug)]
pub(super) struct Program {
    _link: OwnedFd,
}

impl Program {
    /// Puts the program that hands frames to the sockets of `map` at an interface, which must have
    /// none yet.
    pub(super) fn attach(index: libc::c_int, map: &Map) -> io::Result<Self> {
        // one instruction each: operation, registers (target low, source high), offset, value
        let instruction = |operation: u64, registers: u64, offset: u64, value: u64| {
            operation | registers << 8 | offset << 16 | value << 32
        };
        let instructions = [
            // r2 = the frame's queue
            instruction(0x61, 0x12, QUEUE_OFFSET, 0),
            // r1 = the map, a value of two instructions' length
            instruction(0x18, 0x11, 0, u64::from(descriptor(&map.0))),
            0,
            // r3 = what to do where there is no socket
            instruction(0xb7, 0x03, 0, PASS),
            instruction(0x85, 0, 0, REDIRECT_MAP),
            instruction(0x95, 0, 0, 0),
        ];
        let license = c"Apache-2.0";
        let count = u32::try_from(instructions.len()).unwrap_or(0);
        let asked = words(&[
            pair(PROGRAM_AT_INTERFACE, count),
            instructions.as_ptr().addr() as u64,
            license.as_ptr().addr() as u64,
        ]);
        let program = owned("BPF_PROG_LOAD", bpf(PROGRAM_LOAD, &asked))?;
        let asked =
            words(&[pair(descriptor(&program), index.cast_unsigned()), pair(AT_INTERFACE, 0)]);
        let link = owned("BPF_LINK_CREATE", bpf(LINK_CREATE, &asked))?;
        Ok(Self { _link: link })
    }
}
