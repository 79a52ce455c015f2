//! Objects: shared, counted, charged.
//!
//! [`Ref`] is what `Arc` would be in a kernel: making one can be refused, the memory is charged to
//! a budget, and the budget stays alive as long as what it pays for. There are no weak references.

use crate::mm::NoMemory;
use crate::mm::budget::Budget;
use crate::mm::heap;
use crate::mm::memory::Memory;
use crate::sync::{self, AtomicUsize, Ordering, atomic};
use core::alloc::Layout;
use core::marker::PhantomData;
use core::mem::ManuallyDrop;
use core::ops::Deref;
use core::ptr::NonNull;

/// References to one object, at most: so far from wrapping that counting on after the check on
/// every CPU cannot reach it.
const MAX_COUNT: usize = isize::MAX as usize;

/// What an object is in runs under schedules.
const OBJECT: &str = "the object at";

struct Inner<T> {
    count: AtomicUsize,
    memory: &'static Memory,
    /// Who pays. `None` for the root budget itself.
    payer: Option<Ref<Budget>>,
    value: T,
}

/// A reference to a shared object.
pub struct Ref<T> {
    inner: NonNull<Inner<T>>,
    _owns: PhantomData<Inner<T>>,
}

// SAFETY: as for `Arc`: a reference gives `&T` on any CPU, and the last one drops the `T` wherever
// it happens to be.
unsafe impl<T: Send + Sync> Send for Ref<T> {}
// SAFETY: as above.
unsafe impl<T: Send + Sync> Sync for Ref<T> {}

impl<T> Ref<T> {
    /// Puts `value` into the heap, charged to `budget`. `None` is for the root budget only. If it
    /// is refused, `value` is dropped.
    #[inline(always)]
    pub fn try_new(
        memory: &'static Memory,
        budget: Option<&Ref<Budget>>,
        value: T,
    ) -> Result<Self, NoMemory> {
        let layout = Layout::new::<Inner<T>>();
        let inner = heap::allocate_for(memory, budget.map(|budget| &**budget), layout)?.cast();
        let payer = budget.cloned();
        // SAFETY: just allocated with the layout of `Inner<T>`.
        unsafe { inner.write(Inner { count: AtomicUsize::new(1), memory, payer, value }) };
        Ok(Self { inner, _owns: PhantomData })
    }

    fn inner(&self) -> &Inner<T> {
        // SAFETY: a reference keeps the object alive; only the last one's drop makes it mutable.
        unsafe { self.inner.as_ref() }
    }

    /// Whether both refer to the same object.
    pub fn ptr_eq(a: &Self, b: &Self) -> bool {
        a.inner == b.inner
    }

    /// Where the object is: a number that no other object has while this one lives.
    pub fn address(this: &Self) -> usize {
        this.inner.addr().get()
    }

    /// References that exist now. Others may change it at any time.
    pub fn count(this: &Self) -> usize {
        this.inner().count.load(Ordering::Relaxed)
    }

    /// Gives the reference up as a pointer to the object, which stays counted.
    pub fn into_raw(this: Self) -> *const T {
        let this = ManuallyDrop::new(this);
        // SAFETY: the object is alive.
        unsafe { &raw const (*this.inner.as_ptr()).value }
    }

    /// The inverse of [`into_raw`](Self::into_raw).
    ///
    /// # Safety
    /// `value` came from `into_raw`, and the reference that was given up there is not taken back
    /// anywhere else.
    pub unsafe fn from_raw(value: *const T) -> Self {
        let offset = core::mem::offset_of!(Inner<T>, value);
        // SAFETY: `value` lies in an `Inner<T>`, at this offset.
        let inner = unsafe { NonNull::new_unchecked(value.byte_sub(offset).cast_mut().cast()) };
        Self { inner, _owns: PhantomData }
    }
}

impl<T> Clone for Ref<T> {
    fn clone(&self) -> Self {
        // Relaxed: whoever clones holds a reference, so nothing is ordered by the count.
        let before = self.inner().count.fetch_add(1, Ordering::Relaxed);
        assert!(before < MAX_COUNT, "a reference count ran away");
        Self { inner: self.inner, _owns: PhantomData }
    }
}

impl<T> Deref for Ref<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.inner().value
    }
}

impl<T> Drop for Ref<T> {
    #[inline]
    fn drop(&mut self) {
        sync::touch(OBJECT, self.inner.as_ptr());
        // Release: what this holder did with the object comes before it lets go. Pairs with the
        // acquire fence of whoever is last.
        if self.inner().count.fetch_sub(1, Ordering::Release) == 1 {
            // SAFETY: this was the last reference, and it is gone.
            unsafe { self.destroy() };
        }
    }
}

impl<T> Ref<T> {
    /// # Safety
    /// The count is 0, and this reference is not used again.
    #[cold]
    #[inline(never)]
    unsafe fn destroy(&self) {
        // Acquire: what every other holder did comes before the object is destroyed.
        atomic::fence(Ordering::Acquire);
        let inner = self.inner.as_ptr();
        sync::own(OBJECT, inner);
        // SAFETY: nobody refers to it any more. The payer is moved out, since it has to outlive the
        // memory it pays for; the value is destroyed in place; nothing looks at either again.
        let (memory, payer) = unsafe {
            core::ptr::drop_in_place(&raw mut (*inner).value);
            ((*inner).memory, (&raw const (*inner).payer).read())
        };
        let (at, layout) = (self.inner.cast(), Layout::new::<Inner<T>>());
        // SAFETY: allocated in `try_new` with the same memory, payer and layout.
        unsafe { heap::give_back_for(memory, payer.as_deref(), at, layout) };
    }
}
