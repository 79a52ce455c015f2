//! x86_64: all general registers at once, and those of a thread that has just begun.

use core::arch::global_asm;
use user_rt::alloc::format;
use user_rt::alloc::string::String;

/// Words of a register file: rax, rbx, rcx, rdx, rsi, rdi, rbp, r8 to r15, the flags.
pub const WORDS: usize = 16;
const NAMES: [&str; WORDS] = [
    "rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15",
    "rflags",
];
const RAX: usize = 0;
const RCX: usize = 2;
const RDX: usize = 3;
const RSI: usize = 4;
const RDI: usize = 5;
const R11: usize = 10;
const FLAGS: usize = 15;
/// CF, PF, AF, ZF, SF, DF, OF.
const FREE_FLAGS: u64 = 0x20_4cd5;
/// IF, and the bit that is always set.
const FIXED_FLAGS: u64 = 0x202;

unsafe extern "C" {
    /// Loads all registers but `rsp` from `file`, counts `rcx` down to 0 by instructions that change
    /// no flag, and stores all of them there.
    ///
    /// # Safety
    /// `file` is [`WORDS`] words.
    fn held_for_turns(file: *mut u64);
    /// The same with a system call in the middle.
    ///
    /// # Safety
    /// `file` is [`WORDS`] words, and the call touches no memory.
    fn held_over_call(file: *mut u64);
    /// The instruction after that call.
    fn after_held_call();
    /// Where a thread begins that stores its registers at its argument, a [`Newborn`], and ends.
    fn newborn_entry();
}

global_asm!(
    ".pushsection .text.held, \"ax\", @progbits",
    ".macro load_all name",
    ".global \\name",
    "\\name:",
    "push rbx",
    "push rbp",
    "push r12",
    "push r13",
    "push r14",
    "push r15",
    "push rdi",
    "push qword ptr [rdi + 120]",
    "popfq",
    "mov rax, [rdi]",
    "mov rbx, [rdi + 8]",
    "mov rcx, [rdi + 16]",
    "mov rdx, [rdi + 24]",
    "mov rsi, [rdi + 32]",
    "mov rbp, [rdi + 48]",
    "mov r8, [rdi + 56]",
    "mov r9, [rdi + 64]",
    "mov r10, [rdi + 72]",
    "mov r11, [rdi + 80]",
    "mov r12, [rdi + 88]",
    "mov r13, [rdi + 96]",
    "mov r14, [rdi + 104]",
    "mov r15, [rdi + 112]",
    "mov rdi, [rdi + 40]",
    ".endm",
    ".macro store_all",
    "xchg rdi, [rsp]",
    "mov [rdi], rax",
    "mov [rdi + 8], rbx",
    "mov [rdi + 16], rcx",
    "mov [rdi + 24], rdx",
    "mov [rdi + 32], rsi",
    "pop qword ptr [rdi + 40]",
    "mov [rdi + 48], rbp",
    "mov [rdi + 56], r8",
    "mov [rdi + 64], r9",
    "mov [rdi + 72], r10",
    "mov [rdi + 80], r11",
    "mov [rdi + 88], r12",
    "mov [rdi + 96], r13",
    "mov [rdi + 104], r14",
    "mov [rdi + 112], r15",
    "pushfq",
    "pop qword ptr [rdi + 120]",
    "cld",
    "pop r15",
    "pop r14",
    "pop r13",
    "pop r12",
    "pop rbp",
    "pop rbx",
    "ret",
    ".endm",
    "load_all held_for_turns",
    "2: jrcxz 3f",
    "lea rcx, [rcx - 1]",
    "jmp 2b",
    "3:",
    "store_all",
    "load_all held_over_call",
    "syscall",
    ".global after_held_call",
    "after_held_call:",
    "store_all",
    // rdi: a `Newborn`.
    ".macro newborn_store at",
    ".set newborn_offset, \\at",
    ".irp register, rax, rbx, rcx, rdx, rsi, rdi, rbp, r8, r9, r10, r11, r12, r13, r14, r15",
    "mov [rdi + newborn_offset], \\register",
    ".set newborn_offset, newborn_offset + 8",
    ".endr",
    ".endm",
    ".global newborn_entry",
    "newborn_entry:",
    "newborn_store 0",
    "mov [rdi + 128], rsp",
    "pushfq",
    "pop qword ptr [rdi + 120]",
    // The first vector instruction.
    "cmp qword ptr [rdi + 136], 0",
    "jne 2f",
    ".irp n,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15",
    "movdqu [rdi + 256 + 32*\\n], xmm\\n",
    ".endr",
    "jmp 3f",
    "2:",
    ".irp n,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15",
    "vmovdqu [rdi + 256 + 32*\\n], ymm\\n",
    ".endr",
    "3:",
    "stmxcsr [rdi + 768]",
    "fnstcw [rdi + 776]",
    "newborn_store 896",
    "mov eax, 19",
    "syscall",
    "ud2",
    ".popsection",
);

/// A file for `held_for_turns` drawn from `next`, with `turns` turns.
pub fn for_turns(mut next: impl FnMut() -> u64, turns: u64) -> Result<(), String> {
    let mut file: [u64; WORDS] = core::array::from_fn(|_| next());
    file[RCX] = turns;
    file[FLAGS] = file[FLAGS] & FREE_FLAGS | FIXED_FLAGS;
    let mut wanted = file;
    wanted[RCX] = 0;
    // SAFETY: as many words.
    unsafe { held_for_turns(file.as_mut_ptr()) };
    compare(&file, &wanted)
}

