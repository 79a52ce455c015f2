//! The whole kernel on a simulated machine whose CPUs and user threads are host threads.
//!
//! A CPU's host thread makes the upcalls. The kernel's answer says whose turn it is on that CPU: the
//! host thread of that user goes on until its next call, fault or interrupt, while the CPU's waits.
//! A user takes interrupts at its next call or pause, so they are as late as it likes. Its memory is
//! the simulated machine's, through the translations of whatever CPU it is on.
//!
//! A user thread is known by where its registers are, and a new one by its program counter: entries
//! lie so far apart that no thread that has run stands at one.

mod probe;

use crate::Upcall;
use crate::cpu::Cpu;
use crate::sched::lifetime::Policy;
use abi::ipc::WORDS;
use abi::membarrier::Command;
use abi::{Call, Error, Handle, initial};
use arch_contract::addr::VirtAddr;
use arch_contract::context::{Contexts, Tags};
use arch_contract::ret::Resume;
use arch_contract::trap::{Access, Fault, Trap};
use arch_contract::upcalls::Upcalls;
use arch_model::host::atomic::{AtomicU64, Ordering};
use arch_model::host::{Receiver, Sender, Thing, act_as, chance, channel, lock, own, thread};
use arch_model::profile::Profile;
use arch_model::{Config, Cpu as ModelCpu, Ended, Frame, Machine, Model, Pace, PowerOff};
use boot_image::pack::{Contents, pack_as};
use conformance::{Order, Os, Word};
use core::cell::RefCell;
use core::ptr::NonNull;
use hashbrown::HashMap;
use std::any::Any;
use std::boxed::Box;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::string::{String, ToString};
use std::sync::{Arc, Mutex};
use std::vec::Vec;

/// The program's name, on the machines too.
const PROGRAM: &str = "conformance";
/// Where the n-th thread is entered: this, and so many spans on.
const THREAD_ENTRY: u64 = 0x1000_0000_0000;
const ENTRY_SPAN: u64 = 1 << 32;
/// The simulated time of one pause, in ticks.
const PAUSE: u64 = 10_000;

type Body = Box<dyn FnOnce(User) + Send>;

/// What the host threads of one run share.
struct Shared {
    machine: &'static Machine,
    /// What threads that were not entered yet are to do.
    bodies: Mutex<Vec<Option<Body>>>,
    /// How to hand the turn to the user whose registers are there.
    users: Mutex<HashMap<usize, Sender<Turn>>>,
    /// What users printed.
    lines: Mutex<Vec<String>>,
    /// What ended the run other than a power-off.
    panic: Mutex<Option<String>>,
}

/// A turn on a CPU.
struct Turn {
    cpu: &'static ModelCpu,
    registers: Frame,
    back: Sender<Want>,
}

/// What ends a turn.
enum Want {
    Call { number: u64, args: [u64; 6] },
    Message { number: u64, args: [u64; 3], words: [u64; WORDS] },
    Interrupt,
    VectorUnitOff,
    Fault(Fault),
}

/// What a user's host thread has.
struct Here {
    turns: Receiver<Turn>,
    turn: Turn,
}

std::thread_local! {
    static HERE: RefCell<Option<Here>> = const { RefCell::new(None) };
}

/// What a user's host thread unwinds with when its thread will not run again.
struct Over;

/// A user thread.
#[derive(Clone)]
pub(super) struct User(Arc<Shared>);

impl User {
    fn here<R>(f: impl FnOnce(&mut Here) -> R) -> R {
        HERE.with_borrow_mut(|here| f(here.as_mut().expect("on a user's host thread")))
    }

