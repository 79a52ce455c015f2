//! One event, and how a person reads it.

use abi::membarrier::Command;
use abi::trace::{Kind, Record, TABLES};
use arch_contract::barrier::Site;
use std::fmt;

/// A [`Record`] whose kind is known.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Event {
    /// Nanoseconds since boot.
    pub time: u64,
    pub cpu: u16,
    /// Counts the events of its CPU.
    pub number: u32,
    pub kind: Kind,
    pub a: u64,
    pub b: u64,
}

impl Event {
    /// `None` if the record's kind has no name here: kernel and host are of different trees.
    pub fn new(record: &Record) -> Option<Self> {
        let Record { time, a, b, .. } = *record;
        Some(Self { time, cpu: record.cpu(), number: record.number(), kind: record.kind()?, a, b })
    }

    /// Whether a [`Kind::SwitchEnd`] says `what`.
    pub const fn switch(&self, what: Switch) -> bool {
        self.b & what as u64 != 0
    }

    /// The per-CPU number a [`Kind::SwitchEnd`] loaded the mm under, where a machine has such.
    pub const fn slot(&self) -> Option<u16> {
        ((self.b >> 16) as u16).checked_sub(1)
    }
}

/// What a switch did beside its purpose: bits of [`Kind::SwitchEnd`]'s `b`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u64)]
pub enum Switch {
    Reloaded = 1,
    CoreSerialized = 2,
    Flushed = 4,
}

/// The letter of a barrier in the membarrier argument, and its name.
pub fn site(number: u64) -> (&'static str, &'static str) {
    const ALL: [(Site, &str, &str); 8] = [
        (Site::MembarrierEnter, "a", "membarrier enter"),
        (Site::MembarrierExit, "c", "membarrier exit"),
        (Site::LeaveUserMm, "d", "leave mm"),
        (Site::EnterUserMm, "e", "enter mm"),
        (Site::IpiHandler, "i", "request handler"),
        (Site::FlushSample, "f", "flush sample"),
        (Site::Register, "r", "register"),
        (Site::Offline, "o", "offline"),
    ];
    let known = ALL.iter().find(|(site, ..)| *site as u64 == number);
    known.map_or(("?", "unknown site"), |&(_, letter, name)| (letter, name))
}

/// A membarrier command's name.
pub fn command(number: u64) -> String {
    Command::from_number(number).map_or_else(|| format!("command {number}"), |command| format!("{command:?}"))
}

/// The CPUs of a set.
pub fn cpus(set: u64) -> impl Iterator<Item = u16> {
    (0..64).filter(move |cpu| set >> cpu & 1 != 0)
}

fn set(set: u64) -> String {
    let list: Vec<_> = cpus(set).map(|cpu| cpu.to_string()).collect();
    format!("{{{}}}", list.join(" "))
}

/// What happened, in words.
pub fn words(event: &Event) -> String {
    let Event { a, b, .. } = *event;
    let mm = |id: u64| if id == 0 { "none".to_owned() } else { format!("mm {id}") };
    let flag = |what, text| if event.switch(what) { text } else { "" };
    match event.kind {
        Kind::Current => format!("current_mm = {}", mm(a)),
        Kind::SwitchBegin => {
            format!("switch {} -> {} begins", if a == 0 { "kernel".into() } else { mm(a) }, mm(b))
        }
        Kind::SwitchEnd => format!(
            "switch to {} done{}{}{}",
            mm(a),
            flag(Switch::Reloaded, ", reloaded"),
            flag(Switch::CoreSerialized, ", serialized"),
            flag(Switch::Flushed, ", flushed"),
        ),
        Kind::LazyEnter => format!("enter_lazy_tlb, {} stays loaded", mm(a)),
        Kind::LazyExit => format!("exit_lazy_tlb, left {}, now {}", mm(a), mm(b)),
        Kind::Drop => format!("drop_lazy, left {}", mm(a)),
        Kind::Barrier => {
            let (letter, name) = site(a);
            format!("full barrier ({letter}) {name}")
        }
        Kind::CoreSync => "core serialized".into(),
        Kind::UserReturn => format!("to user mode, {}, thread {b}", mm(a)),
        Kind::UserEnter => {
            format!(
                "from user mode by {}",
                ["a call", "an interrupt", "a fault"].get(a as usize).unwrap_or(&"?")
            )
        }
        Kind::Request => format!("requests {b:#x} sent to CPUs {}", set(a)),
        Kind::Served => format!("requests {a:#x} served"),
        Kind::MembarrierEnter => format!("membarrier {} on {} begins", command(a), mm(b)),
        Kind::MembarrierExit => format!("membarrier {} on {} returns", command(a), mm(b)),
        Kind::Sampled => format!("sampled CPUs {} with {}", set(a), mm(b)),
        Kind::Code => format!("code of {} published", mm(a)),
        Kind::Generation => format!("TLB generation of {} = {b}", mm(a)),
        Kind::Seen => format!("nothing cached of {} before generation {b}", mm(a)),
        Kind::Flushed => format!(
            "flush of {} for generation {} returns{}",
            mm(a),
            b & !TABLES,
            if b & TABLES != 0 { ", tables too" } else { "" }
        ),
        Kind::Broadcast => format!("broadcast: no CPU has anything of {} before generation {b}", mm(a)),
        Kind::Join => format!("joins the set of {}", mm(a)),
        Kind::Part => format!("leaves the set of {}", mm(a)),
        Kind::FreeTables => format!("the tables of {} are freed", mm(a)),
        Kind::IdTaken => format!("{} gets hardware id {b}", mm(a)),
        Kind::IdRetired => format!("hardware id {b} of {} retired", mm(a)),
        Kind::FlushAll => "forgets all translations".into(),
        Kind::Rollover => "retired hardware ids are free again".into(),
        Kind::Migrate => format!("thread {a} runs here, after CPU {b}"),
        Kind::Poll => format!("a task is polled, with {}", if a == 0 { "no mm".into() } else { mm(a) }),
        Kind::Polled => "its slice is over".into(),
        Kind::Idle => "idle".into(),
        Kind::Wake => "no longer idle".into(),
        Kind::Mark => format!("mark {a}"),
        Kind::SyncGeneration => format!("sync generation of {} = {b}", mm(a)),
        Kind::Online => "on".into(),
        Kind::Offline => "off".into(),
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:>14.3} us  CPU {:<2} #{:<6} {}",
            self.time as f64 / 1e3,
            self.cpu,
            self.number,
            words(self)
        )
    }
}
