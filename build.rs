//! Compiles the C++ sources, generates `include/biv.h` and sets what the shared
//! library tells the dynamic linker: its soname and where libtorch is.

use std::path::{Path, PathBuf};
use std::{env, fs};

fn main() {
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR").unwrap());
    let libtorch = Path::new(libtorch_check::FOLDER);
    compile_cpp(libtorch);
    link(libtorch);
    generate_header(&root);
}

fn compile_cpp(libtorch: &Path) {
    for folder in ["src/torch", "src/kernels/cpu"] {
        println!("cargo:rerun-if-changed={folder}");
    }
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        .files(
            [
                "torch/runtime",
                "torch/ops",
                "torch/arena",
                "torch/process_group",
                "torch/rank_sum",
                "kernels/cpu/features",
                "kernels/cpu/conv",
                "kernels/cpu/norm",
            ]
            .map(|name| format!("src/{name}.cpp")),
        )
        // What gloo's headers would declare, as they are not in the wheel.
        .flag("-isystemsrc/torch/gloo")
        .flag(format!("-isystem{}", libtorch.join("include").display()))
        .flag(format!("-isystem{}", libtorch.join("include/torch/csrc/api/include").display()))
        .flag("-fvisibility=hidden")
        // Only line tables, as for Rust: libtorch's types would double the time.
        .debug(false)
        .flag("-g1")
        .compile("biv_cpp");
}

fn link(libtorch: &Path) {
    let lib = libtorch.join("lib");
    // While the version is 0.x every minor version may break the ABI, so it is in the soname.
    let soname = format!(
        "libbiv.so.{}.{}",
        env::var("CARGO_PKG_VERSION_MAJOR").unwrap(),
        env::var("CARGO_PKG_VERSION_MINOR").unwrap()
    );
    // libtorch beside the library, as in `make dist`; else where it was when this was built.
    for place in ["$ORIGIN/biv/torch/lib", "$ORIGIN/../lib/biv/torch/lib", &lib.display().to_string()] {
        println!("cargo:rustc-link-arg=-Wl,-rpath,{place}");
    }
    for argument in [
        format!("-soname,{soname}"),
        // Thread-local destructors outlive a dlclose: the library stays mapped.
        "-z,nodelete".into(),
        // tch and its dependencies export C symbols of their own: only ours leave the library.
        "--exclude-libs,ALL".into(),
    ] {
        println!("cargo:rustc-cdylib-link-arg=-Wl,{argument}");
    }
}

/// Writes the header only when it changed, so that a build from a read-only
/// checkout (a packager's, cargo's registry) works.
fn generate_header(root: &Path) {
    println!("cargo:rerun-if-changed=src/capi");
    println!("cargo:rerun-if-changed=cbindgen.toml");
    println!("cargo:rerun-if-changed=include/biv.h");
    let mut config = cbindgen::Config::from_file(root.join("cbindgen.toml")).expect("cbindgen.toml is valid");
    let version = env::var("CARGO_PKG_VERSION").unwrap();
    let number = |part: &str| env::var(format!("CARGO_PKG_VERSION_{part}")).unwrap();
    config.after_includes = Some(format!(
        "\n/** The version of this header; biv_version() is the library's. */\n\
         #define BIV_VERSION \"{version}\"\n#define BIV_VERSION_MAJOR {}\n#define BIV_VERSION_MINOR {}\n\
         #define BIV_VERSION_PATCH {}\n\n\
         /** A tensor by DLPack 1.x, as dlpack.h declares it. */\nstruct DLManagedTensorVersioned;\n",
        number("MAJOR"),
        number("MINOR"),
        number("PATCH"),
    ));
    let mut builder = cbindgen::Builder::new().with_config(config);
    // In the order in which a reader needs them.
    for file in [
        "status",
        "array",
        "runtime",
        "log",
        "dataset",
        "lent",
        "noise",
        "loss",
        "model",
        "trainer",
        "dlpack",
        "experiment",
        "fit",
    ] {
        let path = root.join(format!("src/capi/{file}.rs"));
        if path.is_file() {
            builder = builder.with_src(path);
        }
    }
    let mut header = Vec::new();
    builder.generate().expect("cbindgen reads src/capi").write(&mut header);
    let path = root.join("include/biv.h");
    if fs::read(&path).ok().as_deref() != Some(&header) {
        fs::write(&path, &header).expect("include/biv.h can be written");
    }
}
