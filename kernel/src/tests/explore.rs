//! Every order of a few steps, on the whole kernel: two CPUs, two threads of one process, one of
//! another, a kernel task that uses the first process's memory or none, and one sync-core membarrier.
//!
//! A state is a machine to go back to ([`Snapshot`]); what matters of it is written out as its
//! [`key`](World::key), and two states with one key are one. From each state every step that is
//! possible is taken, breadth first, so the first violation that is found is the shortest. A step is
//! one upcall: what happens between two loads inside one is for the runs against the memory model.
//!
//! What is asked of every state (`RET-2`): once the command has returned, no CPU is in user mode of
//! the process with instructions that it fetched before the code was changed. The core is at its worst:
//! when the code changes, every core has fetched the old, and keeps it until something serializes it
//! that this profile says does. And the machine asks, all along, that lazy episodes follow their
//! grammar and that nothing is entered without its barrier.

use super::{ENTRY, Run};
use crate::cpu::Cpu;
use crate::object::Ref;
use crate::process::Process;
use crate::sched::ready::Runnable;
use crate::sched::task::{Task, slices};
use crate::thread::{Frame, Standing, Thread};
use abi::membarrier::Command;
use abi::{Call, initial};
use arch_contract::context::Did;
use arch_contract::irq::Interrupt;
use arch_model::{Config, Event, Profile, Snapshot};
use core::fmt::{self, Write};
use core::ptr::NonNull;
use core::task::Poll;
use std::collections::{HashMap, VecDeque};
use std::string::String;
use std::vec::Vec;

/// How far a step lets time go: past every slice and every sleep.
const AGE: u64 = 1 << 30;

/// What can happen next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Step {
    /// The current thread lets another go.
    Yield(usize),
    /// It makes a call that does nothing.
    Call(usize),
    /// It is interrupted, for nothing.
    Interrupt(usize),
    /// It sleeps.
    Sleep(usize),
    /// A kernel task comes for this CPU.
    Task(usize, Uses),
    /// The CPU takes what interrupts it.
    Take(usize),
    /// All timers are due.
    Wait,
    /// The current thread changes code and makes the command.
    Command(usize),
}

/// Whose memory the kernel task uses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Uses {
    Process,
    Nothing,
}

/// What no machine shows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Ghost {
    /// The core holds old instructions.
    stale: [bool; 2],
    command: Progress,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Progress {
    NotYet,
    MadeBy(NonNull<Frame>),
    Returned,
}

/// A machine, and what is known of it.
struct World {
    run: Run,
    profile: Profile,
    process: Ref<Process>,
    threads: [Ref<Thread>; 3],
    ghost: Ghost,
}

/// A state to go back to.
struct State {
    machine: Snapshot,
    frames: Vec<Option<NonNull<Frame>>>,
    ghost: Ghost,
}

impl World {
    fn new(profile: Profile) -> Self {
        let config = Config { profile, cpus: 2, ram: 1 << 19, ..Config::default() };
        let mut run = Run::boot_with(config, "log=quiet");
        run.on(1).come_up();
        let register = [Command::RegisterPrivateExpeditedSyncCore as u64, 0];
        assert_eq!(run.on(0).result(Call::Membarrier, &register), Ok(0));
        let current = |run: &Run| run.cpu().current().expect("user mode was entered");
        let first = current(&run);
        let page = run.page();
        run.spawn(page, u64::MAX).expect("a child");
        run.on(1).take_interrupts();
        let other = current(&run);
        run.on(0);
        let start = [initial::PROCESS.0.into(), ENTRY, 0x10_0000, 0];
        run.result(Call::ThreadStart, &start).expect("a thread");
        let ready = run.cpu().ready.lock().waiting().next().cloned();
        let Some(Runnable::Thread(second)) = ready else { panic!("the new thread is not ready here") };
        run.machine.events();
        let process = first.process().clone();
        let ghost = Ghost { stale: [false; 2], command: Progress::NotYet };
        Self { run, profile, process, threads: [first, second, other], ghost }
    }

