//! Image files of any bytes. The first byte chooses the kind that the name says and how the image is read.

#![no_main]

use biv::data::{ImageFolder, ImageOptions};
use biv::base::options::parse;
use biv_fuzz::{check, with_file};
use libfuzzer_sys::fuzz_target;
use std::ops::ControlFlow;

const OPTIONS: [&str; 3] = [
    r#"{"memory_limit": 1048576}"#,
    r#"{"memory_limit": 1048576, "size": {"height": 8, "width": 8}}"#,
    r#"{"memory_limit": 1048576, "corrupt": "skip"}"#,
];

fuzz_target!(|input: &[u8]| {
    let Some((&which, bytes)) = input.split_first() else { return };
    let name = if which % 2 == 0 { "7_a.jpg" } else { "7_a.png" };
    let options: ImageOptions =
        parse("images", OPTIONS[usize::from(which / 2) % OPTIONS.len()]).expect("the options are right");
    with_file(name, bytes, |path| {
        let folder = path.parent().expect("a file is in a folder");
        let mut watch = |_, _| ControlFlow::Continue(());
        let found = ImageFolder::read(folder, &options, &mut watch).and_then(ImageFolder::into_dataset);
        check(&found.map(|data| assert_eq!((data.rows(), data.labels()), (1, &[7.0][..]))));
    });
});
