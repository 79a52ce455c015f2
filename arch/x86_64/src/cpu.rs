//! What the port keeps per CPU, and where its stacks lie.
//!
//! In the kernel the GS base points at the [`Cpu`]; in user mode it waits in the MSR that
//! `swapgs` exchanges it with. A CPU has one kernel stack, since a trap saves into the thread's
//! frame and nothing blocks in the kernel, and four more for the exceptions that may come at any
//! instruction. Below each stack lies a page that is never mapped, so running over its end is a
//! double fault and not a silent overwrite.
//!
//! The tops of the exception stacks hold the CPU's address: an NMI between `syscall` and `swapgs`
//! finds its CPU there, whatever the saved code segment and the GS base say.

use crate::X86_64;
use crate::gdt::{self, Gdt, Tss};
use crate::machine::Machine;
use crate::trap::Frame;
use arch_contract::Base;
use arch_contract::addr::{PAGE_SIZE, VirtAddr};
use core::cell::{Cell, UnsafeCell};
use core::mem::offset_of;
use core::ops::Range;
use core::ptr;
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
    pub(crate) tss: UnsafeCell<Tss>,
    pub(crate) gdt: UnsafeCell<Gdt>,
    upper: Cell<*const ()>,
    machine: Cell<Option<&'static Machine>>,
    pub(crate) apic_id: Cell<u32>,

    /// Non-maskable interrupts taken, for whoever wonders.
    pub(crate) nmis: Cell<u64>,
}

/// Offsets for the assembly.
pub mod offset {
    use super::*;
    pub const THIS: usize = offset_of!(Cpu, this);
    pub const FRAME: usize = offset_of!(Cpu, frame);
    pub const STACK_TOP: usize = offset_of!(Cpu, stack_top);
    pub const SCRATCH: usize = offset_of!(Cpu, scratch);
    pub const TSS_RSP0: usize = offset_of!(Cpu, tss) + offset_of!(Tss, rsp0);
}

impl Cpu {
    const fn new() -> Self {
        Self {
            this: Cell::new(ptr::null()),
            frame: Cell::new(ptr::null_mut()),
            stack_top: Cell::new(0),
            scratch: Cell::new(0),
            tss: UnsafeCell::new(Tss::new()),
            gdt: UnsafeCell::new(Gdt::new()),
            upper: Cell::new(ptr::null()),
            machine: Cell::new(None),
            apic_id: Cell::new(0),

            nmis: Cell::new(0),
        }
    }

    /// The machine, once boot has described it.
    pub(crate) fn try_machine(&self) -> Option<&'static Machine> {
        self.machine.get()
    }

    pub(crate) fn set_machine(&self, machine: &'static Machine) {
        self.machine.set(Some(machine));
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

/// The boot CPU's block lives in the image, because traps must work before there is a memory map.
#[repr(transparent)]
pub struct BootBlock(UnsafeCell<Block>);

// SAFETY: only the boot CPU touches it: the stacks as its stack pointer, `cpu` by shared reference
// through cells.
unsafe impl Sync for BootBlock {}

/// See [`BootBlock`].
pub static BOOT: BootBlock = BootBlock(UnsafeCell::new(Block {
    kernel: Stack { guard: [0; PAGE], bytes: [0; KERNEL_STACK] },
    exceptions: [const { Stack { guard: [0; PAGE], bytes: [0; EXCEPTION_STACK] } }; 4],
    cpu: Cpu::new(),
}));

/// Offset of the top of the boot CPU's kernel stack in [`BOOT`], for the entry code.
pub const BOOT_STACK_TOP: usize = offset_of!(Block, kernel) + size_of::<Stack<KERNEL_STACK>>();

impl BootBlock {
    fn at(&self) -> u64 {
        self.0.get() as u64
    }

    /// Sets up the boot CPU's value: its stacks' addresses, its own in GS, and at the top of each
    /// exception stack.
    ///
    /// # Safety
    /// Called once, first thing, on the boot CPU, on its kernel stack with interrupts off.
    pub unsafe fn init(&'static self) -> &'static Cpu {
        // SAFETY: shared access to cells only, on the one CPU that uses them; never mutably
        // borrowed as a whole.
        let cpu = unsafe { &(*self.0.get()).cpu };
        cpu.this.set(cpu);
        cpu.stack_top.set(self.at() + BOOT_STACK_TOP as u64);
        for (index, stack) in self.exception_stacks().enumerate() {
            let slot = (stack.end - 16) as *mut u64;
            // SAFETY: inside the stack, which nothing uses yet.
            unsafe { slot.write(ptr::from_ref(cpu) as u64) };
            // SAFETY: the TSS is this CPU's and not loaded yet.
            unsafe { (*cpu.tss.get()).ist[index] = slot as u64 };
        }
        // SAFETY: ring 0, on this CPU, once. Loading a null selector clears the GS base, so the bases
        // come after the segments: the kernel's is the CPU, the user's is 0.
        unsafe {
            gdt::load(cpu);
            msr::wrmsr(msr::IA32_GS_BASE, ptr::from_ref(cpu) as u64);
            msr::wrmsr(msr::IA32_KERNEL_GSBASE, 0);
        }
        cpu
    }

    fn exception_stacks(&self) -> impl Iterator<Item = Range<u64>> + use<> {
        let first = self.at() + offset_of!(Block, exceptions) as u64;
        (0..4).map(move |index| {
            let end = first + (index + 1) * size_of::<Stack<EXCEPTION_STACK>>() as u64;
            end - EXCEPTION_STACK as u64..end
        })
    }

    /// All its stacks.
    pub fn stacks(&self) -> impl Iterator<Item = Range<u64>> + use<> {
        let top = self.at() + BOOT_STACK_TOP as u64;
        core::iter::once(top - KERNEL_STACK as u64..top).chain(self.exception_stacks())
    }

    /// The pages that must stay unmapped: one below each stack.
    pub fn guards(&self) -> impl Iterator<Item = VirtAddr> + use<> {
        self.stacks().map(|stack| VirtAddr(stack.start - PAGE_SIZE))
    }
}

/// The CPU this code runs on, or `None` before [`BootBlock::init`]. For last words only: hooks
/// are given theirs.
pub fn current() -> Option<&'static Cpu> {
    // SAFETY: ring 0.
    let base = unsafe { msr::rdmsr(msr::IA32_GS_BASE) } as *const Cpu;
    // SAFETY: shared access to cells of the boot CPU's block.
    let boot = unsafe { &(*BOOT.0.get()).cpu };
    ptr::eq(base, boot).then_some(boot)
}
