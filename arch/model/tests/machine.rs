//! The simulated machine itself: a model that forgives finds nothing.

use arch_contract::addr::{PAGE_SIZE, PhysAddr, VirtAddr};
use arch_contract::boot::{BootInfo, HardwareCpu};
use arch_contract::console::Console;
use arch_contract::context::{ContextId, Contexts, Did, LeftLazy, Loadable, Previously};
use arch_contract::irq::{Interrupt, Interrupts, IrqsOff};
use arch_contract::machine::{Power, Verdict};
use arch_contract::pte::{Entry, Paging, Protection, Usage};
use arch_contract::ret::Resume;
use arch_contract::smp::Smp;
use arch_contract::time::{Ticks, Time};
use arch_contract::tlb::{Freed, Tlb};
use arch_contract::trap::Trap;
use arch_contract::upcalls::Upcalls;
use arch_contract::user::{UserFault, Window};
use arch_model::{Config, Cpu, Event, Frame, Machine, Mm, Model, PowerOff, Profile, RAM_BASE};
use std::cell::RefCell;
use std::ptr::NonNull;

thread_local! {
    static SEEN: RefCell<Vec<Interrupt>> = const { RefCell::new(Vec::new()) };
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
    fn syscall(_: &'static Cpu, _: NonNull<Frame>) -> Resume<Frame> {
        unreachable!()
    }
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
    Entry::Leaf { at: frame(n), protection, usage: Usage::default() }
}

fn space(machine: &Machine, id: u64) -> (Mm, ContextId) {
    for (level, table) in [(0, 1), (1, 2), (2, 3)] {
        set(machine, table - 1, level, Entry::Table(frame(table)));
    }
    set(machine, 3, 3, leaf(4, Protection::ReadWrite));
    let id = ContextId::new(id).unwrap();
    (Model::new_mm(machine, frame(0), id).unwrap(), id)
}

fn switch(cpu: &Cpu, mm: &Mm, id: ContextId) -> arch_contract::context::Switched {
    // SAFETY: the tests keep `mm` alive; the id is its own.
    let to = unsafe { Loadable::new(mm, id) };
    // SAFETY: as above.
    unsafe { Model::switch_mm(cpu, Previously::Kernel, &to, &irqs_off()) }
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
    Model::flush_local(cpu, &mm, PAGE, 1, Freed::PagesOnly, &irqs_off());
    assert!(cpu.user_load(PC, PAGE).is_err());
    // Protection is cached too.
    set(machine, 3, 3, leaf(4, Protection::ReadWrite));
    cpu.user_store(PC, PAGE, 6).unwrap();
    set(machine, 3, 3, leaf(4, Protection::Read));
    cpu.user_store(PC, PAGE, 7).unwrap();
    Model::flush_local_mm(cpu, &mm, &irqs_off());
    assert!(cpu.user_store(PC, PAGE, 8).is_err());
    assert!(cpu.user_fetch(PAGE).is_err());
    assert_eq!(cpu.user_load(PC, PAGE), Ok(7));
}

/// `CTX-12`: translations of another CPU under an id that is given up end the run.
#[test]
#[should_panic(expected = "CTX-12")]
fn ctx_12_an_id_with_translations_is_not_given_up() {
    let (machine, cpus) = machine(Config { cpus: 2, ..Config::default() });
    let (mm, id) = space(machine, 1);
    let _ = switch(cpus[1], &mm, id);
    cpus[1].user_load(PC, PAGE).unwrap();
    let other = Model::new_mm(machine, frame(0), ContextId::new(2).unwrap()).unwrap();
    let _ = switch(cpus[1], &other, ContextId::new(2).unwrap());
    // SAFETY: none: this is the mistake that the model has to find.
    unsafe { Model::retire_mm(cpus[0], &mm, &irqs_off()) };
}

/// `CTX-9`: what a CPU holds, lazily too, is not retired.
#[test]
#[should_panic(expected = "CTX-9")]
fn ctx_9_what_is_held_is_not_retired() {
    let (machine, cpus) = machine(Config::default());
    let (mm, id) = space(machine, 1);
    let _ = switch(cpus[0], &mm, id);
    Model::enter_lazy_tlb(cpus[0], id, &irqs_off());
    // SAFETY: none, as above.
    unsafe { Model::retire_mm(cpus[0], &mm, &irqs_off()) };
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
    unsafe { Model::retire_mm(cpus[0], &mm, &irqs_off()) };
    assert_eq!(machine.live_contexts(), 0);
}

/// `CTX-4` under every profile, and what each says that its switch did.
#[test]
fn ctx_4_switches_say_what_they_did() {
    for profile in Profile::ALL {
        let (machine, cpus) = machine(Config { profile, ..Config::default() });
        let cpu = cpus[0];
        let (a, a_id) = space(machine, 1);
        let (b, b_id) = (Model::new_mm(machine, frame(8), ContextId::new(2).unwrap()).unwrap(), 2);
        let b_id = ContextId::new(b_id).unwrap();
        let first = switch(cpu, &a, a_id);
        cpu.user_load(PC, PAGE).unwrap();
        let second = switch(cpu, &b, b_id);
        assert!(cpu.user_load(PC, PAGE).is_err(), "{profile:?}: another's translation");
        assert_eq!(first, second);
        assert_eq!(second.reloaded, Did::Yes);
        assert_eq!(switch(cpu, &b, b_id).reloaded, Did::No, "{profile:?}: the hint was believed");
        assert_eq!(second.full_barrier, profile.switch_is_barrier());
        assert_eq!(second.core_serialized, profile.switch_serializes());
    }
    let nothing = Profile::Minimal;
    assert_eq!((nothing.switch_is_barrier(), nothing.switch_serializes()), (Did::No, Did::No));
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
    for target in [1, 1, 0] {
        Model::send_ipi(cpus[0], HardwareCpu(target), &irq).unwrap();
    }
    Model::window(cpus[1], &mut irq);
    assert_eq!(seen(), [Interrupt::Ipi]);
    Model::wait(cpus[0], &mut irq);
    assert_eq!(seen(), [Interrupt::Ipi]);
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
