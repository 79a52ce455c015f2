//! Loading a program: from a file of the boot archive to a process with a thread.
//!
//! It is long work, so it is a kernel task: pages are mapped and filled a slice at a time. The file
//! was checked as a whole before ([`Program::parse`]), so what can still fail is memory.

use crate::cap::{Capability, Object, Where};
use crate::cpu::Cpu;
use crate::kernel::Kernel;
use crate::mm::NoMemory;
use crate::mm::budget::Budget;
use crate::mm::heap::Charged;
use crate::mm::list::List;
use crate::mm::space::Space;
use crate::object::Ref;
use crate::panic;
use crate::print;
use crate::process::{Name, Process};
use crate::sched::limit::Limit;
use crate::sched::ready::{Priority, Runnable};
use crate::sched::task::{Task, slices};
use crate::syscall::SLICE_PAGES;
use crate::thread::Thread;
use abi::{Ending, Error, ExitReport, Handle, MAX_GRANTS, PAGE_BYTES, Rights, STACK_BYTES, initial};
use arch_contract::addr::VirtAddr;
use arch_contract::boot::Boot;
use arch_contract::irq::IrqsOff;
use arch_contract::pte::{Paging, Protection};
use arch_contract::trap::Traps;
use arch_current::Current;
use arrayvec::ArrayVec;
use boot_image::program::{Program, Target};
use core::task::Poll;

/// The end of the first stack. Above it, to the end of the user range, lies the argument block.
pub const STACK_TOP: VirtAddr = VirtAddr(Current::USER_END.0 - 0x1_0000);
/// Bytes below the stack in which an access is reported as a stack overflow.
pub const STACK_GUARD: u64 = 64 * 1024;
const ARGS_AT: VirtAddr = VirtAddr(Current::USER_END.0 - 0x8000);

/// What a new process is given.
pub enum Granted {
    Original(Capability),
    /// Derived from what a process names by a handle, with these rights at most.
    From(Ref<Process>, Handle, Rights),
}

/// What to load and what to give it.
pub struct Request {
    pub name: Name,
    /// The argument block; at most [`abi::MAX_ARGS`] bytes.
    pub args: List<u8>,
    pub grants: ArrayVec<Option<Granted>, MAX_GRANTS>,
    /// What the process's own budget is carved from.
    pub budget: Ref<Budget>,
    /// Its limit, in bytes.
    pub memory: u64,
    pub priority: Priority,
    /// Of its CPU time.
    pub limit: Option<Ref<Limit>>,
}

/// Loads a program. Its first thread is not yet running when this returns: [`start`] does that. For
/// kernel tasks.
pub async fn load(kernel: &'static Kernel, request: Request) -> Result<Ref<Thread>, Error> {
    let program = find(kernel, &request.name)?;
    let process = slices(|cpu, irq| Poll::Ready(make(cpu, &request, irq))).await?;
    match fill(&process, &program, &request).await {
        Ok(first) => Ok(first),
        Err(error) => {
            abandon(process).await;
            Err(error)
        }
    }
}

