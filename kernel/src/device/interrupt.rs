//! Interrupts of devices, as user mode has them: a notification that is signalled, and an acknowledgement.
//!
//! One that has arrived is masked, signals the bits it is bound to, and does not come again before it is
//! acknowledged; what its device wanted to say meanwhile comes then (`DEV-5`). So neither a device nor its
//! driver can keep a CPU busy with interrupts: there is one for each acknowledgement.
//!
//! The port tells of a *source*. A [`Wire`] says who listens to it: one interrupt where functions send
//! messages; several where they share a line, which is unmasked again when all have acknowledged.

use super::function::{Function, Hardware, Holding};
use super::pci::Signals;
use crate::cpu::{Cpu, Work};
use crate::ipc::Notification;
use crate::kernel::Kernel;
use crate::mm::NoMemory;
use crate::mm::heap::Charged;
use crate::mm::list::List;
use crate::object::Ref;
use crate::sync::{AtomicU64, Leaf, Ordering};
use abi::{Error, Rights};
use arch_contract::device::{Devices, Source};
use arch_contract::mutant::{self, Mutant};
use arch_current::Current;
use arrayvec::ArrayVec;

/// Functions that can share a line. Any more have none.
const MAX_SHARERS: usize = 4;

/// One interrupt of a function: what a capability names.
pub struct Interrupt {
    pub(super) vector: u16,
    /// Whose it is: an index into the machine's functions.
    pub(super) function: u16,
    state: Leaf<State>,
}

struct State {
    /// Capabilities.
    names: u32,
    bound: Option<Binding>,
    turn: Turn,
}

/// Whom it tells, and what.
struct Binding {
    notification: Ref<Notification>,
    bits: u64,
}

/// Whose move it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Turn {
    /// It may come.
    Device,
    /// It has come, and was not acknowledged.
    Driver,
    /// And has come again since: it could not be masked.
    DriverTwice,
}

/// Who listens to a source.
#[derive(Default)]
pub struct Wire {
    listeners: ArrayVec<&'static Interrupt, MAX_SHARERS>,
    /// Those who have not acknowledged.
    unanswered: u32,
}

/// More listen to it than there is room for.
pub(super) struct TooMany;

/// All wires, by source, and those that something has arrived on.
pub struct Wires {
    wires: List<Leaf<Wire>>,
    arrived: [AtomicU64; MAX_SOURCES / 64],
}

/// What the contract allows.
const MAX_SOURCES: usize = 256;
const _: () = assert!(<Current as Devices>::SOURCES <= MAX_SOURCES);

impl Wires {
    pub fn new(charged: Charged) -> Result<Self, NoMemory> {
        let mut wires = List::new(charged);
        wires.fill_to(Current::SOURCES, || Leaf::new(Wire::default()))?;
        Ok(Self { wires, arrived: [const { AtomicU64::new(0) }; MAX_SOURCES / 64] })
    }

    /// The wire of a source that the port knows.
    fn wire(&self, source: Source) -> &Leaf<Wire> {
        &self.wires[usize::from(source.0)]
    }

    pub(super) fn connect(&self, source: Source, listener: &'static Interrupt) -> Result<(), TooMany> {
        self.wire(source).lock().listeners.try_push(listener).map_err(|_| TooMany)
    }

    /// The inverse. Says whether others still listen.
    pub(super) fn disconnect(&self, source: Source, listener: &Interrupt) -> Listeners {
        let mut wire = self.wire(source).lock();
        wire.listeners.retain(|other| !core::ptr::eq(*other, listener));
        if wire.listeners.is_empty() { Listeners::None } else { Listeners::Some }
    }

    /// Notes that something has come from `source`. Takes no lock: [`deliver`](Self::deliver) does, when
    /// this CPU next looks.
    pub fn note(&self, cpu: &Cpu, source: Source) {
        let source = usize::from(source.0);
        // Release: pairs with the acquire in `deliver`, on whichever CPU gets there first.
        self.arrived[source / 64].fetch_or(1 << (source % 64), Ordering::Release);
        cpu.add_work(Work::DEVICE);
    }

    /// Tells those who listen of all that has arrived. The caller holds no lock.
    pub fn deliver(&self, cpu: &Cpu) {
        for (word, arrived) in self.arrived.iter().enumerate() {
            if arrived.load(Ordering::Relaxed) == 0 {
                continue;
            }
            let mut bits = arrived.swap(0, Ordering::Acquire);
            while bits != 0 {
                let source = Source((word as u32 * 64 + bits.trailing_zeros()) as u16);
                bits &= bits - 1;
                let listeners = self.wire(source).lock().listeners.clone();
                for listener in listeners {
                    listener.arrive(cpu, source);
                }
            }
        }
    }
}