    fn cpu() -> &'static ModelCpu {
        Self::here(|here| here.turn.cpu)
    }

    fn pc() -> VirtAddr {
        VirtAddr(Self::here(|here| here.turn.registers.pc))
    }

    /// Gives the turn up for `want`, and waits for the next.
    fn hand_over(want: Want) {
        let next = Self::here(|here| {
            let _ = here.turn.back.send(want);
            here.turns.recv()
        });
        match next {
            Ok(turn) => Self::here(|here| {
                act_as(turn.cpu.number() as usize);
                here.turn = turn;
            }),
            Err(_) => resume_unwind(Box::new(Over)),
        }
    }

    fn syscall(number: u64, args: [u64; 6]) -> (u64, u64) {
        // A call that is answered at once, again and again, would never let an interrupt in.
        if Self::cpu().is_pending() {
            Self::hand_over(Want::Interrupt);
        }
        let at = Self::pc();
        // Every such command is about code that was written before.
        let synchronizes =
            (number, args[0]) == (Call::Membarrier as u64, Command::PrivateExpeditedSyncCore as u64);
        let written = synchronizes.then(|| Self::cpu().write_code());
        loop {
            Self::hand_over(Want::Call { number, args });
            // Still at the call: it waited, and is made again.
            if Self::pc() != at {
                break;
            }
        }
        let (status, value) = Self::here(|here| (here.turn.registers.status, here.turn.registers.value));
        if let Some(version) = written.filter(|_| status == 0) {
            Self::cpu().machine().promise_code(version);
        }
        (status, value)
    }

    fn word<R>(at: Word, access: Access, touch: impl Fn(&AtomicU64) -> R) -> R {
        // Under schedules, interrupts come between any two instructions.
        if chance(4) && Self::cpu().is_pending() {
            Self::hand_over(Want::Interrupt);
        }
        Self::uninterrupted(at, access, touch)
    }

    /// As [`word`](Self::word), for what must not go on after an interrupt that it has not looked
    /// for: a restartable sequence.
    fn uninterrupted<R>(at: Word, access: Access, touch: impl Fn(&AtomicU64) -> R) -> R {
        loop {
            match Self::cpu().user_word(Self::pc(), VirtAddr(at.address()), access, &touch) {
                Ok(value) => return value,
                Err(fault) => Self::hand_over(Want::Fault(fault)),
            }
        }
    }

    /// The arguments the kernel gave the program: its name, the case, perhaps the role.
    fn arguments() -> Vec<String> {
        let [start, len, ..] = Self::here(|here| here.turn.registers.args);
        let byte = |at| Self::cpu().user_load(Self::pc(), VirtAddr(at)).expect("mapped by the kernel");
        let block: Vec<u8> = (start..start + len).map(byte).collect();
        let words = block.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned());
        words.filter(|word| !word.is_empty()).collect()
    }

    /// Starts a thread of the caller's process that does `body` and nothing before it, and is to run on
    /// the CPUs `cpus` from when its maker has said so.
    fn spawn_raw(&self, cpus: u64, body: impl FnOnce(Self) + Send + 'static) -> Result<Handle, Error> {
        let there = move |user: User| {
            body(user);
            Self::syscall(Call::ThreadExit as u64, [0; 6]);
        };
        let number = {
            let mut bodies = lock(&self.0.bodies);
            bodies.push(Some(Box::new(there)));
            bodies.len() as u64 - 1
        };
        let entry = THREAD_ENTRY + number * ENTRY_SPAN;
        // Nothing is ever on its stack.
        let stack = super::ENTRY;
        let arguments = [initial::PROCESS.0.into(), entry, stack, 0, 0, 0];
        match Self::syscall(Call::ThreadStart as u64, arguments) {
            (0, handle) => {
                // By its maker too: it may run where its maker may, which may keep that CPU.
                let (status, _) = Self::syscall(Call::ThreadAffinity as u64, [handle, cpus, 0, 0, 0, 0]);
                Error::from_number(status).map_or(Ok(Handle(handle as u32)), Err)
            }
            (status, _) => Err(Error::from_number(status).unwrap_or(Error::NotSupported)),
        }
    }

    /// The main thread of a process.
    fn main(self) {
        let arguments = Self::arguments();
        let role = arguments.get(2).map(|role| role.parse().expect("a number"));
        // The other CPUs come when they come; cases are for all of them.
        let machine = [initial::MACHINE.0.into(), 0, 0, 0, 0, 0];
        let cpus = self.0.machine.config().cpus;
        while role.is_none() && Self::syscall(Call::Cpus as u64, machine).1.count_ones() != cpus {
            self.pause();
        }
        let status = conformance::main(self, arguments.get(1).map_or("", String::as_str), role);
        Self::syscall(Call::Exit as u64, [status.into(), 0, 0, 0, 0, 0]);
    }
}

impl Os for User {
    type Thread = Handle;

    const SIMULATED: bool = true;
    const REORDERS: bool = cfg!(spandrel_schedule);

    fn returns_serialize(&self) -> bool {
        self.0.machine.config().profile.user_return_serializes()
    }

    fn ids_are_global(&self) -> bool {
        matches!(Model::tags(self.0.machine), Tags::Global { .. })
    }

    unsafe fn call(&self, number: u64, args: [u64; 6]) -> (u64, u64) {
        Self::syscall(number, args)
    }

    fn exchange(&self, number: u64, args: [u64; 3], words: &mut [u64; WORDS]) -> (u64, u64, u64) {
        Self::hand_over(Want::Message { number, args, words: *words });
        // Such a call is never made again.
        Self::here(|here| {
            *words = here.turn.registers.words;
            (here.turn.registers.status, here.turn.registers.value, here.turn.registers.badge)
        })
    }

    fn load(&self, at: Word, order: Order) -> u64 {
        let order = match order {
            Order::Plain => Ordering::Relaxed,
            Order::Synchronizes => Ordering::Acquire,
        };
        Self::word(at, Access::Read, |word| word.load(order))
    }

