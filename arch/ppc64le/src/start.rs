//! From the first instruction to the generic kernel.
//!
//! Firmware enters with its word in r3 to r5 (PAPR §C.4, and the Devicetree Specification), which
//! `handover.rs` makes one shape of. All of it runs in real mode, until the kernel's own translations
//! are there; then the way leads only forward, to the first user thread. Other CPUs join by
//! `secondary.rs`.

use crate::broadcast::Broadcast;
use crate::controller::{Controller, ControllerError};
use crate::cpu::{Cpu, Cpus, Firmware, Machine, PHYSICAL_MAP};
use crate::hcall::{self, Call, Status};
use crate::kernel_fault::{self, Registers};
use crate::rtas::CpuCalls;
use crate::spr::{self, msr, number};
use crate::stack::{self, Use};
use crate::trap::Frame;
use crate::device::Pci;
use crate::passage::Wiring;
use crate::sources::Sources;
use crate::tree::Handover;
use crate::xics::SourceCalls;
use crate::xive::Xive;
use crate::{Ppc64le, boot_memory, console, handover, machine, radix, secondary, time};
use arch_contract::addr::{PAGE_SIZE, PhysAddr};
use arch_contract::boot::{BootInfo, HardwareCpu, normalize, reserve};
use arch_contract::irq::Interrupt;
use arch_contract::ret::Resume;
use arch_contract::upcalls::Upcalls;
use core::arch::global_asm;
use core::cell::{Cell, UnsafeCell};
use core::mem::MaybeUninit;
use core::num::NonZeroUsize;
use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

global_asm!(
    // Makes the CPU little-endian and 64-bit if it is big-endian. The first word is a no-op
    // (trap never) in one byte order and a branch over the second in the other; the bytes are
    // instructions in big-endian order. Changes r10, r11, LR, SRR0 and SRR1.
    ".macro spandrel_flip",
    "tdi 0, 0, 0x48",
    "b 99f",
    ".byte 0x7d, 0x60, 0x00, 0xa6", // mfmsr 11
    ".byte 0x61, 0x6b, 0x00, 0x01", // ori 11, 11, 1: LE
    ".byte 0x39, 0x40, 0x00, 0x01", // li 10, 1
    ".byte 0x79, 0x4a, 0xf8, 0x06", // rldicr 10, 10, 63, 0: SF
    ".byte 0x7d, 0x6b, 0x53, 0x78", // or 11, 11, 10
    ".byte 0x42, 0x9f, 0x00, 0x05", // bcl 20, 31, .+4
    ".byte 0x7d, 0x48, 0x02, 0xa6", // mflr 10
    ".byte 0x39, 0x4a, 0x00, 0x14", // addi 10, 10, 20: behind the rfid
    ".byte 0x7d, 0x5a, 0x03, 0xa6", // mtsrr0 10
    ".byte 0x7d, 0x7b, 0x03, 0xa6", // mtsrr1 11
    ".byte 0x4c, 0x00, 0x00, 0x24", // rfid
    "99:",
    ".endm",
    ".macro spandrel_address register, symbol",
    "lis \\register, \\symbol@highest",
    "ori \\register, \\register, \\symbol@higher",
    "sldi \\register, \\register, 32",
    "oris \\register, \\register, \\symbol@high",
    "ori \\register, \\register, \\symbol@l",
    ".endm",

    // The first byte of the image: firmware enters here, whatever the ELF header says.
    ".pushsection .text.entry, \"ax\", @progbits",
    ".globl spandrel_start",
    "spandrel_start:",
    "spandrel_flip",
    "li 10, 2", // RI, not EE
    "mtmsrd 10, 1",
    "spandrel_address 2, .TOC.",
    "spandrel_address 1, __stacks_start",
    "addis 1, 1, {slot} >> 16",
    "addi 1, 1, ({slot} & 0xffff) - {top_frame}",
    // Zeroed memory is what the loader gave, but a loader is easily wrong.
    "spandrel_address 8, __bss_start",
    "spandrel_address 9, __stacks_end",
    "subf 9, 8, 9",
    "srdi 9, 9, 3",
    "mtctr 9",
    "li 0, 0",
    "addi 8, 8, -8",
    "1: stdu 0, 8(8)",
    "bdnz 1b",
    "bl spandrel_boot",
    "trap",
    ".popsection",

    // Turns translation on: r3 is where to go on, r4 its argument, r5 the MSR. The caller's frame
    // stays; its saved LR is of real mode and never used again.
    ".pushsection .text.start, \"ax\", @progbits",
    ".globl spandrel_go_virtual",
    "spandrel_go_virtual:",
    "mtspr 26, 3",
    "mr 12, 3",
    "mtspr 27, 5",
    "mr 3, 4",
    "rfid",
    // Enters user mode for the first time: r3 the packed resume, r4 the Cpu.
    ".globl spandrel_enter_user",
    "spandrel_enter_user:",
    "mr 13, 4",
    "b spandrel_return_full",
    ".popsection",
    slot = const stack::SLOT_BYTES,
    top_frame = const stack::TOP_FRAME,
);

