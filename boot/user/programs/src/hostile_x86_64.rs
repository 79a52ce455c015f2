//! What a program of x86_64 can do to hurt itself.

use core::arch::asm;
use core::arch::x86_64::{__cpuid, __cpuid_count};

/// Where user memory can be, in bytes.
pub const USER: core::ops::Range<u64> = 0x1_0000..0x7fff_ffff_f000;
/// Inside the kernel's half.
pub const KERNEL_ADDRESS: u64 = 0xffff_ffff_8010_0000;
/// Not an address at all: between the two halves.
pub const IMPOSSIBLE_ADDRESS: u64 = 0x8000_0000_0000_0000;

/// Reads a word at `address`, as one instruction that Rust knows nothing about.
pub fn read(address: u64) -> u64 {
    let value;
    // SAFETY: reading changes nothing; it is meant to fault.
    unsafe { asm!("mov {}, [{}]", out(reg) value, in(reg) address, options(nostack, readonly)) };
    value
}

/// Writes a word at `address`.
///
/// # Safety
/// The write faults, or goes to memory that Rust knows nothing about.
pub unsafe fn write(address: u64) {
    // SAFETY: the caller's promise: nothing is written.
    unsafe { asm!("mov [{}], {}", in(reg) address, in(reg) address, options(nostack)) };
}

/// Goes on at `address`. `rax` points to memory that may be read and written, so that the
/// instruction `00 00` does no harm.
///
/// # Safety
/// The instruction there faults, or the ones that follow do.
pub unsafe fn jump(address: u64) -> ! {
    let mut scratch = 0u64;
    // SAFETY: the caller's promise: this ends the process.
    unsafe { asm!("jmp {}", in(reg) address, in("rax") &raw mut scratch, options(noreturn)) }
}

/// Opens the program's pages to a kernel that takes over the flags of its callers: AC, by which SMAP is
/// lifted (SDM vol. 3 §4.6.1). Accesses that are not aligned fault from here on.
pub fn open_pages() {
    // SAFETY: what follows is aligned, and the stack is as it was.
    unsafe { asm!("pushfq", "or dword ptr [rsp], 0x40000", "popfq") };
}

/// One of [`CASES`]: instructions of which one must raise an exception.
macro_rules! hostile {
    ($name:literal, $($asm:tt)*) => {
        // SAFETY: whatever the instructions change belongs to this process, which ends here:
        // one of them raises an exception at user privilege.
        ($name, || unsafe { asm!($($asm)*) })
    };
}

/// What tells where the kernel's tables are, which a processor with UMIP forbids (SDM vol. 3 §2.5).
pub fn where_forbidden() -> &'static [(&'static str, fn())] {
    const UMIP: u32 = 1 << 2;
    // Leaf 7 is there on every processor that has the feature, and its absence reads as 0.
    match __cpuid(0).eax >= 7 && __cpuid_count(7, 0).ecx & UMIP != 0 {
        true => &[hostile!("where-the-tables-are", "sgdt [{}]", in(reg) &mut [0u64; 2])],
        false => &[],
    }
}

/// Things only this machine has: names and code that must fault.
pub const CASES: &[(&str, fn())] = &[
    hostile!("undefined-instruction", "ud2"),
    hostile!("privileged-hlt", "hlt"),
    hostile!("privileged-cli", "cli"),
    hostile!("privileged-cr3", "mov rax, cr3", out("rax") _),
    hostile!("privileged-msr", "rdmsr", in("ecx") 0xc000_0080u32, out("eax") _, out("edx") _),
    // A port that would end the emulator.
    hostile!("privileged-port", "out dx, al", in("dx") 0xf4u16, in("al") 0u8),
    hostile!("privileged-swapgs", "swapgs"),
    hostile!("breakpoint", "int3"),
    hostile!("software-interrupt", "int 0x80"),
    hostile!("software-page-fault", "int 14"),
    hostile!("divide-by-zero", "div ecx", in("ecx") 0, inout("eax") 1 => _, inout("edx") 0 => _),
    hostile!("single-step", "pushfq", "or qword ptr [rsp], 0x100", "popfq", "nop", "nop"),
    // The call works, and nothing of the kernel is stepped through.
    hostile!(
        "single-step-call",
        "pushfq", "or qword ptr [rsp], 0x100", "xor eax, eax", "popfq", "syscall", "nop", "nop",
        out("rax") _, out("rdx") _, out("rcx") _, out("r11") _
    ),
    hostile!("gs-base", "rdgsbase {}", out(reg) _),
    // 0 / 0 in x87 with all exceptions unmasked. (Emulators without the alignment check and
    // without SSE exceptions exist, so those are not here.)
    hostile!(
        "x87-exception",
        "fldcw [{}]", "fldz", "fldz", "fdivp", "fwait",
        in(reg) &0x340u16, out("st(0)") _, out("st(1)") _
    ),
    hostile!("vector-misaligned", "movaps xmm0, [{} + 1]", in(reg) &[0u64; 4], out("xmm0") _),
    hostile!("return-noncanonical", "push {}", "ret", in(reg) IMPOSSIBLE_ADDRESS),
    hostile!("jump-noncanonical", "jmp {}", in(reg) IMPOSSIBLE_ADDRESS),
    // A far return to the kernel's code segment, and with a null stack segment.
    hostile!("return-to-kernel-segment", "push 8", "push {}", "retfq", in(reg) IMPOSSIBLE_ADDRESS),
    hostile!("interrupt-return-null-segments", "push 0", "push rsp", "pushfq", "push 0", "push 0", "iretq"),
    hostile!("stack-noncanonical", "mov rsp, {}", "push rax", in(reg) IMPOSSIBLE_ADDRESS),
    hostile!("stack-null-then-fault", "xor esp, esp", "ud2"),
    // The kernel must not touch the program's stack: the call works, the push faults.
    hostile!(
        "stack-kernel-then-call",
        "mov rsp, {}", "xor eax, eax", "syscall", "push rax",
        in(reg) KERNEL_ADDRESS, out("rax") _, out("rdx") _, out("rcx") _, out("r11") _
    ),
];
