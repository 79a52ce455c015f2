//! Memory management over the simulated machine, one file per subject.

mod budget;
mod cpus;
mod frames;
mod heap;
mod list;
mod memory;
mod object;
mod page_table;
mod space;
mod tree;
