//! The real data sets: all load, and the errors on Bike
//! Sharing agree with an independent PyTorch implementation's. With
//! `--nocapture` it prints the table of benches/README.md.

use crate::common::{epoch, model, noisy, real_data, trainer};
use biv::data::{NamedDataset, SplitOptions};

const SEEDS: u64 = 5;
const EPOCHS: usize = 40;

/// Half of the labels with hardly any noise, half with 4 to 6 times the labels' variance.
const NOISE: &str = r#""distribution": {"kind": "binary_uniform", "components": [
    {"weight": 0.5, "low": 0, "high": 0.1}, {"low": 4, "high": 6}]}, "relative": true"#;

/// Loss, noisy labels, and the reference's mean RMSE on clean test labels.
const METHODS: [(&str, &str, bool, f64); 5] = [
    ("mse, clean labels", r#"{"kind": "mse"}"#, false, 44.0),
    ("mse", r#"{"kind": "mse"}"#, true, 75.0),
    ("cutoff", r#"{"kind": "cutoff_mse"}"#, true, 49.0),
    ("iv", r#"{"kind": "iv", "epsilon": 0.1}"#, true, 48.0),
    ("biv", r#"{"kind": "biv", "epsilon": 0.1}"#, true, 49.0),
];

#[test]
#[ignore = "needs the real data sets: tests/optional.sh"]
fn errors_on_bike_sharing_agree_with_an_independent_implementation() {
    let path = real_data("bike/hour.csv");
    let all = NamedDataset::Bike.load(&path).unwrap();
    assert_eq!((all.rows(), all.width()), (17_379, 19));

    println!("\n| loss | clean-test RMSE | reference |\n|---|---|---|");
    let mut means = Vec::new();
    for (name, loss, with_noise, reference) in METHODS {
        let rmse = (0..SEEDS).map(|seed| {
            let split =
                SplitOptions { train_size: 14_000, test_size: Some(3379), shuffle: true, seed, keep_groups: false };
            let (clean, test) = all.split(&split).unwrap();
            let train = if with_noise { noisy(&clean, &format!("{{{NOISE}, \"seed\": {seed}}}")) } else { clean };
            let network = model(&format!(r#"{{"kind": "vanilla_ann", "dataset": "bike", "seed": {seed}}}"#));
            let mut trainer = trainer(network, &train, &format!(r#"{{"loss": {loss}, "seed": {seed}}}"#)).unwrap();
            for _ in 0..EPOCHS {
                epoch(&mut trainer);
            }
            trainer.evaluate(&test).unwrap().rmse
        });
        let rmse: Vec<f64> = rmse.collect();
        let mean = rmse.iter().sum::<f64>() / SEEDS as f64;
        let spread = (rmse.iter().map(|r| (r - mean).powi(2)).sum::<f64>() / (SEEDS - 1) as f64).sqrt();
        println!("| {name} | {mean:.1} ± {spread:.1} | {reference:.0} |");
        // Two means of five seeds each: three of their spreads is far beyond chance.
        assert!((mean - reference).abs() < 3.0 * spread.max(1.0), "{name}: {mean} ± {spread}, expected {reference}");
        means.push(mean);
    }
    assert!(means[2..].iter().all(|&mean| means[0] < mean && mean < 0.8 * means[1]), "{means:?}");
}

#[test]
#[ignore = "needs the real data sets: tests/optional.sh"]
fn wine_loads_with_its_eleven_features() {
    let path = real_data("wine");
    let wine = NamedDataset::Wine.load(&path).unwrap();
    assert_eq!((wine.rows(), wine.width(), wine.outputs()), (1599 + 4898, 11, 1));
    assert_eq!(wine.labels()[0], 5.0);
    let mut trainer = trainer(
        model(r#"{"kind": "vanilla_ann", "dataset": "wine"}"#),
        &noisy(&wine, r#"{"distribution": {"kind": "uniform", "low": 0, "high": 1}}"#),
        "{}",
    )
    .unwrap();
    let before = trainer.evaluate(&wine).unwrap().r2;
    for _ in 0..5 {
        epoch(&mut trainer);
    }
    assert!(trainer.evaluate(&wine).unwrap().r2 > before.max(0.2));
}

#[test]
#[ignore = "needs the real data sets: tests/optional.sh"]
fn county_incomes_come_with_standard_errors() {
    let path = real_data("acs/acs2017_county_data.csv");
    let options = r#"{"labels": ["Income"], "standard_errors": ["IncomeErr"], "error_divisor": 1.645,
                      "features": ["Poverty", "Professional", "Unemployment", "State"], "one_hot": ["State"],
                      "skip_missing": true}"#;
    let data = biv::data::Dataset::from_csv(&path, &biv::base::options::parse("csv", options).unwrap()).unwrap();
    assert!(data.rows() > 3000 && data.width() > 50);
    assert!((data.variances().unwrap()[0] - (2838.0f64 / 1.645).powi(2)).abs() < 1e-6);
}
