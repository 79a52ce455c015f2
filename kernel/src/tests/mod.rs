//! The whole kernel on the simulated machine, one upcall at a time.
//!
//! Nobody runs user code here: a test *is* the user. It sets the registers of the frame that the
//! kernel answered with, makes the upcall, and looks at the frame that comes back, at the log of
//! hooks and at the console. So a schedule is a script, and time passes only when the test or an
//! idle CPU lets it.

mod alarms;
mod barriers;
mod budgets;
mod calls;
mod caps;
mod conformance;
mod context;
mod copy;
mod device;
mod differential;
mod doomed;
mod endings;
mod exceptions;
mod explore;
mod fuzz;
mod ipc;
mod jobs;
mod loans;
pub(crate) mod many;
mod memory;
mod notifications;
mod off;
mod pager;
mod rseq;
mod sched;
#[cfg(spandrel_schedule)]
mod schedules;
mod short;
mod signals;
mod sweep;
mod threads;
mod trace;
pub(crate) mod worker;

use crate::Upcall;
use crate::cpu::Cpu;
use abi::{Call, Error, SpawnRequest, initial};
use arch_contract::addr::VirtAddr;
use arch_contract::boot::Boot;
use arch_contract::irq::{Interrupt, Interrupts, IrqsOff};
use arch_contract::ret::Resume;
use arch_contract::trap::{Fault, Trap};
use arch_contract::upcalls::Upcalls;
use arch_contract::user::Window;
use arch_model::profile::Profile;
use arch_model::{Config, Cpu as ModelCpu, Event, Frame, Machine, Model};
use boot_image::pack::{Contents, pack_as};
use core::ptr::NonNull;
use std::string::String;
use std::vec::Vec;
use zerocopy::IntoBytes;

/// Where the test programs are entered.
const ENTRY: u64 = 0x2_0000;

/// A kernel on a machine, in the middle of a run.
pub(super) struct Run {
    pub machine: &'static Machine,
    /// The CPU whose turn it is.
    pub arch: &'static ModelCpu,
    cpus: Vec<&'static ModelCpu>,
    /// What the kernel last answered with on each CPU. `None`: the CPU idles, or is off.
    frames: Vec<Option<NonNull<Frame>>>,
}

/// A thread, as the test knows it: by where its registers are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct User(NonNull<Frame>);

