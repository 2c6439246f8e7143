//! Networks by description: those that are made train, give what their shapes say, and come back from a checkpoint.

#![no_main]

use arbitrary::Arbitrary;
use biv::Error;
use biv::base::options::from_value;
use biv::data::Dataset;
use biv::model::{Model, ModelOptions};
use biv::train::trainer::{Trainer, TrainerOptions};
use biv_fuzz::{check, with_file};
use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};
use parking_lot::Mutex;
use std::sync::Arc;

/// A layer of small numbers, most of which fit.
#[derive(Arbitrary, Debug)]
enum Layer {
    Linear { outputs: u8, bias: bool, kaiming: bool },
    Conv { outputs: u8, size: u8, stride: u8, padding: u8, name: Option<u8> },
    BatchNorm,
    LayerNorm,
    Activation(u8),
    Dropout(u8),
    MaxPool { size: u8, stride: Option<u8>, padding: u8 },
    AvgPool { size: u8, stride: Option<u8>, padding: u8 },
    GlobalAvgPool,
    Flatten,
    Residual { layers: Vec<Layer>, shortcut: Vec<Layer> },
}

#[derive(Arbitrary, Debug)]
struct Network {
    shape: Vec<u8>,
    layers: Vec<Layer>,
    last: Option<u8>,
    mean_variance: bool,
}

fn described(layer: &Layer) -> Value {
    let functions = ["relu", "leaky_relu", "tanh", "sigmoid", "silu", "gelu", "softplus"];
    let list = |layers: &[Layer]| layers.iter().take(6).map(described).collect::<Value>();
    let pool = |kind: &str, size: u8, stride: Option<u8>, padding: u8| {
        let mut pool = json!({"kind": kind, "size": size % 4, "padding": padding % 3});
        if let Some(stride) = stride {
            pool["stride"] = (stride % 4).into();
        }
        pool
    };
    match layer {
        Layer::Linear { outputs, bias, kaiming } => {
            let init = if *kaiming { "kaiming_normal" } else { "uniform" };
            json!({"kind": "linear", "outputs": outputs % 9, "bias": bias, "init": init})
        }
        Layer::Conv { outputs, size, stride, padding, name } => {
            let mut conv = json!({"kind": "conv2d", "outputs": outputs % 5, "size": size % 4, "stride": stride % 3,
                "padding": padding % 3});
            if let Some(name) = name {
                conv["name"] = (name % 4).to_string().into();
            }
            conv
        }
        Layer::BatchNorm => json!({"kind": "batch_norm"}),
        Layer::LayerNorm => json!({"kind": "layer_norm"}),
        Layer::Activation(which) => json!({"kind": "activation", "function": functions[usize::from(*which) % 7]}),
        Layer::Dropout(p) => json!({"kind": "dropout", "p": f64::from(*p) / 200.0}),
        Layer::MaxPool { size, stride, padding } => pool("max_pool", *size, *stride, *padding),
        Layer::AvgPool { size, stride, padding } => pool("avg_pool", *size, *stride, *padding),
        Layer::GlobalAvgPool => json!({"kind": "global_avg_pool"}),
        Layer::Flatten => json!({"kind": "flatten"}),
        Layer::Residual { layers, shortcut } => {
            json!({"kind": "residual", "layers": list(layers), "shortcut": list(shortcut)})
        }
    }
}

fuzz_target!(|network: Network| {
    let shape: Vec<u8> = network.shape.iter().take(4).map(|size| size % 8).collect();
    let mut layers: Vec<Value> = network.layers.iter().take(8).map(described).collect();
    layers.extend(network.last.map(|outputs| json!({"kind": "linear", "outputs": outputs % 4})));
    let mut options = json!({"kind": "sequential", "input_shape": shape, "layers": layers});
    if network.mean_variance {
        options = json!({"kind": "mean_variance", "network": options});
    }
    let made = from_value::<ModelOptions>("model", &options).and_then(|options| Model::new(&options));
    let model = match made {
        Ok(model) => model,
        Err(error) => {
            assert!(matches!(error, Error::InvalidConfig { .. }), "{error}");
            return;
        }
    };
    // What it says of itself makes the same again.
    let mut again = serde_json::to_value(model.options().description().expect("it was made of it")).unwrap();
    again["kind"] = "sequential".into();
    if network.mean_variance {
        again = json!({"kind": "mean_variance", "network": again});
    }
    let again = from_value::<ModelOptions>("model", &again).and_then(|options| Model::new(&options));
    assert_eq!(again.expect("a description is legal").tensors(), model.tensors());

    let (rows, width, outputs) = (3, model.inputs(), model.outputs());
    let features: Vec<f32> = (0..rows * width).map(|at| (at as f32 * 0.7).sin()).collect();
    let labels = (0..rows * outputs).map(|at| (at as f64).cos()).collect();
    let data = Dataset::new(features.clone(), model.input_shape().to_vec(), labels, outputs, Some(vec![0.5; rows * outputs]))
        .expect("the arrays fit");
    assert_eq!(model.predict(&features).expect("the features fit").len(), rows * outputs);
    let loss = if network.mean_variance { json!({"kind": "gaussian"}) } else { json!({"kind": "biv", "epsilon": 0.1}) };
    let options: TrainerOptions = from_value("trainer", &json!({"loss": loss, "batch_size": 3})).expect("legal options");
    let mut trainer = Trainer::new(Arc::new(Mutex::new(model)), Some(&data), &options).expect("the data fit");
    let step = trainer.step().map(|_| ());
    check(&step);
    assert!(matches!(step, Ok(()) | Err(Error::Numerical(_) | Error::At { .. })), "{step:?}");
    with_file("training.biv", &[], |path| {
        std::fs::remove_file(path).expect("it was there");
        trainer.save(path).expect("there is room");
        let mut resumed = Trainer::load(path, Some(&data), None).expect("it was saved");
        if step.is_ok() {
            assert_eq!(trainer.step().unwrap(), resumed.step().unwrap());
        }
    });
});
