//! Where libtorch is: checked by the build script.

/// The folder that holds include/ and lib/.
pub const FOLDER: &str = env!("LIBTORCH_FOLDER");
