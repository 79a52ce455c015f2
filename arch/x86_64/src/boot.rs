//! From the entry code to the generic kernel: set the CPU up, read what the firmware left, build
//! the real tables, start the controllers, and call up.

use crate::acpi;
use crate::apic::{LocalApic, vector};
use crate::cpu::{self, Cpu, power};
use crate::device::Pci;
use crate::features::Features;
use crate::firmware::Source;
use crate::handover::{self, Handover};
use crate::ioapic::{self, IoApic};
use crate::machine::Machine;
use crate::needed::Missing;
use crate::paging::{self, BOOT_WINDOW, BuildError, HugePages};
use crate::pcid::Pcids;
use crate::time::{NoClock, Rates};
use crate::{X86_64, console, idt, syscall, trampoline, vector as units};
use arch_contract::Base;
use arch_contract::addr::{PAGE_SIZE, PhysAddr};
use arch_contract::boot::{BootInfo, HardwareCpu, MAX_CPUS, MAX_RANGES, PhysRange, normalize, reserve};
use arch_contract::irq::IrqsOff;
use arch_contract::mutant::{self, Mutant};
use arch_contract::tlb::Tlb;
use arch_contract::upcalls::Upcalls;
use arrayvec::ArrayVec;
use core::cell::UnsafeCell;
use core::mem::MaybeUninit;
use core::sync::atomic::Ordering;
use x86::controlregs::{Cr0, Cr4, cr0, cr0_write, cr4_write};
use x86::msr;

/// The one machine, written in place before anything can reach it.
struct TheMachine(UnsafeCell<MaybeUninit<Machine>>);

// SAFETY: written once in `start`, on the only CPU that runs then; shared afterwards.
unsafe impl Sync for TheMachine {}

static MACHINE: TheMachine = TheMachine(UnsafeCell::new(MaybeUninit::uninit()));

/// Never handed out: the interrupt table and data of the BIOS, and room for real-mode start code
/// of other CPUs, which must lie below 1 MiB.
const LOW_MEMORY: PhysRange = PhysRange { start: PhysAddr(0), len: 0x1_0000 };

/// Physical memory through the entry code's tables.
struct BootWindow;

impl Source for BootWindow {
    fn bytes(&self, at: u64, len: usize) -> Option<&[u8]> {
        at.checked_add(len as u64).filter(|&end| end <= BOOT_WINDOW)?;
        // SAFETY: the entry code's tables map all of it. What is read are firmware's structures,
        // which nobody writes while `start` parses them; any bytes are valid `u8`s.
        Some(unsafe { core::slice::from_raw_parts(paging::phys(PhysAddr(at)).as_ptr(), len) })
    }
}