unsafe extern "C" {
    #[link_name = "spandrel_go_virtual"]
    pub(crate) fn go_virtual(to: extern "C" fn(*const ()) -> !, argument: *const (), msr: u64) -> !;
    fn spandrel_enter_user(resume: u64, cpu: *const ()) -> !;
    static __vectors_start: u8;
    static __vectors_end: u8;
    static __vectors_load: u8;
}

/// A static that is written once, in place, before anyone reads it.
#[repr(transparent)]
struct Once<T>(UnsafeCell<MaybeUninit<T>>);

// SAFETY: written by the boot CPU alone, before other CPUs run.
unsafe impl<T> Sync for Once<T> {}

impl<T> Once<T> {
    const fn new() -> Self {
        Self(UnsafeCell::new(MaybeUninit::uninit()))
    }
    /// # Safety
    /// Called once, by the boot CPU.
    unsafe fn set(&'static self, value: T) -> &'static T {
        // SAFETY: nobody refers to it yet.
        unsafe { (*self.0.get()).write(value) }
    }
}

static MACHINE: Once<Machine> = Once::new();

/// What real mode found out, for the code that goes on translated.
struct Found {
    handover: Handover,
    firmware: Firmware,
    /// Where the `Cpu`s are to be.
    cpus: PhysAddr,
    controller: Controller,
}

/// Called by the image's first instructions with what firmware left in r3 to r5.
pub fn boot<U: Upcalls<Ppc64le>>(r3: u64, r4: u64, r5: u64) -> ! {
    // SAFETY: firmware passed them just now, and translation is off.
    let (handover, firmware) = unsafe { handover::take::<U>(r3, r4, r5) };
    // Not before: firmware lives in low memory, and has its own vectors there, until it is quiesced.
    // SAFETY: we are the boot CPU, and the vectors follow.
    unsafe { kernel_fault::report_early(stack::top(0, Use::Fault)) };
    copy_vectors();
    if let Some(terminal) = handover.console {
        console::select(terminal.unit);
    }
    machine::learn(&handover.rtas);
    handover::require_features::<U>(&handover);

    let mut ram = handover.memory.clone();
    normalize(&mut ram);
    let mut free = ram.clone();
    let initrd = handover.initrd.filter(|initrd| initrd.len != 0);
    let held = radix::image().into_iter().chain(initrd).chain(handover.reserved.iter().copied());
    for range in held {
        if range.start.0.checked_add(range.len).is_none() || reserve(&mut free, range).is_err() {
            U::boot_failure(format_args!("the memory map is unusable: too many or wrapping ranges"));
        }
    }
    if let Some(initrd) = initrd
        && !ram.iter().any(|range| range.start <= initrd.start && initrd.end() <= range.end())
    {
        U::boot_failure(format_args!("the initrd at {:?} does not lie in memory", initrd.start));
    }
    let count = handover.cpus.len();
    let bytes = (count * size_of::<Cpu>()) as u64;
    // SAFETY: translation is off; what is used was cut out of the map; this is the only CPU.
    let stacks = unsafe { stack::place(&mut free, count) };
    let cpus = boot_memory::keep(&mut free, bytes.next_multiple_of(PAGE_SIZE), PAGE_SIZE);
    let (Some(cpus), Some(stacks)) = (cpus, stacks) else {
        U::boot_failure(format_args!("no room for {count} CPUs: give the machine more memory"));
    };
    let console = handover.console.and_then(|terminal| terminal.interrupt);
    // SAFETY: as above.
    let xive = handover.xive.map(|node| unsafe { Xive::find(&node, count, console, &mut free) });
    let controller = match xive {
        None => Controller::Xics,
        Some(Ok(xive)) => Controller::Xive(xive),
        Some(Err(error)) => no_controller::<U>(error),
    };
    let registers = handover.bridge.iter().flatten().map(|bridge| bridge.window);
    let devices = controller.pages().chain(registers);
    // SAFETY: as above, and the map is the machine's RAM.
    if let Err(error) = unsafe { radix::build(&ram, &mut free, stacks, devices, handover.invalidation.gtse) } {
        U::boot_failure(format_args!("{error}"));
    }
    take_interrupts_here::<U>();

    let info = BootInfo {
        free,
        total: ram.iter().map(|range| range.len).sum(),
        command_line: handover.command_line,
        initrd,
        cpus: handover.cpus.clone(),
    };
    let found = (Found { handover, firmware, cpus: cpus.start, controller }, info);
    secondary::prepare_translation();
    // SAFETY: the kernel's tables map the image at its own addresses, where `go_on` lies; the stack
    // with `found` stays, since this frame is never left.
    unsafe { go_virtual(go_on::<U>, (&raw const found).cast(), msr::KERNEL) }
}

/// Puts the vectors where they are linked to run. Real mode, so that address is 0.
fn copy_vectors() {
    let (start, end) = (&raw const __vectors_start, &raw const __vectors_end);
    let from = &raw const __vectors_load;
    let len = end as usize - start as usize;
    let to = start as *mut u8;
    for at in (0..len).step_by(8) {
        // SAFETY: the image keeps its copy of the vectors there, a multiple of a page long; low
        // memory is RAM that firmware has given up. Both are aligned.
        unsafe { to.add(at).cast::<u64>().write_volatile(from.add(at).cast::<u64>().read()) };
    }
    // SAFETY: makes the copy visible to instruction fetch: one `icbi` is enough where the
    // instruction cache is coherent, as on every processor with radix trees.
    unsafe { core::arch::asm!("sync", "icbi 0, {}", "sync", "isync", in(reg) to, options(nostack)) };
}

/// Little-endian handlers, at the translated vectors, before the first interrupt can come.
fn take_interrupts_here<U: Upcalls<Ppc64le>>() {
    const LITTLE_ENDIAN: [u64; 2] = [1, 4];
    const VECTORS_TRANSLATED: [u64; 2] = [3, 3];
    for (name, arguments) in [("little-endian", LITTLE_ENDIAN), ("relocated", VECTORS_TRANSLATED)] {
        // SAFETY: decides how interrupts are taken; they are off, and the vectors are in place.
        let (status, _) = unsafe { hcall::call(Call::SetMode, arguments) };
        if status != Status::SUCCESS {
            U::boot_failure(format_args!(
                "the hypervisor refuses {name} interrupts (H_SET_MODE: {}): this kernel needs them",
                status.0
            ));
        }
    }
}

/// Goes on with translation on.
extern "C" fn go_on<U: Upcalls<Ppc64le>>(found: *const ()) -> ! {
    let found = found.cast::<(Found, BootInfo)>();
    // SAFETY: `boot` left both on the stack below us, whole, and nobody else has them.
    let cpu = make_machine::<U>(unsafe { &(*found).0 });
    // SAFETY: as above, and this is read once.
    let info = unsafe { (&raw const (*found).1).read() };
    enter_user(U::boot(info, cpu.machine, cpu), cpu)
}

/// The machine and its CPUs, of which this is the first. Out of line: what they are made of needs the stack
/// only once.
#[inline(never)]
fn make_machine<U: Upcalls<Ppc64le>>(found: &Found) -> &'static Cpu {
    // SAFETY: nobody looks at what `go_on` was given again.
    let Found { handover, firmware, cpus, controller } = unsafe { core::ptr::from_ref(found).read() };
    let user_pages = secondary::restrict_user();
    let source_calls = SourceCalls::find(&handover.rtas);
    let started = controller.start(&handover.cpus).and_then(|()| controller.open());
    let console_interrupt = match started {
        Ok(()) => console_interrupt(&handover, source_calls, &controller),
        Err(error) => no_controller::<U>(error),
    };
    let first = core::ptr::with_exposed_provenance_mut::<Cpu>((cpus.0 | PHYSICAL_MAP) as usize);
    let machine = Machine {
        timebase: handover.timebase,
        decrementer_max: u64::MAX >> (65 - handover.decrementer_bits),
        cache_block: NonZeroUsize::new(handover.cache_block as usize)
            .filter(|block| (PAGE_SIZE as usize).is_multiple_of(block.get())),
        console: handover.console,
        controller,
        console_interrupt,
        sources: Sources::new(source_calls),
        pci: Pci::find(&handover),
        user_pages,
        firmware,
        // SAFETY: room for so many was kept, and they are made below, before anyone has the machine.
        cpus: unsafe { Cpus::new(first, handover.cpus.len()) },
        cpu_calls: CpuCalls::find(&handover.rtas),
        broadcast: Broadcast::find(handover.invalidation),
        typed: [AtomicU64::new(0), AtomicU64::new(0)],
        typed_count: AtomicUsize::new(0),
    };
    // SAFETY: the boot CPU comes by here once.
    let machine = unsafe { MACHINE.set(machine) };
    for (index, server) in handover.cpus.iter().enumerate() {
        // SAFETY: kept for it, aligned to a page and so to a `Cpu`; nobody refers to it yet.
        unsafe { first.add(index).write(new_cpu::<U>(index, *server, machine)) };
    }
    let cpu = machine.cpus.get(0);
    cpu.on.store(true, Ordering::Relaxed);
    // SAFETY: entry code finds the `Cpu` there from now on.
    unsafe { spr::write::<{ number::SPRG0 }>(core::ptr::from_ref(cpu) as u64) };
    time::disarm(cpu);
    cpu
}

