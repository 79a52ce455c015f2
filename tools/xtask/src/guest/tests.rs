//! Runs shell scripts that behave like QEMU, for every way a guest can end.

use super::*;

fn shell(script: &str, input: Input, limit: u64) -> Report {
    let mut command = Command::new("sh");
    command.args(["-c", script]);
    run_command(command, input, Output::Keep, Some(Duration::from_millis(limit)), &AtomicBool::new(false))
        .unwrap()
}

fn ending(script: &str) -> Ending {
    shell(script, Input::None, 20_000).ending
}

#[test]
fn a_status_needs_the_line_and_the_code() {
    assert_eq!(ending("echo hi; echo '@spandrel exit 7'; exit 85"), Ending::Exited(7));
    assert_eq!(ending("echo '@spandrel exit 0'; exit 85"), Ending::Exited(0));
    assert!(matches!(ending("echo '@spandrel exit 0'; exit 0"), Ending::Unexplained(_)));
    assert!(matches!(ending("echo '@spandrel exit 0'; exit 1"), Ending::Unexplained(_)));
    assert!(matches!(ending("echo hi; exit 85"), Ending::Unexplained(_)));
}

#[test]
fn failures_are_failures() {
    assert_eq!(ending("echo '@spandrel failed'; exit 87"), Ending::Failed);
    assert_eq!(ending("echo '@spandrel exit 0'; exit 87"), Ending::Failed);
    assert_eq!(ending("echo '@spandrel exit 0'; echo '@spandrel failed'; exit 85"), Ending::Failed);
    assert_eq!(ending("exit 87"), Ending::Failed);
}

#[test]
fn a_silent_reset_is_no_pass() {
    let Ending::Unexplained(text) = ending("echo booting; exit 0") else { panic!() };
    assert!(text.contains("exited with 0"), "{text}");
    let Ending::Unexplained(text) = ending("kill -SEGV $$") else { panic!() };
    assert!(text.contains("signal 11"), "{text}");
}

#[test]
fn a_qemu_that_refuses_is_told_from_a_guest_that_fails() {
    let Ending::DidNotStart(text) = ending("echo 'no such machine' >&2; exit 1") else { panic!() };
    assert!(text.contains("no such machine"), "{text}");
    assert!(matches!(ending("exit 1"), Ending::DidNotStart(_)));
    assert!(matches!(ending("echo console; echo warning >&2; exit 1"), Ending::Unexplained(_)));
}

#[test]
fn a_missing_qemu_is_an_error_that_says_so() {
    let command = Command::new("/nonexistent/qemu");
    let error = run_command(command, Input::None, Output::Keep, None, &AtomicBool::new(false)).unwrap_err();
    assert!(error.to_string().contains("/nonexistent/qemu"));
}

#[test]
fn a_hang_is_ended_by_the_limit() {
    let begin = Instant::now();
    let report = shell("echo before; exec tail -f /dev/null", Input::None, 300);
    assert_eq!(report.ending, Ending::TimeLimit(Duration::from_millis(300)));
    assert_eq!(report.console, "before\n");
    assert!(begin.elapsed() < Duration::from_secs(10));
}

#[test]
fn a_script_types_when_it_is_asked() {
    let script = "printf '> '; read a; echo \"got $a\"; printf '> '; read b; echo \"got $b\"; echo '@spandrel exit 3'; exit 85";
    let steps = vec![("> ".into(), "one\n".into()), ("> ".into(), "two\n".into())];
    let report = shell(script, Input::Script(steps), 20_000);
    assert_eq!(report.ending, Ending::Exited(3));
    assert_eq!(report.console, "> got one\n> got two\n");
}

#[test]
fn frames_are_collected_and_output_is_kept() {
    let report = shell(
        "echo panic; echo '@spandrel frame ffff1'; echo '@spandrel frame 0xffff2'; echo '@spandrel failed'; exit 87",
        Input::None,
        20_000,
    );
    assert_eq!(report.frames, [0xffff1, 0xffff2]);
    assert_eq!(report.console, "panic\n");
}

#[test]
fn a_stop_ends_the_run() {
    let mut command = Command::new("sh");
    command.args(["-c", "exec tail -f /dev/null"]);
    let report = run_command(command, Input::None, Output::Keep, None, &AtomicBool::new(true)).unwrap();
    assert_eq!(report.ending, Ending::Interrupted);
}
