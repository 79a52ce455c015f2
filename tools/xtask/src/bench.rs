//! `tools/x bench`: what things cost, in instructions and bytes.
//!
//! Counts come from the plugin in `tools/oracle`, not from a clock, so they are the same on every
//! host. Rows and what they mean are in `ci/budgets.toml`, with their limits.

use crate::arch::{Arch, Machines};
use crate::budgets::Budgets;
use crate::build;
use crate::check::image::loaded_bytes;
use crate::error::{Context, Error, Result};
use crate::observed::Window;
use crate::oracle::Oracle;
use crate::qemu;
use crate::symbols::Names;
use crate::toolchain::{Toolchain, read};
use crate::ui::{self, Colour};
use std::path::PathBuf;
use std::process::ExitCode;

/// How many null calls are made; the figure is the median of all calls of that run.
const NULL_CALLS: &str = "10000";
/// How often the program `costs` does each of its things.
const COSTS: &str = "200";
/// Its windows whose price is the kernel's instructions, and their rows.
const PRICED: [(&str, usize); 15] = [
    ("private_expedited", 0),
    ("sync_core", 1),
    ("global_expedited", 2),
    ("yield", 3),
    ("kernel_task", 4),
    ("sleep", 5),
    ("task_switch", 6),
    ("ipc_round_trip", 7),
    ("ipc_same_space", 8),
    ("ipc_with_vectors", 9),
    ("fault_to_pager", 10),
    ("map_page", 11),
    ("notify", 12),
    ("attach_page", 13),
    ("detach_page", 14),
];
/// Its window in which a thread leaves its CPU to nobody and comes back.
const LAZY: usize = 5;
const ONE_PER_NANOSECOND: [&str; 2] = ["-icount", "shift=0"];
/// How far the two ways to count may differ, in parts per thousand.
const CROSS_CHECK_PER_MILLE: u64 = 1;

/// Count instructions and bytes.
///
/// Prints `machine.row value unit` lines. The limits stand in ci/budgets.toml.
#[derive(clap::Args)]
pub struct Arguments {
    /// Which machines.
    #[arg(long, value_enum, default_value = "all")]
    arch: Machines,
    /// The QEMU to use, if not the one on the PATH: a program, or a folder of them.
    #[arg(long, value_name = "PATH")]
    qemu: Option<PathBuf>,
    /// Fail when a row is over its limit.
    #[arg(long)]
    check: bool,
    /// Also write the rows to this file, as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Also say which functions the instructions of this row are in, and which barriers.
    #[arg(long, value_name = "ROW")]
    explain: Option<String>,
    /// Count the boot in a second way, by QEMU's log of single steps, and fail if the two
    /// disagree. Takes a minute.
    #[arg(long)]
    cross_check: bool,
}

/// One measured value.
#[derive(Debug, PartialEq)]
struct Row {
    arch: Arch,
    name: &'static str,
    value: u64,
    unit: &'static str,
}

