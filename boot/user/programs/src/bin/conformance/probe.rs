//! What cases do with instructions of this machine.

use super::User;
use conformance::{Addresses, Deed, Feature, File, Meanwhile, Probe, Touch};
use core::hint::black_box;
use core::sync::atomic::{AtomicU64, Ordering};
use user_programs::general::{self, Newborn};
use user_programs::vectors::Registers;
use user_programs::{door, hostile};
use user_rt::Mapping;
use user_rt::abi::{Call, PAGE_BYTES, Protection, initial};
use user_rt::alloc::boxed::Box;
use user_rt::alloc::format;
use user_rt::alloc::string::String;
use user_rt::alloc::vec;
use user_rt::alloc::vec::Vec;
use user_rt::call::raw;

/// In this program's read-only data.
static CONSTANT: u64 = 1;
/// In its writable data.
static VARIABLE: AtomicU64 = AtomicU64::new(1);
/// Where the kernel put its arguments, a multiple of eight.
pub static ARGUMENTS: AtomicU64 = AtomicU64::new(0);

/// What a program must not do on any machine, beyond one bad access.
const DEEDS: &[Deed] = &[
    ("stack-overflow", || _ = black_box(deeper(0))),
    ("run-off-the-end", run_off_the_end),
    ("fault-after-bad-call", || {
        // SAFETY: there is no such call.
        unsafe { raw(u64::MAX, [u64::MAX; 6]) };
        _ = hostile::read(0);
    }),
];

/// Goes deeper until the stack ends.
fn deeper(depth: u64) -> u64 {
    let frame = black_box([depth; 64]);
    if depth == u64::MAX { frame[0] } else { deeper(depth + 1) + black_box(frame)[1] }
}

/// Executes zeroes in the last page a program can have, off the end of the user range. Where they are
/// harmless instructions, what matters is where they lead.
fn run_off_the_end() {
    let page = PAGE_BYTES as usize;
    if let Ok(last) = Mapping::with(page, hostile::USER.end - PAGE_BYTES, Protection::ReadExecute) {
        let _ = last.forever();
        // SAFETY: the page is executable and holds zeroes up to the end of what is mapped.
        unsafe { hostile::jump(hostile::USER.end - 16) }
    }
}

/// Bytes of the stack of a thread that calls no function.
const STACK: usize = 4096;

/// Distinct words from a seed (SplitMix64).
fn draw(seed: u64) -> impl FnMut() -> u64 {
    let mut state = seed;
    move || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }
}

impl Probe for User {
    fn addresses(&self) -> Addresses {
        Addresses {
            user: hostile::USER,
            kernel: hostile::KERNEL_ADDRESS,
            impossible: Some(hostile::IMPOSSIBLE_ADDRESS),
            code: (Newborn::entry as fn() -> u64 as usize as u64) & !15,
            read_only: vec![&raw const CONSTANT as u64, ARGUMENTS.load(Ordering::Relaxed)],
            writable: vec![VARIABLE.as_ptr() as u64, &raw const *black_box(&0u64) as u64],
        }
    }

    fn features(&self) -> &'static [Feature] {
        general::FEATURES
    }

    fn hold(&self, file: File, seed: u64, meanwhile: Meanwhile) -> Result<(), String> {
        match (file, meanwhile) {
            (File::General, Meanwhile::Turns(turns)) => general::for_turns(draw(seed), turns),
            (File::General, Meanwhile::Call(number, args)) => general::over_call(draw(seed), number, args),
            (File::Vector, meanwhile) => {
                let pattern = Registers::fill(draw(seed));
                let found = match meanwhile {
                    Meanwhile::Turns(turns) => pattern.hold(turns, None),
                    Meanwhile::Call(number, [a, b]) => pattern.hold(1, Some([number, a, b])),
                };
                if found == pattern { Ok(()) } else { Err(format!("is {found:x?}, should be {pattern:x?}")) }
            }
        }
    }

    fn newborn(&self) -> Result<(), String> {
        let stack = Mapping::new(STACK).map_err(|error| format!("no stack: {error:?}"))?;
        let top = stack.start().as_ptr() as u64 + STACK as u64;
        let found = Box::into_raw(Box::new(Newborn::new()));
        let start = [initial::PROCESS.0.into(), Newborn::entry(), top, found as u64, 0, 0];
        // SAFETY: the thread writes to `found` and its stack, which nobody else touches until it has
        // ended.
        let (status, thread) = unsafe { raw(Call::ThreadStart as u64, start) };
        let ended = status == 0 && {
            let handle = [thread, 0, 0, 0, 0, 0];
            // SAFETY: these touch no memory.
            unsafe {
                raw(Call::ThreadWait as u64, handle).0 == 0 && raw(Call::HandleClose as u64, handle).0 == 0
            }
        };
        // SAFETY: it came from a box, and the thread has ended or was never started.
        let found = unsafe { Box::from_raw(found) };
        if !ended {
            return Err(format!("a thread does not start: {status}"));
        }
        found.check(top, &raw const *found as u64)
    }

    unsafe fn touch(&self, at: u64, how: Touch) {
        match how {
            Touch::Read => _ = hostile::read(at),
            // SAFETY: the caller's promise: it faults, or what is written is not Rust's.
            Touch::Write => unsafe { hostile::write(at) },
            // SAFETY: the caller's promise: the process is there for nothing else.
            Touch::Execute => unsafe { hostile::jump(at) },
        }
    }

    fn deeds(&self) -> Vec<Deed> {
        DEEDS.iter().chain(hostile::CASES).chain(hostile::where_forbidden()).copied().collect()
    }

    fn second_door(&self) -> Option<fn(u64) -> u64> {
        door::SECOND
    }
}
