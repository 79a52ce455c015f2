//! The general registers of a stopped thread, as `thread_registers` and `thread_set_registers` have them:
//! a structure of words per machine.
//!
//! What a thread may not choose is not among them: it keeps segments, privilege, interrupts and the step
//! that its handler asked for. Of flags, those that user mode can change by itself are stored; of the
//! program counter every bit is, and one that the machine cannot jump to is a fault of the thread. Vector
//! registers are left out.

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
