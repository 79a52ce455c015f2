//! The simulated machine itself: a model that forgives finds nothing.

use arch_contract::Base;
use arch_contract::addr::{PAGE_SIZE, PhysAddr, VirtAddr};
use arch_contract::barrier::{Barriers, Site};
use arch_contract::boot::BootInfo;
use arch_contract::console::Console;
use arch_contract::context::{
    Cached, ContextId, Contexts, Did, HardwareId, LeftLazy, Loadable, NowUser, Previously, Slot, Stale,
    Switched, Tags,
};
use arch_contract::irq::{Interrupt, Interrupts, IrqsOff};
use arch_contract::machine::{Power, Verdict};
use arch_contract::pte::{Entry, MemoryType, Paging, Protection, Usage};
use arch_contract::ret::Resume;
use arch_contract::smp::{PowerState, Smp};
use arch_contract::time::{Ticks, Time};
use arch_contract::tlb::{Freed, Tlb};
use arch_contract::trap::Trap;
use arch_contract::upcalls::{Upcalls, WAYS, Way};
use arch_contract::user::{UserFault, Window};
use arch_model::{Config, Cpu, Event, Frame, Machine, Mm, Model, PowerOff, Profile, RAM_BASE};
use std::cell::RefCell;
use std::ptr::NonNull;

thread_local! {
    static SEEN: RefCell<Vec<Interrupt>> = const { RefCell::new(Vec::new()) };
}

fn unmade(_: &'static Cpu, _: NonNull<Frame>) -> Resume<Frame> {
    unreachable!()
}

/// A kernel that only notes interrupts.
struct Notes;

impl Upcalls<Model> for Notes {
    fn boot(_: BootInfo, _: &'static Machine, _: &'static Cpu) -> Resume<Frame> {
        unreachable!()
    }
    fn boot_secondary(_: &'static Cpu) -> Resume<Frame> {
        unreachable!()
    }
    const WAYS: &'static [Way<Model>; WAYS] = &[unmade; WAYS];

    fn trap(_: &'static Cpu, _: NonNull<Frame>, _: Trap) -> Resume<Frame> {
        unreachable!()
    }
    fn interrupt(_: &'static Cpu, interrupt: Interrupt) {
        SEEN.with_borrow_mut(|seen| seen.push(interrupt));
    }
    fn kernel_fault(_: Option<&Cpu>, _: &dyn Fn(&mut dyn std::fmt::Write) -> std::fmt::Result) -> ! {
        unreachable!()
    }
    fn boot_failure(why: std::fmt::Arguments<'_>) -> ! {
        panic!("{why}")
    }
}

fn seen() -> Vec<Interrupt> {
    SEEN.take()
}

fn irqs_off() -> IrqsOff {
    // SAFETY: model CPUs take interrupts in windows only.
    unsafe { IrqsOff::assume() }
}

fn machine(config: Config) -> (&'static Machine, Vec<&'static Cpu>) {
    let (machine, cpus) = Machine::new(config);
    machine.connect::<Notes>();
    (machine, cpus)
}

/// One page at `PAGE`, through one table per level, in the first frames of RAM.
const PAGE: VirtAddr = VirtAddr(0x40_0000);
const PC: VirtAddr = VirtAddr(0x1_0000);

fn frame(n: u64) -> PhysAddr {
    PhysAddr(RAM_BASE.0 + n * PAGE_SIZE)
}

fn set(machine: &Machine, table: u64, level: usize, entry: Entry) {
    let slot = Model::phys(machine, frame(table)).cast::<u64>();
    // SAFETY: a slot of a table of the test's own.
    unsafe { Model::write_entry(slot.add(Model::LEVELS[level].index(PAGE)), Model::encode(entry, level)) };
}

fn leaf(n: u64, protection: Protection) -> Entry {
    Entry::Leaf { at: frame(n), protection, memory: MemoryType::Normal, usage: Usage::default() }
}

fn space(machine: &Machine, id: u64) -> (Mm, ContextId) {
    for (level, table) in [(0, 1), (1, 2), (2, 3)] {
        set(machine, table - 1, level, Entry::Table(frame(table)));
    }
    set(machine, 3, 3, leaf(4, Protection::ReadWrite));
    new_mm(machine, 0, id)
}

/// An address space with the tables at `root`; its hardware id is `id`, where there are any.
fn new_mm(machine: &Machine, root: u64, id: u64) -> (Mm, ContextId) {
    let hardware = match Model::tags(machine) {
        Tags::Global { .. } => id as u32,
        Tags::PerCpu { .. } => 0,
    };
    let id = ContextId::new(id).unwrap();
    (Model::new_mm(machine, frame(root), id, HardwareId(hardware)), id)
}

