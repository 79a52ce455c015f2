//! Interrupt sources of devices: from our dense numbers to the controller's, and back.
//!
//! A message is ended as it is taken; another one may come at once. A line stays asserted until its device
//! has been served, so it is silenced as it is taken, until somebody says that it was: with XIVE the event
//! is not ended until then, with XICS firmware switches the source off and on.

use crate::controller::Controller;
use crate::cpu::Cpu;
use crate::guarded::Guarded;
use crate::passage::{Arrival, Opening, Passage, Wiring};
use crate::xics::SourceCalls;
use crate::{tree, xive};
use arch_contract::boot::HardwareCpu;
use arch_contract::device::{Refused, Source};
use core::sync::atomic::{AtomicU64, Ordering};

/// Sources there can be at once.
pub const SOURCES: usize = 128;

/// One source.
struct Slot {
    /// The controller's number, and [`LINE`]; 0: free. Written last as the slot is filled, so that who
    /// sees the number sees the rest.
    name: AtomicU64,
    /// With XIVE: how its state is reached, packed.
    state: [AtomicU64; 2],
}

impl Slot {
    const fn free() -> Self {
        Self { name: AtomicU64::new(0), state: [const { AtomicU64::new(0) }; 2] }
    }
}

const LINE: u64 = 1 << 32;

// With one event of each, of the console, and two of the CPU's own interrupt (`Xive::ask_again`), no queue is ever
// full.
const _: () = assert!(SOURCES + 3 <= 1 << (tree::LEAST_QUEUE_SHIFT - 2));

/// With XIVE: lets a source through, as far as it is not.
fn open(passage: &mut Passage, source: &xive::Source, wiring: Wiring) {
    match (passage.open(), wiring) {
        (Opening::Fresh, Wiring::Message) => source.let_through(),
        (Opening::Fresh, Wiring::Line) => source.let_line_through(),
        (Opening::Pending, _) => source.let_through_pending(),
        (Opening::Nothing, _) => {}
    }
}

/// What changes together.
struct Table {
    /// Where the search for a free slot starts: behind the last one taken, so that a delivery which is
    /// still under way as its source is given back is not taken for the next owner's.
    next: usize,
    /// With XIVE: how far the event of each slot has come. With XICS, all are free.
    passages: [Passage; SOURCES],
}

/// All of them.
pub struct Sources {
    slots: [Slot; SOURCES],
    table: Guarded<Table>,
    /// With XICS: what switches sources. `None`: firmware cannot, and there are none.
    calls: Option<SourceCalls>,
}

impl Sources {
    pub const fn new(calls: Option<SourceCalls>) -> Self {
        let table = Table { next: 0, passages: [Passage::Free; SOURCES] };
        Self { slots: [const { Slot::free() }; SOURCES], table: Guarded::new(table), calls }
    }

    /// Takes the controller's source `number` in, silent if it is a line, and directs it at `cpu`. A line
    /// that was taken in before is the same source again.
    pub fn adopt(
        &self,
        controller: &Controller,
        number: u32,
        wiring: Wiring,
        cpu: HardwareCpu,
    ) -> Result<Source, Refused> {
        self.table.with(|table| {
            if wiring == Wiring::Line
                && let Some((source, _)) = self.find(number)
            {
                return Ok(source);
            }
            let mut places = (0..SOURCES).map(|step| (table.next + step) % SOURCES);
            let free = |&place: &usize| {
                self.slots[place].name.load(Ordering::Relaxed) == 0 && table.passages[place] == Passage::Free
            };
            let place = places.find(free).ok_or(Refused::NoneLeft)?;
            let source = Source(place as u16);
            match controller {
                Controller::Xics => {
                    let calls = self.calls.as_ref().ok_or(Refused::NotSupported)?;
                    self.publish(source, number, wiring);
                    calls.direct(number, cpu, wiring).map_err(|_| {
                        self.withdraw(source);
                        Refused::NotSupported
                    })?;
                }
                Controller::Xive(xive) => {
                    let found = xive.prepare(number).map_err(|_| Refused::NotSupported)?;
                    for (word, value) in self.slots[place].state.iter().zip(found.pack()) {
                        word.store(value, Ordering::Relaxed);
                    }
                    xive.direct(&found, cpu, source).map_err(|_| Refused::NotSupported)?;
                    self.publish(source, number, wiring);
                    table.passages[place] = Passage::Silent;
                    if wiring == Wiring::Message {
                        open(&mut table.passages[place], &found, wiring);
                    }
                }
            }
            table.next = (place + 1) % SOURCES;
            Ok(source)
        })
    }