/// A program of one page of code that is never executed: the smallest that loads.
pub(super) fn program() -> Vec<u8> {
    let mut elf = std::vec![0u8; 0x1010];
    elf[..16].copy_from_slice(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    let mut put = |at: usize, bytes: &[u8]| elf[at..at + bytes.len()].copy_from_slice(bytes);
    put(16, &2u16.to_le_bytes()); // ET_EXEC
    put(18, &Model::ELF_MACHINE.to_le_bytes());
    put(20, &1u32.to_le_bytes());
    put(24, &ENTRY.to_le_bytes());
    put(32, &64u64.to_le_bytes()); // program headers
    put(52, &64u16.to_le_bytes());
    put(54, &56u16.to_le_bytes());
    put(56, &1u16.to_le_bytes());
    put(58, &64u16.to_le_bytes());
    put(64, &1u32.to_le_bytes()); // PT_LOAD, R+X
    put(68, &5u32.to_le_bytes());
    put(72, &0x1000u64.to_le_bytes());
    put(80, &ENTRY.to_le_bytes());
    put(88, &ENTRY.to_le_bytes());
    put(96, &16u64.to_le_bytes());
    put(104, &16u64.to_le_bytes());
    put(112, &0x1000u64.to_le_bytes());
    elf
}

impl Run {
    /// Boots with `init` and `child` in the archive, up to init's first instruction.
    pub fn boot(profile: Profile) -> Self {
        Self::boot_with(Config { profile, ..Config::default() }, "log=quiet")
    }

    pub fn boot_with(config: Config, command_line: &str) -> Self {
        let program = program();
        let files = [("init", program.as_slice()), ("child", program.as_slice())];
        let archive = pack_as(&files, Contents::Raw).expect("a small archive");
        let (machine, cpus) = Machine::new(config);
        machine.connect::<Upcall>();
        let info = machine.boot_info(command_line, Some(&archive));
        let mut run = Self { machine, arch: cpus[0], frames: std::vec![None; cpus.len()], cpus };
        run.answer(|arch| Upcall::boot(info, machine, arch));
        run
    }

    /// Boots a machine of `cpus` CPUs. The others were started; each comes when it is first the
    /// turn of it.
    pub fn boot_many(profile: Profile, cpus: u32) -> Self {
        Self::boot_with(Config { profile, cpus, ..Config::default() }, "log=quiet")
    }

    /// It is the turn of CPU `number`.
    pub fn on(&mut self, number: usize) -> &mut Self {
        self.arch = self.cpus[number];
        self
    }

    /// An upcall on the CPU whose turn it is.
    fn answer(&mut self, upcall: impl FnOnce(&'static ModelCpu) -> Resume<Frame>) {
        let arch = self.arch;
        self.frames[arch.number() as usize] = arch.upcall(move || upcall(arch)).map(|resume| resume.frame());
    }

    /// The CPU, which was started, enters the kernel for the first time.
    pub fn come_up(&mut self) {
        self.answer(Upcall::boot_secondary);
    }

    /// The CPU takes what interrupts it: in user mode, or where it idles.
    pub fn take_interrupts(&mut self) {
        if self.idles() {
            return self.answer(|arch| {
                // SAFETY: nothing of this CPU is under way: its halt was unwound.
                let mut irq = unsafe { IrqsOff::assume() };
                Model::window(arch, &mut irq);
                // SAFETY: as in `cpu`.
                crate::sched::leave(unsafe { Cpu::of(arch) }, irq)
            });
        }
        while !self.idles()
            && let Some(interrupt) = self.arch.take_interrupt()
        {
            self.interrupt(interrupt);
        }
    }

    /// Whether the CPU has nothing to run, or is off.
    pub fn idles(&self) -> bool {
        self.frames[self.arch.number() as usize].is_none()
    }

    fn frame(&self) -> NonNull<Frame> {
        self.frames[self.arch.number() as usize].expect("the CPU idles")
    }

    /// The thread that the kernel would run now.
    pub fn user(&self) -> User {
        User(self.frame())
    }

    /// The registers, to be changed as the user's instructions would.
    pub fn registers_mut(&mut self) -> &mut Frame {
        // SAFETY: the kernel has answered with it, and nothing runs.
        unsafe { self.frame().as_mut() }
    }

    pub fn registers(&self) -> Frame {
        // SAFETY: the kernel has answered with it, and nothing runs.
        unsafe { self.frame().read() }
    }

    /// The generic half of the CPU.
    pub fn cpu(&self) -> &'static Cpu {
        // SAFETY: booting has bound it.
        unsafe { Cpu::of(self.arch) }
    }

    /// The current thread makes a call. Afterwards another may be current.
    pub fn call(&mut self, call: Call, args: &[u64]) {
        self.raw_call(call as u64, args);
    }

    pub fn raw_call(&mut self, number: u64, args: &[u64]) {
        // SAFETY: as in `registers`.
        unsafe { self.frame().as_mut() }.call(number, args);
        let frame = self.frame();
        self.answer(|arch| Upcall::syscall(arch, frame));
    }

    /// A call that returns to its caller at once, and what it returned.
    pub fn result(&mut self, call: Call, args: &[u64]) -> Result<u64, Error> {
        let caller = self.user();
        self.call(call, args);
        assert_eq!(self.user(), caller, "{call:?} did not return to its caller");
        self.returned()
    }

    /// What the current thread's last call returned.
    pub fn returned(&self) -> Result<u64, Error> {
        let frame = self.registers();
        match Error::from_number(frame.status) {
            None => Ok(frame.value),
            Some(error) => Err(error),
        }
    }

    fn trap(&mut self, trap: Trap) {
        let frame = self.frame();
        self.answer(|arch| Upcall::trap(arch, frame, trap));
    }

    pub fn fault(&mut self, fault: Fault) {
        self.trap(Trap::Fault(fault));
    }

    pub fn interrupt(&mut self, interrupt: Interrupt) {
        self.trap(Trap::Interrupt(interrupt));
    }

    /// The current thread's first vector instruction.
    pub fn vector_unit_off(&mut self) {
        self.trap(Trap::VectorUnitOff);
    }

    /// What the hooks did since this was last asked, windows and timers left out.
    pub fn hooks(&self) -> Vec<Event> {
        let quiet = |event: &Event| matches!(event, Event::Window | Event::SetDeadline(_));
        self.machine.events().into_iter().map(|logged| logged.event).filter(|event| !quiet(event)).collect()
    }

    /// A page of the current process's memory that can be written.
    pub fn page(&mut self) -> u64 {
        let map = [initial::PROCESS.0.into(), 0, 4096, abi::Protection::ReadWrite as u64];
        self.result(Call::MemoryMap, &map).expect("one page")
    }

    /// Puts `bytes` into the current process's memory.
    pub fn poke(&self, at: u64, bytes: &[u8]) {
        // SAFETY: nothing runs; a model CPU has no interrupts outside windows.
        let irq = unsafe { IrqsOff::assume() };
        // SAFETY: the current thread's context is loaded: it was answered with.
        let window = unsafe { Window::<Model>::open(self.arch, &irq) };
        window.write(VirtAddr(at), bytes).expect("the test has mapped it");
    }

    /// Reads the current process's memory.
    pub fn peek(&self, at: u64, bytes: &mut [u8]) {
        // SAFETY: as in `poke`.
        let irq = unsafe { IrqsOff::assume() };
        // SAFETY: as in `poke`.
        let window = unsafe { Window::<Model>::open(self.arch, &irq) };
        window.read(bytes, VirtAddr(at)).expect("the test has mapped it");
    }

    /// Makes the current process start `child` with its own rights and a memory limit, and runs
    /// until the caller has the handle.
    pub fn spawn(&mut self, page: u64, memory: u64) -> Result<u64, Error> {
        let grants = [
            abi::Grant { handle: initial::CONSOLE, rights: 3 },
            abi::Grant { handle: initial::TIMER, rights: 17 },
        ];
        self.spawn_with(page, memory, &grants)
    }

    /// As [`spawn`](Self::spawn), with grants of the test's choice.
    pub fn spawn_with(&mut self, page: u64, memory: u64, grants: &[abi::Grant]) -> Result<u64, Error> {
        self.prepare_spawn(page, memory, grants);
        self.spawn_prepared(page)
    }

    /// What [`prepare_spawn`](Self::prepare_spawn) wrote at `page`.
    pub fn spawn_prepared(&mut self, page: u64) -> Result<u64, Error> {
        let caller = self.user();
        self.call(Call::Spawn, &[initial::ARCHIVE.0.into(), page]);
        // The child may be first: it stands before its maker in the queue.
        for _ in 0..1000 {
            if self.user() == caller {
                return self.returned();
            }
            self.call(Call::Yield, &[]);
        }
        panic!("the caller never comes back")
    }

    /// Writes what `spawn` wants at `page` into the current process's memory.
    pub fn prepare_spawn(&self, page: u64, memory: u64, grants: &[abi::Grant]) {
        self.poke(page + 256, b"child");
        self.poke(page + 512, b"child\0");
        self.poke(page + 768, grants.as_bytes());
        let request = SpawnRequest {
            name: page + 256,
            name_len: 5,
            args: page + 512,
            args_len: 6,
            grants: page + 768,
            grants_len: grants.len() as u64,
            memory,
            priority: abi::DEFAULT_PRIORITY,
            cpu_budget: 0,
            cpu_period: 0,
        };
        self.poke(page, request.as_bytes());
    }

    /// Gives the CPU to whoever is next, and says who that is.
    pub fn yield_to_other(&mut self) -> User {
        let before = self.user();
        self.call(Call::Yield, &[]);
        assert_ne!(self.user(), before, "nobody else is ready");
        self.user()
    }

    pub fn output(&self) -> String {
        self.machine.output()
    }
}

/// Runs `run` until it ends the machine, and says how. For what must not go on.
pub(super) fn ends(run: impl FnOnce() + std::panic::UnwindSafe) -> arch_contract::machine::Verdict {
    let payload = std::panic::catch_unwind(run).expect_err("the machine went on");
    match payload.downcast::<arch_model::PowerOff>() {
        Ok(off) => off.0,
        Err(other) => std::panic::resume_unwind(other),
    }
}
