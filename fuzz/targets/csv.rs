//! Data files of any bytes. The first byte chooses the options.

#![no_main]

use biv::data::{CsvOptions, Dataset};
use biv::base::options::parse;
use biv_fuzz::{check, with_file};
use libfuzzer_sys::fuzz_target;

const OPTIONS: [&str; 6] = [
    r#"{"labels": ["y"]}"#,
    r#"{"labels": ["y"], "variances": ["v"], "skip_missing": true}"#,
    r#"{"labels": ["y"], "standard_errors": ["v"], "error_divisor": 1.645, "delimiter": ";"}"#,
    r#"{"labels": ["y", "z"], "features": ["a", "b"], "one_hot": ["c"]}"#,
    r#"{"labels": ["y"], "cyclic": {"a": 24.0}, "one_hot": ["b"], "skip_missing": true}"#,
    r#"{"labels": ["y"], "delimiter": "\t"}"#,
];

fuzz_target!(|input: &[u8]| {
    let Some((&which, text)) = input.split_first() else { return };
    let options: CsvOptions = parse("csv", OPTIONS[usize::from(which) % OPTIONS.len()]).expect("the options are right");
    with_file("data.csv", text, |path| {
        let found = Dataset::from_csv(path, &options);
        if let Ok(data) = &found {
            assert!(data.rows() > 0 && data.labels().iter().all(|label| label.is_finite()));
            assert!(data.variances().is_none_or(|variances| variances.iter().all(|v| *v >= 0.0)));
            assert_eq!(data.feature_values().expect("numbers").len(), data.rows() * data.width());
        }
        check(&found.map(|_| ()));
    });
});