/// Whether anybody listens to a source.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Listeners {
    Some,
    None,
}

impl Interrupt {
    pub(super) const fn new(function: u16, vector: u16) -> Self {
        Self { vector, function, state: Leaf::new(State { names: 0, bound: None, turn: Turn::Device }) }
    }

    fn function(&self, kernel: &'static Kernel) -> &'static Function {
        &kernel.devices.functions[usize::from(self.function)]
    }

    /// There is one more capability.
    pub fn named(&self) {
        self.state.lock().names += 1;
    }

    /// Whether there are any. Naming one takes a holder of the function, so this stays true or false as long
    /// as who holds it cannot change.
    pub(super) fn is_named(&self, _held: &Holding) -> bool {
        self.names() > 0
    }

    /// Capabilities.
    pub(crate) fn names(&self) -> u32 {
        self.state.lock().names
    }

    /// There is one less. The last takes the binding along.
    pub fn unnamed(&self, cpu: &Cpu) {
        let function = self.function(cpu.kernel);
        // From before it has no name to after it has no binding: who names it anew binds it after that.
        let hardware = function.lock(cpu);
        let is_last = {
            let mut state = self.state.lock();
            state.names -= 1;
            state.names == 0
        };
        let unbound = if is_last { self.unbind(cpu, &hardware) } else { None };
        drop(hardware);
        dispose(cpu, unbound);
    }

    /// It has come.
    fn arrive(&self, cpu: &Cpu, source: Source) {
        let function = self.function(cpu.kernel);
        let hardware = function.lock(cpu);
        if hardware.source(self.vector) != Some(source) {
            // News of what was taken away meanwhile.
            return;
        }
        if !mutant::is(Mutant::ComesUnasked) {
            function.found.signals.mask(function.config(cpu.machine()), self.vector);
        }
        let mut state = self.state.lock();
        let Some(Binding { notification, bits }) = &state.bound else { return };
        if state.turn != Turn::Device {
            if !mutant::is(Mutant::MergedAway) {
                state.turn = Turn::DriverTwice;
            }
            return;
        }
        let (notification, bits) = (notification.clone(), *bits);
        state.turn = Turn::Driver;
        if let Signals::Line { .. } = function.found.signals {
            cpu.kernel.devices.wires.wire(source).lock().unanswered += 1;
        }
        drop(state);
        drop(hardware);
        notification.signal(cpu, bits);
    }

    /// It may come again, if it has come; at once if it has twice.
    pub fn acknowledge(&self, cpu: &Cpu) -> Result<(), Error> {
        let function = self.function(cpu.kernel);
        let hardware = function.lock(cpu);
        if hardware.source(self.vector).is_none() {
            return Err(Error::Gone);
        }
        let mut state = self.state.lock();
        let Some(Binding { notification, bits }) = &state.bound else { return Ok(()) };
        match state.turn {
            Turn::Device => {}
            Turn::Driver => self.give_back_turn(cpu, function, &hardware, &mut state),
            Turn::DriverTwice => {
                let (notification, bits) = (notification.clone(), *bits);
                state.turn = Turn::Driver;
                drop(state);
                drop(hardware);
                notification.signal(cpu, bits);
            }
        }
        Ok(())
    }

    /// The device's turn again, whatever it was.
    fn give_back_turn(&self, cpu: &Cpu, function: &Function, hardware: &Hardware, state: &mut State) {
        let was = core::mem::replace(&mut state.turn, Turn::Device);
        let Some(source) = hardware.source(self.vector) else { return };
        if mutant::is(Mutant::NeverComesAgain) && was == Turn::Driver {
            return;
        }
        let Signals::Line { .. } = function.found.signals else {
            return function.found.signals.unmask(function.config(cpu.machine()), self.vector);
        };
        let answered = {
            let mut wire = cpu.kernel.devices.wires.wire(source).lock();
            wire.unanswered -= u32::from(was != Turn::Device);
            wire.unanswered == 0
        };
        if answered {
            Current::unmask_line(cpu.machine(), source);
        }
    }

    /// From now on it signals `bits` to `notification`, and is acknowledged; or nothing to anybody.
    pub fn bind(&self, cpu: &Cpu, to: Option<(Ref<Notification>, u64)>) -> Result<(), Error> {
        let function = self.function(cpu.kernel);
        let hardware = function.lock(cpu);
        if hardware.source(self.vector).is_none() {
            return Err(Error::Gone);
        }
        let unbound = self.unbind(cpu, &hardware);
        if let Some((notification, bits)) = to {
            // As long as it is bound, there is somebody who can signal.
            notification.named(Rights::WRITE);
            let mut state = self.state.lock();
            state.bound = Some(Binding { notification, bits });
            self.give_back_turn(cpu, function, &hardware, &mut state);
        }
        drop(hardware);
        dispose(cpu, unbound);
        Ok(())
    }

    /// Ends its binding, and masks it. What is returned is for [`dispose`].
    #[must_use]
    pub(super) fn unbind(&self, cpu: &Cpu, hardware: &Hardware) -> Option<Ref<Notification>> {
        let function = self.function(cpu.kernel);
        let mut state = self.state.lock();
        let bound = state.bound.take()?;
        match function.found.signals {
            // Others that share it go on.
            Signals::Line { .. } if state.turn != Turn::Device => {
                self.give_back_turn(cpu, function, hardware, &mut state);
            }
            Signals::Line { .. } => {}
            signals if hardware.source(self.vector).is_some() => {
                signals.mask(function.config(cpu.machine()), self.vector);
            }
            _ => {}
        }
        state.turn = Turn::Device;
        Some(bound.notification)
    }
}

/// The end of a binding: one who could signal is gone. The caller holds no lock.
pub(super) fn dispose(cpu: &Cpu, unbound: Option<Ref<Notification>>) {
    if let Some(notification) = unbound {
        Notification::unnamed(&notification, cpu, Rights::WRITE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::Run;
    use abi::device::Command;
    use abi::{Call, initial};
    use arch_model::{Bridge, Config};

    /// The function with this number, its first interrupt, and what that is bound to.
    struct Bound {
        run: Run,
        interrupt: &'static Interrupt,
        handle: u64,
        bits: u64,
    }

    fn bound(index: u64) -> Bound {
        let mut run = Run::boot_with(Config { bridge: Bridge::Two, ..Config::default() }, "log=quiet");
        let function =
            run.result(Call::PciFunction, &[initial::MACHINE.0.into(), index]).expect("a function");
        let master = Command::MEMORY.union(Command::BUS_MASTER).bits();
        assert_eq!(run.result(Call::PciCommand, &[function, master]), Ok(0));
        let handle = run.result(Call::PciInterrupt, &[function, 0]).expect("an interrupt");
        let bits = run.result(Call::NotificationCreate, &[]).expect("a notification");
        assert_eq!(run.result(Call::InterruptBind, &[handle, bits, 1]), Ok(0));
        let interrupt = &run.cpu().kernel.devices.functions[index as usize].interrupts[0];
        Bound { run, interrupt, handle, bits }
    }

    impl Bound {
        fn source(&self) -> Source {
            let cpu = self.run.cpu();
            self.interrupt.function(cpu.kernel).lock(cpu).source(0).expect("it has one")
        }

        fn arrives(&self, source: Source) {
            self.interrupt.arrive(self.run.cpu(), source);
        }

        fn acknowledge(&mut self) {
            assert_eq!(self.run.result(Call::InterruptAcknowledge, &[self.handle]), Ok(0));
        }

        fn signalled(&mut self) -> u64 {
            self.run.take_interrupts();
            self.run.result(Call::NotificationWait, &[self.bits, 0]).unwrap_or(0)
        }
    }

    /// One that cannot be masked comes again before it was acknowledged: that is one more signal, after the
    /// acknowledgement, and not one for each.
    #[test]
    fn dev_5_one_that_comes_though_it_is_masked() {
        let mut it = bound(0);
        let source = it.source();
        for _ in 0..3 {
            it.arrives(source);
        }
        assert_eq!((it.signalled(), it.signalled()), (1, 0));
        it.acknowledge();
        assert_eq!((it.signalled(), it.signalled()), (1, 0), "what came meanwhile");
        it.acknowledge();
        assert_eq!(it.signalled(), 0, "it came no more");
        it.arrives(source);
        assert_eq!(it.signalled(), 1);
    }

    /// What was noted of a source that is not its own any more, when it is delivered, is nothing to it.
    #[test]
    fn dev_5_news_of_an_earlier_source() {
        let mut it = bound(0);
        let source = it.source();
        it.arrives(Source(source.0 + 1));
        assert_eq!(it.signalled(), 0);
        it.arrives(source);
        assert_eq!(it.signalled(), 1);
    }

    /// A line is masked until all who share it have acknowledged.
    #[test]
    fn dev_5_a_line_that_is_shared() {
        let mut it = bound(1);
        it.run.machine.raise_line(true);
        assert_eq!(it.signalled(), 1);
        let wire = it.run.cpu().kernel.devices.wires.wire(it.source());
        // As another does to which it has come.
        wire.lock().unanswered += 1;
        it.acknowledge();
        assert_eq!(it.signalled(), 0, "another has not acknowledged");
        wire.lock().unanswered -= 1;
        assert_eq!(it.run.result(Call::InterruptBind, &[it.handle, it.bits, 1]), Ok(0));
        assert_eq!(it.signalled(), 1);
    }
}