pub fn main(arguments: Arguments) -> Result<ExitCode> {
    let toolchain = Toolchain::find()?;
    let budgets = Budgets::read()?;
    let mut rows = Vec::new();
    for &arch in arguments.arch.list() {
        let measured = measure(&toolchain, arch, &arguments)?;
        for row in &measured {
            ui::line(format_args!("{}.{} {} {}", row.arch, row.name, row.value, row.unit));
        }
        rows.extend(measured);
    }
    if let Some(file) = &arguments.json {
        std::fs::write(file, json(&rows)).context(|| format!("cannot write {}", file.display()))?;
    }
    if !arguments.check {
        return Ok(ExitCode::SUCCESS);
    }
    let mut within = true;
    for &arch in arguments.arch.list() {
        for complaint in over_budget(&rows, &budgets, arch) {
            eprintln!("{} {complaint}", ui::on_stderr(Colour::Red, "over budget:"));
            within = false;
        }
    }
    Ok(if within { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn measure(toolchain: &Toolchain, arch: Arch, arguments: &Arguments) -> Result<Vec<Row>> {
    let built = build::everything(toolchain, arch)?;
    let oracle = Oracle::build(qemu::program(arguments.qemu.as_deref(), arch))?;
    let _progress = ui::Progress::start(format!("counting on {arch}"));
    // One instruction is one nanosecond of the guest's clocks, so that what waits for a clock
    // (calibration against a timer) is counted alike on every host.
    let counts = oracle.count(&built, &["null", NULL_CALLS], &ONE_PER_NANOSECOND)?;
    let count = |name: &str| {
        counts.get(name).copied().ok_or_else(|| Error::new(format!("{arch}: the counter never saw `{name}`")))
    };
    let boot = count("boot")?;
    let calls = count("calls")?;
    if calls < NULL_CALLS.parse().unwrap_or(0) {
        return Err(Error::new(format!("{arch}: only {calls} of {NULL_CALLS} system calls were counted")));
    }
    if arguments.cross_check {
        let program = ["exit", "0"];
        let counted = oracle.count(&built, &program, &ONE_PER_NANOSECOND)?.get("boot").copied();
        let logged = oracle.count_in_log(&built, &program, &ONE_PER_NANOSECOND)?;
        let boot = counted.unwrap_or(0);
        if boot.abs_diff(logged) * 1000 > boot * CROSS_CHECK_PER_MILLE {
            return Err(Error::new(format!(
                "{arch}: {boot} instructions to user mode, {logged} in QEMU's log"
            )));
        }
        ui::note(&format!("{arch}: {boot} instructions to user mode, {logged} in QEMU's log"));
    }
    let mut rows = vec![
        Row { arch, name: "boot", value: boot, unit: "instructions" },
        Row { arch, name: "image", value: loaded_bytes(&read(&built.kernel)?)?, unit: "bytes" },
        Row { arch, name: "null_call", value: count("call_median")?, unit: "instructions" },
    ];
    let costs = oracle.watch(&built, &["costs", COSTS], &ONE_PER_NANOSECOND)?;
    for (name, window) in PRICED {
        let value = costs.window(window).median();
        let value = value.ok_or_else(|| Error::new(format!("{arch}: `{name}` was never done")))?;
        rows.push(Row { arch, name, value, unit: "instructions" });
    }
    let names = Names::read(&built.kernel)?;
    let explained = PRICED.iter().filter(|(name, _)| arguments.explain.as_deref() == Some(name));
    for &(name, window) in explained {
        let window = costs.window(window);
        let (steps, barriers) = (window.describe_steps(&names), window.describe_events("barrier", &names));
        ui::line(format_args!("{arch}.{name}, {} times:\n{steps}{barriers}", window.openings()));
    }
    let lazy = costs.window(LAZY);
    for (name, value) in lazy_round_trip(&lazy, &names) {
        rows.push(Row { arch, name, value, unit: "executions" });
    }
    Ok(rows)
}

/// What a round trip of a thread by way of idle executes, on average and rounded up, so that one of
/// them that executes more than none shows.
fn lazy_round_trip(window: &Window, names: &Names) -> [(&'static str, u64); 3] {
    let each = |count: u64| count.div_ceil(window.openings().max(1));
    [
        ("lazy_reloads", each(window.reloads())),
        ("lazy_barriers", each(window.full_barriers(names))),
        ("lazy_core_syncs", each(window.core_syncs(names))),
    ]
}

/// What is over its limit on this machine, or has a limit and was not measured.
fn over_budget(rows: &[Row], budgets: &Budgets, arch: Arch) -> Vec<String> {
    let mut complaints = Vec::new();
    for name in budgets.rows(arch) {
        let limit = budgets.limit(arch, name).unwrap_or(0);
        match rows.iter().find(|row| row.arch == arch && row.name == name) {
            None => complaints.push(format!("{arch}.{name} was not measured")),
            Some(row) if row.value > limit => {
                complaints.push(format!("{arch}.{name} {} {}, limit {limit}", row.value, row.unit));
            }
            Some(_) => {}
        }
    }
    complaints
}

/// The rows, for other programs. Names and units hold nothing that JSON would escape.
fn json(rows: &[Row]) -> String {
    let rows: Vec<_> = rows
        .iter()
        .map(|row| {
            format!(
                "  {{\"name\": \"{}.{}\", \"value\": {}, \"unit\": \"{}\"}}",
                row.arch, row.name, row.value, row.unit
            )
        })
        .collect();
    format!("[\n{}\n]\n", rows.join(",\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every row that has a limit, at that limit.
    fn at_the_limit(budgets: &Budgets) -> Vec<Row> {
        let row = |name: &str| Row {
            arch: Arch::X86_64,
            name: name.to_owned().leak(),
            value: budgets.limit(Arch::X86_64, name).unwrap(),
            unit: "instructions",
        };
        budgets.rows(Arch::X86_64).map(row).collect()
    }

    #[test]
    fn over_is_over_and_missing_is_missing() {
        let budgets = Budgets::read().unwrap();
        let mut rows = at_the_limit(&budgets);
        assert!(over_budget(&rows, &budgets, Arch::X86_64).is_empty());
        rows.iter_mut().find(|row| row.name == "image").unwrap().value += 1;
        assert!(over_budget(&rows, &budgets, Arch::X86_64)[0].contains("image"));
        rows.retain(|row| row.name != "image");
        assert!(over_budget(&rows, &budgets, Arch::X86_64)[0].contains("image was not measured"));
    }

    #[test]
    fn json_is_a_list_of_rows() {
        let row = Row { arch: Arch::X86_64, name: "image", value: 5, unit: "bytes" };
        let text = json(&[row]);
        assert_eq!(text, "[\n  {\"name\": \"x86_64.image\", \"value\": 5, \"unit\": \"bytes\"}\n]\n");
    }
}
