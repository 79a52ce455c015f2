//! Accesses and jumps that must kill the process, the same on every machine.

use core::hint::black_box;
use user_programs::hostile::{IMPOSSIBLE_ADDRESS, KERNEL_ADDRESS, jump, read, write};
use user_rt::abi::{Call, PAGE_BYTES};
use user_rt::call::raw;
use user_rt::{Handle, Mapping, Protection};

/// Writable, and therefore not executable.
static mut DATA: [u32; 4] = [0; 4];
/// Read-only.
static CONSTANT: u64 = 1;

fn code() -> u64 {
    code as fn() -> u64 as usize as u64
}

fn read_only_page() -> u64 {
    map(Protection::Read)
}

fn map(protection: Protection) -> u64 {
    let mapping = Mapping::with(PAGE_BYTES as usize, 0, protection);
    mapping.map_or(0, |mapping| mapping.forever().as_ptr().cast::<u8>() as u64)
}

/// An address that was mapped and no longer is.
fn given_back() -> u64 {
    Mapping::new(PAGE_BYTES as usize).map_or(0, |mapping| mapping.start().as_ptr() as u64)
}

fn write_to(address: u64) {
    // SAFETY: every address this file passes is not writable, so the write faults.
    unsafe { write(address) }
}

fn jump_to(address: u64) {
    // SAFETY: every address this file passes is not executable, or holds zeros up to the end
    // of what is mapped, so some instruction faults.
    unsafe { jump(address) }
}

/// Goes deeper until the stack ends.
fn deeper(depth: u64) -> u64 {
    let frame = black_box([depth; 64]);
    if depth == u64::MAX { frame[0] } else { deeper(depth + 1) + black_box(frame)[1] }
}

/// Runs zeros in the last page a program can have, off the end of the user range. On x86_64
/// they are harmless additions, and what matters is where they lead.
fn run_off_the_end() {
    // The last page is mapped by trying: which it is, the machine knows.
    for last in [0x7fff_ffff_e000, 0x7fff_ffff_f000, 0x000f_ffff_ffff_f000] {
        if let Ok(page) = Mapping::with(PAGE_BYTES as usize, last, Protection::ReadExecute) {
            let _ = page.forever();
            jump_to(last + PAGE_BYTES - 16);
        }
    }
    // The range ends elsewhere: then the address after the last of these is as good.
    jump_to(0x7fff_ffff_f000);
}

/// Cases and what they do.
pub const CASES: &[(&str, fn())] = &[
    ("read-null", || _ = read(0)),
    ("read-null-page", || _ = read(PAGE_BYTES - 8)),
    ("read-kernel", || _ = read(KERNEL_ADDRESS)),
    ("read-impossible", || _ = read(IMPOSSIBLE_ADDRESS)),
    ("read-last-byte", || _ = read(u64::MAX - 7)),
    ("read-given-back", || _ = read(given_back())),
    ("write-null", || write_to(0)),
    ("write-kernel", || write_to(KERNEL_ADDRESS)),
    ("write-impossible", || write_to(IMPOSSIBLE_ADDRESS)),
    ("write-code", || write_to(code())),
    ("write-constant", || write_to(&raw const CONSTANT as u64)),
    ("write-read-only", || write_to(read_only_page())),
    ("write-executable", || write_to(map(Protection::ReadExecute))),
    ("write-arguments", || write_to(argument_block())),
    ("jump-null", || jump_to(0)),
    ("jump-data", || jump_to(&raw const DATA as u64)),
    ("jump-stack", || jump_to(&raw const *black_box(&[0u32; 4]) as u64)),
    ("jump-constant", || jump_to(&raw const CONSTANT as u64)),
    ("jump-writable", || jump_to(map(Protection::ReadWrite))),
    ("jump-read-only", || jump_to(read_only_page())),
    ("jump-kernel", || jump_to(KERNEL_ADDRESS)),
    ("jump-impossible", || jump_to(IMPOSSIBLE_ADDRESS)),
    ("jump-off-the-end", run_off_the_end),
    ("stack-overflow", || _ = black_box(deeper(0))),
    ("fault-after-bad-call", || {
        // SAFETY: there is no such call.
        unsafe { raw(u64::MAX, [u64::MAX; 6]) };
        _ = read(0);
    }),
    ("fault-after-closing-all", || {
        for slot in 1..user_rt::abi::TABLE_SLOTS {
            let handle = Handle(slot);
            // SAFETY: closing a handle touches no memory.
            unsafe { raw(Call::HandleClose as u64, [handle.0.into(), 0, 0, 0, 0, 0]) };
        }
        _ = read(0);
    }),
];

/// Where the kernel put the arguments: they are read-only.
fn argument_block() -> u64 {
    super::ARGS.load(core::sync::atomic::Ordering::Relaxed)
}
