//! System calls: from a number and six words to an effect.
//!
//! Each call copies in what it needs before its first effect, and copies out last. A call that
//! must wait takes the thread off the CPU with the program counter at the call, so it is simply
//! made again; a call whose work is long hands the thread to a kernel task.

mod console;
mod copy;
mod device;
mod handle;
mod ipc;
mod memory;
mod object;
mod process;
pub mod quick;
mod testing;
mod thread;
mod time;

pub use copy::Copy;
pub use device::DmaCreate;
pub use memory::{Map, SLICE_PAGES, Unmap, error as space_error};
pub use object::{Attach, Create};
use process::process;

use crate::cap::Capability;
use crate::cpu::Cpu;
use crate::hotplug;
use crate::ipc::exception;
use crate::ipc::message::Kind;
use crate::job::{Job, Work};
use crate::kernel::Waiting;
use crate::membarrier;
use crate::mm::burial;
use crate::object::Ref;
use crate::pending::Pending;
use crate::process::Process;
use crate::rseq;
use crate::sched;
use crate::thread::Thread;
use crate::trace;
use abi::{Call, Ending, Error, ExitReport, Handle, Rights};
use arch_contract::addr::VirtAddr;
use arch_contract::irq::IrqsOff;
use arch_contract::trap::{Access, Syscall};
use arch_contract::user::{UserFault, Window};
use arch_current::Current;
use core::cell::Cell;

/// What became of a call.
pub enum Outcome {
    /// The thread is still current; this is the result.
    Done(Result<u64, Error>),
    /// The thread is off the CPU.
    Off,
    /// Other CPUs were asked for something: the result comes when it has happened.
    Pending(Pending),
    /// As `Done`, but the result is in the thread's registers, beyond the two of other calls.
    Message,
    /// The thread is off the CPU, and this one, which no CPU has, goes on in its place.
    To(Ref<Thread>),
    /// A kernel task goes on with the thread's [`Job`], and stores the result.
    Job,
}

/// Who calls.
struct Caller<'a> {
    cpu: &'static Cpu,
    irq: &'a IrqsOff,
    thread: Ref<Thread>,
    missing: &'a Missing,
}

/// Where the program's memory could not be touched, if that failed.
type Missing = Cell<Option<(VirtAddr, Access)>>;

impl Caller<'_> {
    fn process(&self) -> &Ref<Process> {
        self.thread.process()
    }

    /// What `handle` names, if it carries `rights`.
    fn capability(&self, handle: u64, rights: Rights) -> Result<Capability, Error> {
        let handle = self.handle(handle)?;
        self.process().table.get(self.cpu, handle, rights)
    }

    fn handle(&self, number: u64) -> Result<Handle, Error> {
        u32::try_from(number).map(Handle).map_err(|_| Error::BadHandle)
    }

    /// Begins the job that a kernel task goes on with, and that stores the result of the call.
    #[inline(always)]
    fn begin(&self, process: Ref<Process>, work: impl FnOnce() -> Work) -> Result<Outcome, Error> {
        // SAFETY: the caller is current here, so this CPU alone has its job.
        Job::begin(unsafe { self.thread.job().as_mut() }, self.cpu, process, work)?;
        Ok(Outcome::Job)
    }

    fn window(&self) -> Window<'_, Current> {
        // SAFETY: this CPU entered the kernel from the caller's user code, and only
        // `sched::leave` loads another memory context.
        unsafe { Window::open(self.cpu.arch(), self.irq) }
    }

    /// Copies `to.len()` bytes in.
    fn read(&self, to: &mut [u8], from: u64) -> Result<(), Error> {
        self.window().read(to, VirtAddr(from)).map_err(|fault| self.failed(fault, Access::Read))
    }

    /// Copies `from` out.
    fn write(&self, to: u64, from: &[u8]) -> Result<(), Error> {
        self.window().write(VirtAddr(to), from).map_err(|fault| self.failed(fault, Access::Write))
    }

    fn failed(&self, fault: UserFault, access: Access) -> Error {
        self.missing.set(Some((fault.address, access)));
        Error::BadAddress
    }
}

/// Does the call that the current thread of `cpu` has made. Kept out of line: the null call does
/// not come here.
#[inline(never)]
pub fn dispatch(cpu: &'static Cpu, call: Syscall, irq: &IrqsOff) -> Outcome {
    let missing = Cell::new(None);
    let outcome = match (perform(cpu, call, irq, &missing), missing.take()) {
        // It may be a pager's: nothing was done yet, so the call can be made again.
        (Outcome::Done(Err(Error::BadAddress)), Some((at, access))) => {
            exception::page_for_call(cpu, at, access, irq)
        }
        (outcome, _) => outcome,
    };
    // A job looks when it is done.
    if !matches!(outcome, Outcome::Job) {
        burial::look(cpu);
    }
    outcome
}

