//! The one value all kernel state hangs off, and how it comes into being.
//!
//! It is placed in memory that it manages itself, so a machine has one and a model run makes a
//! fresh one each time, with no global anywhere.

use crate::console::Console;
use crate::cpu::Cpu;
use crate::mm::NoMemory;
use crate::mm::budget::Budget;
use crate::mm::memory::Memory;
use crate::object::Ref;
use crate::panic;
use crate::print::{self, Machine, Text};
use crate::program;
use crate::provoke;
use crate::sched;
use crate::sync::{AtomicU64, Ordering};
use crate::thread::Frame;
use crate::time::Rate;
use crate::trace;
use arch_contract::Base;
use arch_contract::boot::{Boot, BootInfo, MAX_COMMAND_LINE};
use arch_contract::context::ContextId;
use arch_contract::irq::IrqsOff;
use arch_contract::pte::Paging;
use arch_contract::ret::Resume;
use arch_contract::time::Time;
use arch_current::Current;
use boot_image::archive::Archive;
use boot_image::command_line::{self, Log, Tracing};
use core::fmt::Write;

/// The kernel.
pub struct Kernel {
    pub machine: &'static Machine,
    pub memory: &'static Memory,
    /// All memory there is to charge.
    pub root: Ref<Budget>,
    pub rate: Rate,
    /// The boot archive, checked.
    pub archive: Archive<'static>,
    pub console: Console,
    pub log: Log,
    pub tracing: Tracing,
    processes: AtomicU64,
    contexts: AtomicU64,
}

impl Kernel {
    /// The next number for messages about a process.
    pub fn next_process(&self) -> u64 {
        self.processes.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// The next context id; never one that was given before.
    pub fn next_context(&self) -> Option<ContextId> {
        ContextId::new(self.contexts.fetch_add(1, Ordering::Relaxed) + 1)
    }
}

/// Takes the machine over from the architecture's entry code, loads init and enters it.
pub fn boot(
    info: BootInfo,
    machine: &'static Machine,
    arch: &'static <Current as Base>::Cpu,
    irq: IrqsOff,
) -> Resume<Frame> {
    let refuse = |why: core::fmt::Arguments<'_>| -> ! { panic::refuse(Some(machine), why) };
    let options = match command_line::parse(&info.command_line) {
        Ok(options) => options,
        Err(error) => refuse(format_args!("command line: {error}")),
    };
    if options.tracing == Tracing::On && !trace::ENABLED {
        refuse(format_args!("trace=on wants a kernel built for testing: `tools/x trace` makes one"));
    }
    if options.log == Log::Normal {
        let mut out = Text(Some(machine));
        // Writing to the console cannot fail.
        let _ = write!(out, "spandrel: {}, {} MiB, ", Current::NAME, info.total >> 20);
        let _ = Current::describe(machine, &mut out);
        let _ = writeln!(out);
    }
    let Some(initrd) = info.initrd else {
        refuse(format_args!("no boot archive: give QEMU one with -initrd, or use `tools/x run`"))
    };
    // SAFETY: the architecture reserved the range for good, and it is in the physical map.
    let initrd = unsafe {
        core::slice::from_raw_parts(
            Current::phys(machine, initrd.start).as_ptr().cast_const(),
            initrd.len as usize,
        )
    };
    let archive = match Archive::new(initrd) {
        Ok(archive) => archive,
        Err(error) => refuse(format_args!("initrd: {error}")),
    };
    let memory = match Memory::boot(machine, &info, options.mem.map(|mib| mib << 20)) {
        Ok(memory) => memory,
        Err(NoMemory) => refuse(format_args!("too little memory: give the machine more, or raise mem=")),
    };
    let cpu = match place(memory, machine, archive, (options.log, options.tracing), arch) {
        Ok(cpu) => cpu,
        Err(NoMemory) => refuse(format_args!("too little memory for the kernel itself")),
    };
    Current::bind(arch, (&raw const *cpu).cast());

    if let Some(provoke) = options.provoke {
        provoke::now(provoke);
    }
    let mut args = [0; MAX_COMMAND_LINE];
    let started = options
        .arg_block(&mut args)
        .map_err(|_| NoMemory)
        .and_then(|len| program::start_init(cpu, options.init, &args[..len]));
    if let Err(NoMemory) = started {
        refuse(format_args!("too little memory to load `{}`", options.init));
    }
    sched::leave(cpu, irq)
}

/// Makes the kernel and its first CPU. Out of line: its values need the stack only once.
#[inline(never)]
pub(crate) fn place(
    memory: &'static Memory,
    machine: &'static Machine,
    archive: Archive<'static>,
    (log, tracing): (Log, Tracing),
    arch: &'static <Current as Base>::Cpu,
) -> Result<&'static Cpu, NoMemory> {
    let kernel = Kernel {
        machine,
        memory,
        root: Budget::root(memory)?,
        rate: Rate::new(Current::now(arch), Current::ticks_per_second(machine)),
        archive,
        console: Console::new(),
        log,
        tracing,
        processes: AtomicU64::new(0),
        contexts: AtomicU64::new(0),
    };
    let root = kernel.root.clone();
    let kernel = forever(Ref::try_new(memory, Some(&root), kernel)?);
    Ok(forever(Ref::try_new(memory, Some(&root), Cpu::try_new(arch, kernel)?)?))
}

/// Gives a reference up for good.
fn forever<T>(value: Ref<T>) -> &'static T {
    // SAFETY: the pointer is valid while a reference exists, and the one given up here is never
    // taken back.
    unsafe { &*Ref::into_raw(value) }
}

/// Prints a line if the log is on.
pub fn note(kernel: &Kernel, text: core::fmt::Arguments<'_>) {
    if kernel.log == Log::Normal {
        print::line(Some(kernel.machine), text);
    }
}
