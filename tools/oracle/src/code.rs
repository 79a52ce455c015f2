//! Which memory user code was executed from, and what happened to it since.
//!
//! A page is remembered from its first execution on, for good: what is stored there later may be code
//! again, a program's of its own or the next process's. So that a stream does not grow with every
//! store, a CPU tells of a line that it stores to, and of a page that it executes, once until it
//! enters or leaves the kernel; of a page also after each store that another CPU told of.

use std::collections::HashSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// Pages that are watched: of the first 4 GiB of memory.
const PAGES: usize = 1 << 20;

/// A set of pages.
struct Pages(Box<[AtomicU64]>);

impl Default for Pages {
    fn default() -> Self {
        Self((0..PAGES / 64).map(|_| AtomicU64::new(0)).collect())
    }
}

impl Pages {
    // Relaxed, both: a page is put in when it is translated or stored to, before any thread could ask
    // for what the guest does with it next.
    fn add(&self, page: u64) {
        if let Some(word) = self.0.get((page / 64) as usize) {
            word.fetch_or(1 << (page % 64), Ordering::Relaxed);
        }
    }

    fn has(&self, page: u64) -> bool {
        self.0
            .get((page / 64) as usize)
            .is_some_and(|word| word.load(Ordering::Relaxed) >> (page % 64) & 1 == 1)
    }
}

/// What is known of all pages.
#[derive(Default)]
pub struct Code {
    executed: Pages,
    stored: Pages,
    /// Stores that were told of.
    stores: AtomicU64,
}

/// What one CPU has told of since it entered or left the kernel.
#[derive(Default)]
pub struct Told(Mutex<Lists>);

#[derive(Default)]
struct Lists {
    lines: HashSet<u64>,
    pages: HashSet<u64>,
    /// How many stores there were when `pages` began.
    stores: u64,
}

impl Told {
    /// The CPU enters or leaves the kernel.
    pub fn begin_anew(&self) {
        if let Ok(mut lists) = self.0.lock() {
            lists.lines.clear();
            lists.pages.clear();
        }
    }
}

impl Code {
    /// User code lies in `page`.
    pub fn executes(&self, page: u64) {
        self.executed.add(page);
    }

    /// Whether user code lay in `page` at any time.
    #[inline]
    pub fn was_executed(&self, page: u64) -> bool {
        self.executed.has(page)
    }

    /// A CPU stores to `line`, in `page`, which user code was executed from. Whether to tell of it.
    pub fn stores(&self, told: &Told, line: u64, page: u64) -> bool {
        let new = told.0.lock().is_ok_and(|mut lists| lists.lines.insert(line));
        if new {
            self.stored.add(page);
            self.stores.fetch_add(1, Ordering::Relaxed);
        }
        new
    }

    /// A CPU executes user code in `page`. Whether to tell of it: something was stored there.
    #[inline]
    pub fn fetches(&self, told: &Told, page: u64) -> bool {
        if !self.stored.has(page) {
            return false;
        }
        let Ok(mut lists) = told.0.lock() else { return false };
        let stores = self.stores.load(Ordering::Relaxed);
        if lists.stores != stores {
            lists.stores = stores;
            lists.pages.clear();
        }
        lists.pages.insert(page)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cpu_tells_once_until_it_enters_or_leaves_the_kernel() {
        let (code, one, other) = (Code::default(), Told::default(), Told::default());
        code.executes(5);
        assert!(code.was_executed(5) && !code.was_executed(6) && !code.was_executed(u64::MAX));
        assert!(!code.fetches(&one, 5), "nothing was stored there");
        assert!(code.stores(&one, 0x5040, 5) && !code.stores(&one, 0x5040, 5));
        assert!(code.fetches(&other, 5) && !code.fetches(&other, 5));
        assert!(code.stores(&one, 0x5080, 5));
        assert!(code.fetches(&other, 5), "another store");
        one.begin_anew();
        other.begin_anew();
        assert!(code.stores(&one, 0x5040, 5) && code.fetches(&other, 5));
    }
}