/// The same over a call with two arguments, which touches no memory.
pub fn over_call(mut next: impl FnMut() -> u64, number: u64, args: [u64; 2]) -> Result<(), String> {
    let mut file: [u64; WORDS] = core::array::from_fn(|_| next());
    (file[RAX], file[RDI], file[RSI]) = (number, args[0], args[1]);
    file[FLAGS] = file[FLAGS] & FREE_FLAGS | FIXED_FLAGS;
    let mut wanted = file;
    // SAFETY: as many words; the caller's promise about the call.
    unsafe { held_over_call(file.as_mut_ptr()) };
    // The results; and what the instruction puts into rcx and r11 (SDM vol. 2 SYSCALL).
    (wanted[RAX], wanted[RDX]) = (file[RAX], file[RDX]);
    (wanted[RCX], wanted[R11]) = (after_held_call as *const () as u64, wanted[FLAGS]);
    compare(&file, &wanted)
}

fn compare(is: &[u64; WORDS], wanted: &[u64; WORDS]) -> Result<(), String> {
    match (0..WORDS).find(|&index| is[index] != wanted[index]) {
        None => Ok(()),
        Some(index) => Err(format!("{} is {:#x}, should be {:#x}", NAMES[index], is[index], wanted[index])),
    }
}

/// What a new thread stored.
#[repr(C, align(64))]
pub struct Newborn {
    first: [u64; WORDS],
    stack: u64,
    /// Not 0: all of the vector registers' width.
    wide: u64,
    _room: [u64; 14],
    vectors: [[u64; 4]; 16],
    mxcsr: u64,
    x87_control: u64,
    _more_room: [u64; 14],
    second: [u64; WORDS],
}

const _: () = {
    use core::mem::offset_of;
    assert!(offset_of!(Newborn, stack) == 128 && offset_of!(Newborn, wide) == 136);
    assert!(offset_of!(Newborn, vectors) == 256 && offset_of!(Newborn, mxcsr) == 768);
    assert!(offset_of!(Newborn, x87_control) == 776 && offset_of!(Newborn, second) == 896);
};

impl Newborn {
    /// Nothing is stored yet.
    pub fn new() -> Self {
        Self {
            first: [u64::MAX; WORDS],
            stack: 0,
            wide: super::vectors::has_avx().into(),
            _room: [0; 14],
            vectors: [[u64::MAX; 4]; 16],
            mxcsr: 0,
            x87_control: 0,
            _more_room: [0; 14],
            second: [u64::MAX; WORDS],
        }
    }

    /// Where a thread begins that stores into its argument, which is one of these.
    pub fn entry() -> u64 {
        newborn_entry as *const () as u64
    }

    /// Whether all is as it should be in a thread that was started with `stack` and `argument`.
    pub fn check(&self, stack: u64, argument: u64) -> Result<(), String> {
        let mut wanted = [0; WORDS];
        wanted[RDI] = argument;
        wanted[FLAGS] = FIXED_FLAGS;
        compare(&self.first, &wanted)?;
        if self.stack != stack - 8 {
            return Err(format!("rsp is {:#x}, should be {:#x}", self.stack, stack - 8));
        }
        (wanted[FLAGS], wanted[RAX]) = (self.second[FLAGS], 0);
        compare(&self.second, &wanted).map_err(|why| format!("after the first vector instruction {why}"))?;
        let width = if self.wide != 0 { 4 } else { 2 };
        if let Some(number) =
            (0..16).find(|&number| self.vectors[number][..width].iter().any(|word| *word != 0))
        {
            return Err(format!("vector register {number} is {:x?}", self.vectors[number]));
        }
        match (self.mxcsr, self.x87_control) {
            (0x1f80, 0x37f) => Ok(()),
            (mxcsr, control) => Err(format!("MXCSR is {mxcsr:#x}, the x87 control word {control:#x}")),
        }
    }
}

impl Default for Newborn {
    fn default() -> Self {
        Self::new()
    }
}

/// Whether the CPU says it has something.
type Asks = fn() -> bool;

/// What CPUID says of optional parts (SDM vol. 2 CPUID).
pub const FEATURES: &[(&str, Asks)] = &[
    ("x2APIC", || leaf_1() & 1 << 21 != 0),
    ("TSC deadline", || leaf_1() & 1 << 24 != 0),
    ("XSAVE", || leaf_1() & 1 << 26 != 0),
    ("AVX", super::vectors::has_avx),
    ("PCID", || leaf_1() & 1 << 17 != 0),
    ("a hypervisor", || leaf_1() & 1 << 31 != 0),
    ("SMEP", || leaf_7().ebx & 1 << 7 != 0),
    ("SMAP", || leaf_7().ebx & 1 << 20 != 0),
    ("SERIALIZE", || leaf_7().edx & 1 << 14 != 0),
];

fn leaf_1() -> u32 {
    core::arch::x86_64::__cpuid(1).ecx
}

fn leaf_7() -> core::arch::x86_64::CpuidResult {
    core::arch::x86_64::__cpuid_count(7, 0)
}
