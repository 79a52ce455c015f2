//! The last words of a kernel that cannot go on: why, the registers if there are any, a backtrace
//! for the host to symbolize, and the end of the run with a nonzero status.

use crate::cpu::Cpu;
use crate::kernel::Kernel;
use crate::mm::Machine;
use crate::print::{self, Text};
use crate::trace;
use arch_contract::machine::{Power, Verdict};
use arch_contract::mutant::{self, Mutant};
use arch_current::Current;
use core::fmt::{self, Write};
use core::ptr;
use core::sync::atomic::{AtomicBool, AtomicPtr, Ordering};

/// Whether a panic is being reported: a second one, from inside the report, ends the run at once.
/// One of the few globals, since a panic has nothing passed down to it.
static REPORTING: AtomicBool = AtomicBool::new(false);

/// The kernel whose event trace a panic prints; null if it records none. The other global, for the
/// same reason.
static TRACED: AtomicPtr<Kernel> = AtomicPtr::new(ptr::null_mut());

/// A panic prints what `kernel` has traced.
pub fn print_trace_of(kernel: &'static Kernel) {
    TRACED.store(ptr::from_ref(kernel).cast_mut(), Ordering::Release);
}

/// For `#[panic_handler]` in `boot/<arch>`.
pub fn report(info: &core::panic::PanicInfo<'_>) -> ! {
    end(None, format_args!("kernel panic: {info}"), &|out| Current::print_registers(out))
}

/// Prints `why`, what `describe` adds, and the backtrace; ends the run. Never returns, on any CPU.
pub fn end(
    machine: Option<&Machine>,
    why: fmt::Arguments<'_>,
    describe: &dyn Fn(&mut dyn Write) -> fmt::Result,
) -> ! {
    if REPORTING.swap(true, Ordering::Relaxed) {
        Current::power_off(machine, Verdict::Failed);
    }
    // Writing to the console cannot fail; a failing `describe` still leaves what it wrote.
    let mut out = Text(machine);
    let _ = writeln!(out, "\nspandrel: {why}");
    if !mutant::is(Mutant::FaultWithoutRegisters) {
        let _ = describe(&mut out);
    }
    let _ = writeln!(out, "backtrace, innermost first:");
    Current::backtrace(&mut |address| {
        let _ = writeln!(Text(machine), "{}frame {:#x}", abi::PROTOCOL, address.0);
    });
    // SAFETY: null, or a kernel, which lives for ever.
    if let Some(kernel) = unsafe { TRACED.load(Ordering::Acquire).as_ref() } {
        trace::dump(kernel);
    }
    print::protocol(machine, format_args!("failed"));
    Current::power_off(machine, Verdict::Failed)
}

/// Ends the run for unusable boot input: a message that says what to do, no backtrace.
pub fn refuse(machine: Option<&Machine>, why: fmt::Arguments<'_>) -> ! {
    let _ = writeln!(Text(machine), "\nspandrel: cannot boot: {why}");
    print::protocol(machine, format_args!("failed"));
    let verdict = if mutant::is(Mutant::RefusalThatSucceeds) { Verdict::Ended } else { Verdict::Failed };
    Current::power_off(machine, verdict)
}

/// Ends the run with a program's status.
pub fn exit(cpu: &Cpu, status: u8) -> ! {
    let machine = Some(cpu.machine());
    trace::dump(cpu.kernel);
    print::protocol(machine, format_args!("exit {status}"));
    Current::power_off(machine, Verdict::Ended)
}