/// Loads `mm` as if all that is cached under its slot or id were still right.
fn switch(cpu: &Cpu, mm: &Mm, id: ContextId) -> Switched {
    Model::full_barrier(cpu, Site::EnterUserMm);
    load(cpu, mm, id, Slot(0), Stale::Nothing)
}

fn load(cpu: &Cpu, mm: &Mm, id: ContextId, slot: Slot, stale: Stale) -> Switched {
    // SAFETY: the tests keep `mm` alive; the id is its own; where they lie about what is stale, the
    // model has to find it.
    let to = unsafe { Loadable::new(mm, id, slot, stale) };
    // SAFETY: as above.
    unsafe { Model::switch_mm(cpu, Previously::Kernel, &to, &irqs_off()) }
}

fn cached(mm: &Mm) -> Cached<'_, Mm> {
    Cached { mm, slot: Slot(0) }
}

/// `TLB-2`, the positive control: without a flush the old translation goes on working.
#[test]
fn tlb_2_a_forgotten_flush_shows() {
    let (machine, cpus) = machine(Config::default());
    let cpu = cpus[0];
    let (mm, id) = space(machine, 1);
    let _ = switch(cpu, &mm, id);
    cpu.user_store(PC, PAGE, 5).unwrap();
    set(machine, 3, 3, Entry::Absent);
    assert_eq!(cpu.user_load(PC, PAGE), Ok(5), "the cache forgets by itself");
    Model::flush_local(cpu, cached(&mm), PAGE, 1, Freed::PagesOnly, &irqs_off());
    assert!(cpu.user_load(PC, PAGE).is_err());
    // Protection is cached too.
    set(machine, 3, 3, leaf(4, Protection::ReadWrite));
    cpu.user_store(PC, PAGE, 6).unwrap();
    set(machine, 3, 3, leaf(4, Protection::Read));
    cpu.user_store(PC, PAGE, 7).unwrap();
    Model::flush_local_mm(cpu, cached(&mm), &irqs_off());
    assert!(cpu.user_store(PC, PAGE, 8).is_err());
    assert!(cpu.user_fetch(PAGE).is_err());
    assert_eq!(cpu.user_load(PC, PAGE), Ok(7));
}

/// Retires an address space of which CPU 1 has a translation, and takes its hardware id again.
fn take_again(before: impl FnOnce(&Cpu)) {
    let (machine, cpus) = machine(Config { cpus: 2, ..Config::default() });
    let (mm, id) = space(machine, 1);
    let _ = switch(cpus[1], &mm, id);
    cpus[1].user_load(PC, PAGE).unwrap();
    let (other, other_id) = new_mm(machine, 0, 2);
    let _ = switch(cpus[1], &other, other_id);
    // SAFETY: it is loaded nowhere.
    unsafe { Model::retire_mm(machine, &mm) };
    before(cpus[1]);
    Model::new_mm(machine, frame(0), ContextId::new(3).unwrap(), HardwareId(1));
}

/// `CTX-12`: an id under which a CPU still has something ends the run when it is taken again.
#[test]
#[should_panic(expected = "CTX-12")]
fn ctx_12_an_id_with_translations_is_not_taken() {
    take_again(|_| {});
}

#[test]
fn ctx_12_after_a_flush_of_everything_it_is() {
    take_again(|cpu| Model::flush_local_all(cpu, &irqs_off()));
}

/// `CTX-4`: a slot that changes hands keeps nothing of its former owner, if the load says so.
#[test]
fn ctx_4_a_slot_that_changes_hands() {
    for stale in [Stale::Everything, Stale::Nothing] {
        let (machine, cpus) = machine(Config { profile: Profile::X86Fred, ..Config::default() });
        let (a, a_id) = space(machine, 1);
        let (b, b_id) = new_mm(machine, 0, 2);
        let _ = switch(cpus[0], &a, a_id);
        cpus[0].user_load(PC, PAGE).unwrap();
        Model::full_barrier(cpus[0], Site::EnterUserMm);
        let flushed = load(cpus[0], &b, b_id, Slot(0), stale).flushed;
        assert_eq!(flushed == Did::Yes, stale == Stale::Everything);
        let used = std::panic::catch_unwind(|| cpus[0].user_load(PC, PAGE));
        assert_eq!(used.is_ok(), stale == Stale::Everything, "CTX-4: found under a slot of another");
    }
}