    fn store(&self, at: Word, value: u64, order: Order) {
        let order = match order {
            Order::Plain => Ordering::Relaxed,
            Order::Synchronizes => Ordering::Release,
        };
        Self::word(at, Access::Write, |word| word.store(value, order));
    }

    fn pause(&self) {
        if self.0.machine.has_ended() {
            resume_unwind(Box::new(Over));
        }
        self.0.machine.advance(PAUSE);
        if Self::cpu().is_pending() {
            Self::hand_over(Want::Interrupt);
        }
        thread::yield_now();
    }

    fn spawn(&self, cpus: u64, body: impl FnOnce(Self) + Send + 'static) -> Result<Handle, Error> {
        self.spawn_raw(cpus, move |user| {
            // It may run before its maker has said where.
            let arguments = [Handle::NONE.0.into(), cpus, 0, 0, 0, 0];
            let (status, _) = Self::syscall(Call::ThreadAffinity as u64, arguments);
            assert_eq!(status, 0, "a thread goes where its maker said");
            body(user);
        })
    }

    fn handle(thread: &Handle) -> Handle {
        *thread
    }

    fn join(&self, thread: Handle) -> Result<(), Error> {
        let (status, _) = Self::syscall(Call::ThreadWait as u64, [thread.0.into(), 0, 0, 0, 0, 0]);
        Self::syscall(Call::HandleClose as u64, [thread.0.into(), 0, 0, 0, 0, 0]);
        Error::from_number(status).map_or(Ok(()), Err)
    }

    fn endless_sequence(&self, area: Word, turns: Word) {
        // Every program counter but one lies in it.
        const ABORT: u64 = 0x7_0000;
        self.store(area.plus(24), ABORT, Order::Plain);
        self.store(area.plus(16), u64::MAX, Order::Plain);
        Self::uninterrupted(area.plus(8), Access::Write, |word| word.store(1, Ordering::Relaxed));
        while Self::pc().0 != ABORT {
            let before = Self::uninterrupted(turns, Access::Read, |word| word.load(Ordering::Relaxed));
            let add = |word: &AtomicU64| word.store(before + 1, Ordering::Relaxed);
            Self::uninterrupted(turns, Access::Write, add);
            self.pause();
        }
    }

    fn say(&self, line: core::fmt::Arguments<'_>) {
        lock(&self.0.lines).push(line.to_string());
    }
}

impl Shared {
    /// Starts the host thread of a user that is entered for the first time.
    fn enter(self: &Arc<Self>, entry: u64, turn: Turn) -> Sender<Turn> {
        let body: Body = if entry == super::ENTRY {
            Box::new(User::main)
        } else {
            let number = (entry - THREAD_ENTRY) / ENTRY_SPAN;
            lock(&self.bodies)[number as usize].take().expect("entered once")
        };
        let (sender, turns) = channel();
        let run = self.clone();
        thread::spawn(move || {
            act_as(turn.cpu.number() as usize);
            HERE.set(Some(Here { turns, turn }));
            let ended = catch_unwind(AssertUnwindSafe(|| body(User(run.clone()))));
            if let Err(payload) = ended {
                run.note_panic(&*payload);
            }
            // Gives the turn up, if it is still its own: its CPU sees that nothing comes.
            HERE.set(None);
        });
        sender
    }

    /// Lets the user whose registers are at `frame` go on, until it wants something.
    fn turn(self: &Arc<Self>, cpu: &'static ModelCpu, frame: NonNull<Frame>) -> Want {
        let (back, wants) = channel();
        // What other CPUs did with it comes before: `MIG-1`.
        own(Thing { kind: "the registers at", number: frame.addr().get() });
        // SAFETY: the kernel has answered with it, on this CPU.
        let registers = unsafe { frame.read() };
        let mut turn = Turn { cpu, registers, back };
        let key = frame.addr().get();
        let entry = registers.pc;
        let is_new = entry == super::ENTRY
            || entry >= THREAD_ENTRY && (entry - THREAD_ENTRY).is_multiple_of(ENTRY_SPAN);
        if is_new {
            // It has executed an instruction, from now on.
            // SAFETY: as above; it is this CPU's until the next upcall.
            unsafe { (*frame.as_ptr()).pc += 4 };
            turn.registers.pc += 4;
            let user = self.enter(entry, turn);
            lock(&self.users).insert(key, user);
        } else {
            let user = lock(&self.users).get(&key).expect("it was entered").clone();
            let _ = user.send(turn);
        }
        // Without an answer the user has panicked, or the run is over.
        wants.recv().unwrap_or_else(|_| {
            self.machine.end();
            resume_unwind(Box::new(Ended))
        })
    }

