//! The one value all kernel state hangs off, and how it comes into being.
//!
//! It is placed in memory that it manages itself, so a machine has one and a model run makes a
//! fresh one each time, with no global anywhere.

use crate::cap::derivation::Trees;
use crate::console::Console;
use crate::cpu::Cpu;
use crate::cpuset::{CpuId, CpuSet, SharedSet};
use crate::device::Devices;
use crate::fault;
use crate::mm::Machine;
use crate::mm::NoMemory;
use crate::mm::budget::Budget;
use crate::mm::burial::Burial;
use crate::mm::heap::Charged;
use crate::mm::ids::HardwareIds;
use crate::mm::memory::Memory;
use crate::mm::space::AttachmentId;
use crate::object::Ref;
use crate::panic;
use crate::print::{self, Text};
use crate::program;
use crate::provoke;
use crate::sched;
use crate::sched::affinity::Affinities;
use crate::sync::{AtomicBool, AtomicU64, Lock, Ordering, atomic::AtomicPtr};
use crate::thread::Frame;
use crate::time::Rate;
use crate::trace;
use abi::trace::Kind;
use arch_contract::Base;
use arch_contract::boot::{Boot, BootInfo, MAX_COMMAND_LINE, MAX_CPUS, normalize};
use arch_contract::context::{ContextId, Contexts};
use arch_contract::irq::IrqsOff;
use arch_contract::mutant::{self, Mutant};
use arch_contract::pte::Paging;
use arch_contract::ret::Resume;
use arch_contract::smp::Smp;
use arch_contract::time::Time;
use arch_contract::tlb::{Broadcasts, Tlb};
use arch_current::Current;
use boot_image::archive::Archive;
use boot_image::command_line::{self, Broadcast, Log, Tracing};
use core::fmt::Write;
use protocol::inbox::Numbers;

/// The kernel.
pub struct Kernel {
    pub machine: &'static Machine,
    pub memory: &'static Memory,
    /// All memory there is to charge.
    pub root: Ref<Budget>,
    pub rate: Rate,
    /// A thread's slice, in ticks.
    pub slice: u64,
    /// The boot archive, checked.
    pub archive: Archive<'static>,
    pub console: Console,
    pub devices: Devices,
    pub log: Log,
    pub tracing: Tracing,
    /// Frees what is left of large memory objects.
    pub burial: Burial,
    /// What was derived from what, of all objects.
    pub trees: Trees,
    /// The machine's numbers for address spaces.
    pub ids: HardwareIds,
    #[cfg(test)]
    pub lifetime: tests::Chosen,
    #[cfg(test)]
    pub(crate) short_ways: crate::ipc::quick::Watch,
    /// Orders the events of host tests: the simulated clock stands still for long.
    #[cfg(test)]
    pub(crate) events: core::sync::atomic::AtomicU64,
    /// By number; null where the machine has none. Written while the boot CPU is alone.
    cpus: [AtomicPtr<Cpu>; MAX_CPUS],
    /// The CPUs that are on. A CPU puts itself in before it looks for work, and takes itself out
    /// when it has let go of everything.
    pub(crate) online: SharedSet,
    pub affinities: Affinities,
    /// Held while a CPU is started, from the look whether it is off.
    pub(crate) starting: Lock<()>,
    /// Whether all CPUs have been on together.
    complete: AtomicBool,
    processes: AtomicU64,
    contexts: AtomicU64,
    attachments: AtomicU64,
    /// The numbers of requests that are waited for.
    pub(crate) requests: Numbers,
    /// Address spaces that are being taken apart.
    teardowns: AtomicU64,
    teardown_interrupts: AtomicU64,
    /// Calls that wait for all of them.
    hurries: AtomicU64,
    pub last_fault: fault::Last,
}

