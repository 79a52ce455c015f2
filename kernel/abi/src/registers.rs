//! The registers of a stopped thread: two structures of words per machine, the general ones for
//! `thread_registers` and `thread_set_registers`, and those of the vector and floating-point units for
//! `thread_vectors` and `thread_set_vectors`.
//!
//! What a thread may not choose is not among them: it keeps segments, privilege, interrupts and the step
//! that its handler asked for. Of flags, those that user mode can change by itself are stored; of the
//! program counter every bit is, and one that the machine cannot jump to is a fault of the thread. Of
//! control and status words of the units, bits that the machine has no meaning for are left out.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Of x86_64.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct X86_64 {
    pub rax: u64,
    pub rbx: u64,
    pub rcx: u64,
    pub rdx: u64,
    pub rsi: u64,
    pub rdi: u64,
    pub rbp: u64,
    pub rsp: u64,
    pub r8: u64,
    pub r9: u64,
    pub r10: u64,
    pub r11: u64,
    pub r12: u64,
    pub r13: u64,
    pub r14: u64,
    pub r15: u64,
    pub rip: u64,
    pub rflags: u64,
}

/// Of ppc64le.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Ppc64le {
    pub gpr: [u64; 32],
    pub pc: u64,
    pub lr: u64,
    pub ctr: u64,
    pub xer: u64,
    pub cr: u64,
}

/// The units of x86_64.
#[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct X86_64Vectors {
    /// In 80 bits of each: those of the x87 stack, from its top.
    pub st: [[u64; 2]; 8],
    /// The upper halves are zero, and stay so, where there is no AVX.
    pub ymm: [[u64; 4]; 16],
    /// The x87 control and status words, and its tags as FXSAVE has them: a bit for each register in use.
    pub x87_control: u64,
    pub x87_status: u64,
    pub x87_tags: u64,
    pub mxcsr: u64,
}

/// The units of ppc64le.
#[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Ppc64leVectors {
    /// Doublewords 0 and 1 of each; the floating-point registers are doubleword 0 of the first 32, the
    /// AltiVec registers are the last 32.
    pub vsr: [[u64; 2]; 64],
    pub fpscr: u64,
    pub vscr: [u64; 2],
    pub vrsave: u64,
}