    /// Everything a CPU does from a start until it stops.
    fn run_cpu(self: &Arc<Self>, cpu: &'static ModelCpu, mut resume: Option<Resume<Frame>>) {
        while let Some(answer) = resume {
            let mut frame = answer.frame();
            let want = self.turn(cpu, frame);
            resume = cpu.upcall(|| match want {
                Want::Call { number, args } => {
                    // SAFETY: the registers of the user whose turn it was; nobody else has them.
                    unsafe { frame.as_mut() }.call(number, &args);
                    Upcall::syscall(cpu, frame)
                }
                Want::Message { number, args, words } => {
                    // SAFETY: as above.
                    let registers = unsafe { frame.as_mut() };
                    registers.words = words;
                    registers.call(number, &args);
                    Upcall::syscall(cpu, frame)
                }
                Want::Interrupt => match cpu.take_interrupt() {
                    Some(interrupt) => Upcall::trap(cpu, frame, Trap::Interrupt(interrupt)),
                    None => {
                        Upcall::trap(cpu, frame, Trap::Interrupt(arch_contract::irq::Interrupt::Spurious))
                    }
                },
                Want::VectorUnitOff => Upcall::trap(cpu, frame, Trap::VectorUnitOff),
                Want::Fault(fault) => Upcall::trap(cpu, frame, Trap::Fault(fault)),
            });
        }
    }

    fn note_panic(&self, payload: &(dyn Any + Send)) {
        if payload.is::<Ended>() || payload.is::<PowerOff>() || payload.is::<Over>() {
            return;
        }
        let text = payload.downcast_ref::<String>().map(String::as_str);
        let text = text.or(payload.downcast_ref::<&str>().copied()).unwrap_or("a panic without a text");
        lock(&self.panic).get_or_insert_with(|| text.into());
    }
}

/// Boots a machine with `cpus` CPUs and runs the case `id`; what it printed, or what went wrong with
/// the kernel or the machine.
pub(super) fn run(id: &str, profile: Profile, policy: Policy, cpus: u32) -> Result<Vec<String>, String> {
    let program = super::program();
    let archive = pack_as(&[(PROGRAM, program.as_slice())], Contents::Raw).expect("a small archive");
    let config = Config { profile, cpus, ram: 16 << 20, pace: Pace::Threads, ..Config::default() };
    let (machine, cpus) = Machine::new(config);
    machine.connect::<Upcall>();
    // Not below: a task that a panic left behind is stopped only by the end of its run.
    // SAFETY: then no task that plays a CPU or a user goes on.
    #[cfg(spandrel_schedule)]
    schedule::at_end(|| unsafe { machine.free_ram() });
    let shared = Arc::new(Shared {
        machine,
        bodies: Mutex::default(),
        users: Mutex::default(),
        lines: Mutex::default(),
        panic: Mutex::default(),
    });
    let command_line = std::format!("log=quiet trace=on init={PROGRAM} -- {id}");
    let hosts: Vec<_> = cpus
        .iter()
        .map(|&cpu| {
            let run = shared.clone();
            let command_line = command_line.clone();
            let archive = archive.clone();
            thread::spawn(move || {
                act_as(cpu.number() as usize);
                let ended = catch_unwind(AssertUnwindSafe(|| {
                    if cpu.number() == 0 {
                        let info = machine.boot_info(&command_line, Some(&archive));
                        let first = cpu.upcall(|| Upcall::boot(info, machine, cpu));
                        // SAFETY: booting has bound it.
                        unsafe { Cpu::of(cpu) }.kernel.lifetime.set(policy);
                        run.run_cpu(cpu, first);
                    } else {
                        while cpu.wait_for_start() {
                            run.run_cpu(cpu, cpu.upcall(|| Upcall::boot_secondary(cpu)));
                        }
                    }
                }));
                if let Err(payload) = ended {
                    run.note_panic(&*payload);
                }
                machine.end();
                // Users that will not run again leave.
                lock(&run.users).clear();
            })
        })
        .collect();
    for host in hosts {
        let _ = host.join();
    }
    if let Some(panic) = lock(&shared.panic).take() {
        return Err(std::format!(
            "{panic}
{}",
            machine.output()
        ));
    }
    // SAFETY: its host thread has booted the kernel, or there was a panic.
    let kernel = unsafe { Cpu::of(cpus[0]) }.kernel;
    let lines = core::mem::take(&mut *lock(&shared.lines));
    let violations = super::trace::violations(kernel, profile);
    let output = machine.output();
    // SAFETY: all hosts of CPUs have ended and let go of their users; only text is kept.
    #[cfg(not(spandrel_schedule))]
    unsafe {
        machine.free_ram();
    }
    match violations.first() {
        Some(violation) => Err(violation.clone()),
        None if lines.is_empty() => Err(std::format!("the case said nothing\n{output}")),
        None => Ok(lines),
    }
}
