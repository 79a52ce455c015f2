//! The simulated machine: RAM, the clock, the console, and what all CPUs can see.

use crate::code::Codes;
use crate::context::Live;
use crate::cpu::{Cpu, Loaded};
use crate::device::{Bridge, Pci};
use crate::events::{Event, Logged};
use crate::halt::Halts;
pub(crate) use crate::host::lock;
use crate::host::{Clock, Condvar};
use crate::profile::Profile;
use crate::tlb::Translations;
use crate::{Frame, Model};
use arch_contract::addr::{PAGE_SIZE, PhysAddr, VirtAddr};
use arch_contract::boot::{BootInfo, HardwareCpu, PhysRange, reserve};
use arch_contract::irq::Interrupt;
use arch_contract::machine::{Power, Verdict};
use arch_contract::mutant;
use arch_contract::smp::PowerState;
use arch_contract::time::Ticks;
use arch_contract::upcalls::Upcalls;
use arrayvec::{ArrayString, ArrayVec};
use core::ptr::NonNull;
use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, Once, OnceLock};

/// Where RAM starts. Not 0, so that a physical address that was never set is outside it.
pub const RAM_BASE: PhysAddr = PhysAddr(0x10_0000);

/// Who plays the CPUs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Pace {
    /// One host thread plays all of them, one upcall at a time.
    #[default]
    Script,
    /// Each is a host thread.
    Threads,
}

/// What to simulate.
#[derive(Clone, Debug)]
pub struct Config {
    pub profile: Profile,
    /// Bytes of RAM, a multiple of the page size.
    pub ram: u64,
    /// 1 to 64.
    pub cpus: u32,
    /// Numbers for address spaces: slots of a CPU, or ids of the machine, as the profile says.
    /// Small, so that they are reused soon.
    pub hardware_ids: u16,
    /// What [`Tlb::broadcast_from`](arch_contract::tlb::Tlb::broadcast_from) says, where the
    /// profile has a broadcast.
    pub broadcast_from: Option<u32>,
    pub pace: Pace,
    pub bridge: Bridge,
}

impl Config {
    fn ram_layout(&self) -> Layout {
        Layout::from_size_align(self.ram as usize, 1 << 16).expect("a sane size")
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            profile: Profile::default(),
            ram: 4 << 20,
            cpus: 1,
            hardware_ids: 64,
            broadcast_from: Some(1),
            pace: Pace::Script,
            bridge: Bridge::None,
        }
    }
}

/// What a run that ended carries: [`Power::power_off`] unwinds with it, and tests catch it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PowerOff(pub Verdict);

/// Selects the mutant that the environment names: another process for each, so tests in one process
/// agree.
fn select_mutant() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        if let Ok(id) = std::env::var(mutant::VARIABLE) {
            assert!(mutant::select(&id).is_some(), "{}={id}: no such mutant", mutant::VARIABLE);
        }
    });
}

/// What every CPU can see of one.
pub(crate) struct Shared {
    pub(crate) loaded: Mutex<Loaded>,
    pub(crate) translations: Mutex<Translations>,
    pub(crate) ipi: AtomicBool,
    /// What the senders of the pending interrupt knew (`SMP-1`), or whoever started the CPU.
    pub(crate) carried: Mutex<Clock>,
    pub(crate) power: Mutex<PowerState>,
}

/// Bytes in and out, and whether the next arrival interrupts.
#[derive(Default)]
pub(crate) struct Console {
    pub(crate) output: Vec<u8>,
    pub(crate) input: VecDeque<u8>,
    /// Input that has yet to arrive, by time.
    pub(crate) later: VecDeque<(Ticks, Vec<u8>)>,
    /// Raised, and not drained since.
    pub(crate) raised: bool,
}

