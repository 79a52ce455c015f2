//! Memory management over the simulated machine, one file per subject.

mod budget;
mod frames;
mod heap;
mod list;
mod memory;
mod page_table;
mod space;
