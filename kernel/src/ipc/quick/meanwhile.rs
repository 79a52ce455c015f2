//! What a test has happen on another CPU in the middle of a short way, where no lock is held that this would
//! need. In an ordinary kernel there is nothing of it.

#[cfg(test)]
pub use scripted::{once, pass};

/// Somebody may do something here.
#[cfg(not(test))]
#[inline(always)]
pub fn pass() {}

#[cfg(test)]
mod scripted {
    use std::boxed::Box;
    use std::cell::RefCell;

    type Then = Box<dyn FnOnce()>;

    std::thread_local! {
        static NEXT: RefCell<Option<Then>> = const { RefCell::new(None) };
    }

    /// `then` happens when a short way next passes.
    pub fn once(then: impl FnOnce() + 'static) {
        NEXT.set(Some(Box::new(then)));
    }

    /// Somebody may do something here.
    pub fn pass() {
        if let Some(then) = NEXT.take() {
            then();
        }
    }
}
