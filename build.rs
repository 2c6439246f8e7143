//! Compiles the C++ sources, generates the headers in `include/` and sets what the
//! shared library tells the dynamic linker: its soname and where libtorch is.

use std::path::{Path, PathBuf};
use std::{env, fs};

fn main() {
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR").unwrap());
    let libtorch = Path::new(libtorch_check::FOLDER);
    compile_cpp(libtorch);
    link(libtorch);
    generate_headers(&root);
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
                "torch/own_functions",
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

/// Writes `biv.h`, and the same for programs that read C without its preprocessor.
fn generate_headers(root: &Path) {
    println!("cargo:rerun-if-changed=src/capi");
    println!("cargo:rerun-if-changed=cbindgen.toml");
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
    // C90 has no such comments.
    let header =
        String::from_utf8(header).expect("cbindgen writes UTF-8").replace("// __cplusplus", "/* __cplusplus */");
    write_if_changed(&root.join("include/biv.h"), &header);
    write_if_changed(&root.join("include/biv.cdef.h"), &declarations(&header));
}

/// So that a build from a read-only checkout (a packager's, cargo's registry) works.
fn write_if_changed(path: &Path, text: &str) {
    println!("cargo:rerun-if-changed={}", path.display());
    if fs::read_to_string(path).ok().as_deref() != Some(text) {
        fs::write(path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
}

/// What a C header declares, without comments and preprocessor; its whole numbers become an enum.
fn declarations(header: &str) -> String {
    let mut code = String::new();
    for part in header.split("/*") {
        code += part.split_once("*/").map_or(part, |(_, after)| after);
    }
    let (mut constants, mut declared, mut is_cpp) = (String::new(), String::new(), false);
    for line in code.lines().filter(|line| !line.trim().is_empty()) {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["#define", name, value] if value.parse::<i32>().is_ok() => constants += &format!("  {name} = {value},\n"),
            ["#ifdef", "__cplusplus"] => is_cpp = true,
            ["#endif", ..] => is_cpp = false,
            _ if is_cpp || line.starts_with('#') => {}
            _ => declared += &format!("{line}\n"),
        }
    }
    format!(
        "/* The declarations of biv.h, which describes them, for LuaJIT's ffi.cdef, Python's cffi and others that read C\n   \
         without its preprocessor. Generated by the build. Do not edit. */\nenum {{\n{constants}}};\n{declared}"
    )
}
