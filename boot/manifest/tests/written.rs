//! What a manifest may say, and each thing that it may not.

use abi::Rights;
use manifest::{Cpu, Manifest, ObjectKind, When, Which, written};

const PROGRAMS: [&str; 2] = ["adder", "asker"];

const GOOD: &str = r#"
until = "asker"
endpoints = ["sums"]
[memory]
ring = 8192
[device]
disk = { vendor = 0x1af4, device = 0x1042 }

[[process]]
name = "adder"
restart = { when = "failure", at_most = 3, within = 1000 }
[process.uses]
sums = "server"
disk = "driver"

[[process]]
name = "asker"
arguments = ["10", "two words"]
priority = 90
memory = 1048576
cpu = { budget = 10, period = 100 }
[process.uses]
console = "writer"
adder = { as = "client", of = "sums", badge = 7 }
ring = "writer"
"#;

/// The problem with the good manifest after a change.
fn problem(from: &str, to: &str) -> (usize, String) {
    assert!(GOOD.contains(from), "{from}");
    let problem = written::pack(&GOOD.replacen(from, to, 1), &PROGRAMS).expect_err(to);
    (problem.line, problem.what)
}

#[test]
fn what_was_written_comes_out() {
    let packed = written::pack(GOOD, &PROGRAMS).unwrap();
    let manifest = Manifest::unpack(&packed).unwrap();
    assert_eq!(manifest.until, Some(1));
    let [adder, asker] = &manifest.processes[..] else { panic!("{manifest:?}") };
    assert_eq!((adder.name, adder.program, adder.restart.when), ("adder", "adder", When::Failure));
    assert_eq!((adder.restart.at_most, adder.restart.within, adder.memory), (3, 1000, u64::MAX));
    assert_eq!(asker.arguments, ["10", "two words"]);
    assert_eq!((asker.priority, asker.memory, asker.restart.when), (90, 1 << 20, When::Never));
    assert_eq!((adder.cpu, asker.cpu), (None, Some(Cpu { budget: 10, period: 100 })));
    let disk = manifest.objects[adder.uses[0].object as usize];
    assert_eq!(disk.kind, ObjectKind::Function(Which::Id { vendor: 0x1af4, device: 0x1042 }));
    let sums = &asker.uses[0];
    assert_eq!((sums.name, sums.rights, sums.badge), ("adder", Rights::WRITE.bits(), 7));
    let object = manifest.objects[sums.object as usize];
    assert_eq!((object.name, object.kind), ("sums", ObjectKind::Endpoint));
    let ring = manifest.objects[asker.uses[2].object as usize];
    assert_eq!((ring.kind, asker.uses[2].rights), (ObjectKind::Memory(8192), 3));
}

#[test]
fn what_is_cut_off_is_refused() {
    let packed = written::pack(GOOD, &PROGRAMS).unwrap();
    for length in 0..packed.len() {
        assert_eq!(Manifest::unpack(&packed[..length]), None, "{length}");
    }
}

#[test]
fn every_mistake_is_named_with_its_line() {
    let cases = [
        ("name = \"asker\"", "name = \"askr\"", 17, "no program `askr`"),
        ("name = \"asker\"", "name = \"adder\"", 17, "two processes `adder`"),
        ("name = \"asker\"", "name = \"A\"", 17, "a name is of"),
        ("until = \"asker\"", "until = \"nobody\"", 2, "no process `nobody`"),
        ("endpoints = [\"sums\"]", "endpoints = [\"sums\", \"console\"]", 3, "`console` is taken"),
        ("endpoints = [\"sums\"]", "endpoints = [\"sums\", \"more\"]", 3, "nobody uses the endpoint `more`"),
        ("budget = 10,", "budget = 0,", 21, "no CPU time"),
        ("budget = 10,", "budget = 101,", 21, "more than there is"),
        ("budget = 10, period = 100", "budget = 10", 21, "missing field `period`"),
        ("ring = 8192", "ring = 100", 5, "a multiple of 4096"),
        ("ring = 8192", "ring = 8192\nring = 8192", 6, "duplicate key"),
        ("sums = \"server\"", "", 3, "the endpoint `sums` has no server"),
        ("adder = { as = \"client\", of = \"sums\", badge = 7 }", "", 3, "the endpoint `sums` has no client"),
        ("sums = \"server\"", "sums = \"servant\"", 13, "knows no `servant`, only: server, client"),
        ("of = \"sums\"", "of = \"sum\"", 24, "no object `sum`"),
        ("ring = \"writer\"", "ring = { as = \"writer\", badge = 1 }", 25, "only a client"),
        ("ring = \"writer\"", "ring = { is = \"writer\" }", 25, "a role such as"),
        ("\"10\"", "\"\\u0001\"", 18, "an argument has no"),
        (
            "console = \"writer\"",
            "console = \"writer\"\nc = { as = \"reader\", of = \"console\" }",
            17,
            "the console twice",
        ),
        ("priority = 90", "priority = 256", 19, "u8"),
        ("priority = 90", "prio = 90", 19, "unknown field `prio`"),
        ("at_most = 3, ", "", 11, "a limit is wanted"),
        ("\"failure\"", "\"never\"", 11, "never restarted has no limit"),
        ("\"failure\"", "\"often\"", 11, "unknown variant `often`"),
        ("device = 0x1042", "", 7, "by `vendor` and `device`"),
        ("ring = \"writer\"", "ring = \"writer\"\ndisk = \"driver\"", 7, "more than one driver"),
        ("disk = \"driver\"", "", 7, "nobody uses the device `disk`"),
    ];
    for (from, to, line, what) in cases {
        let found = problem(from, to);
        assert!(found.0 == line && found.1.contains(what), "{to}: {found:?}");
    }
    let always = GOOD.replace("until = \"asker\"", "until = \"adder\"").replace("failure", "always");
    assert!(written::pack(&always, &PROGRAMS).unwrap_err().what.contains("never ends"));
    let long = GOOD.replace("two words", &"x".repeat(5000));
    assert!(written::pack(&long, &PROGRAMS).unwrap_err().what.contains("longer than 4096"));
}

#[test]
fn servers_that_call_each_other_are_refused() {
    let both = GOOD
        .replace("endpoints = [\"sums\"]", "endpoints = [\"sums\", \"back\"]")
        .replace("sums = \"server\"", "sums = \"server\"\nback = \"client\"")
        .replace("ring = \"writer\"", "ring = \"writer\"\nback = \"server\"");
    let problem = written::pack(&both, &PROGRAMS).unwrap_err();
    assert!(problem.what.contains("adder → asker → adder"), "{problem}");
    let own = GOOD.replace("sums = \"server\"", "sums = \"server\"\nme = { as = \"client\", of = \"sums\" }");
    let problem = written::pack(&own, &PROGRAMS).unwrap_err();
    assert!(problem.what.contains("adder → adder"), "{problem}");
}
