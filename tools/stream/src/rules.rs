//! The rules, one for each promise that shows in the order of instructions, and what holds a stream
//! against them.
//!
//! All rules look at one state per CPU, which follows the stream record by record. A rule never takes
//! the kernel's word for what it did; it takes the image's tables for what an instruction at an
//! address is there for ([`Image`]), and the instruction's bytes for what it does.

mod code;
mod interrupts;
mod invalidation;
mod returns;
mod windows;

use crate::processes::{Process, Processes};
use crate::{Arch, Event, Instruction, Record, Watched};
use code::Code;
use interrupts::By;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// What the tables of a linked image say of addresses.
#[derive(Clone, Debug)]
pub struct Image {
    pub arch: Arch,
    /// The declared return instructions that lead to user mode, and what their table says of each.
    pub returns: BTreeMap<u64, UserReturn>,
    /// Where a full barrier stands for its own sake. A lock's instruction is one, too, but one that
    /// nobody may rely on.
    pub barriers: BTreeSet<u64>,
    /// Instructions after which interrupts may be taken: on ppc64le, where the kernel gives the CPU up.
    pub enables_interrupts: BTreeSet<u64>,
    /// Instructions that interrupt another CPU: on x86_64 the write of the x2APIC's command register,
    /// on ppc64le the hypervisor call H_IPI. What is done by a store to a device is no instruction's.
    pub interrupts: BTreeSet<u64>,
}

/// What is said of a return to user mode.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum UserReturn {
    /// Also to whoever made the call that it ends.
    MaybeToTheCaller,
    /// To any thread.
    ToAnyThread,
}

/// A rule: the clause, and what it demands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rule {
    pub clause: &'static str,
    pub law: &'static str,
}

macro_rules! rules {
    ($($name:ident $clause:literal $law:literal;)*) => {
        $(pub(crate) const $name: Rule = Rule { clause: $clause, law: $law };)*
        /// All of them.
        pub const RULES: &[Rule] = &[$($name),*];
    };
}

rules! {
    DECLARED_RETURN "RET-1" "User mode is entered by a return instruction of the declared table.";
    SERIALIZED "RET-2" "After a core-sync request returned, no CPU executes user code of that process that has not serialized since the request was made.";
    INTERRUPTS_OFF "RET-3" "Interrupts are off when a return instruction to user mode is executed.";
    RETURN_SERIALIZES "RET-4" "Where returns are said to serialize, the one that was executed does.";
    CALL_ORDERED "BAR-3" "Between the call of membarrier and its return the caller's CPU executes two full barriers, (a) and (c).";
    RUNNERS_ORDERED "BAR-6" "When a core-sync request returns, every CPU that ran user code of the process when it was made has executed a full barrier since.";
    LEAVES_ORDERED "BAR-4" "Between user code and the store that says the CPU left its address space lies a full barrier.";
    ENTERS_ORDERED "BAR-5" "Between the store that says whose user code may run and that user code lies a full barrier.";
    JOINS_ORDERED "CTX-3" "Between that store and the load of an address space lies a full barrier.";
    ENTRY_VISIBLE "CTX-11" "An entry of the process table is followed by ptesync and isync before anything else.";
    LOAD_SYNCHRONIZED "CTX-4" "A write of the PID register is followed by isync, then by ptesync, before anything else.";
    LOCAL_FLUSH "TLB-2" "tlbiel lies between two ptesync, is followed by isync, and is of every class if it is of all of a process.";
    BROADCAST_FLUSH "TLB-3" "tlbie lies behind a ptesync and is followed by eieio, tlbsync, ptesync.";
    RESERVATION_CLEARED "MIG-3" "A return to another thread comes after a conditional store since the kernel was entered.";
    CODE_PUBLISHED "CODE-2" "Code that was stored is published before it is executed: icbi of its lines lies behind dcbst and sync, and is followed by sync and isync.";
    CODE_FETCHED "CODE-2" "Code that was stored is executed by a core that has serialized since.";
    INTERRUPT_ORDERED "SMP-1" "What orders the stores before it is executed right before an interrupt is sent to a CPU.";
    FORGOTTEN "TLB-3" "When an unmapping has returned, every CPU that ran the process when it was asked for has executed an invalidation since.";
    WINDOW_CLOSED "USR-1" "The window to user memory is closed before user mode, and its register is written between two isync.";
}