impl Kernel {
    /// The next number for messages about a process.
    pub fn next_process(&self) -> u64 {
        self.processes.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// A number for an attachment; never one that was given before.
    pub fn next_attachment(&self) -> Option<AttachmentId> {
        AttachmentId::new(self.attachments.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// The next context id; never one that was given before.
    pub fn next_context(&self) -> Option<ContextId> {
        ContextId::new(self.contexts.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// The CPUs that are on.
    #[inline]
    pub fn online(&self) -> CpuSet {
        self.online.load()
    }

    /// The CPU with this number, on or off, if the machine has one.
    pub fn any_cpu(&self, number: CpuId) -> Option<&'static Cpu> {
        // Relaxed: it was written before the start that every other CPU begins with, which brings it.
        let cpu = self.cpus[number.index()].load(Ordering::Relaxed);
        // SAFETY: null, or a CPU's value, which lives for ever.
        unsafe { cpu.as_ref() }
    }

    /// The CPUs that the machine has, on or off.
    pub fn existing(&self) -> CpuSet {
        let there =
            (0..MAX_CPUS as u64).filter_map(CpuId::new).filter(|&number| self.any_cpu(number).is_some());
        there.fold(CpuSet::NONE, |set, number| set.with(number))
    }

    fn add_cpu(&self, cpu: &'static Cpu) {
        let at = &self.cpus[cpu.number.index()];
        // Relaxed: this CPU is alone.
        at.store(core::ptr::from_ref(cpu).cast_mut(), Ordering::Relaxed);
    }

    /// This CPU is on, from now on: others may ask it and put work into its queue.
    pub(crate) fn set_online(&self, cpu: &Cpu) {
        trace::event(cpu, Kind::Online, 0, 0);
        self.online.join(cpu.number);
    }

    pub(crate) fn teardown_begins(&self) {
        self.teardowns.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn teardown_ended(&self) {
        // Release: the memory is back. Pairs with the acquire in `teardowns`.
        self.teardowns.fetch_sub(1, Ordering::Release);
    }

    /// Address spaces that are being taken apart.
    pub fn teardowns(&self) -> u64 {
        self.teardowns.load(Ordering::Acquire)
    }

    pub(crate) fn count_teardown_interrupt(&self) {
        self.teardown_interrupts.fetch_add(1, Ordering::Relaxed);
    }

    /// CPUs that were interrupted by teardowns.
    pub fn teardown_interrupts(&self) -> u64 {
        self.teardown_interrupts.load(Ordering::Relaxed)
    }

    /// Whether teardowns should not wait for CPUs to move on by themselves: somebody waits for
    /// them, or memory is short.
    pub fn is_hurried(&self) -> bool {
        self.hurries.load(Ordering::Relaxed) != 0 || self.memory.is_short()
    }

    /// Somebody waits for all teardowns, or waits no more.
    pub(crate) fn hurry(&self, waiting: Waiting) {
        match waiting {
            Waiting::Begins => self.hurries.fetch_add(1, Ordering::Relaxed),
            Waiting::Ends => self.hurries.fetch_sub(1, Ordering::Relaxed),
        };
    }
}

/// See [`Kernel::hurry`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Waiting {
    Begins,
    Ends,
}

/// Takes the machine over from the architecture's entry code, loads init and enters it.
pub fn boot(
    mut info: BootInfo,
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
    if let Some(id) = options.mutant
        && mutant::select(id).is_none()
    {
        refuse(format_args!(
            "mutant={id}: no such mutant in this kernel; `tools/x mutants` builds and lists them"
        ));
    }
    if options.log == Log::Normal {
        let mut out = Text(Some(machine));
        // Writing to the console cannot fail.
        let _ = write!(out, "spandrel: {}, {} MiB, ", Current::NAME, info.total >> 20);
        let _ = Current::describe(machine, &mut out);
        let _ = writeln!(out);
    }
    if let Some(broadcast) = options.broadcast {
        let broadcasts = match broadcast {
            Broadcast::On => Broadcasts::Use,
            Broadcast::Off => Broadcasts::Avoid,
        };
        Current::set_broadcasts(machine, broadcasts);
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
    if mutant::is(Mutant::ArchiveIsFree) {
        info.free.extend(info.initrd);
        normalize(&mut info.free);
    }
    let memory = match Memory::boot(machine, &info, options.mem.map(|mib| mib << 20)) {
        Ok(memory) => memory,
        Err(NoMemory) => refuse(format_args!("too little memory: give the machine more, or raise mem=")),
    };
    let cpu = match place(memory, machine, archive, (options.log, options.tracing), arch) {
        Ok(cpu) => cpu,
        Err(NoMemory) => refuse(format_args!("too little memory for the kernel itself")),
    };
    Current::bind(arch, (&raw const *cpu).cast());
    if options.tracing == Tracing::On {
        panic::print_trace_of(cpu.kernel);
    }
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
    if let Err(NoMemory) = start_others(cpu, info.cpus.len(), &irq) {
        refuse(format_args!(
            "too little memory for {} CPUs: give the machine more, or fewer CPUs",
            info.cpus.len()
        ));
    }
    sched::leave(cpu, irq)
}

/// Makes the other CPUs' values and starts them. They come when they come: each takes work as soon
/// as it is on.
fn start_others(cpu: &'static Cpu, count: usize, irq: &IrqsOff) -> Result<(), NoMemory> {
    let kernel = cpu.kernel;
    let count = if mutant::is(Mutant::LastCpuForgotten) { count - 1 } else { count };
    place_others(kernel, count)?;
    for other in (1..count as u64).filter_map(CpuId::new).filter_map(|number| kernel.any_cpu(number)) {
        if let Err(error) = Current::start_cpu(cpu.arch(), other.arch(), irq) {
            note(kernel, format_args!("CPU {} does not start: {error}", other.number));
        }
    }
    Ok(())
}

/// Makes the values of all CPUs but the first.
pub(crate) fn place_others(kernel: &'static Kernel, count: usize) -> Result<(), NoMemory> {
    for index in 1..count {
        let Some(number) = CpuId::new(index as u64) else { break };
        let arch = Current::cpu(kernel.machine, index);
        let other = place_cpu(kernel, arch, number)?;
        Current::bind(arch, (&raw const *other).cast());
        kernel.add_cpu(other);
    }
    Ok(())
}

/// A CPU that was started begins here.
pub fn boot_secondary(cpu: &'static Cpu, irq: IrqsOff) -> Resume<Frame> {
    cpu.held.forget();
    if !mutant::is(Mutant::DirtyCpus) {
        Current::flush_local_all(cpu.arch(), &irq);
    }
    // What was asked of it in its last life, after it had looked for the last time.
    cpu.serve();
    if !mutant::is(Mutant::WorkOfTheLastLife) {
        cpu.take_work();
    }
    let kernel = cpu.kernel;
    kernel.set_online(cpu);
    sched::open(cpu);
    cpu.serve();
    if kernel.existing() == kernel.online() && !kernel.complete.swap(true, Ordering::Relaxed) {
        note(kernel, format_args!("{} CPUs", kernel.online().len()));
    }
    sched::leave(cpu, irq)
}

#[inline(never)]
fn place_cpu(
    kernel: &'static Kernel,
    arch: &'static <Current as Base>::Cpu,
    number: CpuId,
) -> Result<&'static Cpu, NoMemory> {
    Ok(forever(Ref::try_new(kernel.memory, Some(&kernel.root), Cpu::try_new(arch, kernel, number)?)?))
}

/// Makes the kernel and its first CPU, one after the other: what each is made of needs much stack, once.
pub(crate) fn place(
    memory: &'static Memory,
    machine: &'static Machine,
    archive: Archive<'static>,
    options: (Log, Tracing),
    arch: &'static <Current as Base>::Cpu,
) -> Result<&'static Cpu, NoMemory> {
    let kernel = place_kernel(memory, machine, archive, options, arch)?;
    let cpu = place_cpu(kernel, arch, CpuId::BOOT)?;
    kernel.add_cpu(cpu);
    kernel.set_online(cpu);
    sched::open(cpu);
    Ok(cpu)
}

#[inline(never)]
fn place_kernel(
    memory: &'static Memory,
    machine: &'static Machine,
    archive: Archive<'static>,
    (log, tracing): (Log, Tracing),
    arch: &'static <Current as Base>::Cpu,
) -> Result<&'static Kernel, NoMemory> {
    let root = Budget::root(memory)?;
    let ids = HardwareIds::try_new(Current::tags(machine), Charged { memory, budget: root.clone() })?;
    let devices = Devices::find(machine, Charged { memory, budget: root.clone() })?;
    let rate = Rate::new(Current::now(arch), Current::ticks_per_second(machine));
    let kernel = Kernel {
        machine,
        memory,
        root,
        rate,
        slice: rate.span(sched::SLICE),
        archive,
        console: Console::new(),
        devices,
        log,
        tracing,
        burial: Burial::new(),
        trees: Trees::new(),
        processes: AtomicU64::new(0),
        contexts: AtomicU64::new(0),
        attachments: AtomicU64::new(0),
        ids,
        #[cfg(test)]
        lifetime: tests::Chosen::default(),
        #[cfg(test)]
        short_ways: Default::default(),
        #[cfg(test)]
        events: core::sync::atomic::AtomicU64::new(0),
        cpus: [const { AtomicPtr::new(core::ptr::null_mut()) }; MAX_CPUS],
        online: SharedSet::new(),
        affinities: Affinities::new(),
        starting: Lock::new(()),
        complete: AtomicBool::new(false),
        requests: Numbers::new(),
        teardowns: AtomicU64::new(0),
        teardown_interrupts: AtomicU64::new(0),
        hurries: AtomicU64::new(0),
        last_fault: fault::Last::new(),
    };
    let root = kernel.root.clone();
    Ok(forever(Ref::try_new(memory, Some(&root), kernel)?))
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

#[cfg(test)]
pub(crate) mod tests {
    use crate::sched::lifetime::Policy;
    use crate::sync::{AtomicU8, Ordering};

    /// The lifetime policy of a host test's kernel.
    #[derive(Default)]
    pub struct Chosen(AtomicU8);

    impl Chosen {
        pub fn set(&self, policy: Policy) {
            self.0.store(policy as u8, Ordering::Relaxed);
        }
        pub fn get(&self) -> Policy {
            match self.0.load(Ordering::Relaxed) {
                0 => Policy::Hazard,
                1 => Policy::Refcount,
                _ => Policy::Shootdown,
            }
        }
    }
}