fn perform(cpu: &'static Cpu, call: Syscall, irq: &IrqsOff, missing: &Missing) -> Outcome {
    let Some(thread) = cpu.current() else { return Outcome::Off };
    let Some(number) = Call::from_number(call.number) else {
        return Outcome::Done(Err(Error::BadCall));
    };
    let caller = Caller { cpu, irq, thread, missing };
    let args = call.args;
    let result = match number {
        Call::Null => Ok(0),
        Call::Exit => {
            let report = ExitReport::new(Ending::Exited, args[0] as u8);
            drop(caller);
            sched::end_current(cpu, report, irq);
            return Outcome::Off;
        }
        Call::Yield => {
            sched::yield_current(cpu);
            Ok(0)
        }
        Call::HandleClose => return handle::close(&caller, args),
        Call::HandleCopy => handle::copy(&caller, args),
        Call::HandleMove => handle::transfer(&caller, args),
        Call::HandleRevoke => return handle::revoke(&caller, args),
        Call::HandleInfo => handle::info(&caller, args),
        Call::ConsoleWrite => console::write(&caller, args),
        Call::ConsoleRead => return console::read(&caller, args),
        Call::ClockRead => time::read(&caller, args),
        Call::SleepUntil => return time::sleep_until(&caller, args),
        Call::MemoryMap => return memory::map(&caller, args),
        Call::MemoryUnmap => return memory::unmap(&caller, args),
        Call::MemoryCreate => return object::create(&caller, args),
        Call::MemoryAttach => return object::attach(&caller, args),
        Call::MemoryCopy => return copy::copy(&caller, args),
        Call::ArchiveEntry => process::archive_entry(&caller, args),
        Call::Spawn => return process::spawn(&caller, args),
        Call::ProcessWait => return process::wait(&caller, args),
        Call::ProcessKill => return process::kill(&caller, args),
        Call::ProcessInfo => process::info(&caller, args),
        Call::PowerOff => process::power_off(&caller, args),
        Call::ProcessPriority => process::priority(&caller, args),
        Call::Membarrier => return outcome(membarrier::call(cpu, args, irq)),
        Call::RseqRegister => rseq::register(cpu, &caller.thread, args[0]).map(|()| 0),
        Call::CodePublish => memory::publish(&caller, args),
        Call::Cpus => process::cpus(&caller, args),
        Call::CpuPower => {
            return outcome(process::machine(&caller, args[0], Rights::MANAGE).map(|()| match args[2] {
                0 => hotplug::turn_off(cpu, args[1], irq),
                1 => hotplug::turn_on(cpu, args[1]),
                _ => Outcome::Done(Err(Error::BadArgument)),
            }));
        }
        Call::Quiesce => {
            return outcome(process::machine(&caller, args[0], Rights::MANAGE).map(|()| {
                cpu.kernel.hurry(Waiting::Begins);
                Outcome::Pending(Pending::Teardowns)
            }));
        }
        Call::ThreadStart => thread::start(&caller, args),
        Call::ThreadExit => {
            drop(caller);
            sched::end_current_thread(cpu, irq);
            return Outcome::Off;
        }
        Call::ThreadWait => return thread::wait(&caller, args),
        Call::ThreadAffinity => return thread::set_affinity(&caller, args),
        Call::ThreadPriority => thread::set_priority(&caller, args),
        Call::ThreadBudget => thread::set_budget(&caller, args),
        Call::ThreadExceptions => ipc::exceptions(&caller, args),
        Call::ThreadRegisters => thread::registers(&caller, args),
        Call::ThreadSetRegisters => thread::set_registers(&caller, args),
        Call::ThreadVectors => thread::vectors(&caller, args),
        Call::ThreadSetVectors => thread::set_vectors(&caller, args),
        Call::MemoryCreatePaged => object::create_paged(&caller, args),
        Call::MemorySupply => object::supply(&caller, args),
        Call::ArchiveRead => process::archive_read(&caller, args),
        Call::EndpointCreate => ipc::create_endpoint(&caller),
        Call::EndpointCall => return ipc::send(&caller, args, Kind::Call),
        Call::ReplyReceive => return ipc::reply_receive(&caller, args),
        Call::EndpointSend => return ipc::send(&caller, args, Kind::Send),
        Call::EndpointReceive => return ipc::receive(&caller, args),
        Call::Reply => ipc::reply(&caller, args),
        Call::ReplySave => ipc::save_reply(&caller),
        Call::NotificationCreate => ipc::create_notification(&caller),
        Call::NotificationSignal => ipc::signal(&caller, args),
        Call::NotificationWait => return ipc::wait(&caller, args),
        Call::NotificationBind => ipc::bind(&caller, args),
        Call::PciFunction => device::function(&caller, args),
        Call::PciInfo => device::info(&caller, args),
        Call::PciRead => device::read(&caller, args),
        Call::PciWrite => device::write(&caller, args),
        Call::PciBar => device::bar(&caller, args),
        Call::PciCommand => device::command(&caller, args),
        Call::PciInterrupt => device::interrupt(&caller, args),
        Call::InterruptBind => device::bind(&caller, args),
        Call::InterruptAcknowledge => device::acknowledge(&caller, args),
        Call::DmaCreate => return device::create_dma(&caller, args),
        Call::DmaAddress => device::dma_address(&caller, args),
        Call::Test if trace::ENABLED => return testing::call(&caller, args),
        Call::Test => Err(Error::BadCall),
    };
    Outcome::Done(result)
}

/// Turns a refusal before the first effect into the call's outcome.
fn outcome(result: Result<Outcome, Error>) -> Outcome {
    result.unwrap_or_else(|error| Outcome::Done(Err(error)))
}
