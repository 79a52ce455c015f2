//! What `debugger` and `emulator` know of ppc64le.

use core::arch::asm;
use user_rt::exception::{Registers, Vectors};

/// Bytes of `trap`, at which a breakpoint is reported and the thread would go on.
pub const BREAKPOINT_BYTES: u64 = 4;
/// Instructions between the two breakpoints of [`run`].
pub const STEPS: usize = 5;
/// What [`run`] has in a vector register, until a debugger makes it the complement.
pub const HELD: u64 = 0x5eed_0123_4567_89ab;
/// Bytes of the instruction that [`reverse`] executes.
pub const REVERSE_BYTES: u64 = 4;

/// Counts from one breakpoint to another, and says what its register holds then; 1 if the vector register that
/// held [`HELD`] does not hold the complement.
pub fn run() -> u8 {
    let value: u64;
    let mut held = HELD;
    // SAFETY: a debugger changes nothing but what stands here.
    unsafe {
        asm!(
            "mtvsrd 1, 5",
            "li 4, 0",
            "trap",
            "addi 4, 4, 1",
            "addi 4, 4, 1",
            "addi 4, 4, 1",
            "addi 4, 4, 1",
            "addi 4, 4, 1",
            "trap",
            "mfvsrd 5, 1",
            out("r4") value,
            inout("r5") held,
            out("f1") _,
            out("xer") _,
            options(nostack),
        );
    }
    if held == !HELD { value as u8 } else { 1 }
}

/// The program counter.
pub fn pc(registers: &mut Registers) -> &mut u64 {
    &mut registers.pc
}

/// What [`run`] counts in.
pub fn value(registers: &mut Registers) -> &mut u64 {
    &mut registers.gpr[4]
}

/// The vector register of [`run`].
pub fn vector(vectors: &mut Vectors) -> &mut u64 {
    &mut vectors.vsr[1][0]
}

/// Whatever there is, but for the exceptions that it would enable.
pub fn set_every_control(vectors: &mut Vectors) {
    const ENABLES: u64 = 0xf8;
    vectors.fpscr = !ENABLES;
    vectors.vscr = [u64::MAX; 2];
}

/// Any value can be.
pub fn controls_are_right(_vectors: &Vectors) -> bool {
    true
}

/// All that there are: the machine state register is none of them.
pub fn set_every_flag(registers: &mut Registers) {
    registers.xer = u64::MAX;
}

/// Of the instruction word, all but its registers: primary opcode 0, which but for one extended opcode is
/// illegal (Power ISA Book I, appendix of illegal instructions).
const REVERSE: u32 = 6;

/// The bits of `value` in reverse, by an instruction that is not one, on r4 and r5.
pub fn reverse(value: u64) -> u64 {
    let result;
    // SAFETY: the handler writes r4 and nothing else.
    unsafe {
        asm!(".long {}", const REVERSE | 4 << 21 | 5 << 16, out("r4") result, in("r5") value, options(nostack));
    }
    result
}

/// The two registers of such an instruction at `pc`, in this program: to, from.
pub fn decode(pc: u64) -> Option<(u8, u8)> {
    // SAFETY: a thread of this program has just executed what is there.
    let word = unsafe { (pc as *const u32).read() };
    let registers = word & 0x03ff_0000;
    (word == registers | REVERSE).then_some(((word >> 21 & 31) as u8, (word >> 16 & 31) as u8))
}

/// A general register.
pub fn general(registers: &mut Registers, number: u8) -> &mut u64 {
    &mut registers.gpr[usize::from(number & 31)]
}
