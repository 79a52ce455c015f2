//! The interrupt controller of POWER9 and later, as a guest uses it natively (PAPR, "XIVE
//! Exploitation Mode").
//!
//! A *source* has two bits of state, P (an event was sent on) and Q (another came meanwhile), which
//! loads from its management page read and write. An event goes to a *queue* in memory, one per CPU
//! here, and then asks for the CPU's attention through its *thread context* (TIMA), a page that
//! shows each CPU its own. Hypervisor calls set all that up once; afterwards nothing needs a call.
//!
//! Sources are interrupts between CPUs, one per CPU, the console, and what devices are given
//! (`sources.rs`). Each is given a number of our own, which is what arrives in the queue.

use crate::controller::{ControllerError, Pending, accepted};
use crate::cpu::{Cpu, PHYSICAL_MAP};
use crate::hcall::{self, Call};
use crate::sources::Sources;
use crate::tree::XiveNode;
use crate::{boot_memory, late_map, spr};
use arch_contract::addr::PhysAddr;
use arch_contract::boot::{HardwareCpu, MAX_CPUS, MAX_RANGES, PhysRange};
use arch_contract::device;
use arch_contract::irq::Interrupt;
use arch_contract::mutant::{self, Mutant};
use arrayvec::ArrayVec;
use core::sync::atomic::{AtomicU32, Ordering, fence};

/// Our numbers of the sources, as they stand in a queue.
const IPI: u32 = 1;
const CONSOLE: u32 = 2;
/// A device's is this and the number that the generic kernel knows it by.
const FIRST_DEVICE: u32 = 256;

/// Bytes of a device page that are used, and mapped.
const PAGE: u64 = 4096;

/// Offsets in a source's management page. A load from `SET_00` clears P and Q and returns what
/// they were.
const STORE_END: u64 = 0x400;
const SET_00: u64 = 0xc00;
/// As a load from here sets Q and clears P, which keeps the source from sending anything on.
const SET_01: u64 = 0xd00;
/// Sets P and clears Q: an event was sent on.
const SET_10: u64 = 0xe00;
/// A load from here ends an event.
const LOAD_END: u64 = 0;
const Q: u64 = 1;
const P: u64 = 2;

/// Offsets in the thread context's page for operating systems: a load of 16 bits that acknowledges,
/// and the priority that this CPU lets in, a byte.
const ACKNOWLEDGE: u64 = 0x810;
const PRIORITY: u64 = 0x11;
/// Every source may interrupt; none may.
const LEAST: u8 = 0xff;
const MOST: u8 = 0;

/// How the state of a source is reached.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// By its management page, at this address; ended by a load, or by a store where the hardware
    /// offers that.
    Load(u64),
    Store(u64),
    /// By hypervisor calls: H_INT_ESB.
    Call,
}

/// The two that have a page, in the low bits of its address.
const PACKED_LOAD: u64 = 1;
const PACKED_STORE: u64 = 2;

/// The page at an address in the physical map.
fn page(at: u64) -> PhysRange {
    PhysRange { start: PhysAddr(at & !PHYSICAL_MAP), len: PAGE }
}

/// A source of interrupts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Source {
    number: u32,
    state: State,
    /// Where a store triggers it, if it can be triggered.
    trigger: Option<u64>,
}

/// The controller.
pub struct Xive {
    /// Address of the thread context's page.
    context: u64,
    /// The one priority that is used.
    priority: u64,
    /// One for each CPU, by index.
    ipis: ArrayVec<Source, MAX_CPUS>,
    console: Option<Source>,
    /// Address of the first CPU's queue; the others follow.
    queues: u64,
    /// log2 of a queue's bytes.
    queue_shift: u32,
}

