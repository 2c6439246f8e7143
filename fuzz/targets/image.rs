//! Image files of any bytes. The first byte chooses the file's ending and how the image is read.

#![no_main]

use biv::data::{ImageFolder, ImageOptions};
use biv::base::options::parse;
use biv_fuzz::{check, with_file};
use libfuzzer_sys::fuzz_target;
use std::ops::ControlFlow;

const OPTIONS: [&str; 4] = [
    r#"{"memory_limit": 1048576}"#,
    r#"{"memory_limit": 1048576, "size": {"height": 8, "width": 8}}"#,
    r#"{"memory_limit": 1048576, "corrupt": "skip"}"#,
    r#"{"memory_limit": 1048576, "orientation": "exif", "subfolders": true}"#,
];

/// How images' names end, whatever is in them.
const NAMES: [&str; 2] = ["7_a.jpg", "7_a.webp"];

/// Reads a folder whose only file is `name` with these `bytes`.
fn read(name: &str, bytes: &[u8], options: &ImageOptions) -> biv::Result<ImageFolder> {
    let mut found = None;
    with_file(name, bytes, |path| {
        let folder = path.parent().expect("a file is in a folder");
        found = Some(ImageFolder::read(folder, options, &mut |_, _| ControlFlow::Continue(())));
    });
    found.expect("the file is written")
}

fuzz_target!(|input: &[u8]| {
    let Some((&which, bytes)) = input.split_first() else { return };
    let name = NAMES[usize::from(which) % NAMES.len()];
    let options: ImageOptions =
        parse("images", OPTIONS[usize::from(which / 2) % OPTIONS.len()]).expect("the options are right");
    let found = read(name, bytes, &options);
    if let Ok(images) = &found {
        // A picture ends at its own end: what follows does not matter.
        let longer = [bytes, b"\0\0\0\x18ftypmp42\xff\xda\xff\xd8\xff\xd9"].concat();
        let again = read(name, &longer, &options).expect("bytes after a picture are allowed");
        assert!(again.pixels == images.pixels && again.size == images.size);
    }
    let found = found.and_then(ImageFolder::into_dataset);
    check(&found.map(|data| assert_eq!((data.rows(), data.labels()), (1, &[7.0][..]))));
});
