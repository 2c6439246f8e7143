//! The experiment that gives the same bits in every language, in Rust; tests/parity/run.sh compares them.

use biv::base::options::parse;
use biv::data::noise::NoiseOptions;
use biv::data::{Dataset, SplitOptions, SyntheticOptions};
use biv::model::{Model, ModelOptions};
use biv::train::trainer::{Trainer, TrainerOptions};
use parking_lot::Mutex;
use std::sync::Arc;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).ok_or("usage: parity FILE")?;
    biv::torch::device::set_threads(1)?;
    let data = Dataset::synthetic(&parse::<SyntheticOptions>("synthetic", r#"{"rows":600,"features":10,"seed":7}"#)?)?;
    let split: SplitOptions = parse("split", r#"{"train_size":500,"test_size":100,"seed":7}"#)?;
    let (train, test) = data.split(&split)?;
    let noise = r#"{"distribution":{"kind":"gamma","mean":20,"variance":400},"seed":7}"#;
    let train = parse::<NoiseOptions>("noise", noise)?.apply(&train)?;
    let model: ModelOptions = parse("model", r#"{"kind":"mlp","inputs":10,"hidden":[32,16],"seed":7}"#)?;
    let options = r#"{"loss":{"kind":"biv","epsilon":0.1},"batch_size":25,"learning_rate":0.01,"seed":7}"#;
    let options: TrainerOptions = parse("trainer", options)?;
    let mut trainer = Trainer::new(Arc::new(Mutex::new(Model::new(&model)?)), Some(&train), &options)?;
    let mut values = (0..20).map(|_| Ok(trainer.step()?.loss)).collect::<biv::Result<Vec<f64>>>()?;
    values.push(trainer.evaluate(&test)?.rmse);
    values.extend(trainer.predict(&test)?);
    std::fs::write(path, values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>())?;
    Ok(())
}
