//! What the port keeps per CPU, and where its stacks lie.
//!
//! In the kernel the GS base points at the [`Cpu`]; in user mode it waits in the MSR that
//! `swapgs` exchanges it with. A CPU has one kernel stack, since a trap saves into the thread's
//! frame and nothing blocks in the kernel, and four more for the exceptions that may come at any
//! instruction. Below each stack lies a page that is never mapped, so running over its end is a
//! double fault and not a silent overwrite.
//!
//! Stacks and value together are a [`Block`]. The boot CPU's lies in the image, because traps must
//! work before there is a memory map; those of the others are mapped one behind the other, in pages
//! that were taken out of the free memory at boot.
//!
//! The tops of the exception stacks hold the CPU's address: an NMI between `syscall` and `swapgs`
//! finds its CPU there, whatever the saved code segment and the GS base say.

use crate::X86_64;
use crate::gdt::{self, Gdt, Tss};
use crate::machine::Machine;
use crate::pcid::{Pcids, Slots};
use crate::trap::Frame;
use arch_contract::Base;
use arch_contract::addr::{PAGE_SIZE, VirtAddr};
use core::cell::{Cell, UnsafeCell};
use core::mem::offset_of;
use core::ops::Range;
use core::ptr;
use core::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use x86::msr;

/// Per-CPU state. The assembly reaches the first fields through GS at their offsets.
#[repr(C, align(64))]
pub struct Cpu {
    /// Its own address.
    this: Cell<*const Cpu>,
    /// The frame of the last `Resume`: where the next system call saves.
    pub(crate) frame: Cell<*mut Frame>,
    /// The top of the kernel stack.
    stack_top: Cell<u64>,
    /// The user stack pointer, for a few instructions of the entry paths.
    scratch: Cell<u64>,
    /// The way to user mode, which is instantiated with the kernel above.
    pub(crate) enter_user: Cell<*const ()>,
    /// The ways of system calls, in the kernel above.
    pub(crate) ways: Cell<*const ()>,
    pub(crate) tss: UnsafeCell<Tss>,
    pub(crate) gdt: UnsafeCell<Gdt>,
    upper: Cell<*const ()>,
    machine: Cell<Option<&'static Machine>>,
    /// What a switch asks of the machine, without asking whether it is known.
    pub(crate) clock_floor: Cell<Option<&'static AtomicU64>>,
    pub(crate) pcids: Cell<Pcids>,
    /// Its name for other CPUs, and by which the start code finds its value. Set before any other
    /// CPU runs.
    pub(crate) apic_id: Cell<u32>,
    /// How far it is, as a value of [`power`]: written by whoever starts it, then by itself.
    pub(crate) power: AtomicU32,
    /// Slots of which something was to be forgotten while they were not loaded.
    pub(crate) stale_slots: Cell<Slots>,

    /// Non-maskable interrupts taken, for whoever wonders.
    pub(crate) nmis: Cell<u64>,
}

/// Values of [`Cpu::power`].
pub mod power {
    /// Executes nothing, touches no memory.
    pub const STOPPED: u32 = 0;
    /// Was asked to start.
    pub const ASKED: u32 = 1;
    /// Runs the kernel's code.
    pub const ARRIVED: u32 = 2;
}

/// Offsets for the assembly.
pub mod offset {
    use super::*;
    pub const THIS: usize = offset_of!(Cpu, this);
    pub const FRAME: usize = offset_of!(Cpu, frame);
    pub const STACK_TOP: usize = offset_of!(Cpu, stack_top);
    pub const SCRATCH: usize = offset_of!(Cpu, scratch);
    pub const ENTER_USER: usize = offset_of!(Cpu, enter_user);
    pub const WAYS: usize = offset_of!(Cpu, ways);
    pub const APIC_ID: usize = offset_of!(Cpu, apic_id);
    pub const POWER: usize = offset_of!(Cpu, power);
    pub const TSS_RSP0: usize = offset_of!(Cpu, tss) + offset_of!(Tss, rsp0);
}

impl Cpu {
    const fn new() -> Self {
        Self {
            this: Cell::new(ptr::null()),
            frame: Cell::new(ptr::null_mut()),
            stack_top: Cell::new(0),
            scratch: Cell::new(0),
            enter_user: Cell::new(ptr::null()),
            ways: Cell::new(ptr::null()),
            tss: UnsafeCell::new(Tss::new()),
            gdt: UnsafeCell::new(Gdt::new()),
            upper: Cell::new(ptr::null()),
            machine: Cell::new(None),
            clock_floor: Cell::new(None),
            pcids: Cell::new(Pcids::Missing),
            apic_id: Cell::new(0),
            power: AtomicU32::new(power::STOPPED),
            stale_slots: Cell::new(Slots::NONE),

            nmis: Cell::new(0),
        }
    }