/// A broken rule.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Violation {
    pub rule: Rule,
    /// The number of the record that shows it.
    pub record: usize,
    pub cpu: u8,
    /// The instruction that shows it.
    pub at: u64,
    /// What was missing, in words.
    pub why: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rule, record, cpu, at, why } = self;
        write!(f, "{}: CPU {cpu}, {at:#x} (record {record}): {why}. {}", rule.clause, rule.law)
    }
}

/// When something happened: the number of its record, plus one; 0 is before all of them.
type Time = usize;

/// Where a CPU is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Mode {
    #[default]
    Kernel,
    User(Process),
}

/// What is known of one CPU.
#[derive(Clone, Debug, Default)]
struct Cpu {
    mode: Mode,
    /// The process that it was in when it entered the kernel.
    left: Option<Process>,
    /// The last instruction of the kernel that was recorded, since it entered.
    last: Option<(Instruction, u64)>,
    /// The one before that.
    before_last: Option<Instruction>,
    entered_kernel: Time,
    serialized: Time,
    /// The last invalidation of translations.
    forgot: Time,
    /// The last full barrier for its own sake, and how many there were.
    barrier: Time,
    barriers: u64,
    /// How many there were when a program here last asked for one by membarrier.
    asked: Option<u64>,
    /// The last store of whose user code may run, and of that nobody's may.
    entered_mm: Time,
    left_mm: Time,
    left_user: Time,
    conditional_store: Time,
    interrupts: Interrupts,
    invalidation: invalidation::State,
    window: windows::State,
}

impl Cpu {
    /// Whether the last store of whose user code may run is that of an address space, made since user
    /// mode, and no full barrier came after it.
    fn owes_barrier_after_entering(&self) -> bool {
        self.entered_mm > self.left_mm.max(self.left_user) && self.barrier < self.entered_mm
    }
}

/// What user mode is entered for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum ProcessIs {
    TheOneThatLeft,
    Another,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Interrupts {
    #[default]
    Off,
    On,
}

/// A core-sync request, or an unmapping.
#[derive(Clone, Debug)]
struct Request {
    cpu: u8,
    process: Process,
    made: Time,
    /// The other CPUs that were in user mode of the process.
    ran: Vec<u8>,
}

/// Everything, and what is broken so far.
struct Checker<'a> {
    image: &'a Image,
    cpus: BTreeMap<u8, Cpu>,
    processes: Processes,
    /// Requests that were made and have not returned.
    made: Vec<Request>,
    /// The last one of each process that has returned.
    returned: Vec<Request>,
    /// Unmappings that were asked for and have not returned.
    unmapping: Vec<Request>,
    /// Those that have, each with the CPUs that owe an invalidation.
    unmapped: Vec<Request>,
    code: Code,
    violations: Vec<Violation>,
}

/// Holds a stream against all rules.
pub fn check(image: &Image, stream: &[Record]) -> Vec<Violation> {
    let mut checker = Checker {
        image,
        cpus: BTreeMap::new(),
        processes: Processes::default(),
        made: Vec::new(),
        returned: Vec::new(),
        unmapping: Vec::new(),
        unmapped: Vec::new(),
        code: Code::default(),
        violations: Vec::new(),
    };
    for (number, record) in stream.iter().enumerate() {
        checker.follow(number + 1, record);
    }
    checker.violations
}