fn new_cpu<U: Upcalls<Ppc64le>>(index: usize, server: HardwareCpu, machine: &'static Machine) -> Cpu {
    let toc;
    // SAFETY: reads r2.
    unsafe { core::arch::asm!("mr {}, 2", out(reg) toc, options(nomem, nostack, preserves_flags)) };
    Cpu {
        frame: Cell::new(core::ptr::null_mut()),
        stack: stack::top(index, Use::Main),
        toc,
        ways: crate::trap::ways::<U>(),
        scratch: [const { Cell::new(0) }; 3],
        faulted: UnsafeCell::new(Registers::new(stack::top(index, Use::Fault))),
        upper: Cell::new(core::ptr::null()),
        machine,
        on_interrupt: U::interrupt as fn(&'static Cpu, Interrupt),
        index,
        server,
        events_taken: Cell::new(0),
        armed: Cell::new(false),
        on: AtomicBool::new(false),
    }
}

/// Enters user mode for the first time on this CPU.
pub(crate) fn enter_user(resume: Resume<Frame>, cpu: &'static Cpu) -> ! {
    // SAFETY: the frame is a user thread's, by the maker of a `Resume`.
    unsafe { spandrel_enter_user(resume.frame().as_ptr() as u64, core::ptr::from_ref(cpu).cast()) }
}

fn no_controller<U: Upcalls<Ppc64le>>(error: ControllerError) -> ! {
    U::boot_failure(format_args!("the interrupt controller cannot be used: {error}"))
}

/// Lets the console's interrupts through, where firmware can; its source number then.
fn console_interrupt(
    handover: &Handover,
    calls: Option<SourceCalls>,
    controller: &Controller,
) -> Option<u32> {
    let terminal = handover.console?;
    let source = terminal.interrupt?;
    if let Controller::Xics = controller {
        calls?.direct(source, handover.cpus[0], Wiring::Message).ok()?;
    }
    // A plain terminal signals whether asked or not and knows no modes, so a refusal means nothing.
    // SAFETY: the terminal may signal from now on; interrupts are off.
    let _ = unsafe { hcall::call(Call::VioSignal, [terminal.unit.into(), 1]) };
    Some(source)
}