impl Xive {
    /// Finds out where everything is. Memory for the queues is kept out of `free`.
    ///
    /// # Safety
    /// Translation is off, and what is in `free` is used by nobody.
    pub unsafe fn find(
        node: &XiveNode,
        cpus: usize,
        console: Option<u32>,
        free: &mut ArrayVec<PhysRange, MAX_RANGES>,
    ) -> Result<Self, ControllerError> {
        // SAFETY: forgets what firmware set up; interrupts are off.
        let (status, _) = unsafe { hcall::call(Call::IntReset, [0]) };
        accepted("H_INT_RESET", status)?;
        if (node.ipi_count as usize) < cpus {
            return Err(ControllerError::TooFewSources);
        }
        let mut ipis = ArrayVec::new();
        for number in (node.first_ipi..).take(cpus) {
            ipis.try_push(Source::find(number)?).map_err(|_| ControllerError::TooFewSources)?;
        }
        let console = console.map(Source::find).transpose()?;
        let bytes = 1 << node.queue_shift;
        let queues = boot_memory::keep(free, bytes * cpus as u64, bytes).ok_or(ControllerError::NoRoom)?;
        let queues = queues.start.0 | PHYSICAL_MAP;
        // SAFETY: just kept, and translation is off. A queue starts with no valid entry.
        unsafe { (queues as *mut u8).write_bytes(0, bytes as usize * cpus) };
        Ok(Self {
            context: node.context | PHYSICAL_MAP,
            priority: node.priority.into(),
            ipis,
            console,
            queues,
            queue_shift: node.queue_shift,
        })
    }

    /// The device pages to be mapped.
    pub fn pages(&self) -> impl Iterator<Item = PhysRange> {
        let sources = self.ipis.iter().chain(&self.console).flat_map(|source| source.pages());
        sources.chain([page(self.context)])
    }

