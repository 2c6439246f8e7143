//! A model as an ONNX file: features in their own units in, labels in theirs out, and nothing of this library needed.

mod graph;
mod layers;
mod messages;

use super::Model;
use crate::base::memory::{filled, reserve};
use crate::data::Normalization;
use crate::{Error, Result};
use graph::Graph;
use messages::{ModelProto, OperatorSetIdProto, StringStringEntryProto};
use prost::Message;

/// The version of the file format, and of its operators: those of 2020, which all that read ONNX know.
const IR_VERSION: i64 = 8;
const OPSET: i64 = 13;

/// The most that a protobuf message holds, in bytes.
const LARGEST: usize = i32::MAX as usize;

impl Model {
    /// The prediction as the bytes of an ONNX file, of opset 13.
    ///
    /// The input `features` has f32 values of shape `[rows, ...]`, the rest as [`Model::input_shape`], in the units that
    /// [`Model::predict`] takes them in (images: a byte / 255), and any number of rows; the output `labels` has shape
    /// `[rows, outputs]`, in the labels' units. Where the model knows the variances of its errors, they are the output
    /// `variances`. The normalisation is part of the graph. The weights have PyTorch's names, and the metadata the
    /// `normalization` and the `network` as JSON.
    ///
    /// # Errors
    /// [`Error::Numerical`] for a normalisation that f32 does not hold; [`Error::Unsupported`] for a network of more than
    /// 2 GiB; [`Error::OutOfMemory`].
    pub fn to_onnx(&self) -> Result<Vec<u8>> {
        let property = |(key, value): (&str, String)| StringStringEntryProto { key: key.into(), value };
        let model = ModelProto {
            ir_version: IR_VERSION,
            producer_name: "libbiv".into(),
            producer_version: env!("CARGO_PKG_VERSION").into(),
            graph: Some(self.graph()?.into_proto()),
            opset_import: vec![OperatorSetIdProto { domain: Some(String::new()), version: OPSET }],
            metadata_props: self.export_metadata()?.map(property).into(),
        };
        let size = model.encoded_len();
        if size > LARGEST {
            let fault = format!("the model takes {size} bytes, an ONNX file holds at most {LARGEST}");
            return Err(Error::Unsupported(fault));
        }
        let mut bytes = reserve(size)?;
        model.encode(&mut bytes).map_err(|error| Error::Internal(error.to_string()))?;
        Ok(bytes)
    }

    /// All that [`Model::predict_array`] computes.
    fn graph(&self) -> Result<Graph> {
        let mut graph = Graph::new("libbiv");
        let mut x = graph.input("features", self.input_shape());
        if let Some(normalization) = &self.normalization {
            x = self.normalized(&mut graph, &x, normalization)?;
        }
        let (mut means, mut variances) = (vec![], vec![]);
        for (number, member) in self.members.iter().enumerate() {
            let output = graph.sequential(&member.network.layers, &self.prefix(number), &x)?;
            if self.predicts_variance() {
                let [mean, logarithm] = graph.halves(&output);
                variances.push(graph.apply("Exp", &[logarithm]));
                means.push(mean);
            } else {
                means.push(output);
            }
        }
        let mut labels = graph.mean(&means);
        let mut variance = self.variance(&mut graph, &labels, &means, &variances)?;
        let shape = [self.outputs()];
        if let Some(Normalization { label_mean, label_std, .. }) = &self.normalization {
            let std = graph.numbers("normalization.label_std", &shape, label_std)?;
            let mean = graph.numbers("normalization.label_mean", &shape, label_mean)?;
            let scaled = graph.apply("Mul", &[&labels, &std]);
            labels = graph.apply("Add", &[scaled, mean]);
            if let Some(variance) = &mut variance {
                let scaled = graph.apply("Mul", &[&*variance, &std]);
                *variance = graph.apply("Mul", &[scaled, std]);
            }
        }
        graph.output("labels", &shape, &labels);
        if let Some(variance) = variance {
            graph.output("variances", &shape, &variance);
        }
        Ok(graph)
    }

