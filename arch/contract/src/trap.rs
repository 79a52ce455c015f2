//! The user register frame, and what can bring a CPU into the kernel.

use crate::addr::VirtAddr;

/// A system call as user mode made it. Numbers and meanings are in `abi`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Syscall {
    pub number: u64,
    pub args: [u64; 6],
}

/// How a page was touched.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    Read,
    Write,
    Execute,
}

/// Why a user instruction could not complete. The same words on every architecture; what has no
/// common word is [`Other`](FaultCause::Other) with the vector number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FaultCause {
    /// A page is absent or forbids the access; [`Fault::address`] says where. An address outside
    /// what user mode can ever have is reported the same way.
    Page(Access),
    /// An address that the machine cannot translate at all (x86_64: not canonical; ppc64le:
    /// outside the radix range), used for data or as the program counter.
    BadAddress(Access),
    UndefinedInstruction,
    PrivilegedInstruction,
    Breakpoint,
    SingleStep,
    /// Integer division, overflow traps.
    Arithmetic,
    /// A floating-point exception that is enabled.
    FloatingPoint,
    Alignment,
    MachineCheck,
    Other(u16),
}

/// A fault of the current user thread. The frame holds its registers exactly (`TRAP-1`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fault {
    pub cause: FaultCause,
    /// The instruction at fault; for a bad jump, its target.
    pub pc: VirtAddr,
    /// The data or instruction address, where the cause has one and the hardware tells it.
    pub address: Option<VirtAddr>,
}

/// What brought this CPU from user mode into the kernel, other than a system call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Trap {
    Fault(Fault),
    Interrupt(crate::irq::Interrupt),
    /// The first vector or floating-point instruction since the units were turned off. The
    /// program counter is at that instruction.
    VectorUnitOff,
}

/// Message registers.
pub const MESSAGE_WORDS: usize = 8;

/// Words of the general registers that any machine has, at most.
pub const MAX_REGISTERS: usize = 40;

/// The general registers of a frame, in the order of the machine's structure in `abi::registers`; words
/// beyond [`Traps::REGISTERS`] mean nothing.
pub type Registers = [u64; MAX_REGISTERS];

/// What a thread does when it goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// It runs.
    Free,
    /// It completes one instruction and stops with [`FaultCause::SingleStep`].
    One,
}

/// What a thread sends or receives in registers, beside the words of an ordinary call and its result.
pub type Words = [u64; MESSAGE_WORDS];

/// The hooks.
pub trait Traps: crate::Base {
    /// All user registers but the vector units', in the layout the trap path stores. Lives
    /// inside the thread; a trap saves straight into it. Aligned as the type says; never moves
    /// while its thread may run.
    type Frame: 'static;

    /// A frame that starts user mode at `entry` with stack pointer `stack` (the port subtracts
    /// what its ABI wants reserved) and up to three arguments in the ABI's argument registers.
    /// All else is zero or the ABI's initial value. Nothing of the kernel is in it (`TRAP-2`).
    fn new_frame(entry: VirtAddr, stack: VirtAddr, args: [u64; 3]) -> Self::Frame;

    /// The program counter.
    fn pc(frame: &Self::Frame) -> VirtAddr;
    /// Makes the thread go on at `pc`, any value; what the machine cannot jump to faults in user
    /// mode (`TRAP-6`). Needs [`Reload::Full`](crate::ret::Reload::Full).
    fn set_pc(frame: &mut Self::Frame, pc: VirtAddr);
    /// The stack pointer.
    fn sp(frame: &Self::Frame) -> VirtAddr;

    /// The call, as the registers say.
    fn syscall(frame: &Self::Frame) -> Syscall;

    /// Stores a result: `status` (an `abi::Error` number, 0 for success) and `value`, in the two
    /// result registers. Valid with [`Reload::ResultOnly`](crate::ret::Reload::ResultOnly).
    fn set_result(frame: &mut Self::Frame, status: u64, value: u64);

    /// The message registers, as they were at a system call. They are registers that the call's
    /// arguments leave free, and the same ones at the call and after it.
    fn message(frame: &Self::Frame) -> Words;

    /// Stores what a call received: the message registers, and `badge` in one more register, which
    /// may be that of an argument. Status and value come by [`set_result`](Self::set_result). Needs
    /// [`Reload::Full`](crate::ret::Reload::Full).
    fn set_message(frame: &mut Self::Frame, badge: u64, words: &Words);

    /// Copies the first `count` message registers from one frame into another, and stores `badge`
    /// there. As [`set_message`](Self::set_message).
    fn copy_message(from: &Self::Frame, to: &mut Self::Frame, badge: u64, count: usize);

    /// Stores `badge` alone. As [`set_message`](Self::set_message).
    fn set_badge(frame: &mut Self::Frame, badge: u64);

    /// Puts the program counter back at the system-call instruction, so that the call is made
    /// again when the thread next runs. All argument registers are as they were at the call.
    fn restart_syscall(frame: &mut Self::Frame);

    /// Words of the general registers.
    const REGISTERS: usize;

    /// The general registers of a thread that a fault has stopped.
    fn registers(frame: &Self::Frame) -> Registers;

    /// Stores them, as far as user mode could: privilege, interrupts, segments, stepping and what else the
    /// kernel relies on stays as it is (`IPC-11`). Any value of any word is fine. Needs
    /// [`Reload::Full`](crate::ret::Reload::Full), after which every register is as stored.
    fn set_registers(frame: &mut Self::Frame, registers: &Registers);

    /// Says what the thread does when it goes on. Needs [`Reload::Full`](crate::ret::Reload::Full).
    fn set_step(frame: &mut Self::Frame, step: Step);

    /// Writes the registers for a person, several to a line. For fault messages and panics.
    fn print_frame(frame: &Self::Frame, out: &mut dyn core::fmt::Write) -> core::fmt::Result;
}