/// Where the entry code arrives, on the boot CPU's stack, with the address PVH left in `ebx`.
///
/// # Safety
/// Called once, by the entry code.
pub unsafe extern "C" fn start<U: Upcalls<X86_64>>(start_info: u32) -> ! {
    console::init();
    // SAFETY: the first thing on the boot CPU, interrupts off, once; the table after the stacks
    // and segments it names.
    let cpu = unsafe {
        let cpu = cpu::init_boot();
        idt::fill::<U>();
        idt::load();
        cpu
    };
    let features = match Features::find() {
        Ok(features) => features,
        Err(Missing(name)) => U::boot_failure(format_args!(
            "this CPU has no {name}, which the kernel needs; start QEMU with `-cpu max`"
        )),
    };
    // SAFETY: after this CPU's GS base and segments are set, before the kernel's tables are loaded.
    let units = unsafe { set_up::<U>(cpu, &features) };
    let (handover, tables) = match handover::parse(&BootWindow, start_info.into()) {
        Ok(handover) => {
            let rsdp = handover.rsdp.map(|at| at.0);
            (handover, acpi::read(&BootWindow, rsdp))
        }
        Err(bad) => U::boot_failure(format_args!("{bad}")),
    };
    let acpi::Tables { interrupts, power, ecam } = tables;
    let Handover { mut ram, command_line, initrd, .. } = handover;
    normalize(&mut ram);
    let mut free = ram.clone();
    for hole in [Some(LOW_MEMORY), Some(paging::image()), initrd].into_iter().flatten() {
        if reserve(&mut free, hole).is_err() {
            U::boot_failure(format_args!("the memory map is too fragmented: more than {MAX_RANGES} ranges"));
        }
    }

    let io_apic = interrupts.io_apics[0];
    let page = |address: u64| PhysAddr(address & !(PAGE_SIZE - 1));
    let devices = [page(interrupts.local_apic), page(io_apic.address)];
    let pci = ecam.and_then(|ecam| Pci::new(&ecam, &ram, page(io_apic.address)));
    let registers = pci.as_ref().map_or([].as_slice(), Pci::registers);
    // One of those listed is this CPU.
    let others = interrupts.cpus.len().saturating_sub(1);
    let huge = if features.pages_1g { HugePages::Available } else { HugePages::Missing };
    // SAFETY: on the boot CPU, once, under the entry code's tables; the maps are normalized, and
    // what is in use is out of `free`. The new root maps this code, its stack and all RAM.
    let built = unsafe { paging::build(&ram, &mut free, &devices, registers, others, huge) };
    match built {
        // SAFETY: complete, as `build` returned it, and static.
        Ok(()) => unsafe { paging::load(paging::kernel()) },
        Err(BuildError::NoMemory) => U::boot_failure(format_args!(
            "too little memory for the kernel's page tables and the stacks of its CPUs; give the machine more"
        )),
        Err(BuildError::TooFar(at)) => {
            U::boot_failure(format_args!("RAM at {at:?} lies beyond the physical map; give the machine less"))
        }
    }

    let local_apic = match features.x2apic {
        true => LocalApic::Msr,
        false => LocalApic::Memory(paging::device(0)),
    };
    // SAFETY: the second device's page, with the registers' offset in it; this is its only user.
    let io_apic = unsafe {
        let registers = paging::device(1).add((io_apic.address % PAGE_SIZE) as usize);
        IoApic::new(registers, io_apic.gsi_base)
    };
    ioapic::silence_legacy();
    io_apic.mask_all();
    // SAFETY: once on this CPU, interrupts off, IDT loaded; MSRs only where CPUID has x2APIC.
    unsafe { local_apic.enable() };
    let rates = match Rates::find(&features, &local_apic, power.pm_timer) {
        Ok(rates) => rates,
        Err(NoClock) => U::boot_failure(format_args!(
            "no clock: neither CPUID, the ACPI PM timer nor the PIT tells time; check the machine type"
        )),
    };
    local_apic.start_timer(rates.mode);
    let apic_id = local_apic.id();
    cpu.apic_id.set(apic_id);
    let pci = pci.map(|pci| pci.interrupting(apic_id));

    let pcids = if features.pcid { Pcids::Available } else { Pcids::Missing };
    let clock_floor = rates.floor();
    let found = Machine {
        features,
        pcids,
        rates,
        clock_floor,
        local_apic,
        io_apic,
        pci,
        ports: power,
        vector: units,
    };
    // SAFETY: nobody has a reference to it yet.
    let machine: &'static Machine = unsafe { (*MACHINE.0.get()).write(found) };
    cpu.set_machine(machine);

    if machine.io_apic.route(interrupts.isa[console::ISA_IRQ], vector::CONSOLE, apic_id).is_err() {
        U::boot_failure(format_args!("the console's interrupt reaches no I/O APIC; check the machine type"));
    }
    console::enable_interrupt();

    let boot_cpu = HardwareCpu(apic_id);
    // Ranges of whole pages have all of a page or nothing.
    let has_start_page = ram.iter().any(|range| range.overlaps(&trampoline::RANGE));
    let startable =
        |other: &HardwareCpu| *other != boot_cpu && has_start_page && machine.local_apic.reaches(other.0);
    let others: ArrayVec<HardwareCpu, MAX_CPUS> =
        interrupts.cpus.iter().copied().filter(startable).take(others).collect();
    if !others.is_empty() {
        // SAFETY: on the boot CPU, once, under the kernel's tables, with as many blocks mapped and the
        // page in RAM.
        unsafe {
            cpu::make_others(machine, others.iter().map(|other| other.0));
            trampoline::prepare::<U>();
        }
    }
    let cpus = core::iter::once(boot_cpu).chain(others).take(MAX_CPUS).collect();
    let total = ram.iter().map(|range| range.len).sum();
    let info = BootInfo { free, total, command_line, initrd, cpus };
    let resume = U::boot(info, machine, cpu);
    // SAFETY: on the kernel's stack, with the frame of the `Resume` just made.
    unsafe { syscall::first::<U>(resume.frame()) }
}