    /// Normalised features.
    fn normalized(&self, graph: &mut Graph, x: &str, normalization: &Normalization) -> Result<String> {
        let Normalization { feature_mean, feature_std, .. } = normalization;
        let shape = if feature_mean.len() == 1 { &[] } else { self.input_shape() };
        let mean = graph.numbers("normalization.feature_mean", shape, feature_mean)?;
        let mut centred = graph.apply("Sub", &[x, &mean]);
        // What f32 leaves of a mean that is large beside its deviation counts.
        let rest: Vec<f64> = feature_mean.iter().map(|&mean| mean - f64::from(mean as f32)).collect();
        let counts = |(rest, std): (&f64, &f64)| rest.abs() > f64::from(f32::EPSILON) * std;
        if rest.iter().zip(feature_std).any(counts) {
            let rest = graph.numbers("normalization.feature_mean_rest", shape, &rest)?;
            centred = graph.apply("Sub", &[centred, rest]);
        }
        let std = graph.numbers("normalization.feature_std", shape, feature_std)?;
        Ok(graph.apply("Div", &[centred, std]))
    }

    /// The normalised variances of the errors of `mean`, where the model knows them; `means` and `variances` are what the
    /// networks give.
    fn variance(
        &self,
        graph: &mut Graph,
        mean: &str,
        means: &[String],
        variances: &[String],
    ) -> Result<Option<String>> {
        let own = match &self.error_bars {
            _ if self.predicts_variance() => graph.mean(variances),
            Some(bars) => {
                let missed = bars.variances(filled(self.outputs(), 0.0)?);
                let missed = graph.numbers("error_bars.variance", &[self.outputs()], &missed)?;
                let shape = graph.apply("Shape", &[mean]);
                graph.apply("Expand", &[missed, shape])
            }
            None => return Ok(None),
        };
        if means.len() == 1 {
            return Ok(Some(own));
        }
        let squares: Vec<String> = means
            .iter()
            .map(|output| {
                let difference = graph.apply("Sub", &[output.as_str(), mean]);
                graph.apply("Mul", &[&difference, &difference])
            })
            .collect();
        let spread = graph.mean(&squares);
        Ok(Some(graph.apply("Add", &[own, spread])))
    }
}

#[cfg(test)]
mod tests {
    use super::messages::GraphProto;
    use super::*;
    use crate::base::options::parse;
    use crate::model::TensorInfo;
    use std::collections::HashSet;

    fn model(options: &str) -> Model {
        Model::new(&parse("model", options).unwrap()).unwrap()
    }

    fn exported(model: &Model) -> ModelProto {
        ModelProto::decode(&*model.to_onnx().unwrap()).unwrap()
    }

    fn operators(graph: &GraphProto) -> Vec<&str> {
        graph.node.iter().map(|node| &*node.op_type).collect()
    }

