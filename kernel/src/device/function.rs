//! A function of the machine: who holds it, and the order of things when nobody does any more.
//!
//! Functions are found at boot and are there for ever; what comes and goes is their being *held*. A
//! function is held from the first capability on it to the end of the last, and what its holder made of it
//! hangs off it: sources of interrupts, memory it may reach. The end has an order (`DEV-3`): the function
//! is kept from the bus, its messages are switched off, it is reset, its DMA memory is taken out of its
//! reach; and only then do those frames lose the reference that the function had on them. So no frame is
//! anybody else's while a device can write to it, in whatever order a holder's handles went.
//!
//! What is left in tables then, of its registers' memory and its interrupts, is counted: until it is gone
//! the function cannot be held anew, so that an old holder never reaches into a new one's device.

use super::dma::Dma;
use super::interrupt::{self, Interrupt, Listeners};
use super::message::Sending;
use super::pci::{Config, Found, Line, Signals};
use crate::cpu::Cpu;
use crate::ipc::Notification;
use crate::kernel::Kernel;
use crate::mm::heap::Charged;
use crate::mm::list::List;
use crate::mm::{Machine, NoMemory};
use crate::object::Ref;
use crate::sync::{Guard, Leaf, Lock};
use abi::Error;
use abi::device::{Command, MAX_DMA, MAX_VECTORS};
use arch_contract::device::{Devices, Function as Place, Messages, Refused, Source};
use arch_contract::irq::IrqsOff;
use arch_contract::mutant::{self, Mutant};
use arch_current::Current;
use arrayvec::ArrayVec;

/// See the module.
pub struct Function {
    pub place: Place,
    pub found: Found,
    pub interrupts: List<Interrupt>,
    holding: Leaf<Holding>,
    /// Waited for, since registers are slow.
    hardware: Lock<Hardware>,
}

/// Who holds it.
pub(super) struct Holding {
    /// Capabilities on it.
    names: u32,
    /// Memory objects of its registers.
    remains: u32,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Free,
    Held,
    /// It is being reset.
    Ending,
}

/// What its holder has made of it.
#[derive(Default)]
pub struct Hardware {
    /// By vector; empty before the first interrupt was asked for.
    sources: ArrayVec<Source, MAX_VECTORS>,
    pub(super) dma: ArrayVec<Ref<Dma>, MAX_DMA>,
}

impl Hardware {
    /// The source of an interrupt, while there is one.
    pub(super) fn source(&self, vector: u16) -> Option<Source> {
        self.sources.get(usize::from(vector)).copied()
    }
}

impl Function {
    pub fn new(charged: Charged, index: u16, place: Place, found: Found) -> Result<Self, NoMemory> {
        let mut interrupts = List::new(charged);
        let mut vector = 0;
        interrupts.fill_to(vectors(found.signals), || {
            vector += 1;
            Interrupt::new(index, vector - 1)
        })?;
        let holding = Holding { names: 0, remains: 0, state: State::Free };
        Ok(Self {
            place,
            found,
            interrupts,
            holding: Leaf::new(holding),
            hardware: Lock::new(Hardware::default()),
        })
    }

    pub(super) fn config(&self, machine: &'static Machine) -> Config {
        Config { machine, place: self.place }
    }

