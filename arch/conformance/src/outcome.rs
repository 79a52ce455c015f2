//! How a case ends, and how it says so through an exit status.

use alloc::string::String;
use core::fmt;

/// A case that passed, or why it did not.
pub type Outcome = Result<(), Not>;

/// Not passed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Not {
    /// A promise is broken.
    Failed(String),
    /// It cannot be run here, and why.
    Skipped(&'static str),
    /// Nothing was broken, but the positive control shows that nothing could have been seen.
    Inconclusive(&'static str),
}

/// The exit status of a case that failed.
pub const STATUS_FAILED: u8 = 1;
/// The exit status of a case that was skipped.
pub const STATUS_SKIPPED: u8 = 2;
/// The exit status of a case that was inconclusive.
pub const STATUS_INCONCLUSIVE: u8 = 3;

impl Not {
    /// The exit status that says so.
    pub fn status(&self) -> u8 {
        match self {
            Self::Failed(_) => STATUS_FAILED,
            Self::Skipped(_) => STATUS_SKIPPED,
            Self::Inconclusive(_) => STATUS_INCONCLUSIVE,
        }
    }
}

impl fmt::Display for Not {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(why) => write!(f, "FAIL: {why}"),
            Self::Skipped(why) => write!(f, "SKIP: {why}"),
            Self::Inconclusive(why) => write!(f, "INCONCLUSIVE: {why}"),
        }
    }
}

/// Fails the case unless a condition holds.
macro_rules! ensure {
    ($condition:expr, $($text:tt)+) => {
        if !$condition {
            return Err($crate::Not::Failed(alloc::format!($($text)+)));
        }
    };
}
pub(crate) use ensure;

/// Fails the case unless two values are the same.
macro_rules! ensure_eq {
    ($is:expr, $wanted:expr, $($text:tt)+) => {{
        let (is, wanted) = ($is, $wanted);
        if is != wanted {
            let what = alloc::format!($($text)+);
            return Err($crate::Not::Failed(alloc::format!("{what}: is {is:?}, should be {wanted:?}")));
        }
    }};
}
pub(crate) use ensure_eq;

/// A call that should have worked, by name.
pub trait OrFail<T> {
    /// Its value; fails the case if there is none.
    fn or_fail(self, what: &str) -> Result<T, Not>;
}

impl<T> OrFail<T> for Result<T, abi::Error> {
    fn or_fail(self, what: &str) -> Result<T, Not> {
        self.map_err(|error| Not::Failed(alloc::format!("{what}: {error:?}")))
    }
}
