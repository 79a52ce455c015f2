//! ppc64le: all general registers at once, and those of a thread that has just begun.

use core::arch::global_asm;
use user_rt::alloc::format;
use user_rt::alloc::string::String;

/// Words of a register file: r0 to r31 (of which r1 is left alone), LR, CTR, XER, CR.
pub const WORDS: usize = 36;
const LR: usize = 32;
const CTR: usize = 33;
const XER: usize = 34;
const CR: usize = 35;
/// SO, OV, CA, OV32, CA32 (Power ISA Book I §3.2.2).
const FREE_XER: u64 = 0xe00c_0000;
/// Quadrant 3 is the kernel's.
const KERNEL: u64 = 0xc000_0000_0000_0000;

unsafe extern "C" {
    /// Loads all registers but r1 from `file`, counts CTR down to 0, and stores all of them there.
    ///
    /// # Safety
    /// `file` is [`WORDS`] words.
    fn held_for_turns(file: *mut u64);
    /// The same with a system call in the middle.
    ///
    /// # Safety
    /// `file` is [`WORDS`] words, and the call touches no memory.
    fn held_over_call(file: *mut u64);
    /// Where a thread begins that stores its registers at its argument, a [`Newborn`], and ends.
    fn newborn_entry();
}

global_asm!(
    ".pushsection .text.held, \"ax\", @progbits",
    ".macro load_all name",
    ".balign 16",
    ".global \\name",
    "\\name:",
    "mflr 0",
    "std 0, 16(1)",
    "mfcr 0",
    "std 0, 8(1)",
    "stdu 1, -320(1)",
    ".irp r, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31",
    "std \\r, 32+8*\\r(1)",
    ".endr",
    "std 2, 32+8*2(1)",
    "std 13, 32+8*13(1)",
    "std 3, 32+8*3(1)",
    "ld 5, 256(3)",
    "mtlr 5",
    "ld 5, 264(3)",
    "mtctr 5",
    "ld 5, 272(3)",
    "mtxer 5",
    "ld 5, 280(3)",
    "mtcr 5",
    ".irp r, 0, 2, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 3",
    "ld \\r, 8*\\r(3)",
    ".endr",
    ".endm",
    ".macro store_all",
    "std 3, 32+8*4(1)",
    "ld 3, 32+8*3(1)",
    ".irp r, 0, 2, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31",
    "std \\r, 8*\\r(3)",
    ".endr",
    "ld 5, 32+8*4(1)",
    "std 5, 24(3)",
    "mflr 5",
    "std 5, 256(3)",
    "mfctr 5",
    "std 5, 264(3)",
    "mfxer 5",
    "std 5, 272(3)",
    "mfcr 5",
    "std 5, 280(3)",
    ".irp r, 2, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31",
    "ld \\r, 32+8*\\r(1)",
    ".endr",
    "addi 1, 1, 320",
    "ld 0, 8(1)",
    "mtcr 0",
    "ld 0, 16(1)",
    "mtlr 0",
    "blr",
    ".endm",
    "load_all held_for_turns",
    "2: bdnz 2b",
    "store_all",
    "load_all held_over_call",
    ".long 0x44000001", // scv 0
    "store_all",
    // r3: a `Newborn`.
    ".macro newborn_store at",
    ".irp r, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31",
    "std \\r, \\at+8*\\r(3)",
    ".endr",
    "mflr 5",
    "std 5, \\at+256(3)",
    "mfctr 5",
    "std 5, \\at+264(3)",
    "mfxer 5",
    "std 5, \\at+272(3)",
    "mfcr 5",
    "std 5, \\at+280(3)",
    "li 5, 0",
    ".endm",
    ".balign 16",
    ".global newborn_entry",
    "newborn_entry:",
    "newborn_store 0",
    // VRSAVE: readable with the units off.
    "mfspr 5, 256",
    "std 5, 288(3)",
    "li 5, 0",
    // The first vector instruction.
    ".irp n,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31,32,33,34,35,36,37,38,39,40,41,42,43,44,45,46,47,48,49,50,51,52,53,54,55,56,57,58,59,60,61,62,63",
    "stxv \\n, 320+16*\\n(3)",
    ".endr",
    "mfvscr 0",
    "stxv 32, 1344(3)",
    "mffs 0",
    "stfd 0, 1360(3)",
    "newborn_store 1376",
    "li 0, 19",
    ".long 0x44000001",
    "trap",
    ".popsection",
);

