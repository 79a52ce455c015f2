//! Memory management over the simulated machine, one file per subject.

mod budget;
mod frames;
mod heap;
mod page_table;
mod space;
