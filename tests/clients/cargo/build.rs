//! Asks pkg-config where the library is.

fn main() {
    pkg_config::probe_library("biv").expect("pkg-config knows biv");
}