    fn cpu(&self, number: usize) -> &'static Cpu {
        // SAFETY: booting has bound it.
        unsafe { Cpu::of(self.run.cpus[number]) }
    }

    /// What is possible now.
    fn steps(&self) -> Vec<Step> {
        let mut steps = Vec::new();
        let tasks = |number: usize| self.cpu(number).ready.lock().waiting().any(is_task);
        let no_task = !tasks(0) && !tasks(1);
        for cpu in 0..2 {
            if self.run.frames[cpu].is_some() {
                steps.extend([Step::Yield(cpu), Step::Call(cpu), Step::Interrupt(cpu), Step::Sleep(cpu)]);
                if self.is_in_process(cpu) && self.ghost.command == Progress::NotYet {
                    steps.push(Step::Command(cpu));
                }
            }
            if no_task {
                steps.extend([Step::Task(cpu, Uses::Process), Step::Task(cpu, Uses::Nothing)]);
            }
            if self.run.cpus[cpu].is_pending() {
                steps.push(Step::Take(cpu));
            }
        }
        let waits =
            |thread: &Ref<Thread>| matches!(thread.standing(), Standing::Timed(_) | Standing::Pending(..));
        if self.threads.iter().any(waits) {
            steps.push(Step::Wait);
        }
        steps
    }

    fn is_in_process(&self, cpu: usize) -> bool {
        self.cpu(cpu).words.current_mm().is_some_and(|mm| mm.id == self.process.space.id())
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Yield(cpu) => self.run.on(cpu).call(Call::Yield, &[]),
            Step::Call(cpu) => self.run.on(cpu).call(Call::Null, &[]),
            Step::Interrupt(cpu) => self.run.on(cpu).interrupt(Interrupt::Spurious),
            Step::Sleep(cpu) => {
                let until = self.cpu(cpu).now().0 + AGE / 2;
                self.run.on(cpu).call(Call::SleepUntil, &[initial::TIMER.0.into(), until]);
            }
            Step::Task(cpu, uses) => self.start_task(cpu, uses),
            Step::Take(cpu) => self.run.on(cpu).take_interrupts(),
            Step::Wait => self.run.machine.advance(AGE),
            Step::Command(cpu) => {
                let caller = self.run.on(cpu).frame();
                self.ghost = Ghost { stale: [true; 2], command: Progress::MadeBy(caller) };
                let command = [Command::PrivateExpeditedSyncCore as u64, 0];
                self.run.call(Call::Membarrier, &command);
            }
        }
        for logged in self.run.machine.events() {
            let Some(cpu) = logged.cpu else { continue };
            let serializes = match logged.event {
                Event::CoreSync => true,
                Event::SwitchMm { .. } => self.profile.switch_serializes() == Did::Yes,
                Event::ReturnToUser { .. } => self.profile.user_return_serializes(),
                _ => false,
            };
            self.ghost.stale[cpu as usize] &= !serializes;
        }
        if let Progress::MadeBy(caller) = self.ghost.command
            && self.run.frames.contains(&Some(caller))
        {
            self.ghost.command = Progress::Returned;
        }
    }

    /// The other CPU makes a task for `cpu`, of a priority above all threads: two polls.
    fn start_task(&self, cpu: usize, uses: Uses) {
        let uses = match uses {
            Uses::Process => Some(self.process.clone()),
            Uses::Nothing => None,
        };
        let mut polls = 0;
        let work = slices(move |_, _| {
            polls += 1;
            if polls < 2 { Poll::Pending } else { Poll::Ready(()) }
        });
        let (maker, target) = (self.cpu(1 - cpu), self.cpu(cpu));
        let priority = abi::DEFAULT_PRIORITY as u8 + 1;
        let started = Task::spawn_on(maker, target, self.process.charged(), priority, uses, work);
        started.expect("memory for a task");
    }

    /// Where old code would run after the command has returned.
    fn violation(&self) -> Option<usize> {
        let bad = |cpu: &usize| {
            self.run.frames[*cpu].is_some() && self.is_in_process(*cpu) && self.ghost.stale[*cpu]
        };
        (0..2).filter(|_| self.ghost.command == Progress::Returned).find(bad)
    }

    /// All that what follows depends on, but for how much is left of a slice.
    fn key(&self) -> String {
        let mut key = String::new();
        self.write_key(&mut key).expect("memory");
        key
    }

    fn write_key(&self, key: &mut String) -> fmt::Result {
        let name = |frame: NonNull<Frame>| self.threads.iter().position(|thread| thread.frame() == frame);
        for number in 0..2 {
            let (cpu, arch) = (self.cpu(number), self.run.cpus[number]);
            let runs = self.run.frames[number].map(name);
            let (current, loaded) = (cpu.words.current_mm(), cpu.words.loaded());
            write!(key, "{runs:?} {current:?} {loaded:?} {:?} ", cpu.work())?;
            write!(key, "{:?} {:?} ", cpu.held.synced, cpu.inbox)?;
            write!(key, "{} {:?} [", arch.is_pending(), arch.deadline().is_some())?;
            for item in cpu.ready.lock().waiting() {
                match item {
                    Runnable::Thread(thread) => write!(key, "{:?} ", name(thread.frame()))?,
                    _ => write!(key, "task ")?,
                }
            }
            writeln!(key, "]")?;
        }
        for thread in &self.threads {
            match thread.standing() {
                Standing::On(cpu) => write!(key, "on {cpu} ")?,
                Standing::Timed(cpu) => write!(key, "asleep on {cpu} ")?,
                Standing::Pending(cpu, _) => write!(key, "waits on {cpu} ")?,
                _ => write!(key, "other ")?,
            }
        }
        let command = match self.ghost.command {
            Progress::MadeBy(caller) => (1, name(caller)),
            Progress::NotYet => (0, None),
            Progress::Returned => (2, None),
        };
        write!(key, "{command:?} {:?}", self.ghost.stale)
    }

    fn state(&self, base: &Snapshot) -> State {
        let machine = self.run.machine.snapshot_beside(base);
        State { machine, frames: self.run.frames.clone(), ghost: self.ghost }
    }

    fn go_back(&mut self, state: &State) {
        // SAFETY: 1. it is of this machine. 2. each step has run to its end, and what is kept from one
        // to the next (the CPUs, the process, the threads) was there in the base and stays.
        unsafe { self.run.machine.go_back(&state.machine) };
        self.run.frames.clone_from(&state.frames);
        self.ghost = state.ghost;
    }
}