/// Where another CPU arrives, on its kernel stack, on the tables of [`trampoline`].
///
/// # Safety
/// Called by the start code only, with this CPU's own value.
pub unsafe extern "C" fn start_other<U: Upcalls<X86_64>>(cpu: &'static Cpu) -> ! {
    // Relaxed: whoever asked learns from it only that no further start-up interrupt is needed.
    cpu.power.store(power::ARRIVED, Ordering::Relaxed);
    let machine = X86_64::machine(cpu);
    // SAFETY: the first thing on this CPU, interrupts off; each step after what it needs, as on the
    // boot CPU. The kernel's tables map all that is in use. The flush is for what an INIT leaves
    // cached (SMP-3; SDM vol. 3 table 10-1).
    unsafe {
        cpu.take_over();
        idt::load();
        set_up::<U>(cpu, &machine.features);
        paging::load(paging::kernel());
        X86_64::flush_local_all(cpu, &IrqsOff::assume());
        machine.local_apic.enable();
    }
    machine.local_apic.start_timer(machine.rates.mode);
    let resume = U::boot_secondary(cpu);
    // SAFETY: on the kernel's stack, with the frame of the `Resume` just made.
    unsafe { syscall::first::<U>(resume.frame()) }
}

/// What every CPU does alike: control registers, system calls, vector units.
///
/// # Safety
/// On `cpu`, as it starts, after its GS base and segments are set, before the kernel's own tables
/// are loaded.
unsafe fn set_up<U: Upcalls<X86_64>>(cpu: &Cpu, features: &Features) -> units::Format {
    // SAFETY: the caller's obligation; the control registers switch on what the others need.
    unsafe {
        control_registers(features);
        syscall::init::<U>(cpu);
        units::Format::enable(features)
    }
}

/// Sets this CPU's control registers: paging rules first, then what is optional, by feature.
///
/// # Safety
/// On each CPU, before the kernel's own tables are loaded.
unsafe fn control_registers(features: &Features) {
    /// EFER: system-call extensions and no-execute.
    const SYSCALL_ENABLE: u64 = 1 << 0;
    const NO_EXECUTE_ENABLE: u64 = 1 << 11;

    let mut control = Cr4::CR4_ENABLE_PAE
        | Cr4::CR4_ENABLE_GLOBAL_PAGES
        | Cr4::CR4_ENABLE_MACHINE_CHECK
        | Cr4::CR4_ENABLE_SSE
        | Cr4::CR4_UNMASKED_SSE
        | Cr4::CR4_DEBUGGING_EXTENSIONS;
    // Off by decision: FSGSBASE (user mode cannot choose bases, so entry can trust its own),
    // protection keys, performance counters, 5-level paging.
    // PCIDs may be switched on in long mode, while CR3 names PCID 0 (SDM vol. 3 §4.10.1).
    control.set(Cr4::CR4_ENABLE_PCID, features.pcid);
    control.set(Cr4::CR4_ENABLE_SMEP, features.smep && !mutant::is(Mutant::UserCodeIsKernels));
    control.set(Cr4::CR4_ENABLE_SMAP, features.smap && !mutant::is(Mutant::UserPagesOpen));
    control.set(Cr4::CR4_ENABLE_UMIP, features.umip && !mutant::is(Mutant::TablesInSight));
    control.set(Cr4::CR4_ENABLE_OS_XSAVE, features.xsave);
    // SAFETY: ring 0; each optional bit is set only where CPUID has the feature. No mapping of the
    // entry code is user's, so SMEP and SMAP change nothing. TS is set: the units start off.
    unsafe {
        let efer = msr::rdmsr(msr::IA32_EFER);
        msr::wrmsr(msr::IA32_EFER, efer | SYSCALL_ENABLE | NO_EXECUTE_ENABLE);
        cr4_write(control);
        let mode = cr0() - Cr0::CR0_EMULATE_COPROCESSOR - Cr0::CR0_CACHE_DISABLE - Cr0::CR0_NOT_WRITE_THROUGH;
        cr0_write(
            mode | Cr0::CR0_WRITE_PROTECT
                | Cr0::CR0_ALIGNMENT_MASK
                | Cr0::CR0_NUMERIC_ERROR
                | Cr0::CR0_MONITOR_COPROCESSOR
                | Cr0::CR0_TASK_SWITCHED,
        );
    }
}
