//! Finds libtorch, or says in one message what to do.

use std::path::PathBuf;
use std::{env, fs, process};

const VERSION: &str = "2.11.0";

fn main() {
    println!("cargo:rerun-if-env-changed=LIBTORCH");
    let folder = PathBuf::from(env::var("LIBTORCH").unwrap_or_default());
    let library = folder.join("lib/libtorch_cpu.so");
    println!("cargo:rerun-if-changed={}", library.display());
    if !library.is_file() {
        fail(&format!("libtorch is not at '{}'", folder.display()));
    }
    // A wheel and a zip each tell their version their own way.
    let version = ["version.py", "build-version"].map(|name| fs::read_to_string(folder.join(name)).unwrap_or_default());
    if !version.iter().any(|text| text.contains(VERSION)) {
        fail(&format!("the libtorch at '{}' is not version {VERSION}", folder.display()));
    }
    let folder = folder.canonicalize().expect("the folder of libtorch can be resolved");
    println!("cargo:rustc-env=LIBTORCH_FOLDER={}", folder.display());
}

fn fail(what: &str) -> ! {
    eprintln!(
        "\n{what}. Run 'make libtorch' to fetch it, or set LIBTORCH to the folder of an installed libtorch {VERSION} \
         (the one that holds include/ and lib/).\n"
    );
    process::exit(1);
}