    /// The machine, once boot has described it.
    pub(crate) fn try_machine(&self) -> Option<&'static Machine> {
        self.machine.get()
    }

    pub(crate) fn set_machine(&self, machine: &'static Machine) {
        self.machine.set(Some(machine));
        self.clock_floor.set(machine.clock_floor.as_ref());
        self.pcids.set(machine.pcids);
    }

    /// The address of the block this value is part of.
    fn block(&self) -> u64 {
        ptr::from_ref(self) as u64 - offset_of!(Block, cpu) as u64
    }

    /// All its stacks.
    pub fn stacks(&self) -> impl Iterator<Item = Range<u64>> + use<> {
        stacks(self.block())
    }

    /// The pages that must stay unmapped: one below each stack.
    pub fn guards(&self) -> impl Iterator<Item = VirtAddr> + use<> {
        guards(self.block())
    }

    /// Notes where its stacks are, and its own address at the top of each exception stack.
    ///
    /// # Safety
    /// Nothing uses the exception stacks yet, and no CPU has the TSS loaded.
    unsafe fn lay_out(&'static self) {
        self.this.set(self);
        self.stack_top.set(self.block() + STACK_TOP as u64);
        for (index, stack) in exception_stacks(self.block()).enumerate() {
            let slot = (stack.end - 16) as *mut u64;
            // SAFETY: inside the stack, which nothing uses yet.
            unsafe { slot.write(ptr::from_ref(self) as u64) };
            // SAFETY: a TSS that is not loaded yet.
            unsafe { (*self.tss.get()).ist[index] = slot as u64 };
        }
    }

    /// Makes the CPU that executes this the one of this value: segments, task register, GS base.
    ///
    /// # Safety
    /// On its kernel stack, with interrupts off, before its first trap.
    pub unsafe fn take_over(&'static self) {
        // SAFETY: ring 0, on this CPU, before its first trap. Loading a null selector clears the GS
        // base, so the bases come after the segments: the kernel's is the CPU, the user's is 0.
        unsafe {
            gdt::load(self);
            msr::wrmsr(msr::IA32_GS_BASE, ptr::from_ref(self) as u64);
            msr::wrmsr(msr::IA32_KERNEL_GSBASE, 0);
        }
    }
}

impl Base for X86_64 {
    type Machine = Machine;
    type Cpu = Cpu;
    const NAME: &'static str = "x86_64";

    fn machine(cpu: &Cpu) -> &Machine {
        match cpu.machine.get() {
            Some(machine) => machine,
            // Hooks are called by the generic kernel, which gets the CPU after the machine.
            None => unreachable!("a hook was called before boot described the machine"),
        }
    }

    #[inline(always)]
    fn upper(cpu: &Cpu) -> *const () {
        cpu.upper.get()
    }

    fn bind(cpu: &Cpu, upper: *const ()) {
        cpu.upper.set(upper);
    }
}

const PAGE: usize = PAGE_SIZE as usize;
/// Bytes of the kernel stack. Ample, since there is one per CPU and not per thread.
const KERNEL_STACK: usize = 64 * 1024;
/// Bytes of each exception stack: room for the last words of a kernel fault.
const EXCEPTION_STACK: usize = 8 * 1024;

/// A stack and the page below it that is never mapped.
#[repr(C, align(4096))]
struct Stack<const BYTES: usize> {
    guard: [u8; PAGE],
    bytes: [u8; BYTES],
}

/// The exceptions that may come at any instruction of the kernel, each on a stack of its own.
/// The value is the index in the TSS (SDM vol. 3 §6.14.5), from 1.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum ExceptionStack {
    DoubleFault = 1,
    NonMaskable = 2,
    MachineCheck = 3,
    Debug = 4,
}

/// A CPU with its stacks.
#[repr(C)]
pub struct Block {
    kernel: Stack<KERNEL_STACK>,
    exceptions: [Stack<EXCEPTION_STACK>; 4],
    cpu: Cpu,
}

fn exception_stacks(block: u64) -> impl Iterator<Item = Range<u64>> {
    let first = block + offset_of!(Block, exceptions) as u64;
    (0..4).map(move |index| {
        let end = first + (index + 1) * size_of::<Stack<EXCEPTION_STACK>>() as u64;
        end - EXCEPTION_STACK as u64..end
    })
}

fn stacks(block: u64) -> impl Iterator<Item = Range<u64>> {
    let top = block + STACK_TOP as u64;
    core::iter::once(top - KERNEL_STACK as u64..top).chain(exception_stacks(block))
}

fn guards(block: u64) -> impl Iterator<Item = VirtAddr> {
    stacks(block).map(|stack| VirtAddr(stack.start - PAGE_SIZE))
}

