//! Times training on a GPU and prints one line of JSON for each figure. `gpu.py` does the same for PyTorch.
//!
//! Run it with `cargo run --release --example gpu`, or in the folder that `make gpu-check` fills. Without a GPU it prints
//! no figures.

use biv::base::options::parse;
use biv::data::noise::NoiseOptions;
use biv::data::{Dataset, SyntheticOptions};
use biv::model::{Model, ModelOptions};
use biv::torch::device::cuda_device_count;
use biv::train::trainer::{Trainer, TrainerOptions};
use parking_lot::Mutex;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Instant;

const MLP: &str = r#"{"kind": "vanilla_ann", "dataset": "bike"}"#;
const RESNET: &str = r#"{"kind": "resnet", "depth": 18, "height": 200, "width": 200}"#;

/// The rows of an epoch, and the number of epochs that are timed.
const TABLE_ROWS: usize = 51_200;
const IMAGES: usize = 2560;
const EPOCHS: usize = 5;

fn main() -> biv::Result<()> {
    if cuda_device_count() == 0 {
        eprintln!("gpu: there is no CUDA device, nothing was timed");
        return Ok(());
    }
    let table = noisy(&Dataset::synthetic(&SyntheticOptions { rows: TABLE_ROWS, features: 19, outputs: 1, seed: 0 })?)?;
    time("mlp", MLP, &table, r#""precision": "f32""#, false)?;
    let pixels = (0..IMAGES * 3 * 200 * 200).map(|at| ((at as u32).wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let labels = (0..IMAGES).map(|row| (row * 37 % 101) as f64).collect();
    let images = noisy(&Dataset::from_pixels(pixels, [3, 200, 200], labels, None)?)?;
    for graph in [false, true] {
        time("resnet18", RESNET, &images, r#""precision": "bf16""#, graph)?;
    }
    Ok(())
}

fn noisy(clean: &Dataset) -> biv::Result<Dataset> {
    let noise: NoiseOptions = parse("noise", r#"{"distribution": {"kind": "gamma", "mean": 1, "variance": 1}}"#)?;
    noise.apply(clean)
}

/// Prints the median time of a step, in microseconds.
fn time(what: &str, network: &str, data: &Dataset, options: &str, graph: bool) -> biv::Result<()> {
    let options = format!(r#"{{"device": "cuda", "batch_size": 256, "cuda_graph": {graph}, {options}}}"#);
    let model = Arc::new(Mutex::new(Model::new(&parse::<ModelOptions>("model", network)?)?));
    let trainer = Trainer::new(model, Some(data), &parse::<TrainerOptions>("trainer", &options)?);
    let mut trainer = match trainer {
        Err(biv::Error::Unsupported(message)) => {
            eprintln!("gpu: {what} as a CUDA graph was not timed: {message}");
            return Ok(());
        }
        trainer => trainer?,
    };
    let mut epoch = || -> biv::Result<f64> {
        let start = Instant::now();
        // An epoch waits for its last loss, so the GPU is done when it returns.
        let report = trainer.epoch(|_, _| ControlFlow::Continue(()))?;
        Ok(start.elapsed().as_secs_f64() * 1e6 / report.batches as f64)
    };
    epoch()?;
    let mut times = (0..EPOCHS).map(|_| epoch()).collect::<biv::Result<Vec<_>>>()?;
    times.sort_by(f64::total_cmp);
    let variant = if graph { "libbiv, CUDA graph" } else { "libbiv" };
    println!(r#"{{"what": "{what}", "variant": "{variant}", "us": {:.1}}}"#, times[EPOCHS / 2]);
    Ok(())
}