    /// Its hardware, whoever holds it.
    pub(super) fn lock<'a>(&'a self, cpu: &Cpu) -> Guard<'a, Hardware> {
        self.hardware.lock(cpu)
    }

    /// Its hardware, for a holder. `Gone` if there is none any more.
    pub fn held<'a>(&'a self, cpu: &Cpu) -> Result<Guard<'a, Hardware>, Error> {
        let hardware = self.hardware.lock(cpu);
        // The end first says so and then takes the lock: from here on it waits.
        if self.holding.lock().state == State::Held { Ok(hardware) } else { Err(Error::Gone) }
    }

    /// Begins to hold it, or joins those who do, until [`unnamed`](Self::unnamed).
    pub fn claim(&self) -> Result<(), Error> {
        let mut holding = self.holding.lock();
        let interrupts = self.interrupts.iter().any(|interrupt| interrupt.is_named(&holding));
        match holding.state {
            State::Free if holding.remains == 0 && !interrupts => holding.state = State::Held,
            State::Held => {}
            State::Free | State::Ending => return Err(Error::Busy),
        }
        holding.names += 1;
        Ok(())
    }

    /// There is one more capability. Another exists, or a claim.
    pub fn named(&self) {
        self.holding.lock().names += 1;
    }

    /// There is one less. The last one's end is the holder's. The caller holds no lock.
    pub fn unnamed(&self, cpu: &Cpu) {
        {
            let mut holding = self.holding.lock();
            holding.names -= 1;
            if holding.names > 0 {
                return;
            }
            holding.state = State::Ending;
        }
        self.end(cpu);
        self.holding.lock().state = State::Free;
    }

    /// Its registers are referred to, until [`Remains`] is dropped.
    pub fn remain(&'static self) -> Remains {
        self.holding.lock().remains += 1;
        Remains(self)
    }

    /// Takes everything back from whoever held it: see the module for the order. Everything here is bounded
    /// by what one function can have, so it needs no slices.
    fn end(&self, cpu: &Cpu) {
        let (kernel, config) = (cpu.kernel, self.config(cpu.kernel.machine));
        let mut unbound: ArrayVec<Option<Ref<Notification>>, MAX_VECTORS> = ArrayVec::new();
        let mut hardware = self.hardware.lock(cpu);
        if mutant::is(Mutant::FramesGoFirst) {
            hardware.dma.clear();
        }
        if !mutant::is(Mutant::MasterLeftOn) {
            config.set_command(config.command() & Command::MEMORY.bits() as u32, Line::Quiet);
        }
        self.found.signals.switch(config, Sending::Off);
        for interrupt in self.interrupts.iter() {
            unbound.push(interrupt.unbind(cpu, &hardware));
        }
        self.take_sources(kernel, &mut hardware);
        if !mutant::is(Mutant::NeverReset) {
            self.found.reset.reset(config);
        }
        if !mutant::is(Mutant::MasterLeftOn) {
            config.set_command(0, Line::Quiet);
        }
        self.found.place_bars(config);
        for dma in &hardware.dma {
            dma.unmap(kernel.machine, self.place);
        }
        let dma = core::mem::take(&mut hardware.dma);
        drop(hardware);
        drop(dma);
        for notification in unbound {
            interrupt::dispose(cpu, notification);
        }
    }

    /// Lets it reach `dma`, until its end or [`forget`](Self::forget).
    pub fn reach(&self, cpu: &Cpu, dma: &Ref<Dma>, irq: &IrqsOff) -> Result<(), Error> {
        let mut hardware = self.held(cpu)?;
        if hardware.dma.is_full() {
            return Err(Error::TableFull);
        }
        dma.map(cpu.kernel.machine, self.place, irq).map_err(|NoMemory| Error::NoMemory)?;
        hardware.dma.push(dma.clone());
        Ok(())
    }

    /// Takes `dma`, whose address nobody was told, out of its reach again.
    pub fn forget(&self, cpu: &Cpu, dma: &Ref<Dma>) {
        let mut hardware = self.lock(cpu);
        dma.unmap(cpu.kernel.machine, self.place);
        hardware.dma.retain(|other| !Ref::ptr_eq(other, dma));
    }

    /// Turns what `set` says on, and the rest off. Its registers stay reachable while it has interrupts, which
    /// the kernel masks there.
    pub fn set_command(&self, cpu: &Cpu, set: Command) -> Result<Command, Error> {
        let hardware = self.held(cpu)?;
        let config = self.config(cpu.kernel.machine);
        let before = Command::from_bits_truncate(config.command().into());
        let needed = if hardware.sources.is_empty() { Command::empty() } else { Command::MEMORY };
        config.set_command((set | needed).bits() as u32, self.line(&hardware));
        Ok(before)
    }

    fn line(&self, hardware: &Hardware) -> Line {
        match self.found.signals {
            Signals::Line { .. } if !hardware.sources.is_empty() => Line::Used,
            _ => Line::Quiet,
        }
    }

    /// One of its interrupts, whose sources are taken when the first is asked for.
    pub fn interrupt(&'static self, cpu: &Cpu, vector: u64) -> Result<&'static Interrupt, Error> {
        let vector = usize::try_from(vector).map_err(|_| Error::BadArgument)?;
        let interrupt = self.interrupts.get(vector).ok_or(Error::BadArgument)?;
        let mut hardware = self.held(cpu)?;
        if hardware.sources.is_empty() {
            self.take_in_sources(cpu.kernel, &mut hardware).map_err(|refused| match refused {
                Refused::NoneLeft => Error::NoMemory,
                Refused::NotSupported => Error::NotSupported,
            })?;
        }
        Ok(interrupt)
    }

    fn take_in_sources(
        &'static self,
        kernel: &'static Kernel,
        hardware: &mut Hardware,
    ) -> Result<(), Refused> {
        let (machine, config, signals) = (kernel.machine, self.config(kernel.machine), self.found.signals);
        let mut sources: ArrayVec<Source, MAX_VECTORS> = self.interrupts.iter().map(|_| Source(0)).collect();
        let kind = match signals {
            Signals::None => return Err(Refused::NotSupported),
            Signals::Line { pin } => {
                sources[0] = Current::line(machine, self.place, pin)?;
                let connected = kernel.devices.wires.connect(sources[0], &self.interrupts[0]);
                connected.map_err(|_| Refused::NotSupported)?;
                hardware.sources = sources;
                config.set_command(config.command(), Line::Used);
                return Ok(());
            }
            Signals::Msi { .. } => Messages::Msi,
            Signals::MsiX { .. } => Messages::MsiX,
        };
        // The table is among its registers.
        config.set_command(config.command() | Command::MEMORY.bits() as u32, Line::Quiet);
        Current::claim_messages(machine, self.place, kind, &mut sources)?;
        for (interrupt, source) in self.interrupts.iter().zip(&sources) {
            if let Some(message) = Current::message(machine, *source) {
                signals.program(config, interrupt.vector, message);
            }
            // Here: where firmware writes the messages it takes the masks away.
            signals.mask(config, interrupt.vector);
            // A source is one function's, so there is room.
            let _ = kernel.devices.wires.connect(*source, interrupt);
        }
        hardware.sources = sources;
        signals.switch(config, Sending::On);
        Ok(())
    }

    fn take_sources(&self, kernel: &'static Kernel, hardware: &mut Hardware) {
        let sources = core::mem::take(&mut hardware.sources);
        for (interrupt, source) in self.interrupts.iter().zip(&sources) {
            let others = kernel.devices.wires.disconnect(*source, interrupt);
            if let (Signals::Line { .. }, Listeners::None) = (self.found.signals, others) {
                Current::mask_line(kernel.machine, *source);
            }
        }
        if !sources.is_empty() && !matches!(self.found.signals, Signals::Line { .. }) {
            Current::release_messages(kernel.machine, self.place, &sources);
        }
    }
}

/// Interrupts that are given out.
fn vectors(signals: Signals) -> usize {
    match signals {
        Signals::None => 0,
        Signals::Line { .. } | Signals::Msi { .. } => 1,
        Signals::MsiX { entries, .. } => usize::from(entries).min(MAX_VECTORS),
    }
}

/// A reference to a function's registers, which must be gone before it is held anew.
pub struct Remains(&'static Function);

impl Drop for Remains {
    fn drop(&mut self) {
        self.0.holding.lock().remains -= 1;
    }
}