    #[test]
    fn a_perceptron_is_the_nodes_of_its_layers_between_those_of_the_normalisation() {
        let mut mlp = model(r#"{"kind": "mlp", "inputs": 2, "hidden": [3], "dropout": 0.5}"#);
        let normalization = Normalization {
            feature_mean: vec![1.0, 2011.5029],
            feature_std: vec![2.0, 0.5],
            label_mean: vec![4.0],
            label_std: vec![3.0],
        };
        mlp.give_normalization(normalization).unwrap();
        let found = exported(&mlp);
        assert_eq!((found.ir_version, found.opset_import[0].version), (8, 13));
        let properties: Vec<&str> = found.metadata_props.iter().map(|property| &*property.key).collect();
        assert_eq!(properties, ["network", "normalization"]);
        assert!(found.metadata_props[1].value.starts_with(r#"{"feature_mean":[1.0,2011.5029],"#));
        let graph = found.graph.unwrap();
        assert_eq!(operators(&graph), ["Sub", "Sub", "Div", "Gemm", "Relu", "Gemm", "Mul", "Add", "Identity"]);
        let weight = graph.initializer.iter().find(|tensor| tensor.name == "0.weight").unwrap();
        let stored = mlp.tensor("0.weight").unwrap().into_bytes();
        assert_eq!((&weight.dims[..], &weight.raw_data), (&[3, 2][..], &stored));
        let shape = graph.input[0].r#type.clone().unwrap().tensor_type.unwrap().shape.unwrap();
        assert_eq!((shape.dim[0].dim_param.as_deref(), shape.dim[1].dim_value), (Some("rows"), Some(2)));
        // The second mean in two parts is exact.
        let part = |name: &str| {
            let tensor = graph.initializer.iter().find(|tensor| tensor.name == name).unwrap();
            f64::from(f32::from_le_bytes(tensor.raw_data[4..].try_into().unwrap()))
        };
        let sum = part("normalization.feature_mean") + part("normalization.feature_mean_rest");
        assert!((sum - 2011.5029).abs() < 1e-10, "{sum}");
    }

    #[test]
    fn each_value_is_made_once_and_before_it_is_used() {
        let images = r#"{"kind": "sequential", "input_shape": [2, 8, 8], "layers": [
            {"kind": "conv2d", "outputs": 4, "size": 3, "padding": 1, "bias": false}, {"kind": "layer_norm"},
            {"kind": "residual", "layers": [{"kind": "conv2d", "outputs": 6, "size": 1}, {"kind": "batch_norm"}],
             "shortcut": [{"kind": "conv2d", "outputs": 6, "size": 1}]},
            {"kind": "residual", "layers": [{"kind": "activation", "function": "gelu"}, {"kind": "activation",
             "function": "gelu"}]},
            {"kind": "max_pool", "size": 2}, {"kind": "avg_pool", "size": 2, "padding": 1}, {"kind": "global_avg_pool"},
            {"kind": "flatten"}, {"kind": "linear", "outputs": 2, "bias": false}]}"#;
        let mean_variance = r#"{"kind": "mean_variance", "network": {"kind": "mlp", "inputs": 3, "hidden": [2]}}"#;
        let ensemble = format!(r#"{{"kind": "ensemble", "members": 2, "network": {mean_variance}}}"#);
        let resnet = r#"{"kind": "resnet", "height": 32, "width": 32}"#;
        for (options, outputs) in [(images, 1), (mean_variance, 2), (&ensemble, 2), (resnet, 1)] {
            let model = model(options);
            let graph = exported(&model).graph.unwrap();
            let mut known = HashSet::from(["features"]);
            for tensor in &graph.initializer {
                assert!(known.insert(&tensor.name), "{}", tensor.name);
            }
            for TensorInfo { name, .. } in model.tensors() {
                assert!(known.contains(&*name), "{name}");
            }
            for node in &graph.node {
                assert!(node.input.iter().all(|input| known.contains(&**input)), "{node:?}");
                assert!(node.output.iter().all(|output| known.insert(output)), "{node:?}");
            }
            assert_eq!(graph.output.len(), outputs, "{options}");
            assert!(graph.output.iter().all(|output| known.contains(&*output.name)));
        }
    }

    #[test]
    fn a_normalisation_that_no_float_holds_is_refused() {
        let mut mlp = model(r#"{"kind": "mlp", "inputs": 1, "hidden": []}"#);
        let normalization = Normalization { label_mean: vec![1e39], ..Normalization::identity(1) };
        mlp.give_normalization(normalization).unwrap();
        let fault = mlp.to_onnx().unwrap_err().to_string();
        assert_eq!(fault, "normalization.label_mean is 1e39 at [0]: ONNX's float holds up to 3.4e38");
    }
}