/// The boot CPU's block.
#[repr(transparent)]
pub struct BootBlock(UnsafeCell<Block>);

// SAFETY: only the boot CPU touches the stacks, as its stack pointer; `cpu` is reached by shared
// reference through cells and atomics.
unsafe impl Sync for BootBlock {}

/// See [`BootBlock`].
pub static BOOT: BootBlock = BootBlock(UnsafeCell::new(Block {
    kernel: Stack { guard: [0; PAGE], bytes: [0; KERNEL_STACK] },
    exceptions: [const { Stack { guard: [0; PAGE], bytes: [0; EXCEPTION_STACK] } }; 4],
    cpu: Cpu::new(),
}));

/// Offset of the top of the kernel stack in a block.
pub const STACK_TOP: usize = offset_of!(Block, kernel) + size_of::<Stack<KERNEL_STACK>>();

/// Where the blocks of the other CPUs are mapped.
pub const BLOCKS: u64 = 0xffff_ffff_d000_0000;
/// Bytes from one block to the next.
pub const BLOCK: usize = size_of::<Block>();
/// Where the value of the first of the other CPUs is mapped.
pub const FIRST_OTHER: u64 = BLOCKS + offset_of!(Block, cpu) as u64;

/// How many CPUs have a value. Read by the start code of other CPUs.
pub static COUNT: AtomicUsize = AtomicUsize::new(1);

/// The boot CPU's value, set up or not.
pub fn boot() -> &'static Cpu {
    // SAFETY: shared access to cells and atomics; never mutably borrowed as a whole.
    unsafe { &(*BOOT.0.get()).cpu }
}

/// Sets up the boot CPU's value and makes this CPU its owner.
///
/// # Safety
/// Called once, first thing, on the boot CPU, on its kernel stack with interrupts off.
pub unsafe fn init_boot() -> &'static Cpu {
    let cpu = boot();
    cpu.power.store(power::ARRIVED, Ordering::Relaxed);
    // SAFETY: first thing on the CPU, by the caller's obligation.
    unsafe {
        cpu.lay_out();
        cpu.take_over();
    }
    cpu
}

/// The pages of the `index`-th of the other CPUs' blocks that are to be mapped: all but the guards.
pub fn pages_of_other(index: usize) -> impl Iterator<Item = VirtAddr> {
    let block = BLOCKS + (index * BLOCK) as u64;
    let pages = (block..block + BLOCK as u64).step_by(PAGE).map(VirtAddr);
    pages.filter(move |&page| guards(block).all(|guard| guard != page))
}

/// Makes the values of the other CPUs, whose APIC ids these are, in their order.
///
/// # Safety
/// Called once, before another CPU runs, with the blocks of as many CPUs mapped.
pub unsafe fn make_others(machine: &'static Machine, apic_ids: impl Iterator<Item = u32>) {
    for (index, apic_id) in apic_ids.enumerate() {
        let at = ptr::with_exposed_provenance_mut::<Cpu>(FIRST_OTHER as usize + index * BLOCK);
        // SAFETY: mapped memory of the right size that nobody uses yet, aligned since the blocks are.
        unsafe { at.write(Cpu::new()) };
        // SAFETY: just written, for good; only ever borrowed shared.
        let cpu = unsafe { &*at };
        cpu.apic_id.set(apic_id);
        cpu.set_machine(machine);
        // SAFETY: the CPU does not run yet.
        unsafe { cpu.lay_out() };
        // Release: pairs with the acquire in `nth`. Other CPUs see all of this by `start_cpu`.
        COUNT.store(index + 2, Ordering::Release);
    }
}

/// The value of the `index`-th CPU, the boot CPU being 0.
pub fn nth(index: usize) -> Option<&'static Cpu> {
    if index >= COUNT.load(Ordering::Acquire) {
        return None;
    }
    let Some(other) = index.checked_sub(1) else { return Some(boot()) };
    let at = ptr::with_exposed_provenance::<Cpu>(FIRST_OTHER as usize + other * BLOCK);
    // SAFETY: made by `make_others`, for good, and only ever borrowed shared.
    Some(unsafe { &*at })
}

/// The CPU this code runs on, or `None` before it has taken its value over. For last words, and for
/// code that no `Cpu` can be passed to: hooks are given theirs.
pub fn current() -> Option<&'static Cpu> {
    // SAFETY: ring 0.
    let base = unsafe { msr::rdmsr(msr::IA32_GS_BASE) };
    if base == ptr::from_ref(boot()) as u64 {
        return Some(boot());
    }
    let offset = base.checked_sub(FIRST_OTHER)? as usize;
    if offset.is_multiple_of(BLOCK) { nth(offset / BLOCK + 1) } else { None }
}