/// `CTX-3`: each load has its own full barrier (e) before it.
#[test]
#[should_panic(expected = "CTX-3")]
fn ctx_3_no_load_without_a_barrier() {
    let (machine, cpus) = machine(Config::default());
    let (a, a_id) = space(machine, 1);
    let (b, b_id) = new_mm(machine, 0, 2);
    let _ = switch(cpus[0], &a, a_id);
    let _ = load(cpus[0], &b, b_id, Slot(0), Stale::Nothing);
}

/// `BAR-5`: nor does a lazy episode end without one.
#[test]
#[should_panic(expected = "BAR-5")]
fn bar_5_no_end_of_an_episode_without_a_barrier() {
    let (machine, cpus) = machine(Config::default());
    let (mm, id) = space(machine, 1);
    let switched = switch(cpus[0], &mm, id);
    Model::enter_lazy_tlb(cpus[0], id, &irqs_off());
    let now = NowUser { mm: &mm, id };
    let _ = Model::exit_lazy_tlb(cpus[0], LeftLazy(id), now, switched, &irqs_off());
}

/// `TLB-3`: a broadcast reaches a CPU that does nothing for it.
#[test]
fn tlb_3_a_broadcast_reaches_every_cpu() {
    for profile in Profile::ALL.into_iter().filter(|profile| profile.broadcasts()) {
        for pages in [1, Model::FLUSH_CEILING + 1] {
            let (machine, cpus) = machine(Config { profile, cpus: 2, ..Config::default() });
            let (mm, id) = space(machine, 1);
            let _ = switch(cpus[1], &mm, id);
            cpus[1].user_load(PC, PAGE).unwrap();
            set(machine, 3, 3, Entry::Absent);
            Model::broadcast(cpus[0], &mm, PAGE, pages, Freed::PagesOnly, &irqs_off());
            assert!(cpus[1].user_load(PC, PAGE).is_err());
        }
    }
}

/// `CTX-9`: what a CPU holds, lazily too, is not retired.
#[test]
#[should_panic(expected = "CTX-9")]
fn ctx_9_what_is_held_is_not_retired() {
    let (machine, cpus) = machine(Config::default());
    let (mm, id) = space(machine, 1);
    let _ = switch(cpus[0], &mm, id);
    Model::enter_lazy_tlb(cpus[0], id, &irqs_off());
    // SAFETY: none: this is the mistake that the model has to find.
    unsafe { Model::retire_mm(machine, &mm) };
}

#[test]
fn ctx_9_after_drop_lazy_it_is() {
    let (machine, cpus) = machine(Config::default());
    let (mm, id) = space(machine, 1);
    let _ = switch(cpus[0], &mm, id);
    cpus[0].user_load(PC, PAGE).unwrap();
    Model::enter_lazy_tlb(cpus[0], id, &irqs_off());
    Model::drop_lazy(cpus[0], LeftLazy(id), &irqs_off());
    assert!(cpus[0].user_load(PC, PAGE).is_err());
    // SAFETY: it is loaded nowhere now.
    unsafe { Model::retire_mm(machine, &mm) };
    assert_eq!(machine.live_contexts(), 0);
}

/// `CTX-4` under every profile, and what each says that its switch did.
#[test]
fn ctx_4_switches_say_what_they_did() {
    for profile in Profile::ALL {
        let (machine, cpus) = machine(Config { profile, ..Config::default() });
        let cpu = cpus[0];
        let (a, a_id) = space(machine, 1);
        let (b, b_id) = new_mm(machine, 8, 2);
        let slot = |n| Slot(n * u16::from(profile == Profile::X86Fred));
        let load = |mm, id, n| {
            Model::full_barrier(cpu, Site::EnterUserMm);
            load(cpu, mm, id, slot(n), Stale::Nothing)
        };
        let first = load(&a, a_id, 0);
        cpu.user_load(PC, PAGE).unwrap();
        let second = load(&b, b_id, 1);
        assert!(cpu.user_load(PC, PAGE).is_err(), "{profile:?}: another's translation");
        assert_eq!(first, second);
        assert_eq!(second.reloaded, Did::Yes);
        assert_eq!(load(&b, b_id, 1).reloaded, Did::No, "{profile:?}: the hint was believed");
        assert_eq!(second.flushed == Did::Yes, profile == Profile::X86, "{profile:?}");
        assert_eq!(second.core_serialized, profile.switch_serializes());
    }
    let nothing = Profile::Minimal;
    assert_eq!(nothing.switch_serializes(), Did::No);
    assert!(!nothing.user_return_serializes());
}

