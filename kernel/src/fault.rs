//! What becomes of a user program's fault that nobody handles: a message, and the end of its process
//! alone.

use crate::cpu::Cpu;
use crate::ipc::exception::kind;
use crate::print::{self, Text};
use crate::process::Process;
use crate::sched;
use crate::thread::Thread;
use crate::trace;
use abi::exception::{FaultKind, NO_ADDRESS};
use abi::testing::FaultWord;
use abi::{Ending, ExitReport};
use arch_contract::addr::VirtAddr;
use arch_contract::irq::IrqsOff;
use arch_contract::trap::{Access, Fault, FaultCause, Traps};
use arch_current::Current;
use boot_image::command_line::Log;
use core::fmt;
// What tests ask for is no part of what is modelled: see `crate::trace`.
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

const WORDS: usize = if trace::ENABLED { FaultWord::ALL.len() } else { 0 };

/// What kernels built for testing keep of the last fault. Whoever asks has waited for the process
/// that it ended, and lets no two fault at a time.
pub struct Last([AtomicU64; WORDS]);

impl Last {
    pub const fn new() -> Self {
        Self([const { AtomicU64::new(FaultKind::None as u64) }; WORDS])
    }

    fn note(&self, fault: &Fault) {
        let address = fault.address.map_or(NO_ADDRESS, |address| address.0);
        for (word, value) in self.0.iter().zip([kind(fault.cause) as u64, fault.pc.0, address]) {
            word.store(value, Relaxed);
        }
    }

    /// One word of it; 0 in an ordinary kernel.
    pub fn word(&self, which: FaultWord) -> u64 {
        self.0.get(which as usize).map_or(0, |word| word.load(Relaxed))
    }
}

/// Ends the current process for `fault`, with a message.
pub fn kill_current(cpu: &Cpu, fault: &Fault, irq: &IrqsOff) {
    let Some(thread) = cpu.current() else { return };
    report(cpu, &thread, fault);
    drop(thread);
    sched::end_current(cpu, ExitReport::new(Ending::Fault, abi::FAULT_STATUS), irq);
}

/// Says that `fault` of `thread`, which this CPU has, ends its process: the cause and the address.
pub fn report(cpu: &Cpu, thread: &Thread, fault: &Fault) {
    let process = thread.process();
    let machine = cpu.machine();
    cpu.kernel.last_fault.note(fault);
    print::line(
        Some(machine),
        format_args!(
            "process {} ({}) killed: {}, at pc {}",
            process.number,
            process.name,
            Description { cpu, process, fault },
            fault.pc
        ),
    );
    if cpu.kernel.log == Log::Verbose {
        // SAFETY: this CPU has the thread, hence its frame.
        let frame = unsafe { thread.frame().as_ref() };
        // Writing to the console cannot fail.
        let _ = Current::print_frame(frame, &mut Text(Some(machine)));
    }
}

/// Ends the current process because it needs vector registers and its budget has no room for them.
pub fn no_memory_for_vectors(cpu: &Cpu, irq: &IrqsOff) {
    if let Some(thread) = cpu.current() {
        let process = thread.process();
        print::line(
            Some(cpu.machine()),
            format_args!(
                "process {} ({}) killed: no memory left for its vector registers",
                process.number, process.name
            ),
        );
    }
    sched::end_current(cpu, ExitReport::new(Ending::Fault, abi::FAULT_STATUS), irq);
}

/// A fault in words.
struct Description<'a> {
    cpu: &'a Cpu,
    process: &'a Process,
    fault: &'a Fault,
}

impl fmt::Display for Description<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.fault.cause {
            FaultCause::Page(access) => {
                let address = self.fault.address.unwrap_or(self.fault.pc);
                write!(f, "{} {address}: {}", verb(access), self.reason(address, access))
            }
            FaultCause::BadAddress(access) => match self.fault.address {
                Some(address) => write!(f, "{} {address}: not an address of this machine", verb(access)),
                None => write!(f, "{} something that is not an address of this machine", verb(access)),
            },
            FaultCause::UndefinedInstruction => f.write_str("undefined instruction"),
            FaultCause::PrivilegedInstruction => f.write_str("privileged instruction"),
            FaultCause::Breakpoint => f.write_str("breakpoint"),
            FaultCause::SingleStep => f.write_str("single step"),
            FaultCause::Arithmetic => f.write_str("arithmetic fault"),
            FaultCause::FloatingPoint => f.write_str("floating-point exception"),
            FaultCause::Alignment => match self.fault.address {
                Some(address) => write!(f, "misaligned access to {address}"),
                None => f.write_str("misaligned access"),
            },
            FaultCause::MachineCheck => f.write_str("machine check"),
            FaultCause::Other(vector) => write!(f, "exception {vector:#x}"),
        }
    }
}

const fn verb(access: Access) -> &'static str {
    match access {
        Access::Read => "read of",
        Access::Write => "write to",
        Access::Execute => "execution of",
    }
}

impl Description<'_> {
    /// Why the page at `address` did not allow `access`.
    fn reason(&self, address: VirtAddr, access: Access) -> &'static str {
        use arch_contract::pte::{Paging, Protection};
        if address >= Current::USER_END {
            return "not user memory";
        }
        let top = crate::program::STACK_TOP;
        let bottom = top.0 - abi::STACK_BYTES;
        if address.0 < bottom && address.0 >= bottom - crate::program::STACK_GUARD {
            return "the guard below the stack";
        }
        match (self.process.space.protection_at(self.cpu, address), access) {
            (None, _) if address.0 < 4096 => "null page",
            (None, _) => "nothing is mapped there",
            (Some(Protection::Read), Access::Write) => "the page is read-only",
            (Some(Protection::ReadExecute), Access::Write) => "the page is code",
            (Some(_), Access::Execute) => "the page is not code",
            (Some(_), _) => "the page does not allow it",
        }
    }
}
