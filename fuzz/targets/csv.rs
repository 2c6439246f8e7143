//! Data files of any bytes. The first byte chooses the options.

#![no_main]

use biv::data::{CsvOptions, Dataset, MissingLabels};
use biv::base::options::parse;
use biv_fuzz::{check, with_file};
use libfuzzer_sys::fuzz_target;
use std::borrow::Cow;

const OPTIONS: [&str; 9] = [
    r#"{"labels": ["y"]}"#,
    r#"{"labels": ["y"], "variances": ["v"], "skip_missing": true}"#,
    r#"{"labels": ["y"], "standard_errors": ["v"], "error_divisor": 1.645, "delimiter": ";"}"#,
    r#"{"labels": ["y", "z"], "features": ["a", "b"], "one_hot": ["c"]}"#,
    r#"{"labels": ["y"], "cyclic": {"a": 24.0}, "one_hot": ["b"], "skip_missing": true}"#,
    r#"{"labels": ["y"], "delimiter": "\t"}"#,
    r#"{"labels": ["y"], "one_hot": ["c"], "categories": {"c": ["p", "q"]}, "skip_missing": true}"#,
    r#"{"labels": ["y"], "one_hot": ["c"], "categories": {"c": ["p", "q"]}, "unseen_categories": "zeros"}"#,
    r#"{"labels": ["y"], "variances": ["v"], "group": "g", "missing_labels": "mask"}"#,
];

fuzz_target!(|input: &[u8]| {
    let Some((&which, text)) = input.split_first() else { return };
    let options: CsvOptions = parse("csv", OPTIONS[usize::from(which) % OPTIONS.len()]).expect("the options are right");
    with_file("data.csv", text, |path| {
        let found = Dataset::from_csv(path, &options);
        if let Ok(data) = &found {
            let may_miss = options.missing_labels == MissingLabels::Mask;
            assert!(data.rows() > 0 && data.labels().iter().all(|label| label.is_finite() || may_miss));
            assert!(data.variances().is_none_or(|variances| variances.iter().all(|v| *v >= 0.0)));
            assert_eq!(data.feature_values().expect("numbers").len(), data.rows() * data.width());
            let columns = data.columns().expect("a table has names");
            assert_eq!(columns.width(), data.width());
            assert!(matches!(data.matched_to(columns), Ok(Cow::Borrowed(_))), "data match themselves");
            // Every row is there or is named: no quote swallows any.
            let mut reader = csv::ReaderBuilder::new().delimiter(options.delimiter as u8).from_reader(text);
            let rows = reader.byte_records().filter(Result::is_ok).count();
            if !text.starts_with(b"\x1f\x8b") {
                assert_eq!(data.rows() + data.left_out().len(), rows);
            }
        }
        check(&found.map(|_| ()));
    });
});
