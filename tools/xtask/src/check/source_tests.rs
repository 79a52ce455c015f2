//! Every gate is shown something bad, and something good that looks like it.

use super::*;

fn file(path: &str, text: &str) -> File {
    File { path: path.into(), text: text.into() }
}

#[test]
fn the_machine_is_asked_for_in_two_places_only() {
    let bad = "fn f() {\n    if cfg!(target_arch = \"x86_64\") {}\n}\n";
    let complaints = asks_for_machine(&file("kernel/src/a.rs", bad));
    assert!(complaints[0].starts_with("kernel/src/a.rs:2:"), "{complaints:?}");
    assert!(asks_for_machine(&file("arch/x86_64/src/a.rs", bad)).is_empty());
    assert!(asks_for_machine(&file("boot/user/rt/src/a.rs", bad)).is_empty());
    assert!(asks_for_machine(&file("kernel/src/a.rs", "// no cfg(target_arch) here\n")).is_empty());
    assert_eq!(asks_for_machine(&file("kernel/src/a.rs", "#[cfg(spandrel_arch = \"x86_64\")]\n")).len(), 1);
}

#[test]
fn unsafe_needs_its_comment() {
    assert_eq!(
        safety(&file("a.rs", "fn f() {\n    unsafe { g() };\n}\n")),
        ["a.rs:2: unsafe without a `// SAFETY:` comment directly above"]
    );
    assert_eq!(safety(&file("a.rs", "unsafe impl Send for A {}\n")).len(), 1);
    assert_eq!(safety(&file("a.rs", "let a = unsafe\n{ g() };\n")).len(), 1);
    assert_eq!(
        safety(&file("a.rs", "// SAFETY: far away\na();\nb();\nc();\nd();\nunsafe { g() }\n")).len(),
        1
    );
}

#[test]
fn a_comment_above_satisfies_it_and_prose_is_not_code() {
    assert!(safety(&file("a.rs", "// SAFETY: it is\n// really so\nunsafe { g() }\n")).is_empty());
    assert!(safety(&file("a.rs", "// SAFETY: it is\nlet a =\n    unsafe { g() };\n")).is_empty());
    assert!(safety(&file("a.rs", "// an unsafe { block }\nlet b = \"unsafe { x }\";\n")).is_empty());
    assert!(
        safety(&file("a.rs", "pub unsafe fn f();\nunsafe extern \"C\" {}\n#[unsafe(no_mangle)]\n"))
            .is_empty()
    );
}

#[test]
fn the_kernel_allocates_only_where_it_can_be_refused() {
    assert_eq!(allocation(&file("kernel/src/a.rs", "let a = Box::new(1);\n")).len(), 1);
    assert_eq!(allocation(&file("kernel/src/a.rs", "let a = vec![1];\n")).len(), 1);
    assert!(allocation(&file("kernel/src/a.rs", "let a = Box::try_new(1)?;\n")).is_empty());
    assert!(allocation(&file("boot/user/rt/src/a.rs", "let a = vec![1];\n")).is_empty());
    assert!(allocation(&file("kernel/src/a.rs", "#[cfg(test)]\nmod tests { vec![1]; }\n")).is_empty());
}

#[test]
fn unfinished_work_is_found() {
    let text = format!("// {}: later\n", concat!("TO", "DO"));
    assert_eq!(unfinished(&file("a.rs", &text)).len(), 1);
    assert!(unfinished(&file("a.rs", "// done\n")).is_empty());
}

#[test]
fn paths_of_one_machine_are_found() {
    let text = format!("include = \"{}me/x\"\n", concat!("/ho", "me/"));
    assert_eq!(machine_paths(&file("Cargo.toml", &text)).len(), 1);
    assert!(machine_paths(&file("a.md", &format!("see net{}x\n", concat!("/wo", "rk/")))).is_empty());
}

#[test]
fn code_is_what_is_neither_comment_nor_string() {
    assert_eq!(code_of(r#"a("b // c", '"', d) // e"#), r#"a("", , d) "#);
    assert_eq!(code_of(r#"let a = "\"unsafe {";"#), r#"let a = "";"#);
    assert_eq!(code_of("fn f<'a>(a: &'a u8)"), "fn f<'a>(a: &'a u8)");
}
