//! What a type holds, the compiler refuses to break: each precondition that the contract puts into a
//! type has here the right use, which compiles, and the wrong one, which does not, for one reason.
//!
//! The reason is the compiler's error code (or the name of the lint); its words change from version to
//! version. That the right use compiles shows that the wrong one fails for what is wrong with it.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What every example may use.
const PRELUDE: &str = r#"
#![allow(unused)]
#![deny(unused_must_use)]
use arch_contract::{Arch, barrier::*, context::*, irq::*, ret::*, tlb::*, user::*};
use core::{marker::PhantomData, num::NonZeroU64, ptr::NonNull};
fn send<T: Send>() {}
fn copy<T: Clone>() {}
fn sized<T: Sized>() {}
"#;

/// A precondition: its test, the code of the error, the right use and the wrong one.
macro_rules! refused {
    ($($(#[$doc:meta])* $name:ident, $code:literal, right: $right:literal, wrong: $wrong:literal;)*) => {
        $(
            $(#[$doc])*
            #[test]
            fn $name() {
                let right = errors($right);
                assert!(right.is_empty(), "the right use does not compile: {right:?}");
                assert_eq!(errors($wrong), [$code], "the wrong use");
            }
        )*
    };
}

refused! {
    /// Who says that interrupts are off answers for it.
    trap_3_a_token_is_not_made_safely, "E0133",
    right: "fn f() -> IrqsOff { unsafe { IrqsOff::assume() } }",
    wrong: "fn f() -> IrqsOff { IrqsOff::assume() }";

    trap_3_a_token_is_not_made_of_its_parts, "E0423",
    right: "fn f() -> IrqsOff { unsafe { IrqsOff::assume() } }",
    wrong: "fn f() -> IrqsOff { IrqsOff(PhantomData) }";

    /// It speaks of one CPU.
    trap_3_a_token_stays_on_its_cpu, "E0277",
    right: "fn f() { sized::<IrqsOff>() }",
    wrong: "fn f() { send::<IrqsOff>() }";

    trap_3_a_token_has_no_copy, "E0277",
    right: "fn f() { sized::<IrqsOff>() }",
    wrong: "fn f() { copy::<IrqsOff>() }";

    /// Whoever was lent the token relies on interrupts being off as long as it has it.
    trap_3_no_window_while_the_token_is_lent, "E0502",
    right: "fn f<A: Arch>(cpu: &A::Cpu, irq: &mut IrqsOff) {
                { let lent = &*irq; A::set_deadline(cpu, None, lent); }
                A::window(cpu, irq);
            }",
    wrong: "fn f<A: Arch>(cpu: &A::Cpu, irq: &mut IrqsOff) {
                let lent = &*irq;
                A::window(cpu, irq);
                A::set_deadline(cpu, None, lent);
            }";

    /// The right to touch user memory ends before interrupts are let in.
    usr_1_no_interrupts_while_user_memory_is_open, "E0502",
    right: "fn f<A: Arch>(cpu: &A::Cpu, irq: &mut IrqsOff) {
                // SAFETY: never run; what the callee asks is not the point here.
                drop(unsafe { Window::<A>::open(cpu, irq) });
                A::wait(cpu, irq);
            }",
    wrong: "fn f<A: Arch>(cpu: &A::Cpu, irq: &mut IrqsOff) {
                // SAFETY: never run; what the callee asks is not the point here.
                let window = unsafe { Window::<A>::open(cpu, irq) };
                A::wait(cpu, irq);
                drop(window);
            }";

    /// So it cannot lie in a future that another CPU polls on.
    usr_1_a_window_stays_on_its_cpu, "E0277",
    right: "fn f<A: Arch>() { sized::<Window<'static, A>>() }",
    wrong: "fn f<A: Arch>() { send::<Window<'static, A>>() }";

    ctx_1_no_switch_without_the_token, "E0061",
    right: "fn f<A: Arch>(cpu: &A::Cpu, to: &Loadable<A::Mm>, irq: &IrqsOff) -> Switched {
                // SAFETY: never run; what the callee asks is not the point here.
                unsafe { A::switch_mm(cpu, Previously::Kernel, to, irq) }
            }",
    wrong: "fn f<A: Arch>(cpu: &A::Cpu, to: &Loadable<A::Mm>, irq: &IrqsOff) -> Switched {
                // SAFETY: never run; what the callee asks is not the point here.
                unsafe { A::switch_mm(cpu, Previously::Kernel, to) }
            }";

    /// Whoever loads an address space answers for its being alive.
    ctx_9_a_dying_mm_is_not_loaded_safely, "E0133",
    right: "fn f<M>(mm: &M, id: ContextId) { unsafe { Loadable::new(mm, id, Slot(0), Stale::Nothing) }; }",
    wrong: "fn f<M>(mm: &M, id: ContextId) { Loadable::new(mm, id, Slot(0), Stale::Nothing); }";

    ctx_9_an_mm_is_not_loadable_by_its_parts, "E0451",
    right: "fn f<'a, M>(it: Loadable<'a, M>) -> &'a M { it.mm() }",
    wrong: "fn f<M>(mm: &M, id: ContextId) { Loadable { mm, id, slot: Slot(0), stale: Stale::Nothing }; }";

    ctx_9_an_mm_is_not_retired_safely, "E0133",
    right: "fn f<A: Arch>(machine: &A::Machine, mm: &A::Mm) { unsafe { A::retire_mm(machine, mm) } }",
    wrong: "fn f<A: Arch>(machine: &A::Machine, mm: &A::Mm) { A::retire_mm(machine, mm) }";

    /// The mm that was left and the one that is now a user's.
    ctx_7_what_was_left_is_not_what_is_now, "E0308",
    right: "fn f<A: Arch>(cpu: &A::Cpu, left: LeftLazy, now: NowUser<A::Mm>, irq: &IrqsOff) -> CoreSync {
                A::exit_lazy_tlb(cpu, left, now, Switched::NOTHING, irq)
            }",
    wrong: "fn f<A: Arch>(cpu: &A::Cpu, left: LeftLazy, now: NowUser<A::Mm>, irq: &IrqsOff) -> CoreSync {
                A::exit_lazy_tlb(cpu, now, left, Switched::NOTHING, irq)
            }";

    /// An mm that was left lazily may be gone: its name leads nowhere.
    ctx_10_what_was_left_is_not_reached, "E0609",
    right: "fn f<M>(now: NowUser<M>) -> &M { now.mm }",
    wrong: "fn f<'a, M>(left: LeftLazy) -> &'a M { left.mm }";

    /// An id that only a lazy episode has, for a hook that ends one.
    ctx_9_only_a_lazy_cpu_is_dropped, "E0308",
    right: "fn f<A: Arch>(cpu: &A::Cpu, left: LeftLazy, irq: &IrqsOff) { A::drop_lazy(cpu, left, irq) }",
    wrong: "fn f<A: Arch>(cpu: &A::Cpu, id: ContextId, irq: &IrqsOff) { A::drop_lazy(cpu, id, irq) }";

    /// Of 48 bits, so that it shares a word with others.
    ctx_10_a_context_id_is_checked, "E0423",
    right: "fn f() -> Option<ContextId> { ContextId::new(7) }",
    wrong: "fn f() -> Option<ContextId> { NonZeroU64::new(7).map(|n| ContextId(n)) }";

    /// What a switch did not do, generic code must.
    ret_2_what_a_switch_did_is_looked_at, "unused_must_use",
    right: "fn f() -> Switched { Switched::NOTHING } fn g() -> Did { f().core_serialized }",
    wrong: "fn f() -> Switched { Switched::NOTHING } fn g() { f(); }";

    ret_2_whether_the_core_serialized_is_looked_at, "unused_must_use",
    right: "fn f() -> CoreSync { CoreSync::Done } fn g() -> CoreSync { f() }",
    wrong: "fn f() -> CoreSync { CoreSync::Done } fn g() { f(); }";

    ret_2_what_is_owed_is_looked_at, "unused_must_use",
    right: "fn f() -> Owed { Owed { core_sync: CoreSyncOwed::No } } fn g() -> Owed { f() }",
    wrong: "fn f() -> Owed { Owed { core_sync: CoreSyncOwed::No } } fn g() { f(); }";

    /// The hook on the way to user mode is the only way there.
    ret_1_leave_for_user_mode_is_not_made_safely, "E0133",
    right: "fn f<F>(frame: NonNull<F>) -> Resume<F> { unsafe { Resume::settled(frame, Reload::Full) } }",
    wrong: "fn f<F>(frame: NonNull<F>) -> Resume<F> { Resume::settled(frame, Reload::Full) }";

    ret_1_leave_for_user_mode_is_not_made_of_its_parts, "E0451",
    right: "fn f<F>(resume: &Resume<F>) -> NonNull<F> { resume.frame() }",
    wrong: "fn f<F>(frame: NonNull<F>) -> Resume<F> {
                Resume { frame, reload: Reload::Full, _not_send: PhantomData }
            }";

    ret_1_leave_for_user_mode_is_not_dropped, "unused_must_use",
    right: "fn f<F>(resume: fn() -> Resume<F>) -> Resume<F> { resume() }",
    wrong: "fn f<F>(resume: fn() -> Resume<F>) { resume(); }";

    ret_3_leave_for_user_mode_stays_on_its_cpu, "E0277",
    right: "fn f() { sized::<Resume<u8>>() }",
    wrong: "fn f() { send::<Resume<u8>>() }";

    /// A CPU that stops has no kernel to come back to with interrupts off.
    smp_3_a_cpu_that_stops_gives_its_token_away, "E0308",
    right: "fn f<A: Arch>(cpu: &A::Cpu, irq: IrqsOff) { A::stop_cpu(cpu, irq) }",
    wrong: "fn f<A: Arch>(cpu: &A::Cpu, irq: IrqsOff) { A::stop_cpu(cpu, &irq) }";
}