/// `TIME-2`, `TIME-3`: not early, and at once when late.
#[test]
fn time_2_3_deadlines() {
    let (machine, cpus) = machine(Config::default());
    let cpu = cpus[0];
    let mut irq = irqs_off();
    Model::set_deadline(cpu, Some(Ticks(100)), &irq);
    machine.advance(99);
    Model::window(cpu, &mut irq);
    assert_eq!(seen(), []);
    machine.advance(1);
    Model::window(cpu, &mut irq);
    assert_eq!(seen(), [Interrupt::Timer]);
    Model::window(cpu, &mut irq);
    assert_eq!(seen(), [], "one shot");
    Model::set_deadline(cpu, Some(Ticks(7)), &irq);
    Model::wait(cpu, &mut irq);
    assert_eq!((seen(), Model::now(cpu)), (vec![Interrupt::Timer], Ticks(100)));
    Model::set_deadline(cpu, Some(Ticks(5000)), &irq);
    Model::wait(cpu, &mut irq);
    assert_eq!((seen(), Model::now(cpu)), (vec![Interrupt::Timer], Ticks(5000)));
}

#[test]
#[should_panic(expected = "idle with nothing armed")]
fn a_halt_that_nothing_ends_is_told() {
    let (_, cpus) = machine(Config::default());
    let mut irq = irqs_off();
    Model::set_deadline(cpus[0], Some(Ticks(9)), &irq);
    Model::set_deadline(cpus[0], None, &irq);
    Model::wait(cpus[0], &mut irq);
}

/// Console input interrupts once, and again only after a read has found nothing.
#[test]
fn console_input() {
    let (machine, cpus) = machine(Config::default());
    let cpu = cpus[0];
    let mut irq = irqs_off();
    machine.type_in(b"ab");
    machine.type_at(Ticks(50), b"c");
    Model::wait(cpu, &mut irq);
    assert_eq!(seen(), [Interrupt::Console]);
    let mut buffer = [0; 8];
    assert_eq!(Model::read(cpu, &mut buffer[..1]), 1);
    Model::window(cpu, &mut irq);
    assert_eq!(seen(), []);
    assert_eq!(Model::read(cpu, &mut buffer), 1);
    assert_eq!((Model::read(cpu, &mut buffer), buffer[0]), (0, b'b'));
    Model::wait(cpu, &mut irq);
    assert_eq!((seen(), Model::now(cpu)), (vec![Interrupt::Console], Ticks(50)));
    assert_eq!(Model::read(cpu, &mut buffer), 1);
    Model::write(Some(machine), b"hello\n");
    assert_eq!(machine.output(), "hello\n");
}

/// `SMP-2`: requests may merge and are not lost; to itself is allowed.
#[test]
fn smp_2_ipis_stay_pending() {
    let (_, cpus) = machine(Config { cpus: 2, ..Config::default() });
    let mut irq = irqs_off();
    Model::bind(cpus[1], NonNull::<()>::dangling().as_ptr());
    Model::start_cpu(cpus[0], cpus[1], &irq).unwrap();
    for target in [1, 1, 0] {
        Model::send_ipi(cpus[0], cpus[target], &irq).unwrap();
    }
    Model::window(cpus[1], &mut irq);
    assert_eq!(seen(), [Interrupt::Ipi]);
    Model::wait(cpus[0], &mut irq);
    assert_eq!(seen(), [Interrupt::Ipi]);
}

/// `SMP-3`: a CPU that comes up has nothing pending, and can stop and come again. What it had cached
/// is there until the kernel forgets it.
#[test]
fn smp_3_cpus_start_and_stop() {
    let (machine, cpus) = machine(Config { cpus: 2, ..Config::default() });
    let [boot, cpu] = [cpus[0], cpus[1]];
    let mut irq = irqs_off();
    Model::bind(cpu, NonNull::<()>::dangling().as_ptr());
    let (mm, id) = space(machine, 1);
    for _ in 0..2 {
        assert_eq!(Model::power_state(boot, cpu), PowerState::Stopped);
        Model::send_ipi(boot, cpu, &irq).unwrap();
        Model::start_cpu(boot, cpu, &irq).unwrap();
        assert_eq!(Model::power_state(boot, cpu), PowerState::Started);
        Model::window(cpu, &mut irq);
        assert_eq!(seen(), [], "what was sent before it started is not for it");
        set(machine, 3, 3, leaf(4, Protection::ReadWrite));
        let _ = switch(cpu, &mm, id);
        assert!(cpu.user_load(PC, PAGE).is_ok());
        set(machine, 3, 3, Entry::Absent);
        Model::enter_lazy_tlb(cpu, id, &irq);
        Model::drop_lazy(cpu, LeftLazy(id), &irq);
        assert_eq!(cpu.upcall(|| Model::stop_cpu(cpu, irqs_off())), None::<()>);
    }
    Model::start_cpu(boot, cpu, &irq).unwrap();
    let _ = switch(cpu, &mm, id);
    assert!(cpu.user_load(PC, PAGE).is_ok(), "a reset has flushed");
    Model::flush_local_all(cpu, &irq);
    assert!(cpu.user_load(PC, PAGE).is_err(), "a translation survived");
}

