//! All vector registers of x86_64: `ymm0`–`ymm15` (or their `xmm` halves), MXCSR, and the x87
//! control word.

use core::arch::asm;
use core::arch::x86_64::{__cpuid, _xgetbv};

/// What the registers hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C, align(32))]
pub struct Registers {
    vectors: [[u64; 4]; 16],
    mxcsr: u32,
    x87_control: u16,
}

/// All exceptions masked, round to nearest: what the ABI has a function entered with.
const MXCSR_DEFAULT: u32 = 0x1f80;
const X87_DEFAULT: u16 = 0x37f;

impl Registers {
    /// Zeros, to be overwritten.
    pub const EMPTY: Self = Self { vectors: [[0; 4]; 16], mxcsr: 0, x87_control: 0 };

    /// A different word in every place, drawn from `next`, and one of the rounding modes.
    pub fn fill(mut next: impl FnMut() -> u64) -> Self {
        let mut registers = Self::EMPTY;
        for word in registers.vectors.as_flattened_mut() {
            *word = next();
        }
        if !has_avx() {
            for vector in &mut registers.vectors {
                vector[2..].fill(0);
            }
        }
        let rounding = next() & 3;
        registers.mxcsr = MXCSR_DEFAULT | (rounding as u32) << 13;
        registers.x87_control = X87_DEFAULT | (rounding as u16) << 10;
        registers
    }

    /// Loads all registers, spins for `turns`, makes the system call if there is one, and reads
    /// the registers back. Nothing else runs in between, in this program.
    pub fn hold(&self, turns: u64, call: Option<[u64; 3]>) -> Self {
        let mut out = Self::EMPTY;
        let [number, a, b] = call.unwrap_or_default();
        macro_rules! hold {
            ($mov:literal, $register:literal, $after:literal) => {
                // SAFETY: the addresses are of two live `Registers`; every register the code
                // changes is declared; MXCSR and the x87 control word are put back.
                unsafe {
                    asm!(
                        "ldmxcsr [r8 + 512]",
                        "fldcw [r8 + 516]",
                        ".irp n,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15",
                        concat!($mov, " ", $register, "\\n, [r8 + 32*\\n]"),
                        ".endr",
                        "2: dec rcx",
                        "jnz 2b",
                        "test r10, r10",
                        "jz 3f",
                        "syscall",
                        "3:",
                        ".irp n,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15",
                        concat!($mov, " [r9 + 32*\\n], ", $register, "\\n"),
                        ".endr",
                        "stmxcsr [r9 + 512]",
                        "fnstcw [r9 + 516]",
                        $after,
                        "ldmxcsr [{mxcsr}]",
                        "fldcw [{x87}]",
                        mxcsr = in(reg) &MXCSR_DEFAULT,
                        x87 = in(reg) &X87_DEFAULT,
                        in("r8") self,
                        in("r9") &raw mut out,
                        in("r10") u64::from(call.is_some()),
                        inout("rcx") turns.max(1) => _,
                        inout("rax") number => _,
                        out("rdx") _,
                        in("rdi") a,
                        in("rsi") b,
                        out("r11") _,
                        out("xmm0") _, out("xmm1") _, out("xmm2") _, out("xmm3") _,
                        out("xmm4") _, out("xmm5") _, out("xmm6") _, out("xmm7") _,
                        out("xmm8") _, out("xmm9") _, out("xmm10") _, out("xmm11") _,
                        out("xmm12") _, out("xmm13") _, out("xmm14") _, out("xmm15") _,
                        options(nostack),
                    )
                }
            };
        }
        if has_avx() {
            hold!("vmovdqu", "ymm", "vzeroupper")
        } else {
            hold!("movdqu", "xmm", "")
        }
        out
    }
}

/// Whether the CPU has AVX and the kernel saves it (SDM vol. 1 §14.3).
pub fn has_avx() -> bool {
    const OSXSAVE: u32 = 1 << 27;
    const AVX: u32 = 1 << 28;
    const SSE_AND_AVX_STATE: u64 = 6;
    if __cpuid(1).ecx & (OSXSAVE | AVX) != OSXSAVE | AVX {
        return false;
    }
    #[target_feature(enable = "xsave")]
    fn enabled() -> u64 {
        // SAFETY: XCR0 exists where OSXSAVE is set, which was checked above.
        unsafe { _xgetbv(0) }
    }
    // SAFETY: OSXSAVE implies XSAVE.
    unsafe { enabled() & SSE_AND_AVX_STATE == SSE_AND_AVX_STATE }
}