/// The codes of the compiler's errors for this example, each once.
fn errors(example: &str) -> Vec<String> {
    let library = library();
    let folder = library.parent().expect("it lies in a folder");
    let compiler = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let mut child = Command::new(compiler)
        .args(["-", "--edition=2024", "--crate-type=lib", "--crate-name=example", "--emit=metadata"])
        .arg("--error-format=json")
        // A folder that is ours: root's compiler would replace /dev/null by a file.
        .args(["--out-dir", env!("CARGO_TARGET_TMPDIR")])
        .arg("--extern")
        .arg(format!("arch_contract={}", library.display()))
        .arg("-L")
        .arg(format!("dependency={}", folder.display()))
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the compiler starts");
    let mut source = child.stdin.take().expect("it is piped");
    source.write_all(format!("{PRELUDE}\n{example}\n").as_bytes()).expect("the compiler reads");
    drop(source);
    let output = child.wait_with_output().expect("the compiler ends");
    let words = String::from_utf8_lossy(&output.stderr);
    let mut codes: Vec<String> = words.lines().filter_map(error).collect();
    codes.dedup();
    assert_eq!(codes.is_empty(), output.status.success(), "{words}");
    codes
}

/// The code of a line of the compiler's that reports an error. Its closing count has none.
fn error(line: &str) -> Option<String> {
    if !line.contains(r#""level":"error""#) || line.contains("aborting due to") {
        return None;
    }
    let code = line.split_once(r#""code":{"code":""#).and_then(|(_, rest)| rest.split_once('"'));
    Some(code.map_or_else(|| line.to_owned(), |(code, _)| code.to_owned()))
}

/// The contract as cargo built it for this test: the newest, if older ones lie beside it.
fn library() -> PathBuf {
    let program = std::env::current_exe().expect("this program has a path");
    let folder = program.parent().unwrap_or(Path::new("."));
    let is_library = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        name.starts_with("libarch_contract-") && name.ends_with(".rlib")
    };
    std::fs::read_dir(folder)
        .expect("the folder can be read")
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(is_library)
        .max_by_key(|path| path.metadata().and_then(|data| data.modified()).ok())
        .expect("cargo has built the contract")
}