    /// Gives every CPU its queue and every source its way there. Once, with translation on.
    pub fn start(&self, cpus: &[HardwareCpu]) -> Result<(), ControllerError> {
        for (index, cpu) in cpus.iter().enumerate() {
            const ALWAYS_NOTIFY: u64 = 1;
            let queue = self.queue(index) & !PHYSICAL_MAP;
            let arguments =
                [ALWAYS_NOTIFY, cpu.0.into(), self.priority, queue, self.queue_shift.into()];
            // SAFETY: the queue is the controller's from here on; it was kept for that.
            let (status, _) = unsafe { hcall::call(Call::IntSetQueueConfig, arguments) };
            accepted("H_INT_SET_QUEUE_CONFIG", status)?;
            self.ipis[index].direct(*cpu, self.priority, IPI)?;
            self.ipis[index].set(SET_00);
        }
        match self.console {
            Some(console) => {
                console.direct(cpus[0], self.priority, CONSOLE)?;
                console.set(SET_00);
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Finds a device's source and maps its pages. It is left silent.
    pub fn prepare(&self, number: u32) -> Result<Source, ControllerError> {
        let source = Source::find(number)?;
        for page in source.pages() {
            late_map::map_device_page(page.start).map_err(|_| ControllerError::NoRoom)?;
        }
        source.set(SET_01);
        Ok(source)
    }

    /// Directs a device's source, which stays silent.
    pub fn direct(
        &self,
        source: &Source,
        cpu: HardwareCpu,
        ours: device::Source,
    ) -> Result<(), ControllerError> {
        source.direct(cpu, self.priority, FIRST_DEVICE + u32::from(ours.0))
    }

    fn queue(&self, cpu: usize) -> u64 {
        self.queues + ((cpu as u64) << self.queue_shift)
    }

    /// What came while it was closed asks as this lets it in.
    pub fn open(&self) {
        self.let_in(LEAST);
    }

    pub fn close(&self) {
        self.let_in(MOST);
    }

    fn let_in(&self, priority: u8) {
        // SAFETY: the page is mapped; sets this CPU's interrupt priority.
        unsafe { ((self.context + PRIORITY) as *mut u8).write_volatile(priority) };
    }

    /// Stops asking for attention, until the next event.
    fn acknowledge(&self) {
        const ASKED: u8 = 0x80;
        // SAFETY: the page is mapped; the load acknowledges.
        let [asked, _] = unsafe { ((self.context + ACKNOWLEDGE) as *const u16).read_volatile() }.to_le_bytes();
        if asked & ASKED != 0 {
            // The acknowledgement raised this CPU to the priority of what asked.
            self.let_in(LEAST);
        }
        // Before the queue is looked at again: an event behind it asks by itself.
        spr::sync();
    }

    /// The next event in this CPU's queue: our number of its source.
    fn peek(&self, cpu: &Cpu) -> Option<u32> {
        /// An entry is valid if this bit differs from what it was one round ago. At first it is 0.
        const GENERATION: u32 = 1 << 31;
        let entries = 1 << (self.queue_shift - 2);
        let taken = cpu.events_taken.get();
        let at = self.queue(cpu.index) + taken % entries * 4;
        // SAFETY: an entry of this CPU's queue, which the controller writes as one word.
        let entry = u32::from_be(unsafe { &*(at as *const AtomicU32) }.load(Ordering::Relaxed));
        let odd_round = taken / entries % 2 == 1;
        ((entry & GENERATION == 0) == odd_round).then_some(entry & !GENERATION)
    }

    pub fn accept(&self, cpu: &Cpu) -> Pending {
        let Some(number) = self.peek(cpu) else {
            // Asked for nothing that is there, or did not ask; or an event came just now.
            self.acknowledge();
            let Some(number) = self.peek(cpu) else { return Pending::Nothing };
            let delivered = self.take(cpu, number);
            self.ask_again(cpu);
            return delivered;
        };
        let delivered = self.take(cpu, number);
        if self.peek(cpu).is_none() {
            self.acknowledge();
            self.ask_again(cpu);
        }
        delivered
    }

    /// What came before an acknowledgement, and was not seen then, has been acknowledged with the
    /// rest: something asks again. Most often what came is this CPU's own interrupt, which sends nothing
    /// on before it is ended: so it is ended first, and comes twice.
    fn ask_again(&self, cpu: &Cpu) {
        if self.peek(cpu).is_some() {
            let ipi = self.ipis[cpu.index];
            ipi.set(SET_00);
            ipi.trigger();
        }
    }

    /// Takes the event that was seen, and ends it at its source.
    fn take(&self, cpu: &Cpu, number: u32) -> Pending {
        cpu.events_taken.set(cpu.events_taken.get() + 1);
        let interrupt = match number {
            IPI => {
                self.ipis[cpu.index].end();
                Interrupt::Ipi
            }
            CONSOLE => {
                if let Some(console) = self.console {
                    console.end();
                }
                Interrupt::Console
            }
            _ => {
                let ours = number.checked_sub(FIRST_DEVICE).and_then(|ours| u16::try_from(ours).ok());
                let device = ours.and_then(|ours| Sources::arrived(cpu, device::Source(ours)));
                device.map_or(Interrupt::Spurious, Interrupt::Device)
            }
        };
        // The entry before what its handler reads. Pairs with the `sync` of `trigger`.
        fence(Ordering::Acquire);
        Pending::Delivered(interrupt)
    }

    pub fn send(&self, target: &Cpu) {
        self.ipis[target.index].trigger();
    }
}

impl Source {
    /// Asks where a source's pages are.
    fn find(number: u32) -> Result<Self, ControllerError> {
        // SAFETY: asks only.
        let (status, [flags, manage, trigger, _]) =
            unsafe { hcall::call(Call::IntGetSourceInfo, [0, number.into()]) };
        accepted("H_INT_GET_SOURCE_INFO", status)?;
        const BY_CALL: u64 = 8;
        const TRIGGER_ON_SAME_PAGE: u64 = 2;
        const STORE_ENDS: u64 = 1;
        let manage = manage | PHYSICAL_MAP;
        let state = match flags {
            flags if flags & BY_CALL != 0 => State::Call,
            flags if flags & STORE_ENDS != 0 => State::Store(manage),
            _ => State::Load(manage),
        };
        let trigger = match trigger {
            u64::MAX => (state != State::Call && flags & TRIGGER_ON_SAME_PAGE != 0).then_some(manage),
            page => Some(page | PHYSICAL_MAP),
        };
        Ok(Self { number, state, trigger })
    }

    /// Sends its events to `cpu`, under our number, as far as its state lets them through.
    fn direct(&self, cpu: HardwareCpu, priority: u64, ours: u32) -> Result<(), ControllerError> {
        const SET_NUMBER: u64 = 2;
        let arguments = [SET_NUMBER, self.number.into(), cpu.0.into(), priority, ours.into()];
        // SAFETY: `cpu` may be interrupted from now on, once it opens its context.
        let (status, _) = unsafe { hcall::call(Call::IntSetSourceConfig, arguments) };
        accepted("H_INT_SET_SOURCE_CONFIG", status)
    }

    /// Loads from a management offset: changes P and Q as it says, and returns what they were.
    fn set(&self, offset: u64) -> u64 {
        match self.state {
            // SAFETY: the page is mapped; a load from this offset writes the state.
            State::Load(page) | State::Store(page) => u64::from_be(unsafe { ((page + offset) as *const u64).read_volatile() }),
            State::Call => self.call(offset),
        }
    }

    /// Keeps it from sending anything on. What it has sent is in its queue when this returns. Says whether it
    /// has sent something that is not ended.
    pub fn silence(&self) -> bool {
        let before = self.set(SET_01);
        // SAFETY: waits only.
        let _ = unsafe { hcall::call(Call::IntSync, [0, self.number.into()]) };
        before & P != 0
    }

    /// Lets it through.
    pub fn let_through(&self) {
        self.set(SET_00);
    }

    /// Lets it through when the event that it has sent is ended.
    pub fn let_through_pending(&self) {
        self.set(SET_10);
    }

    /// Lets a line through, whether it was silenced or has not been ended: at once if it is asserted.
    pub fn let_line_through(&self) {
        self.set(SET_00);
        // Ending what has not happened sends an asserted line on.
        self.set(LOAD_END);
    }

    /// H_INT_ESB: a load from the management page by the hypervisor's hand.
    fn call(&self, offset: u64) -> u64 {
        const LOAD: u64 = 0;
        // SAFETY: changes the state of this source only.
        let (_, [value, ..]) = unsafe { hcall::call(Call::IntEsb, [LOAD, self.number.into(), offset]) };
        value
    }

    /// Ends an event: what came meanwhile, or comes, is a new one.
    pub fn end(&self) {
        match self.state {
            // SAFETY: the page is mapped; the store ends the event and sends on what Q remembers.
            State::Store(page) => unsafe { ((page + STORE_END) as *mut u64).write_volatile(0) },
            State::Load(_) => {
                if self.set(SET_00) & Q != 0 {
                    self.trigger();
                }
            }
            // A load from offset 0 ends the event; a level that is still high is sent on by the
            // hypervisor.
            State::Call => {
                self.call(LOAD_END);
            }
        }
    }

    /// The device pages it is reached by.
    fn pages(&self) -> impl Iterator<Item = PhysRange> + use<> {
        let manage = match self.state {
            State::Load(page) | State::Store(page) => Some(page),
            State::Call => None,
        };
        let trigger = self.trigger.filter(|&page| Some(page) != manage);
        [manage, trigger].into_iter().flatten().map(page)
    }

    /// As two words, for a place that is shared: pages are aligned, which leaves bits.
    pub fn pack(&self) -> [u64; 2] {
        let state = match self.state {
            State::Load(page) => page | PACKED_LOAD,
            State::Store(page) => page | PACKED_STORE,
            State::Call => 0,
        };
        [state, self.trigger.unwrap_or(0)]
    }

    /// What was packed of the source of this number.
    pub fn unpack(number: u32, [state, trigger]: [u64; 2]) -> Self {
        let page = state & !(PAGE - 1);
        let state = match state & (PAGE - 1) {
            PACKED_LOAD => State::Load(page),
            PACKED_STORE => State::Store(page),
            _ => State::Call,
        };
        Self { number, state, trigger: (trigger != 0).then_some(trigger) }
    }

    fn trigger(&self) {
        if let Some(page) = self.trigger {
            if !mutant::is(Mutant::InterruptUnordered) {
                // The store after everything before it, device loads included (`SMP-1`).
                spr::sync();
            }
            // SAFETY: the page is mapped; any store to it triggers.
            unsafe { (page as *mut u64).write_volatile(0) };
        }
    }
}
