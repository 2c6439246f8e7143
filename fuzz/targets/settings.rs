//! The published settings strings: six lines.

#![no_main]

use biv::experiment::Config;
use biv_fuzz::check;
use libfuzzer_sys::fuzz_target;
use serde_json::{Map, Value, json};

fuzz_target!(|input: &[u8]| {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let names = ["experiment_settings", "model_settings", "noise_settings", "params_settings", "parameters", "extra_exp"];
    let settings: Map<String, Value> =
        names.into_iter().zip(text.split('\n')).map(|(name, value)| (name.into(), value.into())).collect();
    let found = Config::from_value(json!({ "settings": settings }));
    if let Ok(config) = &found {
        let again = Config::from_value(config.to_value()).expect("a resolved description is valid");
        assert_eq!(again.to_value(), config.to_value());
    }
    check(&found.map(|_| ()));
});
