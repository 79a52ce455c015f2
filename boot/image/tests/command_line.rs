//! The kernel's command line: what it accepts, what it says, and that quoting is lossless.

use boot_image::command_line::{Broadcast, Log, OptionError, Quoted, TooLong, Tracing, parse};
use proptest::prelude::*;

fn arguments(line: &str) -> Vec<String> {
    let mut block = [0; abi::MAX_ARGS];
    let len = parse(line).unwrap().arg_block(&mut block).unwrap();
    let text = std::str::from_utf8(&block[..len]).unwrap();
    text.split_terminator('\0').map(String::from).collect()
}

#[test]
fn options() {
    let options = parse("").unwrap();
    assert_eq!((options.init, options.mem, options.log), ("init", None, Log::Normal));
    let options = parse("  log=quiet mem=64\tinit=hello ").unwrap();
    assert_eq!((options.init, options.mem, options.log), ("hello", Some(64), Log::Quiet));
    assert_eq!(options.tracing, Tracing::Off);
    assert_eq!(parse("trace=on").unwrap().tracing, Tracing::On);
    assert_eq!(parse("mutant=m9").unwrap().mutant, Some("m9"));
    assert_eq!(options.broadcast, None);
    assert_eq!(parse("broadcast=off").unwrap().broadcast, Some(Broadcast::Off));
}

#[test]
fn arguments_for_init() {
    assert_eq!(arguments(""), [""; 0]);
    assert_eq!(arguments("--"), [""; 0]);
    assert_eq!(arguments("init=a mem=1 -- exit 7"), ["exit", "7"]);
    assert_eq!(arguments("-- a -- b log=x"), ["a", "--", "b", "log=x"]);
    assert_eq!(arguments(r"-- 'a b' c\ d '' \' 'e\f'"), ["a b", "c d", "", "'", r"e\f"]);
    assert_eq!(arguments(r#"-- "a 'b" 'c "d' "\"\\" x"y z""#), ["a 'b", "c \"d", "\"\\", "xy z"]);
    assert_eq!(parse("-- abc").unwrap().arg_block(&mut [0; 3]), Err(TooLong));
    assert_eq!(parse("-- abc").unwrap().arg_block(&mut [0; 4]), Ok(4));
}

#[test]
fn mistakes() {
    assert_eq!(parse("mem=0"), Err(OptionError::BadMem("mem=0")));
    assert_eq!(parse("mem=+1"), Err(OptionError::BadMem("mem=+1")));
    assert_eq!(parse("mem="), Err(OptionError::BadMem("mem=")));
    assert_eq!(parse("mem=99999999999999999999"), Err(OptionError::BadMem("mem=99999999999999999999")));
    assert_eq!(parse("mem"), Err(OptionError::BadMem("mem")));
    assert_eq!(parse("mem=1 mem=2"), Err(OptionError::Repeated("mem=2")));
    assert_eq!(parse("log=loud"), Err(OptionError::BadLog("log=loud")));
    assert_eq!(parse("provoke=trouble"), Err(OptionError::BadProvoke("provoke=trouble")));
    assert_eq!(parse("provoke=panic provoke=fault"), Err(OptionError::Repeated("provoke=fault")));
    assert_eq!(parse("trace"), Err(OptionError::BadTrace("trace")));
    assert_eq!(parse("trace=on trace=on"), Err(OptionError::Repeated("trace=on")));
    assert_eq!(parse("broadcast=yes"), Err(OptionError::BadBroadcast("broadcast=yes")));
    assert_eq!(parse("broadcast=on broadcast=off"), Err(OptionError::Repeated("broadcast=off")));
    assert_eq!(parse("mutant="), Err(OptionError::BadMutant("mutant=")));
    assert_eq!(parse("mutant=m1 mutant=m2"), Err(OptionError::Repeated("mutant=m2")));
    assert_eq!(parse("init="), Err(OptionError::BadInit("init=")));
    assert_eq!(parse("'mem=1'"), Err(OptionError::Quoted("'mem=1'")));
    assert_eq!(parse("-- 'a"), Err(OptionError::Unterminated("'a")));
    assert_eq!(parse("-- \"a'"), Err(OptionError::Unterminated("\"a'")));
    assert_eq!(parse("-- a\\"), Err(OptionError::Unterminated("a\\")));
    assert_eq!(parse("\0"), Err(OptionError::Zero));
    assert_eq!(parse(&format!("-- {}", "x ".repeat(2100))), Err(OptionError::ArgumentsTooLong));
    let text = parse("quiet").unwrap_err().to_string();
    assert!(text.starts_with("unknown option `quiet`; options: init=NAME"), "{text}");
}

proptest! {
    #[test]
    fn quoting_is_lossless(words in proptest::collection::vec("[^\0]{0,20}", 0..8)) {
        let line = words.iter().fold(String::from("mem=7 --"), |line, word| format!("{line} {}", Quoted(word)));
        prop_assert_eq!(arguments(&line), words);
    }

    #[test]
    fn noise_is_survived(line in "[a-z='\\\\ -]{0,60}|.{0,60}") {
        match parse(&line) {
            Ok(options) => {
                let mut block = [0; abi::MAX_ARGS];
                let len = options.arg_block(&mut block[..line.len()]).unwrap();
                prop_assert!(len == 0 || block[len - 1] == 0);
            }
            Err(error) => prop_assert!(!error.to_string().is_empty()),
        }
    }
}
