//! The page-table walker goes where nobody sent it, and what it has cached goes when nobody said so.
//!
//! A machine may cache what the loaded tables say at any time, whether or not anything runs there
//! that uses them: while a CPU is lazy, and in the middle of a switch. Under schedules a CPU does so
//! now and then at its hooks. So translations are cached that no user asked for, and tables are
//! walked up to the moment in which the CPU says that it has let go of them. It fetches code as well
//! ([`code`](crate::code)). And it forgets: a translation, so that the next use walks the tables as they
//! are by then, or the way to a table.

use crate::host::{chance, pick};
use crate::{Cpu, Model};
use arch_contract::addr::{PhysAddr, VirtAddr};
use arch_contract::pte::{Entry, Paging};

/// How often it does, in hooks.
const ONCE_IN: u64 = 6;
/// How often something is forgotten. Rarely: to forget hides that somebody should have said so.
const FORGETS_ONCE_IN: u64 = 40;

impl Cpu {
    pub(crate) fn wander(&self) {
        if chance(ONCE_IN)
            && let Some((id, tag, root)) = self.walk_from()
            && let Some(page) = self.any_page(root)
        {
            self.fill(id, tag, root, page, &mut self.translations());
        }
        if chance(ONCE_IN) {
            self.fetch();
        }
        if chance(FORGETS_ONCE_IN) {
            self.translations().evict();
        }
    }

    /// A page that is mapped.
    fn any_page(&self, root: PhysAddr) -> Option<VirtAddr> {
        let (mut at, mut table) = (0, root);
        for (number, level) in Model::LEVELS.iter().enumerate() {
            let entry = |index: u64| {
                let slot = self.machine.at(PhysAddr(table.0 + 8 * index), 8).cast::<u64>();
                // SAFETY: eight aligned bytes of RAM. Only where to look is chosen by it.
                (index, Model::decode(unsafe { slot.read_volatile() }, number))
            };
            let users = |index: &u64| at | index << level.shift < Model::USER_END.0;
            let there: Vec<_> = (0..1 << level.index_bits)
                .filter(users)
                .map(entry)
                .filter(|(_, entry)| *entry != Entry::Absent)
                .collect();
            let (index, entry) = *there.get(pick(there.len() as u64) as usize)?;
            at |= index << level.shift;
            match entry {
                Entry::Table(next) => table = next,
                _ => return Some(VirtAddr(at)),
            }
        }
        None
    }
}
