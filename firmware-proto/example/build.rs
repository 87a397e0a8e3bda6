//! Tells the linker where the example firmware's code and data go on its processor.

fn main() {
    println!("cargo:rerun-if-changed=lm3s6965.x");
    if std::env::var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os == "none") {
        let here = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
        println!("cargo:rustc-link-arg-bins=-T{here}/lm3s6965.x");
    }
}
