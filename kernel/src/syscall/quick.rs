//! The short way of mapping one page.
//!
//! The long way ([`object::attach`](super::object)) begins a job, looks everything up where it stands, and
//! lets go of each lock before it takes the next: so it can go on in slices, and undo what it did. One
//! page of an object whose frame is there, where the caller says in its own address space, beside what was
//! mapped last, needs none of that. Where anything is different nothing is done, and the long way does it
//! all.
//!
//! Locks: the table's, the object's tree, then the space's. The first and the last are only tried, so the order
//! is nobody's business. All three are held when the mapping comes to be, so whoever revokes it finds all
//! of it or nothing. The process cannot be taken apart meanwhile: its thread is on this CPU.

use crate::cap::{Capability, Object};
use crate::cpu::Cpu;
use crate::ipc::quick::{count, is_open};
use crate::mm::object::Attachment;
use crate::mm::space::UserRange;
use crate::object::Ref;
use abi::{Handle, PAGE_BYTES, Rights};
use arch_contract::addr::VirtAddr;
use arch_contract::mutant;
use arch_contract::pte::Protection;
use arch_contract::trap::Syscall;

/// `memory_attach`, made by the current thread of `cpu`. The handle, or `None` if the long way must be gone.
#[inline(always)]
pub fn attach(cpu: &Cpu, made: &Syscall) -> Option<Handle> {
    const READ: u64 = abi::Protection::Read as u64;
    const READ_WRITE: u64 = abi::Protection::ReadWrite as u64;
    let [target, memory, address, offset, length, wanted] = made.args;
    let (protection, rights) = match wanted {
        READ => (Protection::Read, Rights::READ),
        READ_WRITE => (Protection::ReadWrite, Rights::READ.union(Rights::WRITE)),
        _ => return None,
    };
    let whole = (address | offset).is_multiple_of(PAGE_BYTES);
    if length != PAGE_BYTES || !whole || mutant::any() || !is_open(cpu) {
        return None;
    }
    let (target, memory) = (u32::try_from(target).ok()?, u32::try_from(memory).ok()?);
    let range = UserRange::new(VirtAddr(address), length).ok()?;
    let thread = cpu.current()?;
    let process = thread.process();
    let mut slots = process.table.try_lock()?;
    if !slots.may_map(Handle(target), process) {
        return None;
    }
    let made = slots.derive_at_once(cpu, Handle(memory), |origin| {
        let Object::Memory(object) = &origin.object else { return None };
        let page = object.page(offset, protection).filter(|_| origin.rights.contains(rights))?;
        let id = cpu.kernel.next_attachment()?;
        let attachment = Attachment::new(object.clone(), process.clone(), id, range);
        let attachment = Ref::try_new(process.memory(), Some(&process.budget), attachment).ok()?;
        process.space.attach_beside(range, page, (id, object.clone(), offset))?;
        Some(Capability::new(Object::Attachment(attachment), Rights::empty()))
    });
    if made.is_some() {
        count(cpu);
    }
    made
}