fn is_task(item: &Runnable) -> bool {
    matches!(item, Runnable::Task(_))
}

/// States, and how many steps led to one that was known.
#[derive(Default, Debug)]
struct Explored {
    states: usize,
    steps: usize,
    deepest: usize,
}

/// Explores up to `depth` steps.
///
/// # Panics
/// At the first violation, with the steps that led to it.
fn explore(profile: Profile, depth: usize) -> Explored {
    let mut world = World::new(profile);
    let base = world.run.machine.base();
    let first = world.state(&base);
    let mut known = HashMap::from([(world.key(), 0)]);
    // How each state was first reached.
    let mut reached: Vec<(usize, Option<Step>)> = std::vec![(0, None)];
    let mut todo = VecDeque::from([(0, 0, first)]);
    let mut explored = Explored::default();
    while let Some((index, steps, state)) = todo.pop_front() {
        explored.deepest = steps;
        if steps == depth {
            continue;
        }
        world.go_back(&state);
        for (number, step) in world.steps().into_iter().enumerate() {
            if number > 0 {
                world.go_back(&state);
            }
            explored.steps += 1;
            let taken = std::panic::catch_unwind(core::panic::AssertUnwindSafe(|| world.take(step)));
            let wrong = match taken {
                Ok(()) => world.violation().map(|cpu| std::format!("RET-2: CPU {cpu} runs old code")),
                Err(_) => Some(String::from("the kernel or the machine objected")),
            };
            if let Some(wrong) = wrong {
                let mut path = std::vec![step];
                let mut at = index;
                while let (before, Some(step)) = reached[at] {
                    path.push(step);
                    at = before;
                }
                path.reverse();
                panic!("{wrong} after {path:?}, found at {} states ({profile:?})", known.len());
            }
            let next = known.len();
            if let std::collections::hash_map::Entry::Vacant(new) = known.entry(world.key()) {
                new.insert(next);
                reached.push((index, Some(step)));
                todo.push_back((next, steps + 1, world.state(&base)));
            }
        }
    }
    explored.states = known.len();
    explored
}

/// How far the suite goes: some two thousand states for each machine.
const DEPTH: usize = 7;

/// Tests run side by side: one for each machine.
macro_rules! explored {
    ($($name:ident $profile:ident;)*) => {$(
        #[test]
        fn $name() {
            let begin = std::time::Instant::now();
            let explored = explore(Profile::$profile, DEPTH);
            std::println!("{explored:?} in {:?}", begin.elapsed());
            assert!(explored.states > 1000, "it hardly moved: {explored:?}");
        }
    )*};
}

explored! {
    ret_2_no_order_of_steps_runs_old_code_on_x86 X86;
    ret_2_no_order_of_steps_runs_old_code_on_x86_with_fred X86Fred;
    ret_2_no_order_of_steps_runs_old_code_on_ppc64le Ppc64le;
    ret_2_no_order_of_steps_runs_old_code_where_nothing_serializes Minimal;
}