/// The file by that name, checked.
fn find(kernel: &'static Kernel, name: &Name) -> Result<Program<'static>, Error> {
    let file = kernel.archive.find(name).ok_or(Error::NotFound)?;
    let target = Target {
        machine: Current::ELF_MACHINE,
        name: <Current as arch_contract::Base>::NAME,
        user: Current::USER_START.0..STACK_TOP.0 - STACK_BYTES - STACK_GUARD,
    };
    Program::parse(file, &target).map_err(|error| {
        print::line(Some(kernel.machine), format_args!("program `{name}`: {error}"));
        Error::BadProgram
    })
}

/// An empty process with its grants.
fn make(cpu: &Cpu, request: &Request, irq: &IrqsOff) -> Result<Ref<Process>, Error> {
    let kernel = cpu.kernel;
    let memory = kernel.memory;
    let no_memory = |NoMemory| Error::NoMemory;
    let budget = Budget::child(memory, &request.budget, request.memory).map_err(no_memory)?;
    let id = kernel.next_context().ok_or(Error::NoMemory)?;
    let space = Space::new(cpu, memory, budget.clone(), id, irq).map_err(|_| Error::NoMemory)?;
    let number = kernel.next_process();
    let limit = request.limit.clone();
    Process::try_new(memory, budget, number, request.name, space, request.priority, limit).map_err(no_memory)
}

/// Maps and fills everything, and makes the thread.
async fn fill(
    process: &Ref<Process>,
    program: &Program<'static>,
    request: &Request,
) -> Result<Ref<Thread>, Error> {
    for segment in program.segments() {
        let pages = segment.pages();
        let length = pages.end - pages.start;
        map(process, VirtAddr(pages.start), length, segment.protection).await?;
        write(process, VirtAddr(segment.at), segment.file).await?;
    }
    map(process, VirtAddr(STACK_TOP.0 - STACK_BYTES), STACK_BYTES, Protection::ReadWrite).await?;
    let args = &*request.args;
    map(process, ARGS_AT, (args.len() as u64).next_multiple_of(PAGE_BYTES), Protection::Read).await?;
    write(process, ARGS_AT, args).await?;

    let frame = Current::new_frame(VirtAddr(program.entry()), STACK_TOP, [ARGS_AT.0, args.len() as u64, 0]);
    let mut frame = Some(frame);
    slices(|cpu, irq| {
        // Once: this is ready the first time.
        let Some(frame) = frame.take() else { return Poll::Pending };
        let made = Thread::try_new(process.clone(), frame, cpu)
            .map_err(|NoMemory| Error::NoMemory)
            .and_then(|thread| process.add_thread(cpu, thread.clone()).map(|()| thread));
        let first = match made {
            Ok(first) => first,
            Err(error) => return Poll::Ready(Err(error)),
        };
        Poll::Ready(endow(cpu, process, &request.grants, irq).map(|()| first))
    })
    .await
}

/// Puts what it was given into the table of a new process.
fn endow(cpu: &Cpu, process: &Ref<Process>, grants: &[Option<Granted>], irq: &IrqsOff) -> Result<(), Error> {
    let table = &process.table;
    let rights = Rights::READ | Rights::MAP | Rights::MANAGE;
    let own = Capability::new(Object::Process(process.clone()), rights);
    table.insert_at(cpu, own, Where::At(initial::PROCESS))?;
    for (grant, handle) in grants.iter().zip(initial::CONSOLE.0..) {
        let at = Where::At(Handle(handle));
        match grant {
            Some(Granted::Original(capability)) => table.insert_at(cpu, capability.clone(), at)?,
            Some(Granted::From(process, from, rights)) => {
                process.table.copy(cpu, *from, (*rights, 0), (table, at), irq)?
            }
            None => continue,
        };
    }
    Ok(())
}

/// Maps zeroed pages, slice by slice.
async fn map(process: &Ref<Process>, at: VirtAddr, length: u64, protection: Protection) -> Result<(), Error> {
    let space = &process.space;
    let region = slices(|cpu, _| Poll::Ready(space.reserve(cpu, Some(at), length, protection)))
        .await
        .map_err(crate::syscall::space_error)?;
    let mut done = 0;
    slices(|cpu, irq| match space.populate(cpu, &region, done, SLICE_PAGES, irq) {
        Ok(pages) => {
            done += pages;
            if done * PAGE_BYTES >= length { Poll::Ready(Ok(())) } else { Poll::Pending }
        }
        Err(NoMemory) => Poll::Ready(Err(Error::NoMemory)),
    })
    .await
}

/// Fills mapped pages, slice by slice, whatever their protection.
async fn write(process: &Ref<Process>, at: VirtAddr, bytes: &[u8]) -> Result<(), Error> {
    for (index, chunk) in bytes.chunks((SLICE_PAGES * PAGE_BYTES) as usize).enumerate() {
        let at = VirtAddr(at.0 + index as u64 * SLICE_PAGES * PAGE_BYTES);
        slices(|cpu, _| Poll::Ready(process.space.write_bytes(cpu, at, chunk)))
            .await
            .map_err(crate::syscall::space_error)?;
    }
    Ok(())
}

/// Ends a process that never ran: its teardown gives everything back.
async fn abandon(process: Ref<Process>) {
    slices(|cpu, _| {
        Process::condemn(&process, cpu, ExitReport::new(Ending::Killed, abi::KILL_STATUS));
        Poll::Ready(())
    })
    .await;
}

/// Lets the first thread of a loaded process run. Once: it may have been killed meanwhile, and the
/// process may have other threads already, which are none of this function's.
pub fn start(cpu: &Cpu, first: Ref<Thread>) {
    cpu.make_ready(Runnable::Thread(first));
}

/// Loads init with every capability there is, and makes the machine end when it does.
pub fn start_init(cpu: &'static Cpu, name: &str, args: &[u8]) -> Result<(), NoMemory> {
    let kernel = cpu.kernel;
    let charged = Charged { memory: kernel.memory, budget: kernel.root.clone() };
    let Ok(short) = Name::from(name) else {
        panic::refuse(Some(kernel.machine), format_args!("init={name}: the name is too long"));
    };
    let mut block = List::new(charged.clone());
    block.extend(name.as_bytes())?;
    block.push(0)?;
    block.extend(args)?;
    let all = [
        (Object::Console, Rights::READ | Rights::WRITE),
        (Object::Timer, Rights::READ | Rights::WAIT),
        (Object::Archive, Rights::READ | Rights::EXECUTE),
        (Object::Machine, Rights::READ | Rights::MANAGE),
    ];
    let request = Request {
        name: short,
        args: block,
        grants: all
            .into_iter()
            .map(|(object, rights)| Some(Granted::Original(Capability::new(object, rights))))
            .collect(),
        budget: kernel.root.clone(),
        memory: u64::MAX,
        priority: abi::DEFAULT_PRIORITY as Priority,
        limit: None,
    };
    Task::spawn(cpu, charged, abi::DEFAULT_PRIORITY as Priority, async move {
        let machine = kernel.machine;
        let first = match load(kernel, request).await {
            Ok(first) => first,
            Err(Error::NotFound) => panic::refuse(
                Some(machine),
                format_args!("the boot archive has no program `{short}`: name another with init=NAME"),
            ),
            Err(Error::BadProgram) => {
                panic::refuse(Some(machine), format_args!("`{short}` cannot be loaded: see above"))
            }
            Err(_) => panic::refuse(Some(machine), format_args!("too little memory to load `{short}`")),
        };
        slices(|cpu, _| {
            first.process().set_init();
            start(cpu, first.clone());
            Poll::Ready(())
        })
        .await;
    })
}

/// Ends the machine because init has ended.
pub fn init_ended(cpu: &Cpu, report: ExitReport) -> ! {
    match report.ending() {
        Some(Ending::Exited) => {}
        _ => print::line(Some(cpu.machine()), format_args!("init was killed")),
    }
    panic::exit(cpu, report.status())
}
