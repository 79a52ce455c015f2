//! The tool behind `tools/x`: builds Spandrel, boots it, tests it, checks it, measures it.
//!
//! It is an ordinary host program on the stable toolchain. What is not ordinary (a bare target,
//! its own `core`, a fixed set of flags) is done by the cargo it starts, see [`toolchain`]. One
//! module per subcommand; what they share is below them: [`build`] makes the files that boot,
//! [`qemu`] knows the machines, [`guest`] runs one and says how it ended.

mod arch;
mod bench;
mod budgets;
mod build;
mod check;
mod doctor;
mod error;
mod executed;
mod guest;
mod manifests;
mod matrix;
mod mutants;
mod newer_qemu;
mod observed;
mod oracle;
mod pictures;
mod pool;
mod protocol;
mod qemu;
mod reference;
mod run;
mod sites;
mod symbols;
mod terminal;
mod test;
mod toolchain;
mod trace;
mod ui;
mod variant;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Builds, boots, tests and checks Spandrel.
#[derive(Parser)]
#[command(name = "tools/x", bin_name = "tools/x", version, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Build, boot and attach to the console.
    Run(run::Arguments),
    /// Run the host tests and the guest cases.
    Test(test::Arguments),
    /// Break each promise, and see that its killers notice.
    Mutants(mutants::Arguments),
    /// Show which tests say that each clause holds, or take that over.
    Matrix(matrix::Arguments),
    /// Show the reference of calls and objects.
    Reference(reference::Arguments),
    /// Run a program, check its event trace, and write it for Perfetto.
    Trace(trace::Arguments),
    /// Run a conformance case, and check what its CPUs executed.
    Stream(executed::Arguments),
    /// Formatting, lints and the gates that keep the tree honest.
    Check(check::Arguments),
    /// Count instructions and bytes.
    Bench(bench::Arguments),
    /// Say what was found, what is missing, and what this QEMU cannot do.
    Doctor(doctor::Arguments),
    /// Fetch a newer QEMU beside the installed one, and print its folder.
    Qemu(newer_qemu::Arguments),
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Run(arguments) => run::main(arguments),
        Command::Test(arguments) => test::main(arguments),
        Command::Matrix(arguments) => matrix::main(arguments),
        Command::Mutants(arguments) => mutants::main(arguments),
        Command::Reference(arguments) => reference::main(arguments),
        Command::Trace(arguments) => trace::main(arguments),
        Command::Stream(arguments) => executed::main(arguments),
        Command::Check(arguments) => check::main(arguments),
        Command::Bench(arguments) => bench::main(arguments),
        Command::Doctor(arguments) => doctor::main(arguments),
        Command::Qemu(arguments) => newer_qemu::main(arguments),
    };
    outcome.unwrap_or_else(|error| {
        ui::error(&error);
        ExitCode::from(run::COULD_NOT_RUN)
    })
}
