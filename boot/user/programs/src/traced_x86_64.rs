//! What `debugger` and `emulator` know of x86_64.

use core::arch::asm;
use user_rt::exception::{Registers, Vectors};

/// Bytes from the breakpoint that is reported to where the thread goes on: `int3` has one.
pub const BREAKPOINT_BYTES: u64 = 1;
/// Instructions between the two breakpoints of [`run`].
pub const STEPS: usize = 5;
/// What [`run`] has in a vector register, until a debugger makes it the complement.
pub const HELD: u64 = 0x5eed_0123_4567_89ab;
/// Bytes of the instruction that [`reverse`] executes.
pub const REVERSE_BYTES: u64 = 4;
/// RFLAGS.IOPL.
const PRIVILEGE: u64 = 3 << 12;

/// Counts from one breakpoint to another, and says what its register holds then; 1 if it got privileges, or if
/// the vector register that held [`HELD`] does not hold the complement.
pub fn run() -> u8 {
    let (value, flags): (u64, u64);
    let mut held = HELD;
    // SAFETY: the flags are what the compiler expects again; a debugger changes nothing else.
    unsafe {
        asm!(
            "movq xmm1, rdx",
            "xor eax, eax",
            "int3",
            "add rax, 1",
            "add rax, 1",
            "add rax, 1",
            "add rax, 1",
            "add rax, 1",
            "int3",
            "movq rdx, xmm1",
            "pushfq",
            "pop rcx",
            "push 2",
            "popfq",
            out("rax") value,
            out("rcx") flags,
            inout("rdx") held,
            out("xmm1") _,
        );
    }
    if flags & PRIVILEGE == 0 && held == !HELD { value as u8 } else { 1 }
}

/// The program counter.
pub fn pc(registers: &mut Registers) -> &mut u64 {
    &mut registers.rip
}

/// What [`run`] counts in.
pub fn value(registers: &mut Registers) -> &mut u64 {
    &mut registers.rax
}

/// The vector register of [`run`].
pub fn vector(vectors: &mut Vectors) -> &mut u64 {
    &mut vectors.ymm[1][0]
}

/// Bits of MXCSR that some processor has: all others are refused as it is loaded.
const MXCSR_BITS: u64 = 0x2_ffff;

/// Every exception is masked, and what no processor has is among them.
pub fn set_every_control(vectors: &mut Vectors) {
    vectors.mxcsr = u64::MAX;
}

/// Whether nothing of that was stored which cannot be.
pub fn controls_are_right(vectors: &Vectors) -> bool {
    vectors.mxcsr & !MXCSR_BITS == 0 && vectors.mxcsr & 0x1f80 == 0x1f80
}

/// What a thread may not have is among them.
pub fn set_every_flag(registers: &mut Registers) {
    registers.rflags = u64::MAX;
}

/// The bits of `value` in reverse, by an instruction that is not one: `ud1 rax, rcx`.
pub fn reverse(value: u64) -> u64 {
    let result;
    // SAFETY: the handler writes rax and nothing else.
    unsafe { asm!(".byte 0x48, 0x0f, 0xb9, 0xc1", out("rax") result, in("rcx") value, options(nostack)) };
    result
}

/// The two registers of the `ud1` at `pc`, in this program: to, from.
pub fn decode(pc: u64) -> Option<(u8, u8)> {
    // SAFETY: a thread of this program has just executed what is there.
    let code = unsafe { (pc as *const [u8; REVERSE_BYTES as usize]).read() };
    let [0x48, 0x0f, 0xb9, registers @ 0xc0..=0xff] = code else { return None };
    Some((registers >> 3 & 7, registers & 7))
}

/// The general register with this number in encodings (SDM vol. 2 table 2-2), of the first eight.
pub fn general(registers: &mut Registers, number: u8) -> &mut u64 {
    match number & 7 {
        0 => &mut registers.rax,
        1 => &mut registers.rcx,
        2 => &mut registers.rdx,
        3 => &mut registers.rbx,
        4 => &mut registers.rsp,
        5 => &mut registers.rbp,
        6 => &mut registers.rsi,
        _ => &mut registers.rdi,
    }
}
