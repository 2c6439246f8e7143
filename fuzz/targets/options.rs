//! JSON options of every kind, in every form that is taken: the first byte says which, the rest is the text.

#![no_main]

use biv::model::{Model, ModelOptions};
use biv::base::options::{from_value, parse, read};
use biv::data::noise;
use biv::train::{loss, trainer};
use biv::{data, experiment};
use biv_fuzz::check;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

/// The first part of the paths in messages.
const NAME: &str = "options";

/// A network that is built in no time.
fn is_small(options: &ModelOptions) -> bool {
    match options {
        ModelOptions::Mlp { inputs, outputs, hidden, .. } => {
            hidden.len() <= 8 && hidden.iter().chain([inputs, outputs]).all(|&width| width <= 64)
        }
        ModelOptions::VanillaAnn { .. } => true,
        // These have a target of their own.
        ModelOptions::Sequential { .. } => false,
        ModelOptions::VanillaCnn { .. } | ModelOptions::Resnet { .. } => false,
        ModelOptions::MeanVariance { network } => is_small(network),
        ModelOptions::Ensemble { members, network } => *members <= 8 && is_small(network),
    }
}

/// The same content as a host writes it that knows no lists of one element and no whole numbers.
fn as_hosts_write(value: &Value) -> Value {
    match value {
        Value::Array(items) if items.len() == 1 && !items[0].is_array() && !items[0].is_null() => {
            as_hosts_write(&items[0])
        }
        Value::Array(items) => items.iter().map(as_hosts_write).collect(),
        Value::Object(fields) => fields.iter().map(|(name, field)| (name.clone(), as_hosts_write(field))).collect(),
        Value::Number(number) => match number.as_u64() {
            Some(whole) if whole < 1 << 53 => (whole as f64).into(),
            _ => value.clone(),
        },
        other => other.clone(),
    }
}

/// Reads options of a kind; what can be read is read alike in the other form.
macro_rules! options {
    ($kind:ty, $text:expr) => {
        parse::<$kind>(NAME, $text).inspect(|options| {
            let value = read(NAME, $text).expect("it was read before");
            let again = from_value::<$kind>(NAME, &as_hosts_write(&value)).expect("the other form is legal");
            assert_eq!(format!("{again:?}"), format!("{options:?}"));
        })
    };
}

fuzz_target!(|input: &[u8]| {
    let Some((which, text)) = input.split_first() else { return };
    let Ok(text) = std::str::from_utf8(text) else { return };
    check(&match which % 11 {
        0 => options!(ModelOptions, text).and_then(|options| {
            if is_small(&options) { Model::new(&options).map(|_| ()) } else { Ok(()) }
        }),
        1 => options!(trainer::TrainerOptions, text).map(|_| ()),
        2 => options!(loss::Loss, text).and_then(|loss| {
            loss.validate(NAME)?;
            loss.weights(4, 2, Some(&[0.0, 1.0, 1e-30, 1e30, 5.0, 0.1, 2.0, 3.0]), &[1.0; 2]).map(|_| ())
        }),
        3 => options!(noise::NoiseOptions, text).and_then(|noise| {
            let data = data::Dataset::new(vec![1.0; 8], vec![1], vec![2.0; 8], 1, None)?;
            noise.apply(&data).map(|_| ())
        }),
        4 => options!(noise::VarianceDistribution, text).map(|_| ()),
        5 => options!(data::SplitOptions, text).and_then(|split| {
            let data = data::Dataset::new(vec![1.0; 8], vec![1], vec![2.0; 8], 1, None)?;
            data.split(&split).map(|_| ())
        }),
        6 => options!(data::SyntheticOptions, text).and_then(|options| {
            let small = options.rows.max(options.features).max(options.outputs) <= 64;
            if small { data::Dataset::synthetic(&options).map(|_| ()) } else { Ok(()) }
        }),
        7 => options!(data::CsvOptions, text).map(|_| ()),
        8 => options!(data::ImageOptions, text).map(|_| ()),
        9 => experiment::Config::from_json(text).map(|config| {
            // What is spelt out must be read again as the same.
            let again = experiment::Config::from_value(config.to_value()).expect("a resolved description is valid");
            assert_eq!(again.to_value(), config.to_value());
        }),
        _ => experiment::Sweep::from_json(text).map(|_| ()),
    });
});
