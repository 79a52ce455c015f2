//! Touching user memory: through cached translations, else by a walk that caches what it finds.

use crate::cpu::UserWindow;
use crate::host::atomic::AtomicU64;
use crate::host::{self, Clock, Thing, knowing, walk};
use crate::tlb::{Tag, Target, Translations};
use crate::{Cpu, Model};
use arch_contract::addr::{PAGE_SIZE, PhysAddr, VirtAddr};
use arch_contract::context::ContextId;
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
    /// Translates as the MMU does, what is cached wins however old it is, and calls `touch` with
    /// `len` bytes of RAM, all of one page. The cache is locked meanwhile: an invalidation from
    /// another CPU waits for accesses that are under way, as a machine's does.
    fn touch<R>(
        &self,
        at: VirtAddr,
        len: usize,
        access: Access,
        touch: impl FnOnce(NonNull<u8>) -> R,
    ) -> Option<R> {
        let (id, tag, root) = self.walk_from()?;
        let page = at.page();
        let mut cached = self.translations();
        let target = match cached.find(tag, page, id) {
            Some(found) => found,
            None => self.fill(id, tag, root, page, &mut cached)?,
        };
        let found = PhysAddr(target.at.0 + (at.0 - page.0));
        let touch = || {
            let bytes = self.machine.at(found, len);
            knowing(&target.known, || {
                host::touch(Thing::page(bytes, PAGE_SIZE));
                touch(bytes)
            })
        };
        allows(target.protection, access).then(touch)
    }

    /// Caches what a walk from `root` finds for `page`.
    pub(crate) fn fill(
        &self,
        id: ContextId,
        tag: Tag,
        root: PhysAddr,
        page: VirtAddr,
        cached: &mut Translations,
    ) -> Option<Target> {
        let found = self.walk(tag, root, page, cached)?;
        host::touch(tag.thing());
        cached.keep(tag, page, id, found);
        Some(found)
    }

    fn walk(&self, tag: Tag, root: PhysAddr, page: VirtAddr, cached: &mut Translations) -> Option<Target> {
        if page < Model::USER_START || page >= Model::USER_END {
            return None;
        }
        let last = Model::LEVELS.len() - 1;
        let (first, (mut table, known)) = match cached.find_table(tag, page) {
            Some(table) => (last, table),
            None => (0, (root, Clock::default())),
        };
        let mut known = known.and(&self.walker.get());
        for (number, level) in Model::LEVELS.iter().enumerate().skip(first) {
            let slot = self.machine.at(PhysAddr(table.0 + 8 * level.index(page) as u64), 8).cast::<u64>();
            // SAFETY: `at` gives the address of eight bytes of RAM; entries are aligned, and only
            // ever accessed as atomics once another CPU can walk them.
            let slot = unsafe { AtomicU64::from_ptr(slot.as_ptr()) };
            let (bits, released) = knowing(&known, || {
                host::touch(Thing::page(NonNull::from_ref(slot).cast(), PAGE_SIZE));
                walk(slot)
            });
            known = known.and(&released);
            match Model::decode(bits, number) {
                Entry::Absent => return None,
                Entry::Table(next) => table = next,
                Entry::Leaf { at, protection, .. } => {
                    if number == last {
                        cached.keep_table(tag, page, (table, known));
                    }
                    let inside = page.0 & ((1 << level.shift) - 1);
                    return Some(Target { at: PhysAddr(at.0 + inside), protection, known });
                }
            }
        }
        None
    }

    /// A user instruction at `pc` that touches `len` bytes at `at`, or the fault it takes. For
    /// tests that play the user.
    fn user_access<R>(
        &self,
        pc: VirtAddr,
        at: VirtAddr,
        len: usize,
        access: Access,
        touch: impl FnOnce(NonNull<u8>) -> R,
    ) -> Result<R, Fault> {
        self.execute();
        let fault = Fault { cause: FaultCause::Page(access), pc, address: Some(at) };
        self.touch(at, len, access, touch).ok_or(fault)
    }

    /// A user's load of one byte.
    pub fn user_load(&self, pc: VirtAddr, at: VirtAddr) -> Result<u8, Fault> {
        // SAFETY: a byte of RAM.
        self.user_access(pc, at, 1, Access::Read, |byte| unsafe { byte.read_volatile() })
    }

    /// A user's store of one byte.
    pub fn user_store(&self, pc: VirtAddr, at: VirtAddr, value: u8) -> Result<(), Fault> {
        // SAFETY: a byte of RAM.
        self.user_access(pc, at, 1, Access::Write, |byte| unsafe { byte.write_volatile(value) })
    }

    /// A user's access, an atomic one, to the aligned word at `at`.
    ///
    /// # Panics
    /// If it is not aligned.
    pub fn user_word<R>(
        &self,
        pc: VirtAddr,
        at: VirtAddr,
        access: Access,
        touch: impl FnOnce(&AtomicU64) -> R,
    ) -> Result<R, Fault> {
        assert!(at.is_aligned(8), "{at} is not aligned");
        self.user_access(pc, at, 8, access, |word| {
            // SAFETY: eight aligned bytes of RAM, which live as long as the machine.
            touch(unsafe { AtomicU64::from_ptr(word.cast().as_ptr()) })
        })
    }

    /// A user's fetch of the instruction at `pc`.
    pub fn user_fetch(&self, pc: VirtAddr) -> Result<u8, Fault> {
        // SAFETY: a byte of RAM.
        self.user_access(pc, pc, 1, Access::Execute, |byte| unsafe { byte.read_volatile() })
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
            let touched = self.touch(at, piece, access, |ram| each(ram, done, piece));
            touched.ok_or(UserFault { address: at })?;
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
