//! Links a user program by `link.ld`. Shared by every crate that holds programs.

fn main() {
    let folder = std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets it");
    let script = format!("{folder}/../link.ld");
    println!("cargo:rerun-if-changed={script}");
    // Anywhere but page 0 would do. These are where people look for a program on each machine.
    let base = match std::env::var("CARGO_CFG_TARGET_ARCH").expect("cargo sets it").as_str() {
        "x86_64" => "0x400000",
        "powerpc64" => "0x10000000",
        // Not a machine of ours: a host build for an editor's sake.
        _ => return,
    };
    if std::env::var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os != "none") {
        return;
    }
    println!("cargo:rustc-link-arg-bins=-T{script}");
    println!("cargo:rustc-link-arg-bins=--defsym=USER_BASE={base}");
    println!("cargo:rustc-link-arg-bins=-zmax-page-size=4096");
    println!("cargo:rustc-link-arg-bins=--gc-sections");
    // The boot archive is copied into every run; debuggers read symbols, not line tables, here.
    println!("cargo:rustc-link-arg-bins=--strip-debug");
}
