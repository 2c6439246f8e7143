//! JSON options of every kind: the first byte says which, the rest is the text.

#![no_main]

use biv::model::{Model, ModelOptions};
use biv::base::options::parse;
use biv::data::noise;
use biv::train::{loss, trainer};
use biv::{data, experiment};
use biv_fuzz::check;
use libfuzzer_sys::fuzz_target;

/// A network that is built in no time.
fn is_small(options: &ModelOptions) -> bool {
    match options {
        ModelOptions::Mlp { inputs, outputs, hidden, .. } => {
            hidden.len() <= 8 && hidden.iter().chain([inputs, outputs]).all(|&width| width <= 64)
        }
        ModelOptions::VanillaAnn { .. } => true,
        ModelOptions::VanillaCnn { .. } | ModelOptions::Resnet { .. } => false,
    }
}

fuzz_target!(|input: &[u8]| {
    let Some((which, text)) = input.split_first() else { return };
    let Ok(text) = std::str::from_utf8(text) else { return };
    let name = "options";
    check(&match which % 11 {
        0 => parse::<ModelOptions>(name, text).and_then(|options| {
            if is_small(&options) { Model::new(&options).map(|_| ()) } else { Ok(()) }
        }),
        1 => parse::<trainer::TrainerOptions>(name, text).map(|_| ()),
        2 => parse::<loss::Loss>(name, text).and_then(|loss| {
            loss.validate(name)?;
            loss.weights(4, 2, Some(&[0.0, 1.0, 1e-30, 1e30, 5.0, 0.1, 2.0, 3.0]), &[1.0; 2]).map(|_| ())
        }),
        3 => parse::<noise::NoiseOptions>(name, text).and_then(|noise| {
            let data = data::Dataset::new(vec![1.0; 8], vec![1], vec![2.0; 8], 1, None)?;
            noise.apply(&data).map(|_| ())
        }),
        4 => parse::<noise::VarianceDistribution>(name, text).map(|_| ()),
        5 => parse::<data::SplitOptions>(name, text).and_then(|split| {
            let data = data::Dataset::new(vec![1.0; 8], vec![1], vec![2.0; 8], 1, None)?;
            data.split(&split).map(|_| ())
        }),
        6 => parse::<data::SyntheticOptions>(name, text).and_then(|options| {
            let small = options.rows.max(options.features).max(options.outputs) <= 64;
            if small { data::Dataset::synthetic(&options).map(|_| ()) } else { Ok(()) }
        }),
        7 => parse::<data::CsvOptions>(name, text).map(|_| ()),
        8 => parse::<data::ImageOptions>(name, text).map(|_| ()),
        9 => experiment::Config::from_json(text).map(|config| {
            // What is spelt out must be read again as the same.
            let again = experiment::Config::from_value(config.to_value()).expect("a resolved description is valid");
            assert_eq!(again.to_value(), config.to_value());
        }),
        _ => experiment::Sweep::from_json(text).map(|_| ()),
    });
});