/// The machine. Leaked: hooks want it to live for ever, and a test run makes few.
pub struct Machine {
    pub(crate) config: Config,
    ram: NonNull<u8>,
    pub(crate) clock: AtomicU64,
    pub(crate) console: Mutex<Console>,
    events: Mutex<Vec<Logged>>,
    pub(crate) live: Mutex<Live>,
    pub(crate) pci: Mutex<Pci>,
    pub(crate) codes: Codes,
    shared: Vec<Shared>,
    cpus: OnceLock<Box<[Cpu]>>,
    pub(crate) halts: Mutex<Halts>,
    /// Something that a halted CPU should look at.
    pub(crate) news: Condvar,
    interrupt: OnceLock<fn(&'static Cpu, Interrupt)>,
    watcher: OnceLock<Watcher>,
    hook_watcher: OnceLock<fn(Event)>,
}

/// Called for every event of a CPU at the moment it happens.
pub type Watcher = fn(&'static Cpu, Event);

// SAFETY: `ram` is memory that the machine owns; its bytes are touched by the simulated CPUs under
// the kernel's own rules, all else is behind locks and atomics.
unsafe impl Sync for Machine {}
// SAFETY: as above; nothing is tied to a host thread.
unsafe impl Send for Machine {}

impl Machine {
    /// Builds a machine and its CPUs, the boot CPU first.
    ///
    /// # Panics
    /// If the configuration is out of its ranges.
    pub fn new(config: Config) -> (&'static Self, Vec<&'static Cpu>) {
        select_mutant();
        assert!(config.ram.is_multiple_of(PAGE_SIZE) && config.ram > 0, "RAM is whole pages");
        assert!((1..=64).contains(&config.cpus), "1 to 64 CPUs");
        let layout = config.ram_layout();
        // SAFETY: the size is not 0.
        let ram = unsafe { alloc_zeroed(layout) };
        let Some(ram) = NonNull::new(ram) else { handle_alloc_error(layout) };
        let cpus = config.cpus;
        let machine: &'static Self = Box::leak(Box::new(Self {
            live: Mutex::default(),
            pci: Mutex::new(Pci::new()),
            codes: Codes::default(),
            ram,
            clock: AtomicU64::new(0),
            console: Mutex::default(),
            events: Mutex::default(),
            shared: (0..cpus)
                .map(|_| Shared {
                    loaded: Mutex::new(Loaded::Kernel),
                    translations: Mutex::default(),
                    ipi: AtomicBool::new(false),
                    carried: Mutex::default(),
                    power: Mutex::new(PowerState::Stopped),
                })
                .collect(),
            cpus: OnceLock::new(),
            halts: Mutex::default(),
            news: Condvar::new(),
            interrupt: OnceLock::new(),
            watcher: OnceLock::new(),
            hook_watcher: OnceLock::new(),
            config,
        }));
        let made = (0..cpus).map(|number| Cpu::new(machine, number)).collect();
        let _ = machine.cpus.set(made);
        machine.set_power(0, PowerState::Started);
        (machine, machine.cpus().iter().collect())
    }

    /// Names the kernel whose [`Upcalls::interrupt`] the interrupt windows call. The other upcalls
    /// are the test's to call.
    pub fn connect<U: Upcalls<Model>>(&self) {
        let _ = self.interrupt.set(U::interrupt);
    }

    pub(crate) fn deliver(&self, cpu: &Cpu, interrupt: Interrupt) {
        match self.interrupt.get() {
            Some(upcall) => upcall(cpu.forever(), interrupt),
            None => panic!("{interrupt:?} has nowhere to go: call `Machine::connect` first"),
        }
    }

    /// What the firmware would hand over: all RAM is free but for `initrd`, which is copied to its
    /// end.
    ///
    /// # Panics
    /// If the command line or the initrd does not fit.
    pub fn boot_info(&self, command_line: &str, initrd: Option<&[u8]>) -> BootInfo {
        let mut free = ArrayVec::new();
        free.push(PhysRange { start: RAM_BASE, len: self.config.ram });
        let initrd = initrd.map(|bytes| {
            let len = bytes.len() as u64;
            let start = RAM_BASE.0 + self.config.ram - len.next_multiple_of(PAGE_SIZE);
            let range = PhysRange { start: PhysAddr(start), len };
            // SAFETY: the range lies in RAM, which `at` checks, and nothing uses it yet.
            unsafe { self.at(range.start, bytes.len()).copy_from(NonNull::from(bytes).cast(), bytes.len()) };
            reserve(&mut free, range).expect("one hole");
            range
        });
        BootInfo {
            free,
            total: self.config.ram,
            command_line: ArrayString::from(command_line).expect("a short command line"),
            initrd,
            cpus: (0..self.config.cpus).map(HardwareCpu).collect(),
        }
    }

    /// Gives the host its memory back, where one process makes many machines.
    ///
    /// # Safety
    /// Nothing uses the RAM any more: not the kernel either, which has everything there.
    pub unsafe fn free_ram(&self) {
        // SAFETY: it was allocated with this layout; by the caller's obligation nothing uses it.
        unsafe { dealloc(self.ram.as_ptr(), self.config.ram_layout()) };
    }

    /// The host address of `len` bytes of RAM at `at`.
    ///
    /// # Panics
    /// If they are not all RAM: the kernel made the address up.
    pub(crate) fn at(&self, at: PhysAddr, len: usize) -> NonNull<u8> {
        let offset = at.0.wrapping_sub(RAM_BASE.0);
        assert!(
            offset.checked_add(len as u64).is_some_and(|end| end <= self.config.ram),
            "{at:?}: not RAM of this machine"
        );
        // SAFETY: the offset is inside the allocation.
        unsafe { self.ram.add(offset as usize) }
    }

    pub(crate) fn phys_of(&self, pointer: NonNull<u8>) -> PhysAddr {
        let offset = (pointer.as_ptr() as u64).wrapping_sub(self.ram.as_ptr() as u64);
        assert!(offset < self.config.ram, "{pointer:?}: not in the physical map");
        PhysAddr(RAM_BASE.0 + offset)
    }

    /// What the machine is.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// All CPUs, the boot CPU first.
    pub fn cpus(&self) -> &[Cpu] {
        self.cpus.get().expect("made with the machine")
    }

    pub(crate) fn shared(&self, number: u32) -> &Shared {
        &self.shared[number as usize]
    }

    pub(crate) fn translations(&self, number: u32) -> MutexGuard<'_, Translations> {
        lock(&self.shared(number).translations)
    }

    /// What CPU `number` holds.
    pub fn loaded(&self, number: u32) -> Loaded {
        *lock(&self.shared(number).loaded)
    }

    /// Has `watcher` look at the kernel's state at every event: the log says in which order hooks
    /// were called, but not what the kernel had said of itself by then.
    pub fn watch(&self, watcher: Watcher) {
        let _ = self.watcher.set(watcher);
    }

    /// The same for hooks that have no CPU.
    pub fn watch_hooks(&self, watcher: fn(Event)) {
        let _ = self.hook_watcher.set(watcher);
    }

    /// Has the watcher look, if there is one.
    pub(crate) fn show(&self, cpu: &Cpu, event: Event) {
        if let Some(watcher) = self.watcher.get() {
            watcher(cpu.forever(), event);
        }
    }

    pub(crate) fn log(&self, cpu: Option<&Cpu>, event: Event) {
        if let (Some(watcher), None) = (self.hook_watcher.get(), cpu) {
            watcher(event);
        }
        if let Some(cpu) = cpu {
            self.show(cpu, event);
        }
        // With threads, nobody reads it, and it would grow for as long as somebody spins.
        if self.config.pace == Pace::Script {
            let cpu = cpu.map(|cpu| cpu.number);
            lock(&self.events).push(Logged { cpu, event });
        }
    }

    /// Takes the log: what the hooks did since it was last taken, in order.
    pub fn events(&self) -> Vec<Logged> {
        core::mem::take(&mut lock(&self.events))
    }

    /// Lets time pass.
    pub fn advance(&self, ticks: u64) {
        self.clock.fetch_add(ticks, Ordering::SeqCst);
        self.nudge_halted();
    }

    /// Types on the console now.
    pub fn type_in(&self, bytes: &[u8]) {
        self.console().input.extend(bytes);
        self.nudge();
    }

    /// Types on the console at `at`. Calls must be in order of their times.
    pub fn type_at(&self, at: Ticks, bytes: &[u8]) {
        self.console().later.push_back((at, bytes.to_vec()));
    }

    /// Takes what was written to the console.
    pub fn output(&self) -> String {
        String::from_utf8_lossy(&core::mem::take(&mut self.console().output)).into_owned()
    }

    pub(crate) fn console(&self) -> MutexGuard<'_, Console> {
        lock(&self.console)
    }
}

impl Power for Model {
    /// Unwinds with a [`PowerOff`], which the test catches.
    fn power_off(machine: Option<&Machine>, verdict: Verdict) -> ! {
        if let Some(machine) = machine {
            machine.log(None, Event::PowerOff(verdict));
        }
        std::panic::resume_unwind(Box::new(PowerOff(verdict)))
    }

    /// A simulated CPU has no registers of its own.
    fn print_registers(_out: &mut dyn core::fmt::Write) -> core::fmt::Result {
        Ok(())
    }

    /// The host's stack is not the kernel's: nothing to visit.
    fn backtrace(_visit: &mut dyn FnMut(VirtAddr)) {}
}

const _: fn() = || {
    fn sync<T: Sync>() {}
    sync::<Machine>();
    sync::<Cpu>();
    // A frame is plain registers.
    fn send<T: Send>() {}
    send::<Frame>();
};
