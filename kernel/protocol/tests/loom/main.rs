//! The protocols of this crate, run by two or three CPUs through every interleaving and every value
//! that the memory model of the language (C11 as loom has it) allows a load to return.
//!
//! `RUSTFLAGS="--cfg loom" cargo test -p protocol --test loom --release`. Each test is one edge
//! between CPUs: what one stores before a barrier and then loads, against what the other does. With
//! `SPANDREL_MUTANT` set one promise is broken; its row in the table of mutants names the tests that
//! must then fail.
//!
//! What is not seen here: load buffering, which loom does not produce; accesses of the MMU, which
//! stand for loads of the CPU that owns it; and that a barrier of a port is one.
#![cfg(loom)]

mod cpu;
mod inbox;
mod membarrier;
mod offline;
mod shootdown;
mod words;
