//! A growable array that can say no.
//!
//! `Vec` grows where it is pushed to, and fails by a path that ends the kernel. A [`List`] has only
//! the operations that return an error instead, so that path is not in the image, which
//! `tools/x check` verifies. All else is a slice.

use super::NoMemory;
use super::heap::Charged;
use allocator_api2::vec::Vec;
use core::ops::{Deref, DerefMut};

/// See the module. Charged to the budget its allocator names.
pub struct List<T>(Vec<T, Charged>);

impl<T> List<T> {
    /// An empty list; allocates nothing.
    pub const fn new(charged: Charged) -> Self {
        Self(Vec::new_in(charged))
    }

    /// Makes room for `more` elements: the next `more` insertions cannot fail.
    pub fn reserve(&mut self, more: usize) -> Result<(), NoMemory> {
        self.0.try_reserve(more).map_err(|_| NoMemory)
    }

    /// Adds `value` at the end. On an error it is dropped, and the list is as before.
    pub fn push(&mut self, value: T) -> Result<(), NoMemory> {
        self.reserve(1)?;
        let len = self.0.len();
        self.0.spare_capacity_mut()[0].write(value);
        // SAFETY: there is capacity for one more, and the element there was just written.
        unsafe { self.0.set_len(len + 1) };
        Ok(())
    }

    /// Adds `value` before the element at `index`, or at the end.
    ///
    /// # Panics
    /// If `index` is beyond the end.
    pub fn insert(&mut self, index: usize, value: T) -> Result<(), NoMemory> {
        assert!(index <= self.0.len(), "an index beyond the end");
        self.push(value)?;
        self.0[index..].rotate_right(1);
        Ok(())
    }

    /// Adds what `make` returns until there are `len`. All or nothing.
    pub fn fill_to(&mut self, len: usize, mut make: impl FnMut() -> T) -> Result<(), NoMemory> {
        self.reserve(len.saturating_sub(self.0.len()))?;
        while self.0.len() < len {
            self.push(make())?;
        }
        Ok(())
    }

    /// Adds all of `values`. All or nothing.
    pub fn extend(&mut self, values: &[T]) -> Result<(), NoMemory>
    where
        T: Copy,
    {
        self.reserve(values.len())?;
        values.iter().try_for_each(|value| self.push(*value))
    }

    /// Takes the last.
    pub fn pop(&mut self) -> Option<T> {
        self.0.pop()
    }

    /// Takes the one at `index`; those after it move up.
    ///
    /// # Panics
    /// If there is none.
    pub fn remove(&mut self, index: usize) -> T {
        self.0.remove(index)
    }

    /// Drops all.
    pub fn clear(&mut self) {
        self.0.clear();
    }
}

impl<T> Deref for List<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        &self.0
    }
}

impl<T> DerefMut for List<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.0
    }
}
