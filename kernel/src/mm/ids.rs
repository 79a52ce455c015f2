//! Hardware ids: the machine's numbers for address spaces, given out, retired, and used again.
//!
//! A context id is never reused; a hardware id is a cache of it. When an address space ends, its id
//! is *retired*: it leads nowhere, but CPUs may still have translations cached under it, and nobody
//! is interrupted to forget them. Only when no clean id is left does a *rollover* make every CPU
//! forget everything, once, after which all ids that were retired before it are clean (`CTX-12`).
//!
//! Where CPUs number address spaces for themselves (PCIDs), there is nothing to give out: a slot
//! that goes to another address space is forgotten by the load itself.

use super::NoMemory;
use super::heap::Charged;
use super::list::List;
use crate::cpu::Cpu;
use crate::request::Kinds;
use crate::sched::context::SLOTS;
use crate::sync::{AtomicU32, AtomicU64, Leaf, Lock, Ordering};
use crate::trace;
use abi::trace::Kind;
use arch_contract::context::{HardwareId, Tags};
use arch_contract::irq::IrqsOff;
use arch_contract::mutant::{self, Mutant};
use arch_contract::tlb::Tlb;
use arch_current::Current;

/// The ids of the machine.
pub struct HardwareIds {
    tags: Tags,
    /// At most so many ids, or slots of a CPU, are used: smaller than the machine's own number only
    /// in tests.
    limit: AtomicU32,
    slot_mask: AtomicU32,
    sets: Leaf<Sets>,
    /// Held through a rollover.
    rolling: Lock<()>,
    rollovers: AtomicU64,
}

/// One bit per id. An id in none of the sets is taken.
struct Sets {
    clean: List<u64>,
    retired: List<u64>,
    /// Retired before the rollover that is under way began.
    rolling: List<u64>,
}

impl HardwareIds {
    pub fn try_new(tags: Tags, charged: Charged) -> Result<Self, NoMemory> {
        let list = || List::new(charged.clone());
        let (mut clean, mut retired, mut rolling) = (list(), list(), list());
        let limit = match tags {
            Tags::PerCpu { slots } => u32::from(slots).clamp(1, SLOTS as u32),
            Tags::Global { count, .. } => {
                let words = count.div_ceil(64) as usize;
                clean.fill_to(words, || u64::MAX)?;
                retired.fill_to(words, || 0)?;
                rolling.fill_to(words, || 0)?;
                count
            }
        };
        let sets = Leaf::new(Sets { clean, retired, rolling });
        let slot_mask = AtomicU32::new(mask(limit));
        let (limit, rollovers) = (AtomicU32::new(limit), AtomicU64::new(0));
        Ok(Self { tags, limit, slot_mask, sets, rolling: Lock::new(()), rollovers })
    }

    /// Whether each CPU numbers address spaces for itself.
    #[inline]
    pub fn are_per_cpu(&self) -> bool {
        matches!(self.tags, Tags::PerCpu { .. })
    }

    /// How many contexts a CPU remembers, less one: they are a power of two, and a context's low
    /// bits choose its place.
    #[inline]
    pub fn slot_mask(&self) -> usize {
        self.slot_mask.load(Ordering::Relaxed) as usize
    }

    /// Uses at most `limit` ids, or slots of a CPU, from now on. For tests: ids above that are
    /// taken stay so.
    pub fn limit_to(&self, limit: u32) {
        let most = self.limit.load(Ordering::Relaxed);
        let limit = limit.clamp(1, most);
        self.limit.store(limit, Ordering::Relaxed);
        self.slot_mask.store(mask(limit), Ordering::Relaxed);
    }

    /// How often retired ids became clean.
    pub fn rollovers(&self) -> u64 {
        self.rollovers.load(Ordering::Relaxed)
    }

    /// How many ids can be given out as they are.
    #[cfg(test)]
    pub(crate) fn clean(&self) -> u32 {
        let Tags::Global { count, .. } = self.tags else { return 0 };
        let sets = self.sets.lock();
        let word = |index: u32| sets.clean.get((index / 64) as usize).copied().unwrap_or_default();
        (0..count).filter(|&index| word(index) >> (index % 64) & 1 == 1).count() as u32
    }

    /// Takes an id that no CPU has anything cached under.
    pub fn take(&self, cpu: &Cpu, irq: &IrqsOff) -> Result<HardwareId, NoMemory> {
        let Tags::Global { first, count } = self.tags else { return Ok(HardwareId(0)) };
        let limit = self.limit.load(Ordering::Relaxed).min(count);
        let take = || self.sets.lock().take_clean(limit).map(|index| HardwareId(first + index));
        if let Some(id) = take() {
            return Ok(id);
        }
        let _rolling = self.rolling.lock(cpu);
        // Another CPU may have rolled over while this one waited.
        if let Some(id) = take() {
            return Ok(id);
        }
        if !self.sets.lock().begin_rollover() {
            return Err(NoMemory);
        }
        if !mutant::is(Mutant::M33) {
            Current::flush_local_all(cpu.arch(), irq);
            trace::event(cpu, Kind::FlushAll, 0, 0);
            cpu.kernel.ask_all_others(cpu, Kinds::FLUSH_ALL, irq);
        }
        self.sets.lock().end_rollover();
        self.rollovers.fetch_add(1, Ordering::Relaxed);
        trace::event(cpu, Kind::Rollover, 0, 0);
        take().ok_or(NoMemory)
    }

    /// Takes back an id that was never loaded anywhere.
    pub fn give_back(&self, id: HardwareId) {
        if let Tags::Global { first, .. } = self.tags {
            set(&mut self.sets.lock().clean, id.0 - first);
        }
    }

    /// Takes back an id under which CPUs may still have something cached. The port has made it lead
    /// nowhere.
    pub fn retire(&self, id: HardwareId) {
        if let Tags::Global { first, .. } = self.tags {
            set(&mut self.sets.lock().retired, id.0 - first);
        }
    }
}

/// The slots of a CPU, of at most `limit`, less one.
fn mask(limit: u32) -> u32 {
    let slots = limit.min(SLOTS as u32);
    // At least 1, so the logarithm exists.
    (1 << slots.ilog2()) - 1
}

impl Sets {
    fn take_clean(&mut self, limit: u32) -> Option<u32> {
        for (index, word) in self.clean.iter_mut().enumerate() {
            let id = index as u32 * 64 + word.trailing_zeros();
            if *word != 0 {
                if id >= limit {
                    return None;
                }
                if !mutant::is(Mutant::IdForTwo) {
                    *word &= *word - 1;
                }
                return Some(id);
            }
        }
        None
    }

    /// Whether there is anything to gain.
    fn begin_rollover(&mut self) -> bool {
        let mut any = 0;
        for (rolling, retired) in self.rolling.iter_mut().zip(self.retired.iter_mut()) {
            *rolling = core::mem::take(retired);
            any |= *rolling;
        }
        any != 0
    }

    fn end_rollover(&mut self) {
        for (clean, rolling) in self.clean.iter_mut().zip(self.rolling.iter_mut()) {
            *clean |= core::mem::take(rolling);
        }
    }
}

fn set(bits: &mut List<u64>, index: u32) {
    let word = &mut bits[index as usize / 64];
    assert!(*word & 1 << (index % 64) == 0, "hardware id {index} was given back twice");
    *word |= 1 << (index % 64);
}
