//! All vector registers of ppc64le: VSX registers 0–63 (which hold the floating-point and the
//! VMX registers), FPSCR, VSCR and VRSAVE.

use core::arch::asm;

/// What the registers hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C, align(16))]
pub struct Registers {
    vectors: [[u64; 2]; 64],
    /// Offset 1024. VSCR is the low word.
    vscr: [u64; 2],
    /// Offset 1040. The high word is zero.
    fpscr: u64,
    /// Offset 1048. The high word is zero.
    vrsave: u64,
}

const EMPTY: Registers = Registers { vectors: [[0; 2]; 64], vscr: [0; 2], fpscr: 0, vrsave: 0 };

// Bits of FPSCR (Power ISA Book I §4.2.2) and VSCR (§6.3.2).
const FPSCR_XX: u64 = 1 << 25;
const FPSCR_ROUNDING: u64 = 3;
const VSCR_NON_JAVA: u64 = 1 << 16;
const VSCR_SATURATION: u64 = 1;

impl Registers {
    /// Zeros, to be overwritten.
    pub const EMPTY: Self = EMPTY;

    /// A different word in every place, drawn from `next`, and some of the status bits.
    pub fn fill(mut next: impl FnMut() -> u64) -> Self {
        let mut registers = EMPTY;
        for word in registers.vectors.as_flattened_mut() {
            *word = next();
        }
        registers.vscr[0] = next() & (VSCR_NON_JAVA | VSCR_SATURATION);
        registers.fpscr = next() & (FPSCR_XX | FPSCR_ROUNDING);
        registers.vrsave = next() & 0xffff_ffff;
        registers
    }

    /// Loads all registers, spins for `turns`, makes the system call if there is one, and reads
    /// the registers back. Nothing else runs in between, in this program.
    pub fn hold(&self, turns: u64, call: Option<[u64; 3]>) -> Self {
        let mut out = EMPTY;
        let [number, a, b] = call.unwrap_or_default();
        // SAFETY: the addresses are of two live `Registers`; every register the code changes is
        // declared; FPSCR and VSCR end as zero, which is what a program starts with; VRSAVE means nothing to it.
        unsafe {
            asm!(
                "lfd 0, 1040(14)",
                "mtfsf 255, 0",
                "lxv 32, 1024(14)",
                "mtvscr 0",
                "ld 5, 1048(14)",
                "mtspr 256, 5",
                ".irp n,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31,32,33,34,35,36,37,38,39,40,41,42,43,44,45,46,47,48,49,50,51,52,53,54,55,56,57,58,59,60,61,62,63",
                "lxv \\n, 16*\\n(14)",
                ".endr",
                "mtctr 16",
                "2: bdnz 2b",
                "cmpdi 17, 0",
                "beq 3f",
                // `scv 0`
                ".long 0x44000001",
                "3:",
                ".irp n,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31,32,33,34,35,36,37,38,39,40,41,42,43,44,45,46,47,48,49,50,51,52,53,54,55,56,57,58,59,60,61,62,63",
                "stxv \\n, 16*\\n(15)",
                ".endr",
                "mfvscr 0",
                "stxv 32, 1024(15)",
                "mffs 0",
                "stfd 0, 1040(15)",
                "mfspr 5, 256",
                "std 5, 1048(15)",
                "xxlxor 0, 0, 0",
                "mtfsf 255, 0",
                "xxlxor 32, 32, 32",
                "mtvscr 0",
                in("r14") self,
                in("r15") &raw mut out,
                in("r16") turns.max(1),
                in("r17") u64::from(call.is_some()),
                inout("r0") number => _,
                inout("r3") a => _,
                inout("r4") b => _,
                out("r5") _, out("r6") _, out("r7") _, out("r8") _, out("r9") _,
                out("r10") _, out("r11") _, out("r12") _,
                out("lr") _, out("ctr") _, out("xer") _,
                out("cr0") _, out("cr1") _, out("cr5") _, out("cr6") _, out("cr7") _,
                out("f0") _, out("f1") _, out("f2") _, out("f3") _,
                out("f4") _, out("f5") _, out("f6") _, out("f7") _,
                out("f8") _, out("f9") _, out("f10") _, out("f11") _,
                out("f12") _, out("f13") _, out("f14") _, out("f15") _,
                out("f16") _, out("f17") _, out("f18") _, out("f19") _,
                out("f20") _, out("f21") _, out("f22") _, out("f23") _,
                out("f24") _, out("f25") _, out("f26") _, out("f27") _,
                out("f28") _, out("f29") _, out("f30") _, out("f31") _,
                out("v0") _, out("v1") _, out("v2") _, out("v3") _,
                out("v4") _, out("v5") _, out("v6") _, out("v7") _,
                out("v8") _, out("v9") _, out("v10") _, out("v11") _,
                out("v12") _, out("v13") _, out("v14") _, out("v15") _,
                out("v16") _, out("v17") _, out("v18") _, out("v19") _,
                out("v20") _, out("v21") _, out("v22") _, out("v23") _,
                out("v24") _, out("v25") _, out("v26") _, out("v27") _,
                out("v28") _, out("v29") _, out("v30") _, out("v31") _,
                options(nostack),
            );
        }
        // The high word of FPSCR holds the decimal rounding mode, which nobody sets here.
        out.fpscr &= 0xffff_ffff;
        out
    }
}
