//! Touching user memory: through cached translations, else by a walk that caches what it finds.

use crate::cpu::UserWindow;
use crate::{Cpu, Model};
use arch_contract::addr::{PAGE_SIZE, PhysAddr, VirtAddr};
use arch_contract::pte::{Entry, Paging, Protection};
use arch_contract::trap::{Access, Fault, FaultCause};
use arch_contract::user::{UserAccess, UserFault};
use core::ptr::NonNull;

fn allows(protection: Protection, access: Access) -> bool {
    match access {
        Access::Read => true,
        Access::Write => protection == Protection::ReadWrite,
        Access::Execute => protection == Protection::ReadExecute,
    }
}

impl Cpu {
    /// Translates as the MMU does: what is cached wins, however old it is.
    fn translate(&self, at: VirtAddr, access: Access) -> Option<PhysAddr> {
        let (id, tag, root) = self.walk_from()?;
        let page = at.page();
        let cached = self.translations().find(tag, page, id);
        let (frame, protection) = match cached {
            Some(found) => found,
            None => {
                let found = self.walk(root, page)?;
                self.translations().keep(tag, page, id, found);
                found
            }
        };
        allows(protection, access).then_some(PhysAddr(frame.0 + (at.0 - page.0)))
    }

    fn walk(&self, root: PhysAddr, page: VirtAddr) -> Option<(PhysAddr, Protection)> {
        if page < Model::USER_START || page >= Model::USER_END {
            return None;
        }
        let mut table = root;
        for (number, level) in Model::LEVELS.iter().enumerate() {
            let slot = self.machine.at(PhysAddr(table.0 + 8 * level.index(page) as u64), 8).cast::<u64>();
            // SAFETY: `at` gives the address of eight bytes of RAM; entries are aligned.
            let bits = unsafe { slot.read_volatile() };
            match Model::decode(bits, number) {
                Entry::Absent => return None,
                Entry::Table(next) => table = next,
                Entry::Leaf { at, protection, .. } => {
                    let inside = page.0 & ((1 << level.shift) - 1);
                    return Some((PhysAddr(at.0 + inside), protection));
                }
            }
        }
        None
    }

    /// A user instruction at `pc` that touches the byte at `at`: its address in RAM, or the fault
    /// it takes. For tests that play the user.
    fn user_access(&self, pc: VirtAddr, at: VirtAddr, access: Access) -> Result<NonNull<u8>, Fault> {
        match self.translate(at, access) {
            Some(found) => Ok(self.machine.at(found, 1)),
            None => Err(Fault { cause: FaultCause::Page(access), pc, address: Some(at) }),
        }
    }

    /// A user's load of one byte.
    pub fn user_load(&self, pc: VirtAddr, at: VirtAddr) -> Result<u8, Fault> {
        // SAFETY: a byte of RAM.
        self.user_access(pc, at, Access::Read).map(|byte| unsafe { byte.read_volatile() })
    }

    /// A user's store of one byte.
    pub fn user_store(&self, pc: VirtAddr, at: VirtAddr, value: u8) -> Result<(), Fault> {
        // SAFETY: a byte of RAM.
        self.user_access(pc, at, Access::Write).map(|byte| unsafe { byte.write_volatile(value) })
    }

    /// A user's fetch of the instruction at `pc`.
    pub fn user_fetch(&self, pc: VirtAddr) -> Result<u8, Fault> {
        // SAFETY: a byte of RAM.
        self.user_access(pc, pc, Access::Execute).map(|byte| unsafe { byte.read_volatile() })
    }

    /// Calls `each` with every piece of `len` bytes at `start` that lies in one page: its address
    /// in RAM, its offset and its length.
    fn pieces(
        &self,
        start: VirtAddr,
        len: usize,
        access: Access,
        mut each: impl FnMut(NonNull<u8>, usize, usize),
    ) -> Result<(), UserFault> {
        assert_eq!(self.window.get(), UserWindow::Open, "USR-1: user memory outside a window");
        let mut done = 0;
        while done < len {
            let at = VirtAddr(start.0 + done as u64);
            let piece = (len - done).min((PAGE_SIZE - at.0 % PAGE_SIZE) as usize);
            let found = self.translate(at, access).ok_or(UserFault { address: at })?;
            each(self.machine.at(found, piece), done, piece);
            done += piece;
        }
        Ok(())
    }
}

impl UserAccess for Model {
    fn open_window(cpu: &Cpu) {
        assert_eq!(cpu.window.replace(UserWindow::Open), UserWindow::Closed, "windows do not nest");
    }

    fn close_window(cpu: &Cpu) {
        cpu.window.set(UserWindow::Closed);
    }

    unsafe fn copy_in(cpu: &Cpu, to: *mut u8, from: VirtAddr, len: usize) -> Result<(), UserFault> {
        cpu.pieces(from, len, Access::Read, |ram, offset, piece| {
            // SAFETY: `ram` has `piece` bytes of RAM; `to` has `len`, by the caller's obligation.
            unsafe { to.add(offset).copy_from(ram.as_ptr(), piece) };
        })
    }

    unsafe fn copy_out(cpu: &Cpu, to: VirtAddr, from: *const u8, len: usize) -> Result<(), UserFault> {
        cpu.pieces(to, len, Access::Write, |ram, offset, piece| {
            // SAFETY: as in `copy_in`.
            unsafe { ram.as_ptr().copy_from(from.add(offset), piece) };
        })
    }
}
