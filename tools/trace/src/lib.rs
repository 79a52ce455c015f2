//! What test kernels record, on the host: read, checked, drawn.
//!
//! Each CPU of a guest writes a ring of its own; here they become one [`Trace`], in the order of
//! time. One checker ([`check`]) holds it against what must be true of every run, of a real
//! machine or of the model alike; [`chrome`] writes it for Perfetto and [`svg`] draws a part of it.
//!
//! | file | what is there |
//! | --- | --- |
//! | [`read`] | from protocol lines or rings to a trace |
//! | [`event`] | one event, and how a person reads it |
//! | [`check`] | the invariants |
//! | [`state`] | what each CPU holds and runs, as its events say |
//! | [`lanes`] | from events to what each CPU did when: what both pictures show |
//! | [`chrome`], [`svg`] | the pictures of a run |
//! | [`conflict`], [`swimlanes`] | the few events around something that must not be, and their picture |

pub mod check;
pub mod chrome;
pub mod conflict;
pub mod event;
pub mod lanes;
pub mod read;
pub mod state;
pub mod svg;
pub mod swimlanes;
#[cfg(test)]
mod testing;

pub use check::{Invariant, Report, Rules, UserReturn, Violation, check};
pub use event::Event;
pub use read::{ReadError, Reader, Trace};