/// `CTX-2`: what is loaded decides whether there is anything to load, not what the caller says of it.
#[test]
fn ctx_2_what_is_loaded_is_compared() {
    let (machine, cpus) = machine(Config::default());
    let (mm, id) = space(machine, 1);
    Model::full_barrier(cpus[0], Site::EnterUserMm);
    // SAFETY: `mm` lives; the id is its own; nothing is cached.
    let to = unsafe { Loadable::new(&mm, id, Slot(0), Stale::Nothing) };
    // SAFETY: as above.
    let switched = unsafe { Model::switch_mm(cpus[0], Previously::Mm(id), &to, &irqs_off()) };
    assert_eq!(switched.reloaded, Did::Yes);
    assert_eq!(cpus[0].loaded(), arch_model::Loaded::Mm(id));
    assert!(cpus[0].user_load(PC, PAGE).is_ok());
}

#[test]
#[should_panic(expected = "SMP-3")]
fn smp_3_a_cpu_with_an_mm_does_not_stop() {
    let (machine, cpus) = machine(Config::default());
    let (mm, id) = space(machine, 1);
    let _ = switch(cpus[0], &mm, id);
    cpus[0].upcall(|| Model::stop_cpu(cpus[0], irqs_off()));
}

/// `USR-2`, `USR-3`: a copy stops at the page that is not there and says which; what is not the
/// user's is refused before a byte moves.
#[test]
fn usr_2_copies_stop_at_the_fault() {
    let (machine, cpus) = machine(Config::default());
    let cpu = cpus[0];
    let (mm, id) = space(machine, 1);
    let _ = switch(cpu, &mm, id);
    let irq = irqs_off();
    // SAFETY: the context that is meant was just loaded.
    let window: Window<'_, Model> = unsafe { Window::open(cpu, &irq) };
    window.write(PAGE, b"hello").unwrap();
    let mut back = [0; 5];
    window.read(&mut back, PAGE).unwrap();
    assert_eq!(&back, b"hello");
    let next = VirtAddr(PAGE.0 + PAGE_SIZE);
    assert_eq!(window.write(VirtAddr(next.0 - 2), b"half"), Err(UserFault { address: next }));
    for start in [Model::USER_END.0 - 1, Model::USER_END.0, 1 << 63, u64::MAX - 1] {
        assert!(window.read(&mut back, VirtAddr(start)).is_err());
    }
    assert!(window.read(&mut back, VirtAddr(0)).is_err());
}

#[test]
#[should_panic(expected = "USR-1")]
fn usr_1_no_window_no_access() {
    let (machine, cpus) = machine(Config::default());
    let (mm, id) = space(machine, 1);
    let _ = switch(cpus[0], &mm, id);
    let mut byte = 0u8;
    // SAFETY: none: this is the mistake that the model has to find.
    let _ = unsafe { <Model as arch_contract::user::UserAccess>::copy_in(cpus[0], &raw mut byte, PAGE, 1) };
}

#[test]
#[should_panic(expected = "not RAM")]
fn made_up_physical_addresses_are_found() {
    let (machine, _) = machine(Config::default());
    Model::phys(machine, PhysAddr(0));
}

/// Ending the machine unwinds with the verdict.
#[test]
fn power_off_is_a_value() {
    let (machine, _) = machine(Config::default());
    let ended = std::panic::catch_unwind(|| Model::power_off(Some(machine), Verdict::Ended));
    let payload = ended.unwrap_err();
    assert_eq!(payload.downcast_ref(), Some(&PowerOff(Verdict::Ended)));
    assert_eq!(machine.events().last().unwrap().event, Event::PowerOff(Verdict::Ended));
}