/// A file for `held_for_turns` drawn from `next`, with `turns` turns.
pub fn for_turns(next: impl FnMut() -> u64, turns: u64) -> Result<(), String> {
    let mut file = draw(next);
    file[CTR] = turns.max(1);
    let mut wanted = file;
    wanted[CTR] = 0;
    // SAFETY: as many words.
    unsafe { held_for_turns(file.as_mut_ptr()) };
    compare(&file, &wanted)
}

/// The same over a call with two arguments, which touches no memory.
pub fn over_call(next: impl FnMut() -> u64, number: u64, args: [u64; 2]) -> Result<(), String> {
    let mut file = draw(next);
    (file[0], file[3], file[4]) = (number, args[0], args[1]);
    let mut wanted = file;
    // SAFETY: as many words; the caller's promise about the call.
    unsafe { held_over_call(file.as_mut_ptr()) };
    // The results, and what a call may overwrite, with anything that is not the kernel's.
    for index in (0..13).chain([LR, CTR, XER]).filter(|index| *index != 1 && *index != 2) {
        if file[index] < KERNEL || index == 3 || index == 4 {
            wanted[index] = file[index];
        }
    }
    compare(&file, &wanted)
}

fn draw(mut next: impl FnMut() -> u64) -> [u64; WORDS] {
    let mut file: [u64; WORDS] = core::array::from_fn(|_| next());
    file[1] = 0;
    file[XER] &= FREE_XER;
    file[CR] &= 0xffff_ffff;
    // What a branch would ignore.
    file[LR] &= !3;
    file
}

fn compare(is: &[u64; WORDS], wanted: &[u64; WORDS]) -> Result<(), String> {
    match (0..WORDS).find(|&index| is[index] != wanted[index]) {
        None => Ok(()),
        Some(index) => {
            let name = match index {
                LR => "LR".into(),
                CTR => "CTR".into(),
                XER => "XER".into(),
                CR => "CR".into(),
                general => format!("r{general}"),
            };
            Err(format!("{name} is {:#x}, should be {:#x}", is[index], wanted[index]))
        }
    }
}

/// What a new thread stored.
#[repr(C, align(64))]
pub struct Newborn {
    first: [u64; WORDS],
    vrsave: u64,
    _room: [u64; 3],
    vectors: [[u64; 2]; 64],
    vscr: [u64; 2],
    fpscr: u64,
    _more_room: u64,
    second: [u64; WORDS],
}

const _: () = {
    use core::mem::offset_of;
    assert!(offset_of!(Newborn, vrsave) == 288 && offset_of!(Newborn, vectors) == 320);
    assert!(offset_of!(Newborn, vscr) == 1344 && offset_of!(Newborn, fpscr) == 1360);
    assert!(offset_of!(Newborn, second) == 1376);
};

impl Newborn {
    /// Nothing is stored yet.
    pub fn new() -> Self {
        Self {
            first: [u64::MAX; WORDS],
            vrsave: u64::MAX,
            _room: [0; 3],
            vectors: [[u64::MAX; 2]; 64],
            vscr: [u64::MAX; 2],
            fpscr: u64::MAX,
            _more_room: 0,
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
        (wanted[1], wanted[3], wanted[12]) = (stack - 32, argument, Self::entry());
        compare(&self.first, &wanted)?;
        compare(&self.second, &wanted).map_err(|why| format!("after the first vector instruction {why}"))?;
        if let Some(number) = (0..64).find(|&number| self.vectors[number] != [0; 2]) {
            return Err(format!("vector register {number} is {:x?}", self.vectors[number]));
        }
        match (self.vrsave, self.vscr, self.fpscr) {
            (0, [0, 0], 0) => Ok(()),
            (vrsave, vscr, fpscr) => Err(format!("VRSAVE is {vrsave:#x}, VSCR {vscr:x?}, FPSCR {fpscr:#x}")),
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

/// User mode cannot ask.
pub const FEATURES: &[(&str, Asks)] = &[];