impl Checker<'_> {
    fn follow(&mut self, now: Time, record: &Record) {
        let mut cpu = self.cpus.remove(&record.cpu).unwrap_or_default();
        let mut broken = Vec::new();
        match record.event {
            Event::Executes(instruction) => self.executes(&mut cpu, now, instruction, record, &mut broken),
            Event::EntersKernel => {
                cpu.left = if let Mode::User(process) = cpu.mode { Some(process) } else { None };
                (cpu.mode, cpu.last, cpu.before_last) = (Mode::Kernel, None, None);
                (cpu.entered_kernel, cpu.left_user) = (now, now);
                cpu.interrupts = Interrupts::Off;
            }
            Event::EntersUser { page } => {
                let process = self.processes.enters(record.cpu, page);
                let same = cpu.left.is_some_and(|left| self.processes.same(left, process));
                let process_is = if same { ProcessIs::TheOneThatLeft } else { ProcessIs::Another };
                returns::enters_user(self.image, &cpu, process_is, &mut broken);
                windows::enters_user(&cpu.window, &mut broken);
                if cpu.owes_barrier_after_entering() {
                    broken.push((ENTERS_ORDERED, "no full barrier since the store".into()));
                }
                self.must_have_serialized(&cpu, process, &mut broken);
                self.must_have_forgotten(record.cpu, &cpu, &mut broken);
                self.fetches(&cpu, page, &mut broken);
                cpu.mode = Mode::User(process);
            }
            Event::Fetches { page } => self.fetches(&cpu, page, &mut broken),
            Event::StoresCode { line } => {
                let by = if let Mode::User(process) = cpu.mode { Some(process) } else { None };
                self.code.stored(line, record.cpu, by, now);
            }
            Event::WritesBack { line } => self.code.written_back(line, now),
            Event::Invalidates { line } => self.code.invalidated(line, now),
            Event::Interrupts => interrupts::sends(self.image.arch, By::Store, &cpu, &mut broken),
            Event::Marks(mark) => match mark.watched() {
                Some(watched @ (Watched::EntersMm | Watched::LeavesMm)) => {
                    let last = cpu.entered_mm.max(cpu.left_mm);
                    if cpu.left_user > last && cpu.barrier < cpu.left_user {
                        broken.push((LEAVES_ORDERED, "no full barrier since user mode".into()));
                    }
                    let store =
                        if watched == Watched::EntersMm { &mut cpu.entered_mm } else { &mut cpu.left_mm };
                    *store = now;
                }
                Some(Watched::AsksForCoreSync) => {
                    if let Mode::User(process) = cpu.mode {
                        self.made.push(self.request(record.cpu, process, now));
                    }
                }
                Some(Watched::WasToldOfCoreSync) => {
                    if let Mode::User(process) = cpu.mode {
                        self.was_told(&cpu, process, &mut broken);
                    }
                }
                Some(Watched::AsksForBarrier) => cpu.asked = Some(cpu.barriers),
                Some(Watched::WasToldOfBarrier) => {
                    // A thread that was moved meanwhile is not followed.
                    let executed = cpu.asked.take().map(|before| cpu.barriers - before);
                    if executed.is_some_and(|executed| executed < 2) {
                        broken.push((CALL_ORDERED, format!("{} of them", executed.unwrap_or_default())));
                    }
                }
                Some(Watched::WasRefusedCoreSync) => {
                    if let Mode::User(process) = cpu.mode {
                        self.take_request(process);
                    }
                }
                Some(Watched::AsksForUnmapping) => {
                    if let Mode::User(process) = cpu.mode {
                        self.unmapping.push(self.request(record.cpu, process, now));
                    }
                }
                Some(Watched::WasToldOfUnmapping) => self.was_unmapped(record.cpu, &cpu, &mut broken),
                Some(Watched::StoredProcessEntry) => cpu.invalidation = invalidation::State::EntryStored,
                None => {}
            },
        }
        let violation =
            |(rule, why)| Violation { rule, record: now - 1, cpu: record.cpu, at: record.at, why };
        self.violations.extend(broken.into_iter().map(violation));
        self.cpus.insert(record.cpu, cpu);
    }

    fn executes(
        &mut self,
        cpu: &mut Cpu,
        now: Time,
        instruction: Instruction,
        record: &Record,
        broken: &mut Vec<Broken>,
    ) {
        invalidation::executes(&mut cpu.invalidation, instruction, broken);
        self.code.executes(instruction, now);
        if self.image.interrupts.contains(&record.at) {
            interrupts::sends(self.image.arch, By::Instruction, cpu, broken);
        }
        if instruction.forgets_translations() {
            cpu.forgot = now;
        }
        windows::executes(&mut cpu.window, cpu.last.map(|(last, _)| last), instruction, broken);
        if instruction.loads_address_space() {
            self.processes.loaded(record.cpu);
            if cpu.owes_barrier_after_entering() {
                broken.push((JOINS_ORDERED, "no full barrier since the store".into()));
            }
        }
        if instruction.serializes() {
            cpu.serialized = now;
        }
        if instruction.is_full_barrier() && self.image.barriers.contains(&record.at) {
            cpu.barrier = now;
            cpu.barriers += 1;
        }
        match instruction {
            Instruction::Stcx => cpu.conditional_store = now,
            Instruction::Sti => cpu.interrupts = Interrupts::On,
            Instruction::Cli | Instruction::Mtmsrd => cpu.interrupts = Interrupts::Off,
            _ if self.image.enables_interrupts.contains(&record.at) => cpu.interrupts = Interrupts::On,
            _ => {}
        }
        cpu.before_last = cpu.last.map(|(last, _)| last);
        cpu.last = Some((instruction, record.at));
    }

    /// Something that a program of `process` asks for now, on this CPU.
    fn request(&self, cpu: u8, process: Process, made: Time) -> Request {
        Request { cpu, process, made, ran: self.running(process).map(|(number, _)| number).collect() }
    }

    fn fetches(&mut self, cpu: &Cpu, page: u64, broken: &mut Vec<Broken>) {
        let Self { code, returned, processes, image, .. } = self;
        code.fetches(image.arch, page, cpu.serialized, returned, processes, broken);
    }

    /// An unmapping that was asked for on this CPU has returned. Who is in user mode has forgotten; who
    /// is in the kernel may do it later. On ppc64le one CPU does it for all.
    fn was_unmapped(&mut self, number: u8, own: &Cpu, broken: &mut Vec<Broken>) {
        let Some(index) = self.unmapping.iter().position(|request| request.cpu == number) else { return };
        let mut request = self.unmapping.remove(index);
        if self.image.arch == Arch::Ppc64le {
            return;
        }
        let mut has_not = |number, cpu: &Cpu| {
            if cpu.forgot < request.made && cpu.mode != Mode::Kernel {
                broken.push((FORGOTTEN, format!("CPU {number} has executed none")));
            }
            cpu.forgot < request.made && cpu.mode == Mode::Kernel
        };
        has_not(number, own);
        request.ran.retain(|&number| self.cpus.get(&number).is_some_and(|cpu| has_not(number, cpu)));
        self.unmapped.push(request);
    }

    /// A CPU comes to user code of a process: what was unmapped there is forgotten by now.
    fn must_have_forgotten(&mut self, number: u8, cpu: &Cpu, broken: &mut Vec<Broken>) {
        for request in &mut self.unmapped {
            let before = request.ran.len();
            request.ran.retain(|&other| other != number);
            if request.ran.len() != before && cpu.forgot < request.made {
                broken.push((FORGOTTEN, "it comes back without having executed one".into()));
            }
        }
        self.unmapped.retain(|request| !request.ran.is_empty());
    }

    /// The first request of `process` that has not returned: of several, nobody can tell which was
    /// made first by whom, and the first demands least.
    fn take_request(&mut self, process: Process) -> Option<Request> {
        let same = |request: &Request| self.processes.same(request.process, process);
        let index = self.made.iter().position(same)?;
        Some(self.made.remove(index))
    }

    /// The CPUs, but for the one whose record is looked at, that are in user mode of `process`.
    fn running(&self, process: Process) -> impl Iterator<Item = (u8, &Cpu)> {
        let runs =
            move |cpu: &Cpu| matches!(cpu.mode, Mode::User(other) if self.processes.same(other, process));
        self.cpus.iter().filter(move |(_, cpu)| runs(cpu)).map(|(number, cpu)| (*number, cpu))
    }

    /// A request of `process` has returned, on the CPU `asker`, which stands in user mode.
    fn was_told(&mut self, asker: &Cpu, process: Process, broken: &mut Vec<Broken>) {
        let Some(request) = self.take_request(process) else { return };
        if asker.serialized < request.made {
            broken.push((SERIALIZED, "the caller's own CPU has not serialized".into()));
        }
        // Whoever is in user mode all the while is looked at now, the others when they come back.
        for (number, _) in self.running(process).filter(|(_, cpu)| cpu.serialized < request.made) {
            broken.push((SERIALIZED, format!("CPU {number} runs on without having serialized")));
        }
        // By the handler; or by (d), if it left the process before it was asked.
        for number in &request.ran {
            if self.cpus.get(number).is_some_and(|cpu| cpu.barrier < request.made) {
                broken.push((RUNNERS_ORDERED, format!("CPU {number} has executed none")));
            }
        }
        self.returned.push(request);
    }

    /// A CPU comes to user code of `process`.
    fn must_have_serialized(&self, cpu: &Cpu, process: Process, broken: &mut Vec<Broken>) {
        let late = self.returned.iter().rev().find(|request| self.processes.same(request.process, process));
        if late.is_some_and(|request| cpu.serialized < request.made) {
            broken.push((SERIALIZED, "it has not serialized since the request".into()));
        }
    }
}

/// A rule, and what was missing.
type Broken = (Rule, String);
