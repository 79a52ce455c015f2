//! Run-time abstraction services: firmware calls by token (PAPR §7).
//!
//! QEMU and KVM take the argument block by a hypervisor call, so no firmware blob has to be
//! instantiated and kept in memory. RTAS serves one CPU at a time (PAPR §7.2.1), and there is one
//! block, in the kernel image, below 4 GiB as PAPR wants; a lock of the port's own guards both.

use crate::guarded::Guarded;
use crate::hcall::{self, Call, Status};
use crate::tree::RtasTokens;
use crate::{cpu, spr};
use arch_contract::boot::HardwareCpu;
use core::sync::atomic::{AtomicU32, Ordering};

/// Arguments and results of one call: token, counts, then the values. All big-endian.
const WORDS: usize = 3 + 10;

/// How often a call that asks for patience is made.
pub const TRIES: usize = 1 << 16;

/// A call that did not work: RTAS's own status, or `None` if the hypervisor takes no such call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RtasError(pub Option<i32>);

impl RtasError {
    /// Not done after many tries.
    pub const BUSY: Self = Self(Some(-2));

    /// Whether to call again, with what the call says it wants then (PAPR §7.2.8): -2, and the values that
    /// hint at how long it will take.
    pub fn is_busy(self) -> bool {
        matches!(self.0, Some(-2 | 9900..=9905))
    }
}

#[repr(C, align(64))]
struct Block([u32; WORDS]);

static BLOCK: Guarded<Block> = Guarded::new(Block([0; WORDS]));

/// Calls `token` with `arguments` until it is done. Behind the status it returns `N` words; together with
/// the arguments, at most 9.
pub fn call<const N: usize>(token: u32, arguments: &[u32]) -> Result<[u32; N], RtasError> {
    for _ in 0..TRIES {
        match call_once(token, arguments) {
            (Some(0), results) => return Ok(results),
            (status, _) if RtasError(status).is_busy() => spr::pause(),
            (status, _) => return Err(RtasError(status)),
        }
    }
    Err(RtasError::BUSY)
}

/// Calls `token` once: its status, `None` if the hypervisor takes no such call, and `N` words, which mean
/// what the status says they do.
pub fn call_once<const N: usize>(token: u32, arguments: &[u32]) -> (Option<i32>, [u32; N]) {
    BLOCK.with(|block| {
        let words = &mut block.0;
        words[0] = token.to_be();
        words[1] = (arguments.len() as u32).to_be();
        words[2] = (1 + N as u32).to_be();
        for (slot, argument) in words[3..].iter_mut().zip(arguments) {
            *slot = argument.to_be();
        }
        let accepted = submit(words.as_mut_ptr() as u64);
        // SAFETY: the block is ours; volatile, since firmware wrote it.
        let answers = unsafe { (&raw const *words).read_volatile() };
        let answer = |index: usize| u32::from_be(answers[3 + arguments.len() + index]);
        let status = (accepted == Status::SUCCESS).then(|| answer(0) as i32);
        (status, core::array::from_fn(|index| answer(1 + index)))
    })
}

/// Hands the argument block at `block` to the hypervisor.
fn submit(block: u64) -> Status {
    // SAFETY: the block is valid and laid out as the call wants; what the service does is the
    // caller's intent.
    unsafe { hcall::call(Call::Rtas, [block & !cpu::PHYSICAL_MAP]) }.0
}

/// The services that start and stop CPUs (PAPR §7.3.8), which come together.
pub struct CpuCalls {
    start: u32,
    stop: u32,
    query: u32,
}

impl CpuCalls {
    /// `None`: firmware lacks one of them.
    pub fn find(tokens: &RtasTokens) -> Option<Self> {
        Some(Self {
            start: tokens.start_cpu?,
            stop: tokens.stop_self?,
            query: tokens.query_cpu_stopped_state?,
        })
    }

    /// Starts `server` in real mode at the physical address `entry` with `argument` in r3; both are
    /// below 4 GiB.
    pub fn start(&self, server: HardwareCpu, entry: u64, argument: u64) -> Result<(), RtasError> {
        call(self.start, &[server.0, entry as u32, argument as u32]).map(|[]| ())
    }

    /// Whether firmware has `server` stopped. An idle CPU may look so too.
    pub fn is_stopped(&self, server: HardwareCpu) -> bool {
        // 0: stopped, 1: about to be, 2: not.
        call(self.query, &[server.0]) == Ok([0])
    }

    /// Stops this CPU. Returns only if firmware refuses.
    ///
    /// The lock cannot be taken, since it could not be released. The block is not the common one,
    /// and the same for all: it does not matter how many CPUs write it at once.
    pub fn stop_self(&self) {
        static BLOCK: [AtomicU32; 4] = [const { AtomicU32::new(0) }; 4];
        for (slot, word) in BLOCK.iter().zip([self.stop, 0, 1]) {
            slot.store(word.to_be(), Ordering::Relaxed);
        }
        let _ = submit(BLOCK.as_ptr() as u64);
    }
}
