//! The user registers: those that the kernel's interface names, and nothing else.

use crate::Model;
use arch_contract::addr::VirtAddr;
use arch_contract::mutant::{self, Mutant};
use arch_contract::trap::{MAX_REGISTERS, MESSAGE_WORDS, Registers, Step, Syscall, Traps, Words};

/// A user's registers. Tests set them and call the upcalls.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Frame {
    pub number: u64,
    pub args: [u64; 6],
    pub status: u64,
    pub value: u64,
    pub badge: u64,
    pub words: Words,
    /// After a system call: the instruction after it.
    pub pc: u64,
    pub sp: u64,
    /// Whether the next instruction ends in a fault, [`FaultCause::SingleStep`](arch_contract::trap::FaultCause).
    pub stepping: bool,
    /// Whether it may do what user mode may not. Never.
    pub privileged: bool,
    /// Whether the vector units are on for this thread.
    pub vectors_on: bool,
}

/// Bytes of the system-call instruction.
pub(crate) const CALL_BYTES: u64 = 4;

impl Frame {
    /// The registers as a system call leaves them.
    pub fn call(&mut self, number: u64, args: &[u64]) {
        self.number = number;
        self.args = [0; 6];
        self.args[..args.len()].copy_from_slice(args);
        self.pc += CALL_BYTES;
    }
}

impl Traps for Model {
    type Frame = Frame;

    fn new_frame(entry: VirtAddr, stack: VirtAddr, args: [u64; 3]) -> Frame {
        let mut frame = Frame { pc: entry.0, sp: stack.0, ..Frame::default() };
        frame.args[..3].copy_from_slice(&args);
        if mutant::is(Mutant::KernelValueInANewFrame) {
            frame.value = u64::MAX;
        }
        frame
    }

    fn pc(frame: &Frame) -> VirtAddr {
        VirtAddr(frame.pc)
    }

    fn set_pc(frame: &mut Frame, pc: VirtAddr) {
        frame.pc = pc.0;
    }

    fn sp(frame: &Frame) -> VirtAddr {
        VirtAddr(frame.sp)
    }

    fn syscall(frame: &Frame) -> Syscall {
        Syscall { number: frame.number, args: frame.args }
    }

    fn set_result(frame: &mut Frame, status: u64, value: u64) {
        (frame.status, frame.value) = (status, value);
    }

    fn message(frame: &Frame) -> Words {
        frame.words
    }

    fn set_message(frame: &mut Frame, badge: u64, words: &Words) {
        (frame.badge, frame.words) = (badge, *words);
    }

    fn copy_message(from: &Frame, to: &mut Frame, badge: u64, count: usize) {
        to.badge = badge;
        to.words[..count].copy_from_slice(&from.words[..count]);
    }

    fn set_badge(frame: &mut Frame, badge: u64) {
        frame.badge = badge;
    }

    fn restart_syscall(frame: &mut Frame) {
        frame.pc -= CALL_BYTES;
    }

    const REGISTERS: usize = 13 + MESSAGE_WORDS;

    fn registers(frame: &Frame) -> Registers {
        let Frame { number, args, status, value, badge, words, pc, sp, .. } = *frame;
        let mut registers = [0; MAX_REGISTERS];
        registers[..5].copy_from_slice(&[pc, sp, number, status, value]);
        registers[5] = badge;
        registers[6..12].copy_from_slice(&args);
        registers[12..12 + MESSAGE_WORDS].copy_from_slice(&words);
        registers[12 + MESSAGE_WORDS] = frame.privileged.into();
        registers
    }

    fn set_registers(frame: &mut Frame, registers: &Registers) {
        [frame.pc, frame.sp, frame.number, frame.status, frame.value, frame.badge, ..] = *registers;
        frame.args.copy_from_slice(&registers[6..12]);
        frame.words.copy_from_slice(&registers[12..12 + MESSAGE_WORDS]);
        if mutant::is(Mutant::FramesUnsanitized) {
            frame.privileged = registers[12 + MESSAGE_WORDS] != 0;
        }
    }

    fn set_step(frame: &mut Frame, step: Step) {
        frame.stepping = step == Step::One;
    }

    fn print_frame(frame: &Frame, out: &mut dyn core::fmt::Write) -> core::fmt::Result {
        let Frame { number, args, status, value, pc, sp, .. } = frame;
        writeln!(out, "pc {pc:#018x} sp {sp:#018x} number {number:#x} status {status} value {value:#x}")?;
        writeln!(out, "args {args:#x?}")
    }
}
