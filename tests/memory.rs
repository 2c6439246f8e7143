//! Training does not grow: the memory of the process after a warm-up and thousands of steps later.

use biv::base::options::parse;
use biv::data::Dataset;
use biv::model::Model;
use biv::train::trainer::{SharedModel, Trainer};
use parking_lot::Mutex;
use std::sync::Arc;

const MIB: u64 = 1 << 20;

fn model(json: &str) -> SharedModel {
    Arc::new(Mutex::new(Model::new(&parse("model", json).unwrap()).unwrap()))
}

fn trainer(model: SharedModel, data: &Dataset, json: &str) -> Trainer {
    Trainer::new(model, Some(data), &parse("trainer", json).unwrap()).unwrap()
}

/// The process's resident memory in bytes.
fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

/// Rows of any numbers, with variances.
fn rows(rows: usize, shape: &[usize]) -> Dataset {
    let value = |at: usize| ((at as u32).wrapping_mul(2_654_435_761) >> 16) as f32 / 65536.0;
    let features = (0..rows * shape.iter().product::<usize>()).map(value).collect();
    let labels = (0..rows).map(|row| f64::from(value(row))).collect();
    let variances = (0..rows).map(|row| f64::from(value(row + 7))).collect();
    Dataset::new(features, shape.to_vec(), labels, 1, Some(variances)).unwrap()
}

/// By how much `steps` steps, with an evaluation after each hundred, make the process grow after a tenth of them.
fn growth(trainer: &mut Trainer, data: &Dataset, steps: usize) -> u64 {
    let mut warm = 0;
    for step in 0..steps {
        if step == steps / 10 {
            warm = resident();
        }
        trainer.step().unwrap();
        if step % 100 == 0 {
            trainer.evaluate(data).unwrap();
        }
    }
    resident().saturating_sub(warm)
}

/// One test, so that nothing else in the process takes memory meanwhile.
#[test]
fn ten_thousand_steps_do_not_grow_and_a_trainer_gives_its_memory_back() {
    // Threads would only wait for each other.
    tch::set_num_threads(1);
    let table = rows(1000, &[10]);
    let mlp = model(r#"{"kind": "mlp", "inputs": 10, "hidden": [64, 32], "batch_norm": true}"#);
    let mut mlp = trainer(mlp, &table, r#"{"batch_size": 64}"#);
    let grown = growth(&mut mlp, &table, 10_000);
    assert!(grown < 2 * MIB, "an MLP's 10,000 steps took {grown} bytes more");

    let images = rows(8, &[3, 64, 64]);
    for (precision, steps) in [("f32", 2000), ("bf16", 500)] {
        let cnn = model(r#"{"kind": "vanilla_cnn", "height": 64, "width": 64}"#);
        let options = format!(r#"{{"batch_size": 2, "precision": "{precision}"}}"#);
        let mut cnn = trainer(cnn, &images, &options);
        let grown = growth(&mut cnn, &images, steps);
        assert!(grown < 4 * MIB, "a CNN's {steps} steps in {precision} took {grown} bytes more");
    }

    let images = rows(64, &[3, 128, 128]);
    let cnn = model(r#"{"kind": "vanilla_cnn", "height": 128, "width": 128}"#);
    let mut large = trainer(Arc::clone(&cnn), &images, r#"{"batch_size": 64}"#);
    let before = resident();
    for _ in 0..2 {
        large.step().unwrap();
    }
    let held = resident() - before;
    drop(large);
    let left = resident().saturating_sub(before);
    assert!(held > 200 * MIB && left < held / 4, "of {held} bytes a trainer leaves {left}");
}