    /// Silences a source, and forgets it.
    pub fn release(&self, controller: &Controller, source: Source) {
        self.table.with(|table| {
            self.silence_in(table, controller, source);
            table.passages[usize::from(source.0)].leave();
            self.withdraw(source);
        });
    }

    /// Keeps a source from interrupting.
    pub fn silence(&self, controller: &Controller, source: Source) {
        self.table.with(|table| self.silence_in(table, controller, source));
    }

    fn silence_in(&self, table: &mut Table, controller: &Controller, source: Source) {
        let Some((number, _)) = self.name(source) else { return };
        match controller {
            Controller::Xics => {
                if let Some(calls) = &self.calls {
                    calls.off(number);
                }
            }
            Controller::Xive(_) => {
                let sent = self.state(source, number).silence();
                table.passages[usize::from(source.0)].silence(sent);
            }
        }
    }

    /// Lets a line interrupt again; at once if it is still asserted.
    pub fn unsilence(&self, controller: &Controller, source: Source) {
        let Some((number, wiring)) = self.name(source) else { return };
        match controller {
            Controller::Xics => {
                if let Some(calls) = &self.calls {
                    calls.on(number);
                }
            }
            Controller::Xive(_) => self.table.with(|table| {
                open(&mut table.passages[usize::from(source.0)], &self.state(source, number), wiring);
            }),
        }
    }

    /// With XICS: the source of this number was taken from the controller, and is about to be ended.
    pub fn taken(cpu: &Cpu, number: u32) -> Option<Source> {
        let sources = &cpu.machine.sources;
        let (source, wiring) = sources.find(number)?;
        if wiring == Wiring::Line
            && let Some(calls) = &sources.calls
        {
            calls.off(number);
        }
        Some(source)
    }

    /// With XIVE: the event of this source was taken from a queue. Ends a message.
    pub fn arrived(cpu: &Cpu, source: Source) -> Option<Source> {
        let sources = &cpu.machine.sources;
        sources.table.with(|table| {
            let named = sources.name(source);
            let wiring = named.map_or(Wiring::Message, |(_, wiring)| wiring);
            let arrival = table.passages.get_mut(usize::from(source.0))?.arrive(wiring);
            let (number, _) = named.filter(|_| arrival == Arrival::Delivered)?;
            if wiring == Wiring::Message {
                sources.state(source, number).end();
            }
            Some(source)
        })
    }

    /// By the controller's number.
    fn find(&self, number: u32) -> Option<(Source, Wiring)> {
        let all = (0..SOURCES as u16).map(Source);
        all.filter_map(|source| Some((source, self.name(source)?)))
            .find_map(|(source, (named, wiring))| (named == number).then_some((source, wiring)))
    }

    /// The controller's number of a source that is in use.
    fn name(&self, source: Source) -> Option<(u32, Wiring)> {
        // Pairs with the release of `publish`.
        let name = self.slots.get(usize::from(source.0))?.name.load(Ordering::Acquire);
        let wiring = if name & LINE != 0 { Wiring::Line } else { Wiring::Message };
        (name != 0).then_some((name as u32, wiring))
    }

    fn state(&self, source: Source, number: u32) -> xive::Source {
        let state = &self.slots[usize::from(source.0)].state;
        xive::Source::unpack(number, [0, 1].map(|index: usize| state[index].load(Ordering::Relaxed)))
    }

    fn publish(&self, source: Source, number: u32, wiring: Wiring) {
        let line = if wiring == Wiring::Line { LINE } else { 0 };
        // Pairs with the acquire of `name`: the state before the number.
        self.slots[usize::from(source.0)].name.store(u64::from(number) | line, Ordering::Release);
    }

    fn withdraw(&self, source: Source) {
        self.slots[usize::from(source.0)].name.store(0, Ordering::Relaxed);
    }
}
