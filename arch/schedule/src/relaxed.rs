//! One ordering of the program made relaxed, by a run and not by a build.
//!
//! Every access says where it stands in the source, so any one of them can be weakened without a
//! change to the program, the ones included that nobody thought of: [`VARIABLE`] names the place.
//! [`LIST`] names a file to which each place that orders anything is added when it is first passed.

use core::panic::Location;
use core::sync::atomic::Ordering;
use std::collections::HashSet;
use std::fs::OpenOptions;
use std::io::Write;
use std::sync::{LazyLock, Mutex, PoisonError};

/// `FILE:LINE:COLUMN`, as [`LIST`] has it.
pub const VARIABLE: &str = "SPANDREL_RELAXED";
pub const LIST: &str = "SPANDREL_ORDERINGS";

static CHOSEN: LazyLock<Option<Place>> = LazyLock::new(|| {
    let place = std::env::var(VARIABLE).ok()?;
    Some(Place::parse(&place).unwrap_or_else(|| panic!("{VARIABLE}={place}: not FILE:LINE:COLUMN")))
});
static LISTED: LazyLock<Option<Mutex<Listed>>> = LazyLock::new(|| {
    let file = std::env::var_os(LIST)?;
    Some(Mutex::new(Listed { file, places: HashSet::new() }))
});

struct Place {
    file: String,
    line: u32,
    column: u32,
}

impl Place {
    fn parse(text: &str) -> Option<Self> {
        let (text, column) = text.rsplit_once(':')?;
        let (file, line) = text.rsplit_once(':')?;
        Some(Self { file: file.into(), line: line.parse().ok()?, column: column.parse().ok()? })
    }

    fn is(&self, place: &Location<'_>) -> bool {
        (self.line, self.column) == (place.line(), place.column()) && self.file == place.file()
    }
}

struct Listed {
    file: std::ffi::OsString,
    places: HashSet<&'static Location<'static>>,
}

/// What the access at `place`, which says `order`, orders in this process.
pub(crate) fn order(order: Ordering, place: &'static Location<'static>) -> Ordering {
    if order == Ordering::Relaxed {
        return order;
    }
    if let Some(listed) = &*LISTED {
        let mut listed = listed.lock().unwrap_or_else(PoisonError::into_inner);
        if listed.places.insert(place) {
            let file = OpenOptions::new().create(true).append(true).open(&listed.file);
            file.and_then(|mut file| writeln!(file, "{place}")).expect("the list can be written");
        }
    }
    match &*CHOSEN {
        Some(chosen) if chosen.is(place) => Ordering::Relaxed,
        _ => order,
    }
}
